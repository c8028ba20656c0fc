package imclient_test

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"net/url"
	"testing"
	"time"

	"markread/imclient"
)

// A response has the server's time, if it is a response of the API, and the expiry of the other
// side's certificate.
func TestResponseHasDateAndCertExpiry(t *testing.T) {
	date := time.Date(2026, 3, 1, 3, 0, 0, 0, time.UTC)
	until := date.Add(1000 * time.Hour)
	header := func(date string) http.Header { return http.Header{"Date": {date}} }
	for name, c := range map[string]struct {
		status int
		date   string
		body   string
		secure bool
		want   time.Time
	}{
		"success":       {200, date.Format(http.TimeFormat), apiResult(0, ""), true, date},
		"failure":       {200, date.Format(http.TimeFormat), apiResult(60026, ""), false, date},
		"no date":       {200, "", apiResult(0, ""), true, time.Time{}},
		"odd date":      {200, "yesterday", apiResult(0, ""), false, time.Time{}},
		"not the API's": {502, date.Format(http.TimeFormat), "<html>", true, time.Time{}},
	} {
		client := offlineClient(t, withTransport(func(*http.Request) (*http.Response, error) {
			response, err := respond(c.status, header(c.date), c.body)
			if c.secure {
				chain := []*x509.Certificate{{NotAfter: until}, {NotAfter: date}}
				response.TLS = &tls.ConnectionState{PeerCertificates: chain}
			}
			return response, err
		}))
		response, _ := client.Post(t.Context(), imclient.CommandUnread,
			imclient.Unread{Account: "administrator"})
		if !response.Date.Equal(c.want) || response.Date.IsZero() != c.want.IsZero() ||
			response.CertExpires.IsZero() == c.secure || c.secure &&
			!response.CertExpires.Equal(until) {
			t.Errorf("%s: Date %v, CertExpires %v", name, response.Date, response.CertExpires)
		}
	}
}

// Proxy returns the proxy without its password.
func TestProxyIsNamed(t *testing.T) {
	proxied := imclient.NewTransport(time.Second, 1)
	proxied.Proxy = http.ProxyURL(&url.URL{Scheme: "http", User: url.UserPassword("user", "canary"),
		Host: "proxy.test:3128"})
	direct := imclient.NewTransport(time.Second, 1)
	direct.Proxy = nil
	for want, transport := range map[string]http.RoundTripper{"proxy.test:3128": proxied,
		"": direct} {
		o := options("https://im.test")
		o.Transport = transport
		if got := client(t, o).Proxy(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if got := offlineClient(t).Proxy(); got != "" {
		t.Errorf("%q of a transport of another kind", got)
	}
}
