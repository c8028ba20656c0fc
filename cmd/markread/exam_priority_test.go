//go:build exam && unix

package main

import (
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

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
