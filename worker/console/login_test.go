package console

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
	"markread/worker/console/respond"
)

// cookie adds a cookie of a login with the token, valid until the time.
func cookie(token string, until time.Time) func(*http.Request) {
	return func(r *http.Request) { r.AddCookie(newLogin(token).cookie(r, until)) }
}

func loggedIn(token string) func(*http.Request) {
	return func(r *http.Request) { cookie(token, time.Now().Add(loginLasts))(r) }
}

func rawCookie(name, value string) func(*http.Request) {
	return func(r *http.Request) { r.AddCookie(&http.Cookie{Name: name, Value: value}) }
}

// secured returns options with a token, and the log.
func secured(token string) (Options, *bytes.Buffer) {
	var log bytes.Buffer
	o := options(&fake{ready: true})
	o.Token, o.Log = token, zerolog.New(&log)
	return o, &log
}

// logIn sends the login form.
func logIn(t *testing.T, o Options, form string,
	edits ...func(*http.Request)) *httptest.ResponseRecorder {
	t.Helper()
	return get(t, o, "/login", append([]func(*http.Request){method(http.MethodPost),
		header("Content-Type", "application/x-www-form-urlencoded"),
		func(r *http.Request) { r.Body = http.NoBody; setBody(r, form) }}, edits...)...)
}

func setBody(r *http.Request, text string) {
	form := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(text))
	r.Body, r.ContentLength = form.Body, form.ContentLength
}

func TestLogin(t *testing.T) {
	o, _ := secured("s3cret+token")
	o.Group = "payments"
	if w := get(t, o, "/"); w.Code != http.StatusUnauthorized || !contains(w, `action="login`) ||
		contains(w, "s3cret") || contains(w, "payments") {
		t.Fatalf("the form: %d %s", w.Code, w.Body)
	}
	w := logIn(t, o, "token=+s3cret%2Btoken%0A")
	set := w.Result().Cookies()
	if w.Code != http.StatusSeeOther || w.Header().Get("Location") != "./" || len(set) != 1 {
		t.Fatalf("%d %v", w.Code, w.Header())
	}
	c := set[0]
	if !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.MaxAge != 12*3600 || c.Secure ||
		c.Path != "" || c.Domain != "" || strings.Contains(c.Raw, "s3cret") ||
		!strings.HasPrefix(c.Name, "markread-") || len(c.Name) != len("markread-")+8 {
		t.Errorf("%s", c.Raw)
	}
	send := func(r *http.Request) { r.AddCookie(c) }
	for _, path := range guarded {
		if w := get(t, o, path, send, from("10.0.0.7:1")); w.Code != http.StatusOK {
			t.Errorf("GET %s with the cookie: %d %s", path, w.Code, w.Body)
		}
	}
	// All replicas with the token accept it; a new token ends the login.
	if other, _ := secured("s3cret+token"); get(t, other, "/", send).Code != http.StatusOK {
		t.Error("another replica refuses the cookie")
	}
	if other, _ := secured("another"); get(t, other, "/", send).Code != http.StatusUnauthorized {
		t.Error("a cookie of another token is accepted")
	}
	w = get(t, o, "/logout", method(http.MethodPost), send)
	if gone := w.Result().Cookies(); w.Code != http.StatusSeeOther || len(gone) != 1 ||
		gone[0].Name != c.Name || gone[0].MaxAge >= 0 || gone[0].Value != "" {
		t.Errorf("log out: %d %v", w.Code, w.Header())
	}
}

// The name of the cookie would help to guess a weak token, so nobody gets it without the cookie.
func TestLogOutRevealsNothing(t *testing.T) {
	o, _ := secured("abc")
	w := get(t, o, "/logout", method(http.MethodPost), rawCookie("markread-00000000", "x"))
	if w.Code != http.StatusSeeOther || w.Header().Get("Set-Cookie") != "" {
		t.Errorf("%d %v", w.Code, w.Header())
	}
}

func TestLoginKeepsTheLanguage(t *testing.T) {
	o, _ := secured("abc")
	for lang, want := range map[string]string{"zh": "./?lang=zh", "en": "./?lang=en",
		"//evil.example": "./"} {
		w := logIn(t, o, "token=abc", func(r *http.Request) { r.URL.RawQuery = "lang=" + lang })
		if got := w.Header().Get("Location"); got != want {
			t.Errorf("%s: %s", lang, got)
		}
	}
}

