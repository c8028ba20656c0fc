//go:build exam && unix

package cluster

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"markread/cmd/markread/exam/kit"
)

// load is two workers under more load than their rate allows, whatever happens to the cluster. A
// constant number of events waits, so that there is something to call even while the producer can't
// write: a dead node blocks all writes until the cluster has detected it.
type load struct {
	c            *cluster
	im           *kit.Recorder
	workers      []*kit.Worker
	backlog      []kit.Event
	traffic      *kit.Traffic
	commits      kit.Times // when an offset had advanced; read it only after stopWatching
	stopWatching func()
	began        time.Time
	phases       []phase
}

// phase is a part of a test, with its own figures.
type phase struct {
	what     string
	from, to time.Time
}

func startLoad(t *testing.T, c *cluster, before int) *load {
	t.Helper()
	l := &load{c: c, im: kit.StartRecorder(t, "-rate", "200", "-latency", "5ms"),
		backlog: kit.OneEventEach(kit.Conversations("backlog", before))}
	kit.ProduceEvents(t, c.Kafka, c.Live, l.backlog)
	l.workers = []*kit.Worker{kit.StartWorker(t, c.Kafka, l.im.URL),
		kit.StartWorker(t, c.Kafka, l.im.URL)}
	kit.Wait(t, "both workers have partitions", time.Minute, func() bool {
		return len(committed(l.workers[0])) > 0 && len(committed(l.workers[1])) > 0
	})
	kit.Wait(t, "calls", 30*time.Second, func() bool { return l.im.Count(t) >= 100 })
	// at 5 ms of latency, 199/s are called
	l.traffic = kit.StartTrafficBehindCalls(t, c.Kafka, c.Live, "flow", 220, l.im)
	l.watchCommits(t)
	l.began = time.Now()
	return l
}

// phase runs a part of the test.
func (l *load) phase(what string, do func()) {
	p := phase{what: what, from: time.Now()}
	do()
	p.to = time.Now()
	l.phases = append(l.phases, p)
}

// end stops the load, waits until all of it is committed, and checks the results. more are events
// that the test itself has written.
func (l *load) end(t *testing.T, name string, limit time.Duration, more ...kit.Event) {
	t.Helper()
	ended := time.Now()
	calls := l.im.Count(t)
	l.stopWatching()
	events := append(append(l.traffic.End(), l.backlog...), more...)
	left := len(events) - calls
	l.c.WaitCommitted(t, 2*time.Minute, l.c.Live, l.c.Backfill)
	settled := time.Since(ended)
	for _, w := range l.workers {
		w.Stop(t, syscall.SIGTERM, kit.StopLimit)
	}

	arrivals := l.im.Arrivals(t)
	var figures []string
	longest := time.Duration(0)
	for _, p := range l.phases {
		stood, at := kit.ArrivalTimes(arrivals).LongestGap(p.from, p.to)
		pause, _ := l.commits.LongestGap(p.from, p.to)
		figures = append(figures, fmt.Sprintf("%s (%.1f s): no call for %.2f s, %.1f s after its "+
			"beginning; no commit for %.1f s", p.what, p.to.Sub(p.from).Seconds(), stood.Seconds(),
			at.Sub(p.from).Seconds(), pause.Seconds()))
		longest = max(longest, stood)
	}
	inTime := len(kit.Between(arrivals, l.began, ended))
	repeated := kit.CountRepeated(arrivals)
	goodput := float64(inTime-repeated) / ended.Sub(l.began).Seconds()
	kit.Figure(t, name, "longest time without a call %.2f s; %d events, %d calls, %d answered "+
		"calls repeated, %.1f/s of goodput over %.0f s, the rest of %d committed %.1f s later, "+
		"at most %d in any 1.000 s; %s", longest.Seconds(), len(events), len(arrivals), repeated,
		goodput, ended.Sub(l.began).Seconds(), left, settled.Seconds(), kit.MeasureCalls(arrivals).
			MostIn1s, strings.Join(figures, "; "))
	kit.Check(t, left > 0, "the backlog ran dry: the test proves nothing")
	kit.Check(t, longest <= limit, "nobody called for %v, at most %v allowed", longest, limit)
	kit.Check(t, kit.MeasureCalls(arrivals).MostIn1s <= 200, "more than 200 arrivals in one second")
	l.c.CheckNoDeadLetters(t, "a cluster in trouble")
	kit.CheckCommits(t, l.c.Kafka)
	kit.CompareReadTimes(t, kit.Largest(events), kit.ReadTimes(arrivals))
}

// committed returns the committed offset of each partition that the worker has, from its state; nil
// if it does not respond.
func committed(w *kit.Worker) map[kit.Partition]int64 {
	state := w.State()
	if state == nil {
		return nil
	}
	out := map[kit.Partition]int64{}
	for _, p := range state.Partitions {
		at := int64(-1)
		if p.Committed != nil {
			at = *p.Committed
		}
		out[kit.Partition{Topic: p.Topic, Partition: p.Partition}] = at
	}
	return out
}

// watchCommits records when the workers commit, from their own state: the cluster may be unable to
// report it.
func (l *load) watchCommits(t *testing.T) {
	known := map[kit.Partition]int64{}
	l.stopWatching = kit.Poll(t, 100*time.Millisecond, func() {
		advanced := false
		for _, w := range l.workers {
			for p, offset := range committed(w) {
				if offset > known[p] {
					known[p] = offset
					advanced = true
				}
			}
		}
		if advanced {
			l.commits = append(l.commits, time.Now())
		}
	})
}
