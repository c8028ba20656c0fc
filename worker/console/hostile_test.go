package console

import (
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// fakeWorkers are a group's workers; each call is counted.
type fakeWorkers struct {
	calls []string
	err   error
}

func (f *fakeWorkers) called(text ...string) (Readiness, error) {
	f.calls = append(f.calls, strings.Join(strings.Fields(strings.Join(text, " ")), " "))
	return Readiness{Ready: new(true), Held: []ActiveHold{}}, f.err
}

func (f *fakeWorkers) Pause(_ context.Context, worker, by, why string) (Readiness, error) {
	return f.called("pause", worker, by, why)
}

func (f *fakeWorkers) Resume(_ context.Context, worker, by string, accept bool) (Readiness, error) {
	if accept {
		return f.called("accept", worker, by)
	}
	return f.called("resume", worker, by)
}

func (f *fakeWorkers) Conversation(_ context.Context, worker, report, peer string) (Conversation,
	error) {
	_, err := f.called("conversation", worker, report, peer)
	return Conversation{}, err
}

func (f *fakeWorkers) Rejected(_ context.Context, worker string) ([]RejectedEvent, error) {
	_, err := f.called("rejected", worker)
	return nil, err
}

// Conversation and Rejected of a worker's own server.
type fakeInspector struct{ *fakeWorkers }

func (f fakeInspector) Conversation(ctx context.Context, report, peer string) (Conversation,
	error) {
	return f.fakeWorkers.Conversation(ctx, "", report, peer)
}

func (f fakeInspector) Rejected() []RejectedEvent {
	_, _ = f.called("rejected")
	return []RejectedEvent{{Code: "90009", Report: "alice"}}
}

// everything returns the options of a worker's and of a group's server with all routes, and the
// calls that come through.
func everything(token string) (worker, group Options, calls *fakeWorkers) {
	calls = &fakeWorkers{}
	letters := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		_, _ = calls.called("letters")
	})
	settings := func() Settings { _, _ = calls.called("settings"); return Settings{} }
	worker = options(&fake{ready: true})
	worker.Controls, worker.Inspector = callControls{calls}, fakeInspector{calls}
	group = options(nil)
	group.Workers = calls
	for _, o := range []*Options{&worker, &group} {
		o.Token, o.Settings, o.Letters, o.AllowReplay = token, settings, letters, true
	}
	return worker, group, calls
}

type callControls struct{ *fakeWorkers }

func (c callControls) Pause(by, why string) { _, _ = c.called("pause", by, why) }
func (c callControls) Resume(by string, accept bool) {
	_, _ = c.fakeWorkers.Resume(context.Background(), "", by, accept)
}

// openRoutes are all routes that need no credentials. A new one needs a reason.
var openRoutes = []string{"GET /healthz", "GET /readyz", "GET /metrics", "GET /assets/{file}",
	"POST /login", "POST /logout"}

func TestOpenRoutes(t *testing.T) {
	worker, group, _ := everything("abc")
	for _, o := range []Options{worker, group} {
		var found []string
		for _, r := range newSite(o).routes() {
			if r.open {
				found = append(found, r.pattern)
			}
		}
		if !slices.Equal(found, openRoutes) {
			t.Errorf("open: %q", found)
		}
	}
}

