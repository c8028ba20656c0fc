package console

import (
	"crypto/sha256"
	"crypto/subtle"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"markread/imclient"
)

// guard lets a request through to next if it may see the state: with a token configured, if it
// carries it; without one, if it comes from this machine.
func guard(token string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case token != "" && !hasToken(r, token):
			w.Header().Set("WWW-Authenticate", `Bearer realm="markread"`)
			http.Error(w, "401: this needs the admin token (MARKREAD_ADMIN_TOKEN) as "+
				"\"Authorization: Bearer\"", http.StatusUnauthorized)
		case token == "" && !isLocal(r):
			http.Error(w, "403: without MARKREAD_ADMIN_TOKEN only /healthz, /readyz and /metrics "+
				"are served "+
				"to other machines and through proxies", http.StatusForbidden)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// carries reports whether the request has the token. Hashing first makes the comparison's time
// independent of the token's length too.
func hasToken(r *http.Request, token string) bool {
	scheme, given, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	a, b := sha256.Sum256([]byte(strings.TrimSpace(given))), sha256.Sum256([]byte(token))
	return strings.EqualFold(scheme, "Bearer") && subtle.ConstantTimeCompare(a[:], b[:]) == 1
}

// local reports whether a request was made on this machine by a program that meant this server. The
// peer address alone does not show it: a reverse proxy on this machine has a loopback address too
// (it adds a header or, by default, speaks HTTP/1.0), and so has the browser of this machine that
// fetches a page whose name was made to point here ("DNS rebinding": its Host is that name).
func isLocal(r *http.Request) bool {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	return err == nil && peer.Addr().IsLoopback() && r.ProtoMajor == 1 && r.ProtoMinor == 1 &&
		!slices.ContainsFunc(slices.Collect(maps.Keys(r.Header)), addedByProxy) &&
		imclient.IsLoopback(r.Host)
}

// proxyPrefixes are how headers begin that proxies and content networks add; proxyParts are what
// others contain, without hyphens.
var (
	proxyPrefixes = []string{
		"akamai-", "cdn-", "cf-", "cloudfront-", "fastly-", "fly-",
		"x-amz", "x-appengine-", "x-arr-", "x-azure-", "x-cluster-", "x-envoy-", "x-host",
		"x-original-", "x-real-", "x-scheme", "x-varnish",
	}
	proxyParts = []string{"clientip", "forward", "proxy", "realip", "remote", "userip"}
)

// addedByProxy reports whether a header looks like one that a proxy adds. The names have no
// standard and some write _ for -, so the rule is generous: nothing that browsers, curl or our own
// commands send looks so.
func addedByProxy(name string) bool {
	name = strings.ReplaceAll(strings.ToLower(name), "_", "-")
	joined := strings.ReplaceAll(name, "-", "")
	return name == "via" ||
		slices.ContainsFunc(proxyPrefixes,
			func(p string) bool { return strings.HasPrefix(name, p) }) ||
		slices.ContainsFunc(proxyParts, func(p string) bool { return strings.Contains(joined, p) })
}

// withHeaders adds what every answer has. The policy allows the server's own files and nothing
// else: no inline script, no frame around the page, no form to anywhere.
func withHeaders(next http.Handler) http.Handler {
	const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; " +
		"connect-src 'self'; " +
		"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
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
