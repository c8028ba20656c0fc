package console

import (
	"encoding/json"
	"log"
	"net/http"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"markread/consumer/printable"
)

// healthz is the liveness probe: restart me if this is not 200.
func healthz(source Source) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if err := source.Healthy(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write([]byte("ok\n"))
	})
}

// readyz is the readiness probe. Its body also says what holds the worker, for people who look there first.
func readyz(source Source) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		body := readinessOf(source)
		status := http.StatusOK
		if !body.Ready {
			status = http.StatusServiceUnavailable
		}
		writeJSON(w, status, body)
	})
}

// readiness is the body of /readyz, and the answer to an operator's command.
type readiness struct {
	Ready bool        `json:"ready"`
	Held  []briefHold `json:"held"`
}

type briefHold struct {
	Reason string    `json:"reason"`
	Since  time.Time `json:"since"`
}

func readinessOf(source Source) readiness {
	body := readiness{Ready: source.Ready(), Held: []briefHold{}}
	for _, h := range normal(source.Held()) {
		body.Held = append(body.Held, briefHold{h.Reason, h.Since})
	}
	return body
}

func apiState(source Source) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, source.State().normal())
	})
}

// writeJSON answers with a body that the types of this package can't fail to encode.
func writeJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(&printable.Writer{Out: w}).Encode(body)
}

// newErrorLog is a standard logger for net/http and promhttp that writes to the program's own log.
func newErrorLog(l zerolog.Logger) *log.Logger { return log.New(logWriter{l}, "", 0) }

type logWriter struct{ log zerolog.Logger }

func (w logWriter) Write(p []byte) (int, error) {
	w.log.Warn().Str("server", "admin").Msg(strings.TrimSpace(string(p)))
	return len(p), nil
}
