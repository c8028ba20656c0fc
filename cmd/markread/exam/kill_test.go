//go:build exam && unix

package exam

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"markread/cmd/markread/exam/kit"
)

// maxUncommitted is how many answered calls may be repeated because a worker died or was removed
// from the group: events it finished since its last commit, up to a second ago, and calls that
// finished during that commit. On a busy machine the next commit may take another second.
const (
	maxUncommitted    = 260
	maxRepeatsPerKill = 2 * maxUncommitted
)

// TestExamKill: SIGKILL under load and an immediate successor, twice; once in a short run. Nothing
// is lost, only calls not yet committed are repeated, and no worker calls until the group has
// removed the dead member.
func TestExamKill(t *testing.T) {
	t.Parallel()
	kills := 2
	if testing.Short() {
		kills = 1
	}
	k := kit.StartBroker(t)
	im := kit.StartRecorder(t, "-rate", "200", "-latency", "20ms")
	// one event each: a repeated call is a repeated event
	events := kit.OneEventEach(kit.Conversations("kill", 2600))
	kit.ProduceEvents(t, k, k.Live, events[:2000])
	kit.ProduceEvents(t, k, k.Backfill, events[2000:])

	w := kit.StartWorker(t, k, im.URL)
	var paused []string
	for i := range kills {
		before := im.Count(t)
		kit.Wait(t, "calls under load", time.Minute,
			func() bool { return im.Count(t) >= before+600+37*i })
		w.Signal(t, syscall.SIGKILL)
		w.Exit(t, 5*time.Second)
		killed := time.Now()
		n := im.Count(t)
		w = kit.StartWorker(t, k, im.URL)
		kit.Wait(t, "calls of the next worker", time.Minute, func() bool { return im.Count(t) > n })
		paused = append(paused, time.Since(killed).Round(100*time.Millisecond).String())
	}
	middle := k.Lag(t, k.Live, k.Backfill)
	k.WaitCommitted(t, time.Minute, k.Live, k.Backfill)
	w.Stop(t, syscall.SIGTERM, kit.StopLimit)

	arrivals := im.Arrivals(t)
	repeated := kit.CountRepeated(arrivals)
	kit.Figure(t, "kill", "%d SIGKILLs under load: %d events, %d calls, %d answered calls "+
		"repeated; the next worker's first call after %s; %v", kills, len(events), len(arrivals),
		repeated, strings.Join(paused, " and "), kit.MeasureCalls(arrivals))
	kit.Check(t, middle > 0, "nothing was left after the last kill: the test proves nothing")
	kit.Check(t, repeated <= kills*maxRepeatsPerKill,
		"%d answered calls were repeated, at most %d allowed", repeated, kills*maxRepeatsPerKill)
	kit.Check(t, kit.MeasureCalls(arrivals).MostIn1s <= 200,
		"more than 200 arrivals in one second over the kills")
	k.CheckNoDeadLetters(t, "a killed worker")
	kit.CompareReadTimes(t, kit.Largest(events), kit.ReadTimes(arrivals))
}

// step is a change of the group's members, how long the test watches it, and whether the member
// leaves or joins cleanly.
type step struct {
	what     string
	do       func()
	duration time.Duration
	clean    bool
}