// Whatever its route, a request that does not come from somebody who may send it reaches nothing.
func TestHostileRequestsAreRefused(t *testing.T) {
	const token = "s3cret-token"
	bearer := header("Authorization", "Bearer "+token)
	remote := from("10.0.0.7:5")
	crossSite := header("Sec-Fetch-Site", "cross-site")
	for _, c := range []struct {
		name  string
		token string
		edits []func(*http.Request)
		posts bool // only POSTs are refused: a GET changes nothing, and no page of another site can
		// read its response
	}{
		{name: "no token", token: token},
		{name: "another machine without a token", edits: edits(remote)},
		{name: "wrong Bearer", token: token, edits: edits(header("Authorization", "Bearer x"))},
		{name: "empty Bearer", token: token, edits: edits(header("Authorization", "Bearer "))},
		{name: "token as Basic", token: token,
			edits: edits(header("Authorization", "Basic "+token))},
		{name: "token in the URL", token: token,
			edits: edits(func(r *http.Request) { r.URL.RawQuery = "token=" + token })},
		{name: "wrong cookie", token: token, edits: edits(rawCookie(newLogin(token).name, "1.00"))},
		{name: "the token as cookie", token: token,
			edits: edits(rawCookie(newLogin(token).name, token))},
		{name: "expired cookie", token: token,
			edits: edits(cookie(token, time.Unix(1, 0)))},
		{name: "cookie of another token", token: token, edits: edits(loggedIn("another"))},
		{name: "cookie over plain HTTP", token: token,
			edits: edits(loggedIn(token), host("console.example"))},
		{name: "cookie, Host with a trailing dot", token: token,
			edits: edits(loggedIn(token), host("localhost."))},
		{name: "cookie, Host like a user", token: token,
			edits: edits(loggedIn(token), host("localhost:80@evil.example"))},
		{name: "cookie, HTTP/1.0", token: token, edits: edits(loggedIn(token), version(1, 0))},
		{name: "a user's name alone", token: token,
			edits: edits(header("X-Forwarded-User", "alice"),
				header("X-Forwarded-Proto", "https"))},
		{name: "rebound name", edits: edits(host("evil.example:8780"),
			header("Sec-Fetch-Site", "same-origin"))},
		{name: "Host with a trailing dot", edits: edits(host("localhost.:8780"))},
		{name: "Host like a user", edits: edits(host("localhost@evil.example"))},
		{name: "Host with a strange port", edits: edits(host("localhost:80@evil.example"))},
		{name: "Host with an empty port", edits: edits(host("localhost:"))},
		{name: "Host that contains loopback", edits: edits(host("127.0.0.1.evil.example"))},
		{name: "no Host", edits: edits(host(""))},
		{name: "HTTP/1.0", edits: edits(version(1, 0))},
		{name: "forwarded", edits: edits(header("X-Forwarded-For", "127.0.0.1"))},
		{name: "forwarded user", edits: edits(header("X-Forwarded-User", "root"))},
		{name: "forwarded over TLS", edits: edits(header("X-Forwarded-Proto", "https"))},
		{name: "any cookie without a token", edits: edits(remote, loggedIn(""))},
		{name: "page of another site", edits: edits(crossSite), posts: true},
		{name: "page of another site, with the token", token: token,
			edits: edits(bearer, crossSite), posts: true},
		{name: "page of another site, with the cookie", token: token,
			edits: edits(loggedIn(token), crossSite), posts: true},
		{name: "page of another server of this machine", token: token, edits: edits(loggedIn(token),
			header("Sec-Fetch-Site", "same-site")), posts: true},
		{name: "old browser", edits: edits(header("Origin", "https://evil.example")), posts: true},
		{name: "old browser, the same name, another port",
			edits: edits(header("Origin", "http://localhost:3000")), posts: true},
		{name: "sandboxed page", edits: edits(header("Origin", "null")), posts: true},
		{name: "old browser, with the cookie", token: token,
			edits: edits(loggedIn(token), header("Origin", "http://evil.example")), posts: true},
	} {
		synctest.Test(t, func(t *testing.T) {
			worker, group, calls := everything(c.token)
			for _, o := range []Options{worker, group} {
				site := newSite(o)
				for _, route := range site.routes() {
					method, path := split(route.pattern)
					if method == http.MethodGet && c.posts || route.open && !c.posts {
						continue
					}
					w := send(site, method, path, c.edits...)
					if w.Code != http.StatusUnauthorized && w.Code != http.StatusForbidden {
						t.Errorf("%s: %s: %d %.200s", c.name, route.pattern, w.Code, w.Body)
					}
					if w.Header().Get("Set-Cookie") != "" || contains(w, token) {
						t.Errorf("%s: %s: %v %s", c.name, route.pattern, w.Header(), w.Body)
					}
				}
			}
			if len(calls.calls) > 0 {
				t.Errorf("%s: %q came through", c.name, calls.calls)
			}
		})
	}
}

// The same requests with credentials come through: the test above does not pass by accident.
func TestFriendlyRequestsAreServed(t *testing.T) {
	for _, c := range []struct {
		token string
		edit  func(*http.Request)
	}{
		{"", func(*http.Request) {}},
		{"abc", header("Authorization", "Bearer abc")}, {"abc", loggedIn("abc")},
	} {
		worker, group, calls := everything(c.token)
		for _, o := range []Options{worker, group} {
			site := newSite(o)
			for _, route := range site.routes() {
				method, path := split(route.pattern)
				if path == "/login" || path == "/logout" {
					continue // see TestLogin
				}
				before := len(calls.calls)
				w := send(site, method, path, c.edit, header("Sec-Fetch-Site", "same-origin"))
				if w.Code != http.StatusOK ||
					method == http.MethodPost && len(calls.calls) != before+1 {
					t.Errorf("%s: %d %.200s, %q", route.pattern, w.Code, w.Body, calls.calls)
				}
			}
		}
	}
}

// Nothing but a POST changes anything, whoever sends it.
func TestPostRoutesNeedPost(t *testing.T) {
	for _, name := range []string{http.MethodGet, http.MethodHead, http.MethodPut, "post"} {
		worker, group, calls := everything("")
		for _, o := range []Options{worker, group} {
			site := newSite(o)
			for _, route := range site.routes() {
				if method, path := split(route.pattern); method == http.MethodPost {
					if w := send(site, name, path,
						header("X-HTTP-Method-Override", "POST")); w.Code !=
						http.StatusMethodNotAllowed {
						t.Errorf("%s %s: %d", name, path, w.Code)
					}
				}
			}
		}
		if len(calls.calls) > 0 {
			t.Errorf("%s: %q came through", name, calls.calls)
		}
	}
}

// split returns the method of a pattern, and a path that matches it.
func split(pattern string) (method, path string) {
	method, path, _ = strings.Cut(pattern, " ")
	path = strings.NewReplacer("{$}", "", "{file}", "console.css").Replace(path)
	return method, path
}

// send sends a well-formed request for a route, changed by the edits.
func send(site *site, method, path string,
	edits ...func(*http.Request)) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "http://localhost:8780"+path, nil)
	r.RemoteAddr = "127.0.0.1:50000"
	switch path {
	case "/api/conversation":
		setBody(r, `{"report":"a","peer":"b"}`)
		r.Header.Set("Content-Type", "application/json")
	case "/api/rejected":
		setBody(r, `{}`)
		r.Header.Set("Content-Type", "application/json")
	}
	for _, edit := range edits {
		edit(r)
	}
	w := httptest.NewRecorder()
	site.handler().ServeHTTP(w, r)
	return w
}
