package console

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"markread/imclient"
	"markread/worker/console/respond"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// loginLasts is how long a login is valid.
const loginLasts = 12 * time.Hour

// login makes and checks the cookie of a login: when it expires, and an HMAC of that. So no session
// is stored, the cookie does not contain the token, and all replicas with one token accept it. A
// new token ends all logins.
type login struct {
	// The name depends on the token: consoles of other tokens on this host keep their cookies.
	name string
	key  []byte
}

func newLogin(token string) login {
	key := sha256.Sum256([]byte("markread login" + token))
	return login{"markread-" + sign([]byte(token), "cookie name")[:8], key[:]}
}

func sign(key []byte, text string) string {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(text))
	return hex.EncodeToString(mac.Sum(nil))
}

// cookie returns a cookie that is valid until the time; zero: one that removes it.
func (l login) cookie(r *http.Request, until time.Time) *http.Cookie {
	c := &http.Cookie{Name: l.name, HttpOnly: true, SameSite: http.SameSiteStrictMode,
		Secure: isTLS(r), MaxAge: -1}
	if !until.IsZero() {
		expiry := strconv.FormatInt(until.Unix(), 10)
		c.Value, c.MaxAge = expiry+"."+sign(l.key, expiry), int(loginLasts/time.Second)
	}
	return c
}

// check reports whether the request has a valid cookie. Without one, guessed reports whether it has
// one that this token never made; one that has expired is no guess.
func (l login) check(r *http.Request, now time.Time) (valid, guessed bool) {
	if !isPrivate(r) {
		return false, false
	}
	for _, c := range r.CookiesNamed(l.name) {
		expiry, mac, _ := strings.Cut(c.Value, ".")
		if !hmac.Equal([]byte(mac), []byte(sign(l.key, expiry))) {
			guessed = true
		} else if until, err := strconv.ParseInt(expiry, 10, 64); err == nil && now.Unix() < until {
			return true, false
		}
	}
	return false, guessed
}

// isTLS reports whether the browser's own connection is encrypted: to this server, or to the proxy
// before it. Who adds this header to a request over plain HTTP endangers only itself.
func isTLS(r *http.Request) bool {
	return r.TLS != nil || strings.EqualFold(r.Header.Get("X-Forwarded-Proto"), "https")
}

// isPrivate reports whether nobody on the network can read the token or the cookie of the request:
// the connection is encrypted, or the browser has named this machine and no proxy is between them:
// one on this machine may name it for browsers elsewhere, whose connections are not encrypted. It
// adds a header or, by default, speaks HTTP/1.0.
func isPrivate(r *http.Request) bool {
	return isTLS(r) || r.ProtoAtLeast(1, 1) && imclient.IsLoopback(r.Host) && !proxied(r)
}

// logIn checks the token of the login form and sets the cookie.
func (s *site) logIn(w http.ResponseWriter, r *http.Request) {
	if !isPrivate(r) {
		s.showLogin(w, r, http.StatusForbidden, "")
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, respond.MaxBody)
	if err := r.ParseForm(); err != nil {
		respond.Refuse(w, r, http.StatusBadRequest, "the form can't be read")
		return
	}
	// not from the URL, which ends up in logs
	if !equal(strings.TrimSpace(r.PostForm.Get("token")), s.Token) {
		s.delayGuess(r, "form")
		s.showLogin(w, r, http.StatusUnauthorized, "ui.login.wrong")
		return
	}
	http.SetCookie(w, s.login.cookie(r, time.Now().Add(loginLasts)))
	seeRoot(w, r)
}

// logOut removes the cookie. It names the cookie only to who has it: the name would help to guess
// a weak token.
func (s *site) logOut(w http.ResponseWriter, r *http.Request) {
	if len(r.CookiesNamed(s.login.name)) > 0 {
		http.SetCookie(w, s.login.cookie(r, time.Time{}))
	}
	seeRoot(w, r)
}

// seeRoot leads to the page, in the same language. The URL is relative to the browser's, of which a
// proxy may have removed the beginning, so [http.Redirect] can't make it.
func seeRoot(w http.ResponseWriter, r *http.Request) {
	to := "./"
	if lang := r.URL.Query().Get("lang"); lang == "en" || lang == "zh" {
		to += "?lang=" + lang
	}
	w.Header().Set("Location", to)
	w.WriteHeader(http.StatusSeeOther)
}
