package cli

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"markread/cmd/markread/app"
	"markread/imclient"
	"markread/imclient/sandbox"
	"markread/worker/preflight"
)

// imUnlike is an IM server with something wrong.
func imUnlike(t *testing.T, handler func(im http.Handler) http.Handler) string {
	t.Helper()
	im := sandbox.New(sandbox.Options{AppID: app.LocalAppID, Admin: app.LocalAdmin, Key: imclient.NewSecret(testKey), OpenAccounts: true})
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
	status := func(status int) func(http.Handler) http.Handler {
		return func(http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) })
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
	for name, c := range map[string]struct {
		args    []string
		env     []string
		want    preflight.Finding
		unasked int // of the rest
	}{
		"wrong key":            {nil, []string{"MARKREAD_IM_KEY=canary-other"}, preflight.Wrong("IM account", "", "ErrorCode 70009", "MARKREAD_IM_KEY"), 0},
		"another app":          {[]string{"--im-app-id", "1400000001"}, nil, preflight.Wrong("IM account", "", "ErrorCode", "--im-app-id"), 0},
		"no administrator":     {[]string{"--im-admin", "alice"}, nil, preflight.Wrong("IM account", "", "not an App administrator", "--im-admin"), 0},
		"another region":       {[]string{"--im-url", imUnlike(t, answers(60026))}, nil, preflight.Wrong("IM account", "", "ErrorCode 60026", "check --im-url: it must be the host of the data centre that the app of --im-app-id lives in: china, singapore"), 0},
		"unpaid":               {[]string{"--im-url", imUnlike(t, answers(60020))}, nil, preflight.Wrong("IM account", "", "ErrorCode 60020", "plan is paid"), 0},
		"ambiguous":            {[]string{"--im-url", imUnlike(t, answers(60004))}, nil, preflight.Wrong("IM account", "", "ErrorCode 60004", "MARKREAD_IM_KEY"), 0},
		"changed on its way":   {[]string{"--im-url", imUnlike(t, answers(60003))}, nil, preflight.Wrong("IM account", "", "ErrorCode 60003", "changed on its way: look at proxies"), 0},
		"revoked":              {[]string{"--im-url", imUnlike(t, answers(70052))}, nil, preflight.Wrong("IM account", "", "ErrorCode 70052", "find out who kicks"), 0},
		"unknown":              {[]string{"--im-url", imUnlike(t, answers(123456))}, nil, preflight.Warning("IM account", "", "ErrorCode 123456", "check again in a minute; if it stays, look it up"), 0},
		"busy before it":       {[]string{"--im-url", imUnlike(t, status(http.StatusTooManyRequests))}, nil, preflight.Warning("IM account", "", "HTTP status 429", "check again in a minute; if it stays, find what else calls"), 1},
		"down behind it":       {[]string{"--im-url", imUnlike(t, status(http.StatusBadGateway))}, nil, preflight.Wrong("IM server", "", "HTTP status 502", "check again in a minute; if it stays, look for the gateway"), 2},
		"busy":                 {[]string{"--im-url", imUnlike(t, answers(60007))}, nil, preflight.Warning("IM account", "", "ErrorCode 60007", "again"), 0},
		"no such account":      {[]string{"--im-url", imUnlike(t, answers(90003))}, nil, preflight.Warning("IM account", "", "ErrorCode 90003", "--im-admin"), 0},
		"clock an hour behind": {[]string{"--im-url", imUnlike(t, dated(time.Hour))}, nil, preflight.Wrong("clock", "", "behind the IM server's", "NTP"), 0},
		"clock an hour ahead":  {[]string{"--im-url", imUnlike(t, dated(-time.Hour))}, nil, preflight.Wrong("clock", "", "ahead of the IM server's", "NTP"), 0},
		"clock a minute ahead": {[]string{"--im-url", imUnlike(t, dated(-time.Minute))}, nil, preflight.Warning("clock", "", "ahead of the IM server's", "NTP"), 0},
		"clock a second ahead": {[]string{"--im-url", imUnlike(t, dated(-time.Second))}, nil, preflight.Finding{}, 0},
		"nobody listens":       {[]string{"--im-url", "http://127.0.0.1:1"}, nil, preflight.Wrong("IM server", "", "refused", "--im-url"), 2},
		"no name":              {[]string{"--im-url", "https://im.invalid"}, nil, preflight.Wrong("IM server", "", "the name im.invalid can't be resolved here", "--im-url"), 2},
		"unknown authority":    {[]string{"--im-url", untrusted.URL}, nil, preflight.Wrong("IM server", "", "unknown authority", "root certificates"), 2},
		"no TLS":               {[]string{"--im-url", strings.Replace(g.im, "http:", "https:", 1)}, nil, preflight.Wrong("IM server", "", "does not speak TLS", "--im-url"), 2},
		"TLS, not expected":    {[]string{"--im-url", strings.Replace(untrusted.URL, "https:", "http:", 1)}, nil, preflight.Wrong("IM server", "", "HTTP status 400", "--im-url"), 2},
		"a page": {[]string{"--im-url", imUnlike(t, func(http.Handler) http.Handler { return http.NotFoundHandler() })}, nil,
			preflight.Wrong("IM server", "", "HTTP status 404", "--im-url"), 2},
	} {
		t.Run(name, func(t *testing.T) {
			r := checked(t, append(c.env, g.env...), append(slices.Clip(g.args), c.args...)...)
			some := append(found(r, preflight.IsWrong), found(r, preflight.IsWarning)...)
			if c.want.Check == "" {
				if len(some) > 0 || r.NotChecked > 0 {
					t.Errorf("%+v", r.Checks)
				}
				return
			}
			if len(some) != 1 || r.NotChecked != c.unasked || strings.Contains(some[0].Do, "nothing at first") {
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
		if some := found(r, preflight.IsWrong); len(some) != 1 || some[0].Check != "IM server" || !strings.Contains(some[0].Found, "localhost") || !strings.Contains(some[0].Do, "names the host as its certificate does") {
			t.Errorf("%+v", r.Checks)
		}
	})
}
