//go:build exam && unix

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/time/rate"
)

// TestExamCollapse: a backlog costs calls for its distinct conversations, not for its events.
func TestExamCollapse(t *testing.T) {
	k := examStartBroker(t)
	im := examStartRecorder(t, "-rate", "200", "-latency", "2ms")
	events := examMany(2, examConversations("collapse", 1000), 200_000)
	examProduceEvents(t, k, k.live, events)

	w := examStartWorker(t, k, im.url)
	k.settled(t, time.Minute, k.live)
	w.stop(t, syscall.SIGTERM, examStopLimit)

	arrivals := im.arrivals(t)
	traffic := examMeasure(arrivals)
	examFigure(t, "collapse", "200000 events over 1000 conversations: %v", traffic)
	examComparePointers(t, examLargest(events), examPointers(arrivals))
	examCheck(t, traffic.calls <= 1050, "%d calls, at most 1050 allowed", traffic.calls)
	examCheck(t, traffic.span <= 5500*time.Millisecond, "%v from the first arrival to the last, at most 5.5 s allowed", traffic.span)
	examCheck(t, traffic.mostIn1s <= 200, "%d arrivals in one second", traffic.mostIn1s)
}

// TestExamQuota: saturated for 30 s, in a short run 15 s, the cap is kept and at least 97 % of it is used.
func TestExamQuota(t *testing.T) {
	conversations := 6100 // 30.5 s of work
	if testing.Short() {
		conversations = 3100
	}
	k := examStartBroker(t)
	im := examStartRecorder(t, "-rate", "200", "-latency", "2ms")
	events := examOneEach(examConversations("quota", conversations))
	examProduceEvents(t, k, k.live, events)

	w := examStartWorker(t, k, im.url)
	k.settled(t, time.Minute, k.live)
	w.stop(t, syscall.SIGTERM, examStopLimit)

	arrivals := im.arrivals(t)
	traffic := examMeasure(arrivals)
	examFigure(t, "quota", "%v, %.1f %% of 200/s", traffic, traffic.perSecond/2)
	examComparePointers(t, examLargest(events), examPointers(arrivals))
	examCheck(t, traffic.mostIn1s <= 200, "%d arrivals in one second", traffic.mostIn1s)
	examCheck(t, traffic.throttled == 0, "%d times 60007", traffic.throttled)
	examCheck(t, traffic.perSecond >= 194, "%.1f/s, at least 194 required", traffic.perSecond)
	examCheck(t, traffic.calls == len(events), "%d calls for %d conversations", traffic.calls, len(events))
}

// TestExamQuotaFrozen: the same with the worker stopped for 1.5 s every 4 s. What it held back must not come as a burst.
func TestExamQuotaFrozen(t *testing.T) {
	t.Parallel()
	k := examStartBroker(t)
	im := examStartRecorder(t, "-rate", "200", "-latency", "2ms")
	examProduceEvents(t, k, k.live, examOneEach(examConversations("frozen", 9000)))
	w := examStartWorker(t, k, im.url)
	examWait(t, "calls", 30*time.Second, func() bool { return im.count(t) > 100 })

	frozen := 0
	for began := time.Now(); time.Since(began) < 30*time.Second; frozen++ {
		<-time.After(2500 * time.Millisecond)
		w.signal(t, syscall.SIGSTOP)
		<-time.After(1500 * time.Millisecond)
		w.signal(t, syscall.SIGCONT)
	}
	left := k.unsettled(t, k.live)
	w.stop(t, syscall.SIGTERM, examStopLimit)

	traffic := examMeasure(im.arrivals(t))
	examFigure(t, "quota-frozen", "frozen %d times for 1.5 s: %v", frozen, traffic)
	examCheck(t, left > 0, "the backlog ran dry: the row says nothing")
	examCheck(t, traffic.mostIn1s <= 200, "%d arrivals in one second", traffic.mostIn1s)
	examCheck(t, traffic.throttled == 0, "%d times 60007", traffic.throttled)
	examCheck(t, traffic.calls >= 2500, "only %d calls: the row says little", traffic.calls)
}

// TestExamQuotaControl shows that the quota rows can fail: a plain limiter of 200/s with a burst of 200 is caught by the same server.
func TestExamQuotaControl(t *testing.T) {
	im := examStartRecorder(t, "-rate", "200", "-latency", "2ms")
	limiter := rate.NewLimiter(200, 200)
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	defer client.CloseIdleConnections()
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			url := im.url + "/v4/openim/admin_set_msg_read?sdkappid=1&identifier=a&usersig=s&random=1&contenttype=json"
			body := fmt.Appendf(nil, `{"Report_Account":"c%d","Peer_Account":"p","MsgReadTime":"1"}`, i)
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
	traffic := examMeasure(im.arrivals(t))
	examFigure(t, "quota-control", "rate.NewLimiter(200, 200): %v", traffic)
	examCheck(t, traffic.mostIn1s > 200 && traffic.throttled > 0, "the plain limiter was not caught: %v", traffic)
}

