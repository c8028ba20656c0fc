//go:build exam && unix

package main

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// examUncommitted is how many answered calls may be repeated because a worker died or was given up: what it had finished since its last
// commit, a second ago, and what finished while that was under way. On a busy machine the next one may take another second.
const (
	examUncommitted   = 260
	examKilledRepeats = 2 * examUncommitted
)

// TestExamKill: SIGKILL in full flow, and a successor at once, twice; once in a short run. Nothing is lost, only what was not yet committed is
// called again, and nobody calls until the group has given the dead one up.
func TestExamKill(t *testing.T) {
	t.Parallel()
	kills := 2
	if testing.Short() {
		kills = 1
	}
	k := examStartBroker(t)
	im := examStartRecorder(t, "-rate", "200", "-latency", "20ms")
	events := examOneEach(examConversations("kill", 2600)) // one event each: a call repeated is an event repeated
	examProduceEvents(t, k, k.live, events[:2000])
	examProduceEvents(t, k, k.backfill, events[2000:])

	w := examStartWorker(t, k, im.url)
	var paused []string
	for i := range kills {
		before := im.count(t)
		examWait(t, "calls in full flow", time.Minute, func() bool { return im.count(t) >= before+600+37*i })
		w.signal(t, syscall.SIGKILL)
		w.exit(t, 5*time.Second)
		killed := time.Now()
		n := im.count(t)
		w = examStartWorker(t, k, im.url)
		examWait(t, "calls of the next worker", time.Minute, func() bool { return im.count(t) > n })
		paused = append(paused, time.Since(killed).Round(100*time.Millisecond).String())
	}
	middle := k.unsettled(t, k.live, k.backfill)
	k.settled(t, time.Minute, k.live, k.backfill)
	w.stop(t, syscall.SIGTERM, examStopLimit)

	arrivals := im.arrivals(t)
	repeated := examRepeated(arrivals)
	examFigure(t, "kill", "%d SIGKILLs in full flow: %d events, %d calls, %d answered calls repeated; the next worker's first call after %s; %v",
		kills, len(events), len(arrivals), repeated, strings.Join(paused, " and "), examMeasure(arrivals))
	examCheck(t, middle > 0, "nothing was left after the last kill: the row says nothing")
	examCheck(t, repeated <= kills*examKilledRepeats, "%d answered calls were repeated, at most %d allowed", repeated, kills*examKilledRepeats)
	examCheck(t, examMeasure(arrivals).mostIn1s <= 200, "more than 200 arrivals in one second over the kills")
	k.noLetters(t, "a killed worker")
	examComparePointers(t, examLargest(events), examPointers(arrivals))
}

// examStep is something that happens to a group, how long it is watched, and whether the group is told of it.
type examStep struct {
	what   string
	do     func()
	lasts  time.Duration
	polite bool
}

// TestExamRebalance: three workers come and go while there is more to do than they may: some say good-bye, some are killed. Together they
// never call faster than one, and nothing is lost; who says good-bye repeats no call. One is killed in a short run, else two.
func TestExamRebalance(t *testing.T) {
	t.Parallel()
	k := examStartBroker(t)
	im := examStartRecorder(t, "-rate", "200", "-latency", "20ms")
	backlog := examOneEach(examConversations("crowd", 1500))
	examProduceEvents(t, k, k.live, backlog)

	workers := map[string]*examWorker{}
	start := func(name string) { workers[name] = examStartWorker(t, k, im.url) }
	stop := func(name string) { workers[name].stop(t, syscall.SIGTERM, examStopLimit); delete(workers, name) }
	killed := 0
	kill := func(name string) {
		workers[name].signal(t, syscall.SIGKILL)
		workers[name].exit(t, 5*time.Second)
		delete(workers, name)
		killed++
	}
	start("a")
	examWait(t, "calls", 30*time.Second, func() bool { return im.count(t) >= 200 })
	flow := examStartFlow(t, k, k.live, "flow", 150) // with those who are missing, more than is called

	var stands []string
	worst := time.Duration(0)
	steps := []examStep{
		{"b joins", func() { start("b") }, 5 * time.Second, true},
		{"c joins", func() { start("c") }, 5 * time.Second, true},
		{"a leaves", func() { stop("a") }, 5 * time.Second, true},
		{"a joins", func() { start("a") }, 5 * time.Second, true},
		{"b is killed", func() { kill("b") }, 18 * time.Second, false},
		{"b joins", func() { start("b") }, 5 * time.Second, true},
		{"c is killed and joins", func() { kill("c"); start("c") }, 20 * time.Second, false},
		{"b and c leave", func() { stop("b"); stop("c") }, 6 * time.Second, true},
	}
	if testing.Short() {
		steps = slices.DeleteFunc(steps, func(s examStep) bool { return s.what == "c is killed and joins" })
	}
	var spans []examSpan
	for _, step := range steps {
		began := time.Now()
		step.do()
		<-time.After(time.Until(began.Add(step.lasts)))
		spans = append(spans, examSpan{began, time.Now()})
	}
	left := k.unsettled(t, k.live)
	events := append(flow.end(), backlog...)
	k.settled(t, 2*time.Minute, k.live)
	for name := range workers {
		stop(name)
	}

	arrivals := im.arrivals(t)
	for i, step := range steps {
		stood, _ := examStandStill(arrivals, spans[i].from, spans[i].to)
		stands = append(stands, fmt.Sprintf("%s %.1f s", step.what, stood.Seconds()))
		if step.polite {
			worst = max(worst, stood)
		}
	}
	repeated := examRepeated(arrivals)
	examFigure(t, "rebalance", "%d events, %d calls, %d answered calls repeated; longest time without a call: %s; %v", len(events), len(arrivals), repeated,
		strings.Join(stands, ", "), examMeasure(arrivals))
	examCheck(t, left > 0, "the backlog ran dry: the row says nothing")
	examCheck(t, repeated <= killed*examKilledRepeats, "%d answered calls were repeated, at most %d allowed", repeated, killed*examKilledRepeats)
	examCheck(t, examMeasure(arrivals).mostIn1s <= 200, "more than 200 arrivals in one second over all workers")
	examCheck(t, worst <= 10*time.Second, "nobody called for %v although nobody was killed", worst)
	examCheckCommits(t, k)
	k.noLetters(t, "workers that come and go")
	examComparePointers(t, examLargest(events), examPointers(arrivals))
}

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