// A wrong token, in the form, as a Bearer token or as a cookie, is answered a second later, in
// which others are served; a correct one, and none, immediately.
func TestGuessesAreSlow(t *testing.T) {
	name := newLogin("abc").name
	expiry := strconv.FormatInt(time.Now().Add(time.Hour).Unix(), 10)
	for _, c := range []struct {
		what string
		send func(*testing.T, Options) *httptest.ResponseRecorder
		want int
		slow bool
	}{
		{"form", func(t *testing.T, o Options) *httptest.ResponseRecorder {
			return logIn(t, o, "token=abcd")
		}, http.StatusUnauthorized, true},
		{"form, in the URL", func(t *testing.T, o Options) *httptest.ResponseRecorder {
			return logIn(t, o, "", func(r *http.Request) { r.URL.RawQuery = "token=abc" })
		}, http.StatusUnauthorized, true},
		{"correct form", func(t *testing.T, o Options) *httptest.ResponseRecorder {
			return logIn(t, o, "token=abc")
		}, http.StatusSeeOther, false},
		{"Bearer", sent(header("Authorization", "Bearer abcd")), http.StatusUnauthorized, true},
		{"correct Bearer", sent(header("Authorization", "Bearer abc")), http.StatusOK, false},
		{"correct Bearer, wrong cookie", sent(header("Authorization", "Bearer abc"),
			rawCookie(name, "x")), http.StatusOK, false},
		{"wrong Bearer, correct cookie", sent(header("Authorization", "Bearer x"),
			loggedIn("abc")), http.StatusOK, false},
		{"a proxy's Basic", sent(header("Authorization", "Basic abcd")), http.StatusUnauthorized,
			false},
		{"cookie", sent(rawCookie(name, expiry+"."+strings.Repeat("0", 64))),
			http.StatusUnauthorized, true},
		{"cookie without an expiry", sent(rawCookie(name, "."+sign(newLogin("abc").key, "x"))),
			http.StatusUnauthorized, true},
		{"cookie, later expiry", sent(func(r *http.Request) {
			c := newLogin("abc").cookie(r, time.Now().Add(time.Hour))
			_, mac, _ := strings.Cut(c.Value, ".")
			rawCookie(name, "9"+expiry+"."+mac)(r)
		}), http.StatusUnauthorized, true},
		{"correct cookie after a wrong one", sent(rawCookie(name, "x"), loggedIn("abc")),
			http.StatusOK, false},
		{"cookie of another token", sent(loggedIn("abcd")), http.StatusUnauthorized, false},
		{"expired cookie", sent(func(r *http.Request) { cookie("abc", time.Now())(r) }),
			http.StatusUnauthorized, false},
		{"none", sent(), http.StatusUnauthorized, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			o, log := secured("abc")
			begin := time.Now()
			w := c.send(t, o)
			took, logged := time.Since(begin), strings.Count(log.String(), "wrong token or cookie")
			if w.Code != c.want || (took == guessDelay) != c.slow || (took == 0) == c.slow ||
				(logged == 1) != c.slow {
				t.Errorf("%s: %d after %v; log: %s", c.what, w.Code, took, log)
			}
			if strings.Contains(log.String(), "abc") || contains(w, "abc") {
				t.Errorf("%s: the token is shown: %s %s", c.what, log, w.Body)
			}
		})
	}
}

// sent returns a request for the page with the edits.
func sent(edits ...func(*http.Request)) func(*testing.T, Options) *httptest.ResponseRecorder {
	return func(t *testing.T, o Options) *httptest.ResponseRecorder {
		return get(t, o, "/", edits...)
	}
}

// A client that has gone is not waited for.
func TestGuessEndsWithItsRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), guessDelay/2)
		defer cancel()
		o, _ := secured("abc")
		begin := time.Now()
		get(t, o, "/", header("Authorization", "Bearer x"),
			func(r *http.Request) { *r = *r.WithContext(ctx) })
		if took := time.Since(begin); took != guessDelay/2 {
			t.Errorf("it took %v", took)
		}
	})
}

// Whoever guesses does not fill the log.
func TestGuessesAreLoggedOnceInAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, log := secured("abc")
		handler := newSite(o).handler()
		for range 25 {
			// somebody has put the token into the path
			r := httptest.NewRequest(http.MethodGet, "http://localhost:8780/abc?abc", nil)
			r.Header.Set("Authorization", "Bearer guess")
			r.RemoteAddr = "10.0.0.7:5"
			handler.ServeHTTP(httptest.NewRecorder(), r)
		}
		if n := strings.Count(log.String(), `"from":"10.0.0.7"`); n != 3 ||
			!strings.Contains(log.String(), `"repeated":9`) ||
			strings.Contains(log.String(), "guess") || strings.Contains(log.String(), "abc") {
			t.Errorf("%d lines: %s", n, log)
		}
	})
}

