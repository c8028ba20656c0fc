package console

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
)

// Controls is what an operator may do to a worker. Doing it twice does no more than doing it once.
type Controls interface {
	// Pause holds all calls of this process until Resume.
	Pause()
	// Resume ends the operator's hold. With acceptRejections it ends those for rejections too, and
	// lets the next events that are rejected become dead letters.
	Resume(acceptRejections bool)
}

// change does what an operator asks for, and answers with what holds the worker then, as /readyz
// does. option is the name of the one option that the request may have, "" for none.
//
// A page of another site may make a browser of this machine send requests here, and without a token
// nothing else would tell them from an operator's. With a token too: a proxy may add it to
// everything that a browser sends.
func change(o Options, option string, do func(bool)) http.Handler {
	var sameOrigin http.CrossOriginProtection
	sameOrigin.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "403: a page of another site may not change anything here",
			http.StatusForbidden)
	}))
	return sameOrigin.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		on, err := understand(r, option)
		if err != nil {
			http.Error(w, "400: "+err.Error(), http.StatusBadRequest)
			return
		}
		do(on)
		o.Log.Info().Str("request", r.Method+" "+r.URL.RequestURI()).Str("from", r.RemoteAddr).
			Msg("an operator's command")
		writeJSON(w, http.StatusOK, heldNow(o.Source))
	}))
}

// understand returns whether the option is on. It refuses everything else that a request may ask
// for: what was misspelt and ignored would only be missed when it is too late.
func understand(r *http.Request, option string) (on bool, err error) {
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
