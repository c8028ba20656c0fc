// Package respond reads the JSON bodies of the console's requests and writes its responses, so that
// all its handlers refuse in the same way. A request with an unknown field is refused: if a
// misspelt filter were ignored, nobody would notice until too late. All responses pass through
// package printable, because users choose the accounts and codes in them. It does not check who
// sent a request.
package respond

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"markread/consumer/printable"
)

// Error is why a request can't be carried out, with the status of the response.
type Error struct {
	Status int
	Text   string
	Retry  time.Duration // when to try again, in whole seconds; 0: not said
}

func (e *Error) Error() string { return e.Text }

// Errorf returns an [Error].
func Errorf(status int, format string, args ...any) error {
	return &Error{Status: status, Text: fmt.Sprintf(format, args...)}
}

// BadRequest returns an [Error] with status 400.
func BadRequest(format string, args ...any) error {
	return Errorf(http.StatusBadRequest, format, args...)
}

// Busy returns an [Error] with status 429, for a request that may succeed after that time.
func Busy(retry time.Duration, text string) error {
	return &Error{http.StatusTooManyRequests, text, retry}
}

// Fail responds with an error. The status is other if err is not an [Error].
func Fail(w http.ResponseWriter, r *http.Request, err error, other int) {
	known, ok := errors.AsType[*Error](err)
	if !ok {
		known = &Error{Status: other, Text: err.Error()}
	}
	if known.Retry > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(known.Retry.Seconds())))
	}
	Refuse(w, r, known.Status, known.Text)
}

// Refuse responds with why a request is refused: JSON if it accepts that, as the page does, else a
// line of text.
func Refuse(w http.ResponseWriter, r *http.Request, status int, text string) {
	if WantsJSON(r) {
		JSON(w, status, map[string]string{"error": text})
		return
	}
	http.Error(w, fmt.Sprintf("%d: %s", status, printable.Line(text)), status)
}

// WantsJSON reports whether a request accepts JSON, as the page's script does.
func WantsJSON(r *http.Request) bool {
	return strings.Contains(r.Header.Get("Accept"), "application/json")
}

// JSON responds with body, which must be of a type that always encodes.
func JSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(&printable.Writer{Out: w}).Encode(body)
}

// MaxBody is the largest body of a request, in bytes.
const MaxBody = 16 << 10

// ReadJSON reads the body of a request: one JSON value without unknown fields.
func ReadJSON(w http.ResponseWriter, r *http.Request, body any) error {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "application/json" {
		return Errorf(http.StatusUnsupportedMediaType, "the request must be application/json")
	}
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, MaxBody))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(body); err != nil {
		return BodyError(err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return BadRequest("the request has text after its JSON value")
	}
	return nil
}

// BodyError returns the error of a body that can't be read.
func BodyError(err error) error {
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return Errorf(http.StatusRequestEntityTooLarge, "the request is longer than 16 KiB")
	}
	return BadRequest("the request can't be read: %s", printable.Truncate(err.Error(), 200))
}
