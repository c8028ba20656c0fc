package browser_test

import (
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
)

// proxied serves the server at the address target below a path, such as "/x/y", as a reverse proxy
// does, and returns the URL. Requests get the header in addition, for example Authorization,
// X-Forwarded-User or X-Forwarded-Proto. Like nginx by default, the proxy replaces Host.
func proxied(t *testing.T, target, path string, header http.Header) string {
	t.Helper()
	return startProxy(t, httptest.NewServer, target, path, header)
}

// proxiedTLS is proxied with TLS between the browser and the proxy. The tab must ignore the
// certificate's errors.
func proxiedTLS(t *testing.T, target, path string, header http.Header) string {
	t.Helper()
	return startProxy(t, httptest.NewTLSServer, target, path, header)
}

func startProxy(t *testing.T, start func(http.Handler) *httptest.Server, target, path string,
	header http.Header) string {
	t.Helper()
	to := &url.URL{Scheme: "http", Host: target}
	transport := &http.Transport{}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(to)
			r.SetXForwarded()
			maps.Copy(r.Out.Header, header)
		},
		Transport: transport,
		ErrorLog:  log.New(io.Discard, "", 0), // the page shows when the target is down
	}
	server := start(http.StripPrefix(strings.TrimSuffix(path, "/"), proxy))
	t.Cleanup(func() {
		server.Close()
		transport.CloseIdleConnections()
	})
	return server.URL + strings.TrimSuffix(path, "/") + "/"
}
