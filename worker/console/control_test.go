package console

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
)

// fakeControls is a worker that can be held; it records the commands.
type fakeControls struct {
	fake
	done []string
}

var heldSince = time.Date(2026, 3, 1, 4, 0, 0, 0, time.UTC)

func (l *fakeControls) Pause(by, why string) {
	l.done = append(l.done, strings.TrimRight("pause by "+by+": "+why, ": "))
	l.state.Held = append(l.state.Held, Hold{Reason: "paused", Since: heldSince})
}

func (l *fakeControls) Resume(by string, acceptRejections bool) {
	what := "resume"
	if acceptRejections {
		what = "accept"
	}
	l.done = append(l.done, what+" by "+by)
	l.state.Held = slices.DeleteFunc(l.state.Held,
		func(h Hold) bool { return h.Reason == "paused" })
}

// post sends an operator's request from this machine, changed by the edits.
func post(t *testing.T, token string, path string,
	edits ...func(*http.Request)) (*httptest.ResponseRecorder, []string) {
	t.Helper()
	l := &fakeControls{fake: fake{ready: true}}
	o := options(l)
	o.Token, o.Controls = token, l
	w := get(t, o, path, append([]func(*http.Request){method(http.MethodPost)}, edits...)...)
	return w, l.done
}

var changing = []string{"/api/pause", "/api/pause?reason=x", "/api/resume",
	"/api/resume?accept-rejections=true"}

// A request that does not come from an operator changes nothing.
func TestCommandAccess(t *testing.T) {
	const token = "s3cret-token"
	bearer := header("Authorization", "Bearer "+token)
	cases := []struct {
		name  string
		token string
		edits []func(*http.Request)
		want  int
	}{
		{"this machine", "", nil, http.StatusOK},
		{"this machine, IPv6", "", edits(from("[::1]:50000"), host("[::1]:8780")), http.StatusOK},
		{"another machine", "", edits(from("10.0.0.7:50000")), http.StatusForbidden},
		{"another machine that names this one", "",
			edits(from("192.168.1.2:50000"), host("127.0.0.1")), http.StatusForbidden},
		{"another machine with any token", "", edits(from("10.0.0.7:1"), bearer),
			http.StatusForbidden},
		{"rebound DNS name", "", edits(host("evil.example:8780")), http.StatusForbidden},
		{"rebound DNS name, same origin to the browser", "",
			edits(host("evil.example:8780"), header("Origin", "http://evil.example:8780"),
				header("Sec-Fetch-Site", "same-origin")), http.StatusForbidden},
		{"proxied, Forwarded", "", edits(header("Forwarded", "for=10.0.0.7")),
			http.StatusForbidden},
		{"proxied, X-Forwarded-For", "", edits(header("X-Forwarded-For", "127.0.0.1")),
			http.StatusForbidden},

		{"page of another site", "", edits(header("Sec-Fetch-Site", "cross-site"),
			header("Origin", "https://evil.example")), http.StatusForbidden},
		{"page of another site, by its kind alone", "",
			edits(header("Sec-Fetch-Site", "cross-site")), http.StatusForbidden},
		{"page of another site, old browser", "", edits(header("Origin", "https://evil.example")),
			http.StatusForbidden},
		{"page of another server of this machine", "", edits(header("Sec-Fetch-Site", "same-site"),
			header("Origin", "http://localhost:3000")), http.StatusForbidden},
		{"page of another server of this machine, old browser", "",
			edits(header("Origin", "http://localhost:3000")), http.StatusForbidden},
		{"page without an origin", "", edits(header("Origin", "null")), http.StatusForbidden},
		{"our own page", "", edits(header("Sec-Fetch-Site", "same-origin"),
			header("Origin", "http://localhost:8780")), http.StatusOK},

		{"token", token, edits(bearer), http.StatusOK},
		{"token, from another machine by a proxy", token, edits(bearer, from("10.0.0.7:1"),
			host("console.example"), header("X-Forwarded-For", "10.9.9.9")), http.StatusOK},
		{"no token", token, nil, http.StatusUnauthorized},
		{"wrong token", token, edits(header("Authorization", "Bearer s3cret-tokem")),
			http.StatusUnauthorized},
		{"token of another scheme", token, edits(header("Authorization", "Basic "+token)),
			http.StatusUnauthorized},
		{"token in a cookie", token, edits(header("Cookie", "token="+token)),
			http.StatusUnauthorized},
		{"token that a proxy adds to what another site's page sends", token,
			edits(bearer, header("Sec-Fetch-Site", "cross-site")), http.StatusForbidden},
		{"the same, old browser", token, edits(bearer, host("console.example"),
			header("Origin", "https://evil.example")), http.StatusForbidden},
	}
	for _, c := range cases {
		synctest.Test(t, func(t *testing.T) {
			for _, path := range changing {
				w, done := post(t, c.token, path, c.edits...)
				if w.Code != c.want || (len(done) == 1) != (c.want == http.StatusOK) {
					t.Errorf("%s: POST %s: %d, want %d; done: %v", c.name, path, w.Code, c.want,
						done)
				}
				if strings.Contains(w.Body.String(), token) {
					t.Errorf("the response contains the token: %s", w.Body)
				}
			}
		})
	}
}

