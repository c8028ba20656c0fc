package group

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"syscall"
	"time"

	"markread/consumer/printable"
	"markread/imclient"
	"markread/worker/console/sample"
)

const (
	scrapeTimeout = 2 * time.Second
	maxMetrics    = 1 << 20 // bytes; a worker with 1,000 partitions has 300 KB
	atATime       = 16
	// lastStart is how long after the beginning of a round a scrape may begin, so that a round ends
	// in time for the next one and each scrape has at least a second.
	lastStart = time.Second
)

// scraper reads the metrics of workers.
type scraper struct {
	http    *http.Client
	details func(context.Context, *peer) // is called after a successful scrape
}

func newScraper(dial func(ctx context.Context, network, addr string) (net.Conn, error)) *scraper {
	return &scraper{details: func(context.Context, *peer) {}, http: &http.Client{
		Transport: &http.Transport{ // without a proxy: it would be sent to all addresses
			DialContext: dial, DisableCompression: true,
			MaxIdleConns: 2 * MaxWorkers, MaxIdleConnsPerHost: 1,
			IdleConnTimeout:        10 * time.Second, // less than the admin server's
			MaxResponseHeaderBytes: 16 << 10,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse
		},
	}}
}

// scrapeAll reads the metrics of all peers, atATime of them at a time, and returns after at most
// scrapeTimeout. The ones that responded fastest come first, so that those that hang can delay only
// each other: for whom no time is left, it is the next round.
func (s *scraper) scrapeAll(ctx context.Context, peers []*peer) {
	began := time.Now()
	ctx, cancel := context.WithDeadline(ctx, began.Add(scrapeTimeout))
	defer cancel()
	order := slices.SortedStableFunc(slices.Values(peers), func(a, b *peer) int {
		return cmp.Or(cmp.Compare(a.took, b.took), a.tried.Compare(b.tried))
	})
	slots := make(chan struct{}, atATime)
	var scrapes sync.WaitGroup
	defer scrapes.Wait()
	late := time.NewTimer(lastStart)
	defer late.Stop()
	for _, p := range order {
		if p.unresolved != "" {
			p.fail(p.unresolved)
			continue
		}
		select {
		case slots <- struct{}{}:
		case <-late.C:
			return
		case <-ctx.Done():
			return
		}
		scrapes.Go(func() {
			defer func() { <-slots }()
			p.tried = time.Now()
			member, err := s.scrape(ctx, p.addr)
			if p.took = time.Since(p.tried); err != nil {
				p.fail(printable.Truncate(printable.Line(err.Error()), maxReason))
				// One that hangs is as slow as can be, even if it began late.
				if ctx.Err() != nil {
					p.took = scrapeTimeout
				}
				return
			}
			p.sample, p.silent = member, ""
			s.details(ctx, p)
		})
	}
}

// maxReason bounds the bytes of the reason why a worker can't be read.
const maxReason = 300

// notAWorker ends the errors about responses that no worker sends.
const notAWorker = "; is it the admin server of a markread worker?"

// scrape reads the metrics of one worker. Its errors say what to do.
func (s *scraper) scrape(ctx context.Context, addr string) (*sample.Member, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", "text/plain;version=0.0.4")
	response, err := s.http.Do(request)
	if err != nil {
		return nil, explain(ctx, addr, err)
	}
	defer response.Body.Close()
	switch {
	case response.StatusCode/100 == 3:
		return nil, fmt.Errorf("it redirects elsewhere (HTTP %d)"+notAWorker, response.StatusCode)
	case response.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("it responds with HTTP %d to /metrics"+notAWorker,
			response.StatusCode)
	}
	at := time.Now()
	text, err := io.ReadAll(io.LimitReader(response.Body, maxMetrics+1))
	switch {
	case err != nil:
		return nil, explain(ctx, addr, err)
	case len(text) > maxMetrics:
		return nil, errors.New("its /metrics has more than 1 MiB" + notAWorker)
	}
	return sample.Parse(at, bytes.NewReader(text)) // its errors have a remedy, too
}

// explain returns why a request got no response, and what to do.
func explain(ctx context.Context, addr string, err error) error {
	var failure *url.Error
	if errors.As(err, &failure) {
		err = failure.Err // its text repeats the address
	}
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("no response within %s; does the process hang, or does a firewall or a "+
			"network policy drop connections to this port?", scrapeTimeout)
	case errors.Is(err, syscall.ECONNREFUSED) && imclient.IsLoopback(addr):
		return errors.New("connection refused; it has stopped, or listens on another port")
	case errors.Is(err, syscall.ECONNREFUSED):
		return errors.New("connection refused; it has stopped, or its --admin-addr listens on " +
			"loopback only (MARKREAD_ADMIN_ADDR=:8780 listens on all addresses), or on another port")
	}
	return fmt.Errorf("%w"+notAWorker, err)
}
