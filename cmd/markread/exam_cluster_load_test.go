//go:build exam && unix

package main

import (
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// examLoad is two workers under more load than they may call, whatever happens to the cluster. A producer keeps so many events before them
// that there is something to call even while it can't write: a node that is gone holds up all writes until the cluster has noticed.
type examLoad struct {
	c       *examCluster
	im      *examIM
	workers []*examWorker
	backlog []examEvent
	flow    *examFlow
	commits *examCommits
	began   time.Time
	phases  []examPhase
}

// examPhase is a part of a row, for which the figures are told.
type examPhase struct {
	what     string
	from, to time.Time
}

func examStartLoad(t *testing.T, c *examCluster, before int) *examLoad {
	t.Helper()
	l := &examLoad{c: c, im: examStartRecorder(t, "-rate", "200", "-latency", "5ms"), backlog: examOneEach(examConversations("backlog", before))}
	examProduceEvents(t, c.examKafka, c.live, l.backlog)
	l.workers = []*examWorker{examStartWorker(t, c.examKafka, l.im.url), examStartWorker(t, c.examKafka, l.im.url)}
	examWait(t, "both workers have partitions", time.Minute, func() bool {
		return len(l.workers[0].committed()) > 0 && len(l.workers[1].committed()) > 0
	})
	examWait(t, "calls", 30*time.Second, func() bool { return l.im.count(t) >= 100 })
	l.flow = examStartFlowBehind(t, c.examKafka, c.live, "flow", 220, l.im) // at 5 ms of latency 199 are called
	l.commits = examWatchCommits(t, l.workers)
	l.began = time.Now()
	return l
}

// phase runs a part of the row.
func (l *examLoad) phase(what string, do func()) {
	p := examPhase{what: what, from: time.Now()}
	do()
	p.to = time.Now()
	l.phases = append(l.phases, p)
}

// end stops the load, waits until all of it is settled, and judges. more are events that the row has written itself.
func (l *examLoad) end(t *testing.T, name string, limit time.Duration, more ...examEvent) {
	t.Helper()
	ended := time.Now()
	calls := l.im.count(t)
	pauses := l.commits.end()
	events := append(append(l.flow.end(), l.backlog...), more...)
	left := len(events) - calls
	l.c.settled(t, 2*time.Minute, l.c.live, l.c.backfill)
	settled := time.Since(ended)
	for _, w := range l.workers {
		w.stop(t, syscall.SIGTERM, examStopLimit)
	}

	arrivals := l.im.arrivals(t)
	var told []string
	longest := time.Duration(0)
	for _, p := range l.phases {
		stood, at := examStandStill(arrivals, p.from, p.to)
		pause := pauses.longest(p.from, p.to)
		told = append(told, fmt.Sprintf("%s (%.1f s): no call for %.2f s, %.1f s after its beginning; no commit for %.1f s",
			p.what, p.to.Sub(p.from).Seconds(), stood.Seconds(), at.Sub(p.from).Seconds(), pause.Seconds()))
		longest = max(longest, stood)
	}
	inTime := 0
	for _, a := range arrivals {
		if now := time.Unix(0, a.Wall); now.After(l.began) && now.Before(ended) {
			inTime++
		}
	}
	repeated := examRepeated(arrivals)
	goodput := float64(inTime-repeated) / ended.Sub(l.began).Seconds()
	examFigure(t, name, "longest stand-still %.2f s; %d events, %d calls, %d answered calls repeated, %.1f/s of goodput over %.0f s, the rest of %d settled %.1f s later, at most %d in any 1.000 s; %s",
		longest.Seconds(), len(events), len(arrivals), repeated, goodput, ended.Sub(l.began).Seconds(), left, settled.Seconds(), examMeasure(arrivals).mostIn1s, strings.Join(told, "; "))
	examCheck(t, left > 0, "the backlog ran dry: the row says nothing")
	examCheck(t, longest <= limit, "nobody called for %v, at most %v allowed", longest, limit)
	examCheck(t, examMeasure(arrivals).mostIn1s <= 200, "more than 200 arrivals in one second")
	l.c.noLetters(t, "a cluster in trouble")
	examCheckCommits(t, l.c.examKafka)
	examComparePointers(t, examLargest(events), examPointers(arrivals))
}

// committed returns what the worker shows as committed, of each partition that it has; nil if it does not answer.
func (w *examWorker) committed() map[examPartition]int64 {
	state := w.state()
	if state == nil {
		return nil
	}
	out := map[examPartition]int64{}
	for _, p := range state.Partitions {
		at := int64(-1)
		if p.Committed != nil {
			at = *p.Committed
		}
		out[examPartition{p.Topic, p.Partition}] = at
	}
	return out
}

// examCommits watches by the workers' own account when they commit: the cluster may not be able to tell.
type examCommits struct {
	stop, done chan struct{}
	once       sync.Once
	at         examTimes // whenever an offset had advanced; only after done
}

func examWatchCommits(t *testing.T, workers []*examWorker) *examCommits {
	c := &examCommits{stop: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(c.done)
		known := map[examPartition]int64{}
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-c.stop:
				return
			case <-tick.C:
			}
			advanced := false
			for _, w := range workers {
				for p, offset := range w.committed() {
					if offset > known[p] {
						known[p] = offset
						advanced = true
					}
				}
			}
			if advanced {
				c.at = append(c.at, time.Now())
			}
		}
	}()
	t.Cleanup(func() { c.end() })
	return c
}

func (c *examCommits) end() examTimes {
	c.once.Do(func() { close(c.stop) })
	<-c.done
	return c.at
}
