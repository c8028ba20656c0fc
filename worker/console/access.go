package console

import (
	"cmp"
	"crypto/sha256"
	"crypto/subtle"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"markread/consumer/printable"
	"markread/imclient"
	"markread/worker/console/respond"
)

// guard passes a request to next only if its sender may see the worker's state. With a token
// configured, the request must have it, or the cookie of a login; without one, it must come from
// this machine.
func (s *site) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		valid, guess := s.credentials(r)
		switch {
		case s.Token == "" && !isLocal(r):
			respond.Refuse(w, r, http.StatusForbidden, "without MARKREAD_ADMIN_TOKEN only "+
				"/healthz, /readyz and /metrics are served to other machines and through proxies")
		case s.Token == "" || valid:
			next.ServeHTTP(w, r)
		default:
			if guess != "" {
				s.delayGuess(r, guess)
			}
			s.unauthorized(w, r)
		}
	})
}

// credentials reports whether the request has the token or the cookie of a login. If not, guess is
// what it has in their place; "": nothing.
func (s *site) credentials(r *http.Request) (valid bool, guess string) {
	if hasToken(r, s.Token) {
		return true, ""
	}
	valid, guessed := s.login.check(r, time.Now())
	switch {
	case valid:
		return true, ""
	case guessed:
		return false, "cookie"
	case isBearer(r):
		return false, "Bearer"
	}
	return false, ""
}

// unauthorized responds to a request without valid credentials: with the login form in place of the
// page.
func (s *site) unauthorized(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("WWW-Authenticate", `Bearer realm="markread"`)
	if r.URL.Path == "/" && !respond.WantsJSON(r) {
		s.showLogin(w, r, http.StatusUnauthorized, "")
		return
	}
	respond.Refuse(w, r, http.StatusUnauthorized, "this needs the admin token "+
		"(MARKREAD_ADMIN_TOKEN) as \"Authorization: Bearer\", or a login at /")
}

// guessDelay is how much later a wrong token or cookie is answered. A correct one never waits.
const guessDelay = time.Second

// delayGuess logs a wrong token or cookie, and waits, at most until the request's end. The path
// is not logged: it may be the token in the wrong place.
func (s *site) delayGuess(r *http.Request, kind string) {
	s.failures.Pass("login", s.Log.Warn()).Str("from", peer(r)).Str("credential", kind).
		Msg("a request with a wrong token or cookie was refused")
	timer := time.NewTimer(guessDelay)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-r.Context().Done():
	}
}

func isBearer(r *http.Request) bool {
	scheme, _, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	return strings.EqualFold(scheme, "Bearer")
}

// hasToken reports whether the request has the token. Nobody has an empty one.
func hasToken(r *http.Request, token string) bool {
	_, given, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	return token != "" && isBearer(r) && equal(strings.TrimSpace(given), token)
}

// equal compares in constant time. Both are hashed first, so that the time does not depend on the
// token's length either.
func equal(given, token string) bool {
	a, b := sha256.Sum256([]byte(given)), sha256.Sum256([]byte(token))
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1
}

// Who returns who sent a request that the server has accepted: the user that a proxy or another
// console names, else the address. Only whoever has the token is believed. It is one line.
func Who(token string, r *http.Request) string {
	return cmp.Or(user(token, r), peer(r))
}

// user returns the user's name; "": unknown.
func user(token string, r *http.Request) string {
	const maxUser = 100
	names := r.Header.Values(userHeader)
	if !hasToken(r, token) || len(names) != 1 || len(names[0]) > maxUser ||
		printable.Line(names[0]) != names[0] {
		return ""
	}
	return names[0]
}

const userHeader = "X-Forwarded-User"

// peer returns the address that sent the request.
func peer(r *http.Request) string {
	addr, err := netip.ParseAddrPort(r.RemoteAddr)
	switch {
	case err != nil:
		return "unknown"
	case addr.Addr().Unmap().IsLoopback():
		return "this machine"
	default:
		return addr.Addr().Unmap().String()
	}
}

// isLocal reports whether a program on this machine sent the request to this server on purpose. The
// peer address alone does not prove it: a reverse proxy on this machine has a loopback address, too
// (it adds a header or, by default, speaks HTTP/1.0), and so does this machine's browser when it
// fetches a page whose name was made to resolve to this machine ("DNS rebinding": its Host is that
// name).
func isLocal(r *http.Request) bool {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	return err == nil && peer.Addr().IsLoopback() && r.ProtoMajor == 1 && r.ProtoMinor == 1 &&
		!proxied(r) && imclient.IsLoopback(r.Host)
}

// proxied reports whether a header looks as if a proxy added it.
func proxied(r *http.Request) bool {
	return slices.ContainsFunc(slices.Collect(maps.Keys(r.Header)), addedByProxy)
}

// proxyPrefixes are prefixes of headers that proxies and content networks add; proxyParts are
// substrings of others, without hyphens.
var (
	proxyPrefixes = []string{
		"akamai-", "cdn-", "cf-", "cloudfront-", "fastly-", "fly-",
		"x-amz", "x-appengine-", "x-arr-", "x-azure-", "x-cluster-", "x-envoy-", "x-host",
		"x-original-", "x-real-", "x-scheme", "x-varnish",
	}
	proxyParts = []string{"clientip", "forward", "proxy", "realip", "remote", "userip"}
)

// addedByProxy reports whether a header looks as if a proxy added it. The names are not
// standardized and some have _ instead of -, so the rule is broad: browsers, curl and our own
// commands send no header that matches.
func addedByProxy(name string) bool {
	name = strings.ReplaceAll(strings.ToLower(name), "_", "-")
	joined := strings.ReplaceAll(name, "-", "")
	return name == "via" ||
		slices.ContainsFunc(proxyPrefixes,
			func(p string) bool { return strings.HasPrefix(name, p) }) ||
		slices.ContainsFunc(proxyParts, func(p string) bool { return strings.Contains(joined, p) })
}

// withHeaders adds the headers of every response. The policy allows only the server's own files: no
// inline script, no frame around the page, no form that leads elsewhere.
func withHeaders(next http.Handler) http.Handler {
	const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; " +
		"connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}
