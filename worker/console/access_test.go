package console

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
)

var (
	open    = []string{"/healthz", "/readyz", "/metrics", "/assets/console.css"}
	guarded = []string{"/", "/api/state", "/api/overview"}
)

func from(addr string) func(*http.Request) { return func(r *http.Request) { r.RemoteAddr = addr } }
func host(name string) func(*http.Request) { return func(r *http.Request) { r.Host = name } }
func version(major, minor int) func(*http.Request) {
	return func(r *http.Request) { r.ProtoMajor, r.ProtoMinor = major, minor }
}
func header(k, v string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Add(k, v) }
}
func method(name string) func(*http.Request) {
	return func(r *http.Request) { r.Method = name }
}
func edits(e ...func(*http.Request)) []func(*http.Request) { return e }

func TestAccess(t *testing.T) {
	const token = "s3cret-token"
	cases := []struct {
		name  string
		token string
		edits []func(*http.Request)
		want  int
	}{
		{"this machine", "", nil, http.StatusOK},
		{"this machine, IPv6", "", edits(from("[::1]:50000"), host("[::1]:8780")), http.StatusOK},
		{"this machine, IPv4 in IPv6", "", edits(from("[::ffff:127.0.0.1]:50000")), http.StatusOK},
		{"this machine, another loopback address", "",
			edits(from("127.0.0.9:50000"), host("127.0.0.9")), http.StatusOK},
		{"this machine, Host without a port", "", edits(host("LocalHost")), http.StatusOK},
		{"this machine, IPv6 Host without a port", "", edits(host("[::1]")), http.StatusOK},
		{"another machine", "", edits(from("10.0.0.7:50000")), http.StatusForbidden},
		{"another machine that names this one", "",
			edits(from("192.168.1.2:50000"), host("127.0.0.1")), http.StatusForbidden},
		{"no peer address", "", edits(from("@")), http.StatusForbidden},
		{"rebound DNS name", "", edits(host("evil.example:8780")), http.StatusForbidden},
		{"name that begins like loopback", "", edits(host("localhost.evil.example")),
			http.StatusForbidden},
		{"name that begins like a loopback address", "", edits(host("127.0.0.1.evil.example")),
			http.StatusForbidden},
		{"no Host", "", edits(host("")), http.StatusForbidden},
		{"proxied, Forwarded", "", edits(header("Forwarded", "for=10.0.0.7")),
			http.StatusForbidden},
		{"proxied, X-Forwarded-For", "", edits(header("X-Forwarded-For", "10.0.0.7")),
			http.StatusForbidden},
		{"proxied, X-Forwarded-Host", "", edits(header("x-forwarded-host", "console.example")),
			http.StatusForbidden},
		{"proxied, empty X-Forwarded-Proto", "", edits(header("X-Forwarded-Proto", "")),
			http.StatusForbidden},
		{"HTTP/1.0, as plain proxies speak it", "", edits(version(1, 0)), http.StatusForbidden},
		{"HTTP/2.0", "", edits(version(2, 0)), http.StatusForbidden},
		{"headers of a browser", "", edits(header("Sec-Fetch-Site", "none"), header("DNT", "1"),
			header("Cookie", "via=x-forwarded-for"), header("Accept-Language", "en"),
			header("Viability", "1"),
			header("Cache-Control", "no-cache"), header("X-Requested-With", "fetch")),
			http.StatusOK},
		{"no token configured, one given, another machine", "",
			edits(from("10.0.0.7:1"), header("Authorization", "Bearer ")), http.StatusForbidden},

		{"token", token, edits(header("Authorization", "Bearer "+token)), http.StatusOK},
		{"token from another machine by a proxy", token, edits(from("10.0.0.7:1"),
			host("console.example"), header("X-Forwarded-For", "10.9.9.9"),
			header("Authorization", "bearer "+token)), http.StatusOK},
		{"token configured, none given, this machine", token, nil, http.StatusUnauthorized},
		{"wrong token", token, edits(header("Authorization", "Bearer s3cret-tokem")),
			http.StatusUnauthorized},
		{"token with more after it", token, edits(header("Authorization", "Bearer "+token+"x")),
			http.StatusUnauthorized},
		{"beginning of the token", token, edits(header("Authorization", "Bearer s3cret")),
			http.StatusUnauthorized},
		{"empty token", token, edits(header("Authorization", "Bearer ")), http.StatusUnauthorized},
		{"token of another scheme", token, edits(header("Authorization", "Basic "+token)),
			http.StatusUnauthorized},
		{"token without a scheme", token, edits(header("Authorization", token)),
			http.StatusUnauthorized},
	}
	for _, c := range cases {
		synctest.Test(t, func(t *testing.T) {
			o := options(&fake{ready: true})
			o.Token = c.token
			for _, path := range guarded {
				if w := get(t, o, path, c.edits...); w.Code != c.want {
					t.Errorf("%s: GET %s: %d, want %d", c.name, path, w.Code, c.want)
				}
			}
			for _, path := range open {
				if w := get(t, o, path, c.edits...); w.Code != http.StatusOK {
					t.Errorf("%s: GET %s: %d, but it is open to all", c.name, path, w.Code)
				}
			}
		})
	}
}

