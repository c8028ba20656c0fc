//go:build exam && unix

package exam

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/time/rate"

	"markread/cmd/markread/exam/kit"
)

// TestExamCollapse: a backlog costs one call for each distinct conversation, not for each event.
func TestExamCollapse(t *testing.T) {
	k := kit.StartBroker(t)
	im := kit.StartRecorder(t, "-rate", "200", "-latency", "2ms")
	events := kit.RandomEvents(2, kit.Conversations("collapse", 1000), 200_000)
	kit.ProduceEvents(t, k, k.Live, events)

	w := kit.StartWorker(t, k, im.URL)
	k.WaitCommitted(t, time.Minute, k.Live)
	w.Stop(t, syscall.SIGTERM, kit.StopLimit)

	arrivals := im.Arrivals(t)
	traffic := kit.MeasureCalls(arrivals)
	kit.Figure(t, "collapse", "200000 events over 1000 conversations: %v", traffic)
	kit.CompareReadTimes(t, kit.Largest(events), kit.ReadTimes(arrivals))
	kit.Check(t, traffic.Calls <= 1050, "%d calls, at most 1050 allowed", traffic.Calls)
	kit.Check(t, traffic.Span <= 5500*time.Millisecond,
		"%v from the first arrival to the last, at most 5.5 s allowed", traffic.Span)
	kit.Check(t, traffic.MostIn1s <= 200, "%d arrivals in one second", traffic.MostIn1s)
}

// TestExamQuota: under full load for 30 s, in a short run 15 s, the rate is never exceeded, and at
// least 97 % of it is used.
func TestExamQuota(t *testing.T) {
	conversations := 6100 // 30.5 s of work
	if testing.Short() {
		conversations = 3100
	}
	k := kit.StartBroker(t)
	im := kit.StartRecorder(t, "-rate", "200", "-latency", "2ms")
	events := kit.OneEventEach(kit.Conversations("quota", conversations))
	kit.ProduceEvents(t, k, k.Live, events)

	w := kit.StartWorker(t, k, im.URL)
	k.WaitCommitted(t, time.Minute, k.Live)
	w.Stop(t, syscall.SIGTERM, kit.StopLimit)

	arrivals := im.Arrivals(t)
	traffic := kit.MeasureCalls(arrivals)
	kit.Figure(t, "quota", "%v, %.1f %% of 200/s", traffic, traffic.PerSecond/2)
	kit.CompareReadTimes(t, kit.Largest(events), kit.ReadTimes(arrivals))
	kit.Check(t, traffic.MostIn1s <= 200, "%d arrivals in one second", traffic.MostIn1s)
	kit.Check(t, traffic.Throttled == 0, "%d times 60007", traffic.Throttled)
	kit.Check(t, traffic.PerSecond >= 194, "%.1f/s, at least 194 required", traffic.PerSecond)
	kit.Check(t, traffic.Calls == len(events), "%d calls for %d conversations", traffic.Calls,
		len(events))
}

// TestExamQuotaFrozen: the same, with the worker frozen for 1.5 s every 4 s. Delayed calls must not
// come as a burst.
func TestExamQuotaFrozen(t *testing.T) {
	t.Parallel()
	k := kit.StartBroker(t)
	im := kit.StartRecorder(t, "-rate", "200", "-latency", "2ms")
	kit.ProduceEvents(t, k, k.Live, kit.OneEventEach(kit.Conversations("frozen", 9000)))
	w := kit.StartWorker(t, k, im.URL)
	kit.Wait(t, "calls", 30*time.Second, func() bool { return im.Count(t) > 100 })

	frozen := 0
	for began := time.Now(); time.Since(began) < 30*time.Second; frozen++ {
		<-time.After(2500 * time.Millisecond)
		w.Signal(t, syscall.SIGSTOP)
		<-time.After(1500 * time.Millisecond)
		w.Signal(t, syscall.SIGCONT)
	}
	left := k.Lag(t, k.Live)
	w.Stop(t, syscall.SIGTERM, kit.StopLimit)

	traffic := kit.MeasureCalls(im.Arrivals(t))
	kit.Figure(t, "quota-frozen", "frozen %d times for 1.5 s: %v", frozen, traffic)
	kit.Check(t, left > 0, "the backlog ran dry: the test proves nothing")
	kit.Check(t, traffic.MostIn1s <= 200, "%d arrivals in one second", traffic.MostIn1s)
	kit.Check(t, traffic.Throttled == 0, "%d times 60007", traffic.Throttled)
	kit.Check(t, traffic.Calls >= 2500, "only %d calls: the test proves little", traffic.Calls)
}

