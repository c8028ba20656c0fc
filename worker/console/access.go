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

// guard passes a request to next only if its sender may see the worker's state. With a token
// configured, the request must carry it; without one, it must come from this machine.
func guard(token string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case token != "" && !hasToken(r, token):
			w.Header().Set("WWW-Authenticate", `Bearer realm="markread"`)
			http.Error(w, "401: this needs the admin token (MARKREAD_ADMIN_TOKEN) as "+
				"\"Authorization: Bearer\"", http.StatusUnauthorized)
		case token == "" && !isLocal(r):
			http.Error(w, "403: without MARKREAD_ADMIN_TOKEN only /healthz, /readyz and /metrics "+
				"are served to other machines and through proxies", http.StatusForbidden)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// hasToken reports whether the request carries the token. Both are hashed first, so that the
// comparison's time does not depend on the token's length either.
func hasToken(r *http.Request, token string) bool {
	scheme, given, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	a, b := sha256.Sum256([]byte(strings.TrimSpace(given))), sha256.Sum256([]byte(token))
	return strings.EqualFold(scheme, "Bearer") && subtle.ConstantTimeCompare(a[:], b[:]) == 1
}

// isLocal reports whether a program on this machine sent the request to this server on purpose. The
// peer address alone does not prove it: a reverse proxy on this machine has a loopback address, too
// (it adds a header or, by default, speaks HTTP/1.0), and so does this machine's browser when it
// fetches a page whose name was made to resolve to this machine ("DNS rebinding": its Host is that
// name).
func isLocal(r *http.Request) bool {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	return err == nil && peer.Addr().IsLoopback() && r.ProtoMajor == 1 && r.ProtoMinor == 1 &&
		!slices.ContainsFunc(slices.Collect(maps.Keys(r.Header)), addedByProxy) &&
		imclient.IsLoopback(r.Host)
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
// inline script, no frame around the page, no form.
func withHeaders(next http.Handler) http.Handler {
	const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; " +
		"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
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
