package console

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/rs/zerolog"

	"markread/consumer/printable"
)

// Error is why a request can't be carried out, with the status of the response.
type Error struct {
	Status int
	Text   string
}

func (e *Error) Error() string { return e.Text }

func badRequest(format string, args ...any) *Error {
	return &Error{http.StatusBadRequest, fmt.Sprintf(format, args...)}
}

// fail responds with an error. One without a status is another server's.
func fail(w http.ResponseWriter, r *http.Request, err error) {
	status := http.StatusBadGateway
	if e, ok := errors.AsType[*Error](err); ok {
		status = e.Status
	}
	refuse(w, r, status, err.Error())
}

// refuse responds with why a request is refused: JSON to the page, else a line of text.
func refuse(w http.ResponseWriter, r *http.Request, status int, text string) {
	if wantsJSON(r) {
		writeJSON(w, status, map[string]string{"error": text})
		return
	}
	http.Error(w, fmt.Sprintf("%d: %s", status, printable.Line(text)), status)
}

func wantsJSON(r *http.Request) bool {
	return strings.Contains(r.Header.Get("Accept"), "application/json")
}

// writeJSON responds with body, which must be of a type that always encodes.
func writeJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(&printable.Writer{Out: w}).Encode(body)
}

// maxBody is the largest body of a request, in bytes.
const maxBody = 16 << 10

// readJSON reads the body of a request: one JSON value without unknown fields.
func readJSON(w http.ResponseWriter, r *http.Request, body any) error {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "application/json" {
		return &Error{http.StatusUnsupportedMediaType, "the request must be application/json"}
	}
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(body); err != nil {
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return &Error{http.StatusRequestEntityTooLarge, "the request is longer than 16 KiB"}
		}
		return badRequest("the request can't be read: %s", printable.Truncate(err.Error(), 200))
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return badRequest("the request has text after its JSON value")
	}
	return nil
}

// readQuery returns the options of a request. It refuses unknown ones: if a misspelt option were
// ignored, nobody would notice until too late.
func readQuery(r *http.Request, names ...string) (map[string]string, error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, badRequest("the query can't be parsed")
	}
	options := map[string]string{}
	for name, values := range query {
		switch {
		case !slices.Contains(names, name):
			return nil, badRequest("unknown option %.50q", name)
		case len(values) != 1:
			return nil, badRequest("more than one %s", name)
		}
		options[name] = values[0]
	}
	return options, nil
}

// newErrorLog returns a standard logger for net/http and promhttp that writes to the program's log.
func newErrorLog(l zerolog.Logger) *log.Logger { return log.New(logWriter{l}, "", 0) }

type logWriter struct{ log zerolog.Logger }

func (w logWriter) Write(p []byte) (int, error) {
	w.log.Warn().Str("server", "admin").Msg(strings.TrimSpace(string(p)))
	return len(p), nil
}