// A link, an image or a form can't change anything, wherever it is.
func TestCommandsNeedPost(t *testing.T) {
	for _, name := range []string{http.MethodGet, http.MethodHead, http.MethodOptions,
		http.MethodPut, http.MethodDelete, http.MethodPatch, http.MethodTrace, "post"} {
		for _, path := range changing {
			for _, override := range [][]func(*http.Request){nil,
				edits(header("X-HTTP-Method-Override", "POST"))} {
				w, done := post(t, "", path, append(override, method(name))...)
				if w.Code != http.StatusMethodNotAllowed || w.Header().
					Get("Allow") != http.MethodPost || len(done) > 0 {
					t.Errorf("%s %s: %d, Allow %q, done: %v", name, path, w.Code, w.Header().
						Get("Allow"), done)
				}
			}
		}
	}
}

// A command carries who sent it, and why.
func TestCommands(t *testing.T) {
	named := header("X-Forwarded-User", "alice")
	bearer := header("Authorization", "Bearer abc")
	long := strings.Repeat("é", maxWhy/2)
	for _, c := range []struct {
		path, token string
		edits       []func(*http.Request)
		want        string
	}{
		{"/api/pause", "", nil, "pause by this machine"},
		{"/api/pause?reason=deploying+the+%E4%BF%AE%E5%A4%8D", "", nil,
			"pause by this machine: deploying the 修复"},
		{"/api/pause?reason=" + url.QueryEscape(long), "", nil, "pause by this machine: " + long},
		{"/api/resume", "", nil, "resume by this machine"},
		{"/api/resume?accept-rejections=true", "", nil, "accept by this machine"},
		{"/api/resume?accept-rejections=false", "", nil, "resume by this machine"},
		{"/api/pause", "abc", edits(bearer, named), "pause by alice"},
		{"/api/pause", "abc", edits(bearer, named, from("10.0.0.7:1")), "pause by alice"},
		{"/api/pause", "abc", edits(bearer, from("10.0.0.7:1")), "pause by 10.0.0.7"},
		{"/api/pause", "abc", edits(bearer, from("[fd00::7]:1")), "pause by fd00::7"},
		// A name is believed only with the token in the same request, not with a cookie.
		{"/api/pause", "abc", edits(loggedIn("abc"), named,
			header("X-Forwarded-Proto", "https")), "pause by this machine"},
		{"/api/pause", "abc", edits(bearer, named, named), "pause by this machine"},
		{"/api/pause", "abc", edits(bearer, header("X-Forwarded-User", strings.Repeat("a", 101))),
			"pause by this machine"},
		{"/api/pause", "abc", edits(bearer, header("X-Forwarded-User", "a\x1b[31m")),
			"pause by this machine"},
		{"/api/pause", "abc", edits(bearer, header("X-Forwarded-User", "a\xff")),
			"pause by this machine"},
		{"/api/pause", "abc", edits(bearer, header("X-Forwarded-User", "a\u202eb")),
			"pause by this machine"},
	} {
		if w, done := post(t, c.token, c.path, c.edits...); w.Code != http.StatusOK ||
			!slices.Equal(done, []string{c.want}) {
			t.Errorf("POST %s: %d %s, done: %v, want %s", c.path, w.Code, w.Body, done, c.want)
		}
	}
}

// Without a configured token nobody has it.
func TestWhoWithoutAToken(t *testing.T) {
	r := httptest.NewRequest(http.MethodPost, "/", nil)
	r.Header.Set("Authorization", "Bearer ")
	r.Header.Set("X-Forwarded-User", "root")
	r.RemoteAddr = "10.0.0.7:5"
	if who := Who("", r); who != "10.0.0.7" {
		t.Error(who)
	}
	if r.RemoteAddr = "@"; Who("", r) != "unknown" {
		t.Error(Who("", r))
	}
}