// TestExamQuotaControl shows that the quota tests can fail: the same server detects a plain limiter
// of 200/s with a burst of 200.
func TestExamQuotaControl(t *testing.T) {
	im := kit.StartRecorder(t, "-rate", "200", "-latency", "2ms")
	limiter := rate.NewLimiter(200, 200)
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	defer client.CloseIdleConnections()
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			url := im.URL + "/v4/openim/admin_set_msg_read" +
				"?sdkappid=1&identifier=a&usersig=s&random=1&contenttype=json"
			body := fmt.Appendf(nil,
				`{"Report_Account":"c%d","Peer_Account":"p","MsgReadTime":"1"}`, i)
			for limiter.Wait(ctx) == nil {
				res, err := client.Post(url, "application/json", bytes.NewReader(body))
				if err != nil {
					t.Error(err)
					return
				}
				_, _ = io.Copy(io.Discard, res.Body)
				res.Body.Close()
			}
		})
	}
	wg.Wait()
	traffic := kit.MeasureCalls(im.Arrivals(t))
	kit.Figure(t, "quota-control", "rate.NewLimiter(200, 200): %v", traffic)
	kit.Check(t, traffic.MostIn1s > 200 && traffic.Throttled > 0,
		"the plain limiter was not detected: %v", traffic)
}

// TestExamPriority: live events pass a backfill that alone would take two and a half minutes, and
// the backfill continues beside them.
func TestExamPriority(t *testing.T) {
	const perSecond = 20
	seconds := 30
	if testing.Short() {
		seconds = 15
	}
	k := kit.StartBroker(t)
	im := kit.StartRecorder(t, "-rate", "200", "-latency", "2ms")
	kit.ProduceEvents(t, k, k.Backfill, kit.OneEventEach(kit.Conversations("bulk", 30_000)))
	w := kit.StartWorker(t, k, im.URL)
	kit.Wait(t, "backfill calls", 30*time.Second, func() bool { return im.Count(t) > 300 })
	before := im.Count(t)

	flow := kit.StartTraffic(t, k, k.Live, "live", perSecond)
	<-time.After(time.Duration(seconds) * time.Second)
	events := flow.End()
	k.WaitCommitted(t, 30*time.Second, k.Live)
	left := k.Lag(t, k.Backfill)
	w.Stop(t, syscall.SIGTERM, kit.StopLimit)

	arrivals := im.Arrivals(t)
	stats, delays := kit.MeasureCalls(arrivals), flow.ArrivalDelays(t, arrivals)
	backfill, live := 0, 0
	for _, a := range arrivals[before:] {
		if strings.HasPrefix(a.Report, "live-") {
			live++
		} else if live > 0 && live < len(events) {
			// beside live events only: the rest has the server to itself
			backfill++
		}
	}
	share := float64(backfill) / float64(backfill+live)
	kit.Figure(t, "priority", "%d live events at %d/s over 30000 backfill conversations: produce "+
		"to arrival %v; backfill %.1f %% of the calls; %v", live, perSecond, delays, 100*share,
		stats)
	kit.Check(t, left > 0, "the backfill ran dry: the test proves nothing")
	kit.Check(t, delays.Percentile(99) <= 300*time.Millisecond,
		"live %v, a p99 of at most 300 ms allowed", delays)
	kit.Check(t, share >= 0.05, "backfill got %.1f %% of the calls, at least 5 %% required",
		100*share)
	kit.Check(t, stats.MostIn1s <= 200, "%d arrivals in one second", stats.MostIn1s)
}

// TestExamPriorityFloor: live events that alone could use the whole rate leave 5 % of it to the
// backfill, and not much more.
func TestExamPriorityFloor(t *testing.T) {
	k := kit.StartBroker(t)
	im := kit.StartRecorder(t, "-rate", "200", "-latency", "2ms")
	kit.ProduceEvents(t, k, k.Backfill, kit.OneEventEach(kit.Conversations("bulk", 1000)))
	kit.ProduceEvents(t, k, k.Live, kit.OneEventEach(kit.Conversations("live", 1500)))
	w := kit.StartWorker(t, k, im.URL)
	k.WaitCommitted(t, 30*time.Second, k.Live)
	left := k.Lag(t, k.Backfill)
	w.Stop(t, syscall.SIGTERM, kit.StopLimit)

	backfill, live := 0, 0
	for _, a := range im.Arrivals(t) {
		if strings.HasPrefix(a.Report, "live-") {
			live++
		} else if live < 1500 {
			backfill++
		}
	}
	share := float64(backfill) / float64(backfill+live)
	kit.Figure(t, "priority-floor",
		"beside 1500 live conversations that wait, backfill got %.1f %% of the calls", 100*share)
	kit.Check(t, left > 0, "the backfill ran dry: the test proves nothing")
	// one may arrive late
	kit.Check(t, backfill >= (backfill+live)/20-1,
		"backfill got %d of %d calls, one in 20 required", backfill, backfill+live)
	kit.Check(t, share <= 0.07, "backfill got %.1f %% of the calls: live does not come first",
		100*share)
}
