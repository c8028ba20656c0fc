package bench

import (
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
)

// Scrapes repeat on one connection, as those of Prometheus do, until they are stopped.
func TestScrape(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	var connections []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if accept := r.Header.Get("Accept"); r.URL.Path != "/metrics" ||
			!strings.HasPrefix(accept, "application/openmetrics-text") ||
			r.Header.Get("Accept-Encoding") != "gzip" {
			t.Errorf("the request is for %s: %v", r.URL, r.Header)
		}
		connections = append(connections, r.RemoteAddr)
		if len(connections) == 2 {
			stop()
		}
	}))
	if err := scrape(ctx, server.URL); err != nil {
		t.Error(err)
	}
	server.Close()
	if len(slices.Compact(connections)) != 1 {
		t.Errorf("the connections are %v", connections)
	}
}

// A side whose scrapes fail is not measured.
func TestScrapeFails(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	m := measurement{side: scraped}
	if err := m.endScraping(); err == nil {
		t.Error("a side that was not scraped is measured")
	}
	m.startScraping(t.Context(), server.URL)
	_ = m.scraping.Wait()
	if err := m.endScraping(); err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("the error is %v", err)
	}
}
