package console

import (
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/url"
	"strings"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/rs/zerolog"

	"markread/consumer/printable"
)

// handler returns all routes with their access rules.
func handler(o Options) http.Handler {
	open, guarded := http.NewServeMux(), http.NewServeMux()
	// The liveness probe: any status but 200 means that the process needs a restart.
	open.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		if err := o.Source.Healthy(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write([]byte("ok\n"))
	})
	// The readiness probe. Its body also contains the holds, for people who check it first.
	open.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		body, status := readiness(o.Source), http.StatusOK
		if !*body.Ready {
			status = http.StatusServiceUnavailable
		}
		writeJSON(w, status, body)
	})
	open.Handle("GET /metrics",
		promhttp.HandlerFor(o.Gatherer, promhttp.HandlerOpts{
			ErrorLog:           newErrorLog(o.Log),
			EnableOpenMetrics:  true, // exemplars exist in that format only
			DisableCompression: true, // it would cost a third of a scrape to save 26 KB
		}))
	open.Handle("/", guard(o.Token, guarded))
	guarded.HandleFunc("GET /api/state", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, o.Source.State().normalized())
	})
	if o.Controls != nil {
		guarded.Handle("POST /api/pause", commandHandler(o, "", func(bool) { o.Controls.Pause("", "") }))
		guarded.Handle("POST /api/resume",
			commandHandler(o, "accept-rejections", func(accept bool) {
				o.Controls.Resume("", accept)
			}))
	}
	guarded.Handle("GET /{$}", page(o.Source))
	guarded.Handle("GET /assets/{file}", http.FileServerFS(files))
	return withHeaders(open)
}

func readiness(source Source) Readiness {
	now := Readiness{Ready: new(source.Ready()), Held: []ActiveHold{}}
	for _, h := range normalized(source.Held()) {
		now.Held = append(now.Held, ActiveHold{h.Reason, h.Since})
	}
	return now
}

// writeJSON responds with body, which must be of a type that always encodes.
func writeJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(&printable.Writer{Out: w}).Encode(body)
}

// newErrorLog returns a standard logger for net/http and promhttp that writes to the program's log.
func newErrorLog(l zerolog.Logger) *log.Logger { return log.New(logWriter{l}, "", 0) }

type logWriter struct{ log zerolog.Logger }

func (w logWriter) Write(p []byte) (int, error) {
	w.log.Warn().Str("server", "admin").Msg(strings.TrimSpace(string(p)))
	return len(p), nil
}

// Controls are an operator's commands to a worker. They are idempotent.
type Controls interface {
	// Pause holds all calls of this process until Resume. by is who paused them, and why the reason
	// that they gave.
	Pause(by, why string)
	// Resume ends the operator's hold. With acceptRejections it also ends the holds for rejections,
	// and lets the next rejected events become dead letters.
	Resume(by string, acceptRejections bool)
}

// commandHandler executes an operator's command and responds with the current holds, as /readyz
// does. option is the name of the only option that the request may have; "": none.
//
// A page of another site may make a browser of this machine send requests here. Without a token
// nothing else would distinguish them from an operator's; with a token, a proxy may add it to
// everything that a browser sends.
func commandHandler(o Options, option string, do func(bool)) http.Handler {
	var sameOrigin http.CrossOriginProtection
	sameOrigin.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "403: a page of another site must not change anything here",
			http.StatusForbidden)
	}))
	return sameOrigin.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		on, err := parseOption(r, option)
		if err != nil {
			http.Error(w, "400: "+err.Error(), http.StatusBadRequest)
			return
		}
		do(on)
		o.Log.Info().Str("request", r.Method+" "+r.URL.RequestURI()).Str("from", r.RemoteAddr).
			Msg("operator command executed")
		writeJSON(w, http.StatusOK, readiness(o.Source))
	}))
}

// parseOption reports whether the option is on. It refuses any other parameter: if a misspelt
// option were ignored, nobody would notice until too late.
func parseOption(r *http.Request, option string) (on bool, err error) {
	if r.ContentLength != 0 {
		return false, errors.New("the request must have no body; an option goes into the URL")
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return false, errors.New("the query can't be parsed")
	}
	for name, values := range query {
		switch {
		case name != option:
			return false, fmt.Errorf("unknown option %.50q", name)
		case len(values) != 1 || (values[0] != "true" && values[0] != "false"):
			return false, fmt.Errorf("%s must be true or false", option)
		}
		on = values[0] == "true"
	}
	return on, nil
}