// TestExamPriority: live events pass a backfill that alone would take two and a half minutes, and the backfill goes on beside them.
func TestExamPriority(t *testing.T) {
	const perSecond = 20
	seconds := 30
	if testing.Short() {
		seconds = 15
	}
	k := examStartBroker(t)
	im := examStartRecorder(t, "-rate", "200", "-latency", "2ms")
	examProduceEvents(t, k, k.backfill, examOneEach(examConversations("bulk", 30_000)))
	w := examStartWorker(t, k, im.url)
	examWait(t, "backfill calls", 30*time.Second, func() bool { return im.count(t) > 300 })
	before := im.count(t)

	// One event every 50 ms, each in a conversation of its own, so that its arrival can be told from all others.
	produced := make([]time.Time, perSecond*seconds)
	tick := time.NewTicker(time.Second / perSecond)
	defer tick.Stop()
	for i := range produced {
		<-tick.C
		produced[i] = time.Now()
		e := examEvent{examConversation{"live-" + strconv.Itoa(i), "p"}, produced[i].Unix()}
		k.cl.Produce(examContext(t), examRecordOf(k.live, e), func(_ *kgo.Record, err error) {
			if err != nil {
				t.Errorf("produce: %v", err)
			}
		})
	}
	k.settled(t, 30*time.Second, k.live)
	left := k.unsettled(t, k.backfill)
	w.stop(t, syscall.SIGTERM, examStopLimit)

	arrivals := im.arrivals(t)
	traffic := examMeasure(arrivals)
	delay := make([]time.Duration, 0, len(produced))
	backfill, live := 0, 0
	for _, a := range arrivals[before:] {
		if number, ok := strings.CutPrefix(a.Report, "live-"); ok {
			i, _ := strconv.Atoi(number)
			delay = append(delay, time.Unix(0, a.Wall).Sub(produced[i]))
			live++
		} else if live > 0 && live < len(produced) { // beside live events only: the tail has the server to itself
			backfill++
		}
	}
	if len(delay) != len(produced) {
		t.Fatalf("%d calls for %d live events", len(delay), len(produced))
	}
	slices.Sort(delay)
	share := float64(backfill) / float64(backfill+live)
	p99 := delay[len(delay)*99/100]
	examFigure(t, "priority", "%d live events at %d/s over 30000 backfill conversations: produce to arrival p50 %v, p99 %v, most %v; backfill %.1f %% of the calls; %v",
		live, perSecond, delay[len(delay)/2].Round(time.Microsecond), p99.Round(time.Microsecond), delay[len(delay)-1].Round(time.Microsecond), 100*share, traffic)
	examCheck(t, left > 0, "the backfill ran dry: the row says nothing")
	examCheck(t, p99 <= 300*time.Millisecond, "live p99 %v, at most 300 ms allowed", p99)
	examCheck(t, share >= 0.05, "backfill got %.1f %% of the calls, at least 5 %% required", 100*share)
	examCheck(t, traffic.mostIn1s <= 200, "%d arrivals in one second", traffic.mostIn1s)
}

// TestExamPriorityFloor: live events that alone could fill the quota leave the backfill its 5 %, and not much more.
func TestExamPriorityFloor(t *testing.T) {
	k := examStartBroker(t)
	im := examStartRecorder(t, "-rate", "200", "-latency", "2ms")
	examProduceEvents(t, k, k.backfill, examOneEach(examConversations("bulk", 1000)))
	examProduceEvents(t, k, k.live, examOneEach(examConversations("live", 1500)))
	w := examStartWorker(t, k, im.url)
	k.settled(t, 30*time.Second, k.live)
	left := k.unsettled(t, k.backfill)
	w.stop(t, syscall.SIGTERM, examStopLimit)

	backfill, live := 0, 0
	for _, a := range im.arrivals(t) {
		if strings.HasPrefix(a.Report, "live-") {
			live++
		} else if live < 1500 {
			backfill++
		}
	}
	share := float64(backfill) / float64(backfill+live)
	examFigure(t, "priority-floor", "beside 1500 live conversations that wait, backfill got %.1f %% of the calls", 100*share)
	examCheck(t, left > 0, "the backfill ran dry: the row says nothing")
	examCheck(t, backfill >= (backfill+live)/20-1, "backfill got %d of %d calls, one in 20 required", backfill, backfill+live) // one may arrive late
	examCheck(t, share <= 0.07, "backfill got %.1f %% of the calls: live does not go first", 100*share)
}