// Unknown options are refused, not ignored.
func TestUnknownOptionsAreRefused(t *testing.T) {
	for _, path := range []string{
		"/api/pause?accept-rejections=true", "/api/pause?for=1h",
		"/api/resume?accept_rejections=true", "/api/resume?accept-rejections",
		"/api/resume?accept-rejections=",
		"/api/resume?accept-rejections=yes",
		"/api/resume?accept-rejections=false&accept-rejections=true",
		"/api/resume?accept-rejections=true;x", "/api/resume?%zz",
		"/api/pause?reason=a&reason=b", "/api/pause?reason=a%0Ab", "/api/pause?reason=%1b",
		"/api/pause?reason=%ff", "/api/pause?reason=a%E2%80%AEb",
		"/api/pause?reason=" + strings.Repeat("a", maxWhy+1), "/api/pause?worker=a:1",
	} {
		if w, done := post(t, "", path); w.Code != http.StatusBadRequest || len(done) > 0 ||
			!contains(w, "400: ") {
			t.Errorf("POST %s: %d %s, done: %v", path, w.Code, w.Body, done)
		}
	}
	body := func(r *http.Request) {
		form := httptest.NewRequest(http.MethodPost, "/",
			strings.NewReader("accept-rejections=true"))
		r.Body, r.ContentLength = form.Body, form.ContentLength
	}
	if w, done := post(t, "", "/api/resume", body); w.Code != http.StatusBadRequest ||
		len(done) > 0 || !contains(w, "URL") {
		t.Errorf("an option in the body: %d %s, done: %v", w.Code, w.Body, done)
	}
}

// The response is /readyz's body, always with 200: the command was executed, whether or not the
// worker is a member of its group.
func TestCommandResponse(t *testing.T) {
	for _, ready := range []bool{true, false} {
		l := &fakeControls{fake: fake{ready: ready,
			state: State{Held: []Hold{{Reason: "outage", Since: heldSince, Detail: "not shown"}}}}}
		o := options(l)
		var log bytes.Buffer
		o.Controls, o.Log = l, zerolog.New(&log)
		w := get(t, o, "/api/pause", method(http.MethodPost))
		now := get(t, o, "/readyz")
		if w.Code != http.StatusOK || w.Body.String() != now.Body.String() || w.Header().
			Get("Content-Type") != now.Header().Get("Content-Type") {
			t.Errorf("%d %v %s\n/readyz: %v %s", w.Code, w.Header(), w.Body, now.Header(), now.Body)
		}
		var body struct {
			Ready bool
			Held  []map[string]string
		}
		if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil || body.Ready != ready ||
			len(body.Held) != 2 || len(body.Held[1]) != 2 ||
			body.Held[1]["reason"] != "paused" || body.Held[1]["since"] != "2026-03-01T04:00:00Z" {
			t.Errorf("%v %s", err, w.Body)
		}
		if w := get(t, o, "/api/resume?accept-rejections=true",
			method(http.MethodPost)); !contains(w, `"held":[{"reason":"outage",`) ||
			contains(w, "paused") {
			t.Errorf("after resume: %s", w.Body)
		}
		// The log shows who requested what.
		for _, want := range []string{
			`"request":"POST /api/pause","from":"127.0.0.1:50000","by":"this machine"`,
			`"request":"POST /api/resume?accept-rejections=true"`} {
			if strings.Count(log.String(), want) != 1 {
				t.Errorf("the log lacks %s:\n%s", want, &log)
			}
		}
	}
}

// A server without controls, or for reading only, has no commands.
func TestWithoutControls(t *testing.T) {
	readOnly := options(&fakeControls{})
	readOnly.Controls, readOnly.ReadOnly = &fakeControls{}, true
	for _, o := range []Options{options(&fake{}), readOnly} {
		for _, path := range changing {
			for _, name := range []string{http.MethodPost, http.MethodGet} {
				if w := get(t, o, path, method(name)); w.Code != http.StatusNotFound {
					t.Errorf("%s %s: %d", name, path, w.Code)
				}
			}
		}
	}
}

// A browser's request over a real connection: the protection covers the server, not only the
// handler that other tests call.
func TestCrossSitePostOverTCP(t *testing.T) {
	l := &fakeControls{}
	o := options(l)
	o.Controls = l
	server := httptest.NewServer(newSite(o).handler())
	defer server.Close()
	for origin, want := range map[string]int{"http://evil.example": http.StatusForbidden,
		server.URL: http.StatusOK, "": http.StatusOK} {
		r, err := http.NewRequest(http.MethodPost, server.URL+"/api/pause", nil)
		if err != nil {
			t.Fatal(err)
		}
		if origin != "" {
			r.Header.Set("Origin", origin)
		}
		response, err := server.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != want {
			t.Errorf("origin %q: %d, want %d", origin, response.StatusCode, want)
		}
	}
	if len(l.done) != 2 {
		t.Errorf("paused %d times", len(l.done))
	}
}
