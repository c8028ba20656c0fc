package console

import (
	"log"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/rs/zerolog"

	"markread/worker/console/respond"
)

// fail responds with an error. One without a status is another server's.
func fail(w http.ResponseWriter, r *http.Request, err error) {
	respond.Fail(w, r, err, http.StatusBadGateway)
}

// readQuery returns the options of a request. It refuses unknown ones: if a misspelt option were
// ignored, nobody would notice until too late.
func readQuery(r *http.Request, names ...string) (map[string]string, error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, respond.BadRequest("the query can't be parsed")
	}
	options := map[string]string{}
	for name, values := range query {
		switch {
		case !slices.Contains(names, name):
			return nil, respond.BadRequest("unknown option %.50q", name)
		case len(values) != 1:
			return nil, respond.BadRequest("more than one %s", name)
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