// TestExamRebalance: three workers join and leave under more load than their rate allows; some
// leave the group, some are killed. Together they never exceed the rate of one, and nothing is
// lost; a worker that leaves repeats no call. Two are killed, one in a short run.
func TestExamRebalance(t *testing.T) {
	t.Parallel()
	k := kit.StartBroker(t)
	im := kit.StartRecorder(t, "-rate", "200", "-latency", "20ms")
	backlog := kit.OneEventEach(kit.Conversations("crowd", 1500))
	kit.ProduceEvents(t, k, k.Live, backlog)

	workers := map[string]*kit.Worker{}
	start := func(name string) { workers[name] = kit.StartWorker(t, k, im.URL) }
	stop := func(name string) {
		workers[name].Stop(t, syscall.SIGTERM, kit.StopLimit)
		delete(workers, name)
	}
	killed := 0
	kill := func(name string) {
		workers[name].Signal(t, syscall.SIGKILL)
		workers[name].Exit(t, 5*time.Second)
		delete(workers, name)
		killed++
	}
	start("a")
	kit.Wait(t, "calls", 30*time.Second, func() bool { return im.Count(t) >= 200 })
	// more than the remaining workers call
	flow := kit.StartTraffic(t, k, k.Live, "flow", 150)

	var stands []string
	worst := time.Duration(0)
	steps := []step{
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
		steps = slices.DeleteFunc(steps,
			func(s step) bool { return s.what == "c is killed and joins" })
	}
	var spans []kit.Interval
	for _, step := range steps {
		began := time.Now()
		step.do()
		<-time.After(time.Until(began.Add(step.duration)))
		spans = append(spans, kit.Interval{From: began, To: time.Now()})
	}
	left := k.Lag(t, k.Live)
	events := append(flow.End(), backlog...)
	k.WaitCommitted(t, 2*time.Minute, k.Live)
	for name := range workers {
		stop(name)
	}

	arrivals := im.Arrivals(t)
	for i, step := range steps {
		stood, _ := kit.ArrivalTimes(arrivals).LongestGap(spans[i].From, spans[i].To)
		stands = append(stands, fmt.Sprintf("%s %.1f s", step.what, stood.Seconds()))
		if step.clean {
			worst = max(worst, stood)
		}
	}
	repeated := kit.CountRepeated(arrivals)
	kit.Figure(t, "rebalance", "%d events, %d calls, %d answered calls repeated; longest time "+
		"without a call: %s; %v", len(events), len(arrivals), repeated, strings.Join(stands, ", "),
		kit.MeasureCalls(arrivals))
	kit.Check(t, left > 0, "the backlog ran dry: the test proves nothing")
	kit.Check(t, repeated <= killed*maxRepeatsPerKill,
		"%d answered calls were repeated, at most %d allowed", repeated, killed*maxRepeatsPerKill)
	kit.Check(t, kit.MeasureCalls(arrivals).MostIn1s <= 200,
		"more than 200 arrivals in one second over all workers")
	kit.Check(t, worst <= 10*time.Second, "nobody called for %v although nobody was killed", worst)
	kit.CheckCommits(t, k)
	k.CheckNoDeadLetters(t, "workers that join and leave")
	kit.CompareReadTimes(t, kit.Largest(events), kit.ReadTimes(arrivals))
}