// Headers that proxies add, in whatever spelling, show that a request did not originate on this
// machine. With the token it may come through a proxy.
func TestProxyHeaders(t *testing.T) {
	for _, name := range []string{
		"Forwarded", "X-Forwarded", "X-Forwarded-For", "X-Forwarded-Host",
		"X-Forwarded-Client-Cert",
		"X-ForwardedFor", "X_Forwarded_For", "x_forwarded_for", "Forwarded-For",
		"X-Original-Forwarded-For", "HTTP_X_FORWARDED_FOR", "Via", "VIA", "X-Real-IP", "X-RealIP",
		"X_REAL_IP", "True-Client-IP", "Client-IP", "X-Client-IP", "X-Cluster-Client-IP",
		"Fastly-Client-IP", "Fly-Client-IP", "CF-Connecting-IP", "cf-ray", "CF_Connecting_IP",
		"CDN-Loop", "X-Envoy-External-Address", "X-ProxyUser-Ip", "WL-Proxy-Client-IP",
		"X-Azure-ClientIP", "X-Azure-SocketIP", "X-Appengine-User-IP", "X-Original-Host",
		"X-Original-URL", "X-Remote-Addr", "Remote-Addr", "X-Amzn-Trace-Id", "X-Amz-Cf-Id",
		"X-ARR-SSL", "X-Varnish", "X-Host", "X-Scheme", "Proxy-Connection",
		"CloudFront-Viewer-Address", "Akamai-Origin-Hop",
	} {
		for _, value := range []string{"", "127.0.0.1"} {
			// Both as net/http canonicalizes the key, and as it was sent.
			for _, key := range []string{http.CanonicalHeaderKey(name), name} {
				proxied := func(r *http.Request) { r.Header[key] = []string{value} }
				if w := get(t, options(&fake{}), "/api/state",
					proxied); w.Code != http.StatusForbidden {
					t.Errorf("%s: %d", key, w.Code)
				}
				if w := get(t, options(&fake{ready: true}), "/readyz",
					proxied); w.Code != http.StatusOK {
					t.Errorf("%s, /readyz: %d", key, w.Code)
				}
			}
		}
	}
}

// A token in the query string would end up in logs and histories, so it is ignored.
func TestTokenInTheURLIsIgnored(t *testing.T) {
	o := options(&fake{})
	o.Token = "abc"
	if w := get(t, o, "/api/state?token=abc&access_token=abc"); w.Code != http.StatusUnauthorized {
		t.Errorf("%d", w.Code)
	}
}

func TestRefusalsNameTheToken(t *testing.T) {
	o := options(&fake{})
	if w := get(t, o, "/", from("10.0.0.7:1")); !contains(w, "MARKREAD_ADMIN_TOKEN") {
		t.Errorf("403: %s", w.Body)
	}
	o.Token = "abc"
	w := get(t, o, "/api/state")
	if !contains(w, "Bearer") || w.Header().Get("WWW-Authenticate") == "" {
		t.Errorf("401: %v %s", w.Header(), w.Body)
	}
	if contains(w, "abc") {
		t.Error("the response contains the token")
	}
	w = get(t, o, "/api/state", header("Accept", "application/json"))
	if w.Code != http.StatusUnauthorized || !contains(w, `{"error":"this needs`) {
		t.Errorf("to the page: %d %s", w.Code, w.Body)
	}
}

func TestOnlyReads(t *testing.T) {
	for _, name := range []string{http.MethodPost, http.MethodPut, http.MethodDelete,
		http.MethodPatch, http.MethodOptions} {
		for _, path := range append(append([]string{}, open...), guarded...) {
			if w := get(t, options(&fake{ready: true}), path,
				method(name)); w.Code != http.StatusMethodNotAllowed &&
				w.Code != http.StatusNotFound {
				t.Errorf("%s %s: %d", name, path, w.Code)
			}
		}
	}
}

func TestUnknownPaths(t *testing.T) {
	for _, path := range []string{"/nothing", "/assets/", "/assets", "/assets/nothing", "/api/",
		"/debug/pprof/", "/page.html", "/assets/%2e%2e/page.html",
		"/login", "/logout", "/api/settings", "/api/dead-letters"} {
		if w := get(t, options(&fake{ready: true}), path); w.Code == http.StatusOK {
			t.Errorf("GET %s: 200 %s", path, w.Body)
		}
	}
	if w := get(t, options(&fake{}), "/nothing",
		from("10.0.0.7:1")); w.Code != http.StatusForbidden {
		t.Errorf("GET /nothing from elsewhere: %d: other machines can learn which paths exist",
			w.Code)
	}
}

func TestSecurityHeaders(t *testing.T) {
	refused := options(&fake{})
	refused.Token = "abc"
	responses := map[string]*httptest.ResponseRecorder{"refused": get(t, refused, "/")}
	for _, path := range append(append([]string{"/nothing"}, open...), guarded...) {
		responses[path] = get(t, options(&fake{ready: true}), path)
	}
	for name, w := range responses {
		for k, v := range map[string]string{
			"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY",
			"Referrer-Policy":              "no-referrer",
			"Cross-Origin-Resource-Policy": "same-origin", "Cache-Control": "no-store",
		} {
			if w.Header().Get(k) != v {
				t.Errorf("%s: %s = %q", name, k, w.Header().Get(k))
			}
		}
		if w.Header().Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s: pages of other sites may read it", name)
		}
	}
}
