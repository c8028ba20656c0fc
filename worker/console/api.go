package console

import (
	"encoding/json"
	"log"
	"net/http"
	"strings"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/rs/zerolog"

	"markread/consumer/printable"
)

// handler is all routes with their access rules.
func handler(o Options) http.Handler {
	open, guarded := http.NewServeMux(), http.NewServeMux()
	// The liveness probe: restart me if this is not 200.
	open.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		if err := o.Source.Healthy(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write([]byte("ok\n"))
	})
	// The readiness probe. Its body also says what holds the worker, for people who look there
	// first.
	open.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		body, status := heldNow(o.Source), http.StatusOK
		if !*body.Ready {
			status = http.StatusServiceUnavailable
		}
		writeJSON(w, status, body)
	})
	open.Handle("GET /metrics",
		promhttp.HandlerFor(o.Gatherer, promhttp.HandlerOpts{ErrorLog: newErrorLog(o.Log)}))
	open.Handle("/", guard(o.Token, guarded))
	guarded.HandleFunc("GET /api/state", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, o.Source.State().normal())
	})
	if o.Controls != nil {
		guarded.Handle("POST /api/pause", change(o, "", func(bool) { o.Controls.Pause() }))
		guarded.Handle("POST /api/resume", change(o, "accept-rejections", o.Controls.Resume))
	}
	guarded.Handle("GET /{$}", page(o.Source))
	guarded.Handle("GET /assets/{file}", http.FileServerFS(files))
	return withHeaders(open)
}

func heldNow(source Source) HeldNow {
	now := HeldNow{Ready: new(source.Ready()), Held: []HeldFor{}}
	for _, h := range normal(source.Held()) {
		now.Held = append(now.Held, HeldFor{h.Reason, h.Since})
	}
	return now
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
