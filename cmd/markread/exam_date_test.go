//go:build exam && unix

package main

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// examDates stands between a worker and the IM server and writes the Date.
type examDates struct {
	url  string
	date atomic.Pointer[string] // nil: the server's own
}

func examStartDates(t *testing.T, serverURL string) *examDates {
	t.Helper()
	to, err := url.Parse(serverURL)
	if err != nil {
		t.Fatal(err)
	}
	d := &examDates{}
	proxy := httputil.NewSingleHostReverseProxy(to)
	proxy.ModifyResponse = func(r *http.Response) error {
		if date := d.date.Load(); date != nil {
			r.Header.Set("Date", *date)
		}
		return nil
	}
	server := httptest.NewServer(proxy)
	t.Cleanup(server.Close)
	d.url = server.URL
	return d
}

// off makes the Date wrong by so much.
func (d *examDates) off(by time.Duration) {
	date := time.Now().Add(by).UTC().Format(http.TimeFormat)
	d.date.Store(&date)
}

// TestExamDate: the Date of the IM server is wrong by a year, in both
// directions, or absurd, and then right again. Signatures are accepted, calls
// continue, and what an event may say is bounded by our clock.
func TestExamDate(t *testing.T) {
	t.Parallel()
	const year = 365 * 24 * time.Hour
	k := examStartBroker(t)
	sandbox := examStartSandbox(t)
	dates := examStartDates(t, sandbox.url)
	w := examStartWorker(t, k, dates.url, "--attempts", "2")
	w.ready(t)
	began := time.Now()
	flow := examStartFlow(t, k, k.live, "date", 100)
	phases := 0
	good, bad := []examEvent{}, 0
	phase := func(name string) {
		t.Helper()
		applied := func(more int) {
			t.Helper()
			enough := sandbox.stats(t).Applied + more
			examWait(t, "calls while the Date is "+name, 10*time.Second, func() bool {
				return sandbox.stats(t).Applied >= enough
			})
		}
		applied(60)
		phases++
		now := time.Now().Unix()
		c := examConversations("future-"+name, 3)
		soon := examEvent{c[0], now + 4*60}
		late := now + int64((year - time.Hour).Seconds())
		examProduceEvents(t, k, k.live, []examEvent{soon, {c[1], now + 10*60}, {c[2], late}})
		good, bad = append(good, soon), bad+2
		applied(60)
	}
	phase("right")
	for _, wrong := range []time.Duration{year, -year} {
		dates.off(wrong)
		phase(wrong.String())
		dates.date.Store(nil)
		phase("right-after-" + wrong.String())
	}
	for _, absurd := range []string{"Fri, 31 Dec 9999 23:59:59 GMT", "Tue, 31 Dec 1968 23:59:59 GMT"} {
		dates.date.Store(&absurd)
		phase(absurd[12:16])
	}
	refused := sandbox.stats(t).Codes["70001"]

	// Now the server's whole clock: a signature must be dated by it.
	dates.date.Store(nil)
	sandbox.faults(t, `{"skew":"8760h"}`)
	phase("year-ahead")
	sandbox.faults(t, `{"skew":"-8760h"}`)
	phase("year-behind")
	sandbox.faults(t, `{}`)
	phase("right-at-last")
	events := append(flow.end(), good...)
	k.settled(t, 20*time.Second, k.live)
	w.stop(t, syscall.SIGTERM, examStopLimit)

	letters := k.readAll(t, k.letters)
	begun, between, ended := w.logged(t, "credentials")
	examFigure(t, "date", "%d events in %v at 100/s, %d phases: codes %v, %d dead letters of %d events of the future, "+
		"%d refusals before the whole clock was wrong",
		len(events), time.Since(began).Round(time.Second), phases, sandbox.stats(t).Codes, len(letters), bad, refused)
	examCheck(t, refused == 0, "%d signatures were refused because of the Date", refused)
	examCheck(t, begun+between+ended == 0, "a hold because of signatures")
	examCheck(t, len(letters) == bad, "%d dead letters, want %d: the events of the future", len(letters), bad)
	examComparePointers(t, examLargest(events), sandbox.pointers(t))
}
