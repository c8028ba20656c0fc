package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

const (
	// The interval is not a multiple of the 10 ms between the events of row latency: so scrapes
	// begin at every moment between two events.
	scrapeInterval = 1003 * time.Millisecond
	scrapeAccept   = "application/openmetrics-text;version=1.0.0;q=0.5," +
		"text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
)

// startScraping reads the metrics of a worker once a second, or its console as ten tabs do, until
// endScraping.
func (m *measurement) startScraping(ctx context.Context, admin string) {
	ctx, m.stopScraping = context.WithCancel(ctx)
	if m.side == scraped {
		m.scraping.Go(func() error { return scrape(ctx, admin) })
		return
	}
	for range tabs {
		m.scraping.Go(func() error { return watch(ctx, admin) })
	}
}

// endScraping fails if a scrape has failed, or if the side should have been scraped.
func (m *measurement) endScraping() error {
	switch {
	case m.side != scraped && m.side != watched:
		return nil
	case m.stopScraping == nil:
		return fmt.Errorf("it was not %s", m.side)
	}
	m.stopScraping()
	return m.scraping.Wait()
}

// scrape does what Prometheus does until ctx ends: it accepts OpenMetrics and, as Go's client does
// unasked, gzip, keeps one connection, and reads everything.
func scrape(ctx context.Context, admin string) error {
	return repeat(ctx, scrapeInterval, func() error {
		_, err := get(ctx, admin+"/metrics", scrapeAccept)
		return err
	})
}

const (
	tabs = 10
	// a prime number of milliseconds, as for scrapes
	tabInterval = 2003 * time.Millisecond
)

// watch does what the console's page does: it reads the whole history first, then what is new.
func watch(ctx context.Context, admin string) error {
	var after int64
	return repeat(ctx, tabInterval, func() error {
		text, err := get(ctx, fmt.Sprintf("%s/api/overview?range=1h&after=%d", admin, after),
			"application/json")
		if err != nil {
			return err
		}
		var overview struct {
			History struct {
				First, Step int64
				Series      map[string][]*float64
			}
		}
		if err := json.Unmarshal(text, &overview); err != nil {
			return err
		}
		h := overview.History
		if n := int64(len(h.Series["calls.ok"])); n > 0 {
			after = h.First + (n-1)*h.Step
		}
		return nil
	})
}

func get(ctx context.Context, url, accept string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", accept)
	return send(request)
}

// repeat calls f at each interval until ctx ends, or f fails.
func repeat(ctx context.Context, interval time.Duration, f func() error) error {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		err := f()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}