// TestExamStop: SIGTERM under load, four times. Each shutdown ends with exit status 0 within its
// limit. Every event gets its call, and no answered call is repeated, because a worker commits what
// it has finished before it ends. Each successor starts immediately, and makes no call for a
// second, because it can't know when its predecessor made its last call.
func TestExamStop(t *testing.T) {
	t.Parallel()
	const stops = 4
	k := kit.StartBroker(t)
	im := kit.StartRecorder(t, "-rate", "200", "-latency", "20ms")
	// one event each: a repeated call is a repeated event
	events := kit.OneEventEach(kit.Conversations("stop", 4000))
	kit.ProduceEvents(t, k, k.Live, events[:3000])
	kit.ProduceEvents(t, k, k.Backfill, events[3000:])

	var took []time.Duration
	var ends []int // number of calls at the end of each worker
	for i := range stops {
		before := im.Count(t)
		w := kit.StartWorker(t, k, im.URL)
		kit.Wait(t, "calls under load", 30*time.Second,
			func() bool { return im.Count(t) >= before+500+37*i })
		took = append(took, w.Stop(t, syscall.SIGTERM, kit.StopLimit))
		ends = append(ends, im.Count(t))
	}
	middle := k.Lag(t, k.Live, k.Backfill)
	w := kit.StartWorker(t, k, im.URL)
	k.WaitCommitted(t, time.Minute, k.Live, k.Backfill)
	took = append(took, w.Stop(t, syscall.SIGTERM, kit.StopLimit))

	arrivals := im.Arrivals(t)
	pause := time.Hour
	for _, n := range ends {
		pause = min(pause, time.Duration(arrivals[n].At-arrivals[n-1].At))
	}
	repeated := kit.CountRepeated(arrivals)
	kit.Figure(t, "stop", "%d SIGTERMs under load took %v; %d events, %d calls, %d answered "+
		"calls repeated; shortest pause between two workers %v; %v", stops, took[:stops],
		len(events), len(arrivals), repeated, pause.Round(time.Millisecond),
		kit.MeasureCalls(arrivals))
	kit.Check(t, middle > 0, "nothing was left after the last SIGTERM under load: the test "+
		"proves nothing")
	kit.Check(t, pause >= time.Second,
		"a restarted worker called %v after its predecessor's last call", pause)
	kit.Check(t, repeated == 0, "%d answered calls were repeated", repeated)
	kit.CompareReadTimes(t, kit.Largest(events), kit.ReadTimes(arrivals))
	kit.Check(t, kit.MeasureCalls(arrivals).MostIn1s <= 200,
		"more than 200 arrivals in one second over the restarts")
}

// TestExamStopNow: a second signal ends the process immediately with exit status 1, although calls
// are in flight.
func TestExamStopNow(t *testing.T) {
	k := kit.StartBroker(t)
	im := kit.StartRecorder(t, "-latency", "4s")
	kit.ProduceEvents(t, k, k.Live, kit.OneEventEach(kit.Conversations("now", 50)))
	w := kit.StartWorker(t, k, im.URL)
	kit.Wait(t, "calls that hang", 30*time.Second, func() bool { return im.Count(t) >= 10 })
	w.Signal(t, syscall.SIGTERM)
	<-time.After(300 * time.Millisecond)
	if w.Ended() {
		t.Fatal("the worker did not wait for its calls")
	}
	began := time.Now()
	w.Signal(t, syscall.SIGTERM)
	code := w.Exit(t, kit.StopLimit)
	took := time.Since(began)
	kit.Figure(t, "stop-now", "second signal: exit %d after %v", code, took.Round(time.Millisecond))
	kit.Check(t, code == 1, "exit %d, want 1", code)
	kit.Check(t, took < 2*time.Second, "took %v: not immediate", took)
	kit.Check(t, strings.Contains(w.Stderr.String(), "forced stop"),
		"standard error does not report it")
}

// TestExamStopWithoutKafka: a shutdown whose final commit fails is not clean: it ends with exit
// status 1, within its limit.
func TestExamStopWithoutKafka(t *testing.T) {
	t.Parallel()
	k := kit.StartEmbedded(t, "it kills the broker")
	im := kit.StartRecorder(t, "-latency", "2ms")
	kit.ProduceEvents(t, k, k.Live, kit.OneEventEach(kit.Conversations("gone", 2000)))
	w := kit.StartWorker(t, k, im.URL)
	kit.Wait(t, "calls under load", 30*time.Second, func() bool { return im.Count(t) >= 300 })
	k.Signal(t, syscall.SIGKILL)
	k.Exit(t, 5*time.Second)
	more := im.Count(t) + 50
	kit.Wait(t, "calls whose offsets can't be committed", 10*time.Second,
		func() bool { return im.Count(t) >= more })

	began := time.Now()
	w.Signal(t, syscall.SIGTERM)
	code := w.Exit(t, kit.StopLimit+time.Second)
	kit.Figure(t, "stop-without-kafka", "exit %d after %v", code, time.Since(began).
		Round(time.Millisecond))
	kit.Check(t, code == 1, "exit %d, want 1: the final commit failed", code)
}
