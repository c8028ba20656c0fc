package letters

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"markread/consumer/deadletter"
	"markread/consumer/printable"
)

// failure is an error with its HTTP status.
type failure struct {
	status int
	text   string
	retry  time.Duration // when to try again; 0: not said
}

func (f *failure) Error() string { return f.text }

func failf(status int, format string, args ...any) error {
	return &failure{status: status, text: fmt.Sprintf(format, args...)}
}

// respond returns a handler that responds with the result of do, or with its error.
func respond(do func(http.ResponseWriter, *http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, err := do(w, r)
		if err != nil {
			fail(w, r, err)
			return
		}
		writeJSON(w, http.StatusOK, body)
	}
}

// writeJSON responds with body, which must be of a type that always encodes.
func writeJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(&printable.Writer{Out: w}).Encode(body)
}

// fail responds with an error: as JSON if the request accepts it, as the page does, else as text.
func fail(w http.ResponseWriter, r *http.Request, err error) {
	f := failure{status: http.StatusServiceUnavailable, text: err.Error()}
	var known *failure
	var missing *deadletter.NotFoundError
	switch {
	case errors.As(err, &known):
		f = *known
	case errors.As(err, &missing):
		f.status = http.StatusNotFound
	case errors.Is(err, context.DeadlineExceeded):
		f.text = "reading the dead letters takes too long; try again: reading continues where it " +
			"ended"
	}
	if f.retry > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(f.retry.Seconds())))
	}
	if strings.Contains(r.Header.Get("Accept"), "application/json") {
		writeJSON(w, f.status, map[string]string{"error": f.text})
		return
	}
	http.Error(w, fmt.Sprintf("%d: %s", f.status, printable.Append(nil, []byte(f.text))), f.status)
}

const maxBody = 16 << 10 // bytes of a request

// decode decodes the JSON body of a request. It refuses an unknown field: if a misspelt filter were
// ignored, nobody would notice until too late.
func decode(w http.ResponseWriter, r *http.Request, body any) error {
	if media, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); media !=
		"application/json" {
		return failf(http.StatusUnsupportedMediaType, "the Content-Type must be application/json")
	}
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	d.DisallowUnknownFields()
	err := d.Decode(body)
	if err == nil {
		if _, err = d.Token(); err == io.EOF {
			return nil
		} else if err == nil {
			err = errors.New("more than one value")
		}
	}
	return bodyError(err)
}

func bodyError(err error) error {
	if _, large := errors.AsType[*http.MaxBytesError](err); large {
		return failf(http.StatusRequestEntityTooLarge, "the request must not have more than %d "+
			"bytes", maxBody)
	}
	return failf(http.StatusBadRequest, "the request's body can't be used: %v", err)
}

// take takes one of the slots, waiting at most that long. The caller must receive from the channel
// to give it back.
func take(ctx context.Context, slots chan struct{}, wait time.Duration) error {
	select {
	case slots <- struct{}{}:
		return nil
	default:
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	select {
	case slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return &failure{http.StatusTooManyRequests, "others are reading dead letters; try again " +
			"in some seconds", 5 * time.Second}
	}
}

// allow lets the response take that long: the server's own limit is for short ones.
func allow(w http.ResponseWriter, limit time.Duration) {
	// a test's writer has no deadline
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(limit))
}