// The form and the cookie are accepted only where nobody on the network can read them, and the page
// says why.
func TestLoginNeedsAPrivateConnection(t *testing.T) {
	https := header("X-Forwarded-Proto", "https")
	for _, c := range []struct {
		name    string
		edits   []func(*http.Request)
		private bool
		secure  bool
	}{
		{"this machine", nil, true, false},
		{"container with a published port", edits(from("172.17.0.1:5")), true, false},
		{"proxy with TLS", edits(host("console.example"), https), true, true},
		{"proxy with TLS, this machine", edits(https), true, true},
		{"proxy on this machine that keeps Host", edits(header("X-Forwarded-For", "127.0.0.1"),
			header("X-Forwarded-Proto", "http"), header("X-Forwarded-Host", "localhost")), false,
			false},
		{"proxy on this machine that adds one header", edits(header("X-Real-IP", "10.0.0.7")), false,
			false},
		{"proxy on this machine that adds Via", edits(header("Via", "1.1 proxy")), false, false},
		{"proxy with TLS that adds more", edits(host("console.example"), https,
			header("X-Forwarded-For", "10.0.0.7")), true, true},
		{"another machine's name", edits(host("console.example:8780")), false, false},
		{"another machine's address", edits(host("10.0.0.7:8780")), false, false},
		{"proxy without TLS", edits(host("console.example"), header("X-Forwarded-Proto", "http")),
			false, false},
		{"proxy that adds several", edits(host("console.example"),
			header("X-Forwarded-Proto", "https, http")), false, false},
		{"proxy that replaces Host", edits(header("X-Forwarded-Host", "console.example")), false,
			false},
		{"plain proxy that replaces Host", edits(version(1, 0)), false, false},
		{"trailing dot", edits(host("localhost.")), false, false},
		{"user before a host", edits(host("localhost@evil.example")), false, false},
		{"name that begins like loopback", edits(host("127.0.0.1.evil.example")), false, false},
	} {
		o, _ := secured("abc")
		w := logIn(t, o, "token=abc", c.edits...)
		cookies := w.Result().Cookies()
		if (len(cookies) == 1) != c.private || (w.Code == http.StatusSeeOther) != c.private {
			t.Errorf("%s: %d %v", c.name, w.Code, w.Header())
		} else if c.private && cookies[0].Secure != c.secure {
			t.Errorf("%s: Secure is %v", c.name, cookies[0].Secure)
		}
		if !c.private && (w.Code != http.StatusForbidden || !contains(w, "https") ||
			contains(w, "<form")) {
			t.Errorf("%s: the page does not say why: %d %s", c.name, w.Code, w.Body)
		}
		w = get(t, o, "/", append(c.edits, loggedIn("abc"))...)
		if (w.Code == http.StatusOK) != c.private || contains(w, `action="login`) {
			t.Errorf("%s, with a cookie: %d %s", c.name, w.Code, w.Body)
		}
	}
}

// A form that is too long, or none, is refused.
func TestHostileForms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, _ := secured("abc")
		if w := logIn(t, o, "x="+strings.Repeat("a", respond.MaxBody)+"&token=abc"); w.Code !=
			http.StatusBadRequest {
			t.Errorf("a long form: %d", w.Code)
		}
		for _, kind := range []string{"application/json", "text/plain", "multipart/form-data"} {
			w := logIn(t, o, "token=abc",
				func(r *http.Request) { r.Header.Set("Content-Type", kind) })
			if w.Code/100 != 4 {
				t.Errorf("%s: %d", kind, w.Code)
			}
		}
	})
}

// The form's messages are in the reader's language and can't be chosen by others.
func TestLoginForm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, _ := secured("abc")
		for lang, want := range map[string]string{"en": `<html lang="en">`,
			"zh": `<html lang="zh-Hans">`} {
			w := logIn(t, o, "token=x", func(r *http.Request) { r.URL.RawQuery = "lang=" + lang })
			wrong := newSite(o).texts.Texts(lang)["ui.login.wrong"]
			if !contains(w, want) || wrong == "" ||
				!strings.Contains(unescape(w.Body.String()), wrong) {
				t.Errorf("%s: %s", lang, w.Body)
			}
		}
		if w := get(t, o, "/", header("Accept", "application/json")); contains(w, "<html") {
			t.Errorf("to the script: %s", w.Body)
		}
	})
}

func unescape(text string) string {
	return strings.NewReplacer("&#39;", "'", "&#43;", "+", "&amp;", "&").Replace(text)
}

// No token, no login.
func TestNoLoginWithoutAToken(t *testing.T) {
	for _, path := range []string{"/login", "/logout"} {
		if w := get(t, options(&fake{}), path, method(http.MethodPost)); w.Code !=
			http.StatusNotFound {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
	o := options(&fake{})
	value := fmt.Sprintf("%d.%s", time.Now().Add(time.Hour).Unix(), strings.Repeat("0", 64))
	if w := get(t, o, "/", from("10.0.0.7:1"), loggedIn(""),
		rawCookie(newLogin("").name, value)); w.Code != http.StatusForbidden {
		t.Errorf("a cookie without a token: %d", w.Code)
	}
}
