//go:build exam && unix

package main

import (
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestExamStop: SIGTERM in full flow, four times. Each stop ends with 0 within its limit; over all of them every event gets its call, and
// no call that was answered is made again: what a worker knows to be done, it has committed before it goes. Each successor starts at once,
// and begins with a second without calls: it can't know when its predecessor made its last.
func TestExamStop(t *testing.T) {
	t.Parallel()
	const stops = 4
	k := examStartBroker(t)
	im := examStartRecorder(t, "-rate", "200", "-latency", "20ms")
	events := examOneEach(examConversations("stop", 4000)) // one event each: a call repeated is an event repeated
	examProduceEvents(t, k, k.live, events[:3000])
	examProduceEvents(t, k, k.backfill, events[3000:])

	var took []time.Duration
	var ends []int // how many calls there were when a worker had ended
	for i := range stops {
		before := im.count(t)
		w := examStartWorker(t, k, im.url)
		examWait(t, "calls in full flow", 30*time.Second, func() bool { return im.count(t) >= before+500+37*i })
		took = append(took, w.stop(t, syscall.SIGTERM, examStopLimit))
		ends = append(ends, im.count(t))
	}
	middle := k.unsettled(t, k.live, k.backfill)
	w := examStartWorker(t, k, im.url)
	k.settled(t, time.Minute, k.live, k.backfill)
	took = append(took, w.stop(t, syscall.SIGTERM, examStopLimit))

	arrivals := im.arrivals(t)
	pause := time.Hour
	for _, n := range ends {
		pause = min(pause, time.Duration(arrivals[n].At-arrivals[n-1].At))
	}
	repeated := examRepeated(arrivals)
	examFigure(t, "stop", "%d SIGTERMs in full flow took %v; %d events, %d calls, %d answered calls repeated; shortest pause between two workers %v; %v",
		stops, took[:stops], len(events), len(arrivals), repeated, pause.Round(time.Millisecond), examMeasure(arrivals))
	examCheck(t, middle > 0, "nothing was left after the last stop in flow: the row says nothing")
	examCheck(t, pause >= time.Second, "a restarted worker called %v after its predecessor's last call", pause)
	examCheck(t, repeated == 0, "%d answered calls were repeated", repeated)
	examComparePointers(t, examLargest(events), examPointers(arrivals))
	examCheck(t, examMeasure(arrivals).mostIn1s <= 200, "more than 200 arrivals in one second over the restarts")
}

// TestExamStopNow: a second signal ends the process at once with 1, although a call is still out.
func TestExamStopNow(t *testing.T) {
	k := examStartBroker(t)
	im := examStartRecorder(t, "-latency", "4s")
	examProduceEvents(t, k, k.live, examOneEach(examConversations("now", 50)))
	w := examStartWorker(t, k, im.url)
	examWait(t, "calls that hang", 30*time.Second, func() bool { return im.count(t) >= 10 })
	w.signal(t, syscall.SIGTERM)
	<-time.After(300 * time.Millisecond)
	select {
	case <-w.exited:
		t.Fatal("the worker did not wait for its calls")
	default:
	}
	began := time.Now()
	w.signal(t, syscall.SIGTERM)
	code := w.exit(t, examStopLimit)
	took := time.Since(began)
	examFigure(t, "stop-now", "second signal: exit %d after %v", code, took.Round(time.Millisecond))
	examCheck(t, code == 1, "exit %d, want 1", code)
	examCheck(t, took < 2*time.Second, "took %v, not at once", took)
	examCheck(t, strings.Contains(w.stderr.String(), "stopped at once"), "standard error does not say so")
}

// TestExamStopWithoutKafka: a stop whose final commit does not get through is no clean stop: it ends with 1, within its limit.
func TestExamStopWithoutKafka(t *testing.T) {
	t.Parallel()
	k := examStartEmbedded(t, "it kills the broker")
	im := examStartRecorder(t, "-latency", "2ms")
	examProduceEvents(t, k, k.live, examOneEach(examConversations("gone", 2000)))
	w := examStartWorker(t, k, im.url)
	examWait(t, "calls in full flow", 30*time.Second, func() bool { return im.count(t) >= 300 })
	k.signal(t, syscall.SIGKILL)
	k.exit(t, 5*time.Second)
	more := im.count(t) + 50
	examWait(t, "calls whose offsets can't be committed", 10*time.Second, func() bool { return im.count(t) >= more })

	began := time.Now()
	w.signal(t, syscall.SIGTERM)
	code := w.exit(t, examStopLimit+time.Second)
	examFigure(t, "stop-without-kafka", "exit %d after %v", code, time.Since(began).Round(time.Millisecond))
	examCheck(t, code == 1, "exit %d, want 1: the final commit did not get through", code)
}
