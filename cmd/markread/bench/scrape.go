package bench

import (
	"context"
	"errors"
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

// startScraping reads the metrics of a worker once a second, until endScraping.
func (m *measurement) startScraping(ctx context.Context, admin string) {
	ctx, m.stopScraping = context.WithCancel(ctx)
	m.scraping.Go(func() error { return scrape(ctx, admin) })
}

// endScraping fails if a scrape has failed, or if the side should have been scraped.
func (m *measurement) endScraping() error {
	switch {
	case m.side != scraped:
		return nil
	case m.stopScraping == nil:
		return errors.New("it was not scraped")
	}
	m.stopScraping()
	return m.scraping.Wait()
}

// scrape does what Prometheus does until ctx ends: it accepts OpenMetrics and, as Go's client does
// unasked, gzip, keeps one connection, and reads everything.
func scrape(ctx context.Context, admin string) error {
	tick := time.NewTicker(scrapeInterval)
	defer tick.Stop()
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, admin+"/metrics", nil)
		if err != nil {
			return err
		}
		request.Header.Set("Accept", scrapeAccept)
		_, err = send(request)
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
