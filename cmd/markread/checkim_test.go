package main

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"markread/imclient"
	"markread/imclient/sandbox"
)

// imUnlike is an IM server with something wrong.
func imUnlike(t *testing.T, handler func(im http.Handler) http.Handler) string {
	t.Helper()
	im := sandbox.New(sandbox.Options{AppID: localAppID, Admin: localAdmin, Key: imclient.NewSecret(testKey), OpenAccounts: true})
	s := httptest.NewServer(handler(im))
	t.Cleanup(s.Close)
	return s.URL
}

// What is wrong with the IM server, or the way to it, is found, with what to do, and the rest is found as before.
func TestCheckOfTheIMServer(t *testing.T) {
	noLeaks(t)
	g := newGround(t, nil)
	answers := func(code int) func(http.Handler) http.Handler {
		return func(http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { verdict(w, code, "no") })
		}
	}
	dated := func(ahead time.Duration) func(http.Handler) http.Handler {
		return func(im http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Date", time.Now().Add(ahead).UTC().Format(http.TimeFormat))
				im.ServeHTTP(w, r)
			})
		}
	}
	untrusted := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(untrusted.Close)
	trusted := file(t, pemOf(untrusted.Certificate()))
	nameless := strings.Replace(untrusted.URL, "127.0.0.1", "localhost", 1)
	unasked := "account, clock"
	for name, c := range map[string]struct {
		args    []string
		env     []string
		want    finding
		unasked string // what is not checked
	}{
		"wrong key":            {nil, []string{"MARKREAD_IM_KEY=canary-other"}, wrong("IM account", "", "ErrorCode 70009", "MARKREAD_IM_KEY"), ""},
		"another app":          {[]string{"--im-app-id", "1400000001"}, nil, wrong("IM account", "", "ErrorCode", "--im-app-id"), ""},
		"no administrator":     {[]string{"--im-admin", "alice"}, nil, wrong("IM account", "", "not an App administrator", "--im-admin"), ""},
		"another region":       {[]string{"--im-url", imUnlike(t, answers(60026))}, nil, wrong("IM account", "", "ErrorCode 60026", "check --im-url: it must be the host of the data centre that the app of --im-app-id lives in: china, singapore"), ""},
		"unpaid":               {[]string{"--im-url", imUnlike(t, answers(60020))}, nil, wrong("IM account", "", "ErrorCode 60020", "plan is paid"), ""},
		"ambiguous":            {[]string{"--im-url", imUnlike(t, answers(60004))}, nil, wrong("IM account", "", "ErrorCode 60004", "MARKREAD_IM_KEY"), ""},
		"busy":                 {[]string{"--im-url", imUnlike(t, answers(60007))}, nil, warning("IM account", "", "ErrorCode 60007", "again"), ""},
		"no such account":      {[]string{"--im-url", imUnlike(t, answers(90003))}, nil, warning("IM account", "", "ErrorCode 90003", "--im-admin"), ""},
		"clock an hour behind": {[]string{"--im-url", imUnlike(t, dated(time.Hour))}, nil, wrong("clock", "", "behind the IM server's", "NTP"), ""},
		"clock an hour ahead":  {[]string{"--im-url", imUnlike(t, dated(-time.Hour))}, nil, wrong("clock", "", "ahead of the IM server's", "NTP"), ""},
		"clock a minute ahead": {[]string{"--im-url", imUnlike(t, dated(-time.Minute))}, nil, warning("clock", "", "ahead of the IM server's", "NTP"), ""},
		"clock a second ahead": {[]string{"--im-url", imUnlike(t, dated(-time.Second))}, nil, finding{}, ""},
		"nobody listens":       {[]string{"--im-url", "http://127.0.0.1:1"}, nil, wrong("IM server", "", "refused", "--im-url"), unasked},
		"no name":              {[]string{"--im-url", "https://im.invalid"}, nil, wrong("IM server", "", "the name im.invalid can't be resolved here", "--im-url"), unasked},
		"unknown authority":    {[]string{"--im-url", untrusted.URL}, nil, wrong("IM server", "", "unknown authority", "root certificates"), unasked},
		"no TLS":               {[]string{"--im-url", strings.Replace(g.im, "http:", "https:", 1)}, nil, wrong("IM server", "", "does not speak TLS", "--im-url"), unasked},
		"TLS, not expected":    {[]string{"--im-url", strings.Replace(untrusted.URL, "https:", "http:", 1)}, nil, wrong("IM server", "", "HTTP status 400", "--im-url"), unasked},
		"a page": {[]string{"--im-url", imUnlike(t, func(http.Handler) http.Handler { return http.NotFoundHandler() })}, nil,
			wrong("IM server", "", "HTTP status 404", "--im-url"), unasked},
	} {
		t.Run(name, func(t *testing.T) {
			r := checked(t, append(c.env, g.env...), append(slices.Clip(g.args), c.args...)...)
			some := append(r.found(isWrong), r.found(isWarning)...)
			if c.want.Check == "" {
				if len(some) > 0 || r.NotChecked > 0 {
					t.Errorf("%+v", r.Checks)
				}
				return
			}
			if len(some) != 1 || (r.NotChecked > 0) != (c.unasked != "") || r.NotChecked > 0 && r.found(isNotChecked)[0].Subject != c.unasked {
				t.Fatalf("%+v", r.Checks)
			}
			if f := some[0]; f.Result != c.want.Result || f.Check != c.want.Check || !strings.Contains(f.Found, c.want.Found) || !strings.Contains(f.Do, c.want.Do) {
				t.Errorf("%+v, want %+v", f, c.want)
			}
		})
	}

	// A signature that is refused once is made anew, as in a worker.
	calls := 0
	url := imUnlike(t, func(im http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if calls++; calls == 1 {
				verdict(w, 70001, "expired")
				return
			}
			im.ServeHTTP(w, r)
		})
	})
	if r := g.check("--im-url", url); !r.OK || calls != 2 {
		t.Errorf("%d calls: %+v", calls, r.Checks)
	}

	// Whether a certificate is of the right name shows only when it is trusted: a process of its own trusts it.
	t.Run("wrong name", func(t *testing.T) {
		r := childCheck(t, append(g.env, "SSL_CERT_FILE="+trusted), append(slices.Clip(g.args), "--im-url", nameless)...)
		if some := r.found(isWrong); len(some) != 1 || some[0].Check != "IM server" || !strings.Contains(some[0].Found, "localhost") || !strings.Contains(some[0].Do, "names the host as its certificate does") {
			t.Errorf("%+v", r.Checks)
		}
	})
}
