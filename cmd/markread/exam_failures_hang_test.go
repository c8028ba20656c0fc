//go:build exam && unix

package main

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// TestExamHang: calls that hang hold a permit for as long as the timeout lasts. The rows run side by side, each with a quota of its own.
func TestExamHang(t *testing.T) {
	t.Run("Calls", examHangCalls)
	t.Run("Conversations", examHangConversations)
}

// examHangCalls: 2 % of the calls hang, whosever they are.
func examHangCalls(t *testing.T) {
	t.Parallel()
	const measured = 30 * time.Second
	k := examStartBroker(t)
	sandbox := examStartSandbox(t)
	sandbox.faults(t, `{"seed":1,"rules":[{"kind":"hang","share":0.02}]}`)
	events := examOneEach(examConversations("hang", 7000))
	examProduceEvents(t, k, k.live, events)
	w := examStartWorker(t, k, sandbox.url)
	examWait(t, "the first call", 30*time.Second, func() bool { return sandbox.stats(t).Calls > 0 })
	<-time.After(measured)
	left := k.unsettled(t, k.live)
	metrics := examScrape(t, w.admin)
	begun, _, _ := w.logged(t, "outage") // at the end only calls that hang are left
	sandbox.faults(t, `{}`)
	w.stop(t, syscall.SIGTERM, examStopLimit)

	served := sandbox.served(t)
	window := served.between(served[0].At, served[0].At.Add(measured))
	perSecond := float64(window.applied()) / measured.Seconds()
	hung := window.count(func(a examServed) bool { return !a.Applied })
	examFigure(t, "hang-calls", "2 %% of the calls hang for 5 s: %.1f/s applied over 30 s (%.1f %% of 200), %d of %d calls hung, %d holds; %s",
		perSecond, perSecond/2, hung, len(window), begun, metrics.balance(t))
	examCheck(t, left > 0, "the backlog ran dry: the row says nothing")
	examCheck(t, hung >= 60, "only %d calls hung: the row says little", hung)
	examCheck(t, begun == 0, "2 %% are no outage, but it was held %d times", begun)
	examCheck(t, perSecond >= 0.85*200, "%.1f/s, at least 170 required", perSecond)
	k.noLetters(t, "calls that hang")
}

// examHangConversations: 60 of 3,000 conversations always hang. The others are done nearly as soon as without them.
func examHangConversations(t *testing.T) {
	t.Parallel()
	const (
		all   = 3000
		stuck = 60
		ideal = (all - stuck) * time.Second / 200
	)
	k := examStartBroker(t)
	sandbox := examStartSandbox(t)
	sandbox.faults(t, `{"rules":[{"kind":"hang","report":"stuck"}]}`)
	events := examOneEach(examConversations("healthy", all-stuck))
	for i := range stuck {
		events = append(events, examEvent{examConversation{"stuck", "p" + strconv.Itoa(i)}, time.Now().Unix() - 60})
	}
	rand.New(rand.NewPCG(3, 1)).Shuffle(all, func(i, j int) { events[i], events[j] = events[j], events[i] })
	examProduceEvents(t, k, k.live, events)
	w := examStartWorker(t, k, sandbox.url)
	healthy := examLargest(slices.DeleteFunc(slices.Clone(events), func(e examEvent) bool { return e.report == "stuck" }))
	examWait(t, "all that don't hang are applied", 2*time.Minute, func() bool { return sandbox.stats(t).Applied >= len(healthy) })
	metrics := examScrape(t, w.admin)
	served := sandbox.served(t)
	examComparePointers(t, healthy, sandbox.pointers(t))
	sandbox.faults(t, `{}`)
	k.settled(t, time.Minute, k.live) // and the stuck ones as soon as they don't hang
	w.stop(t, syscall.SIGTERM, examStopLimit)

	last := served[0].At
	for _, a := range served {
		if a.Applied {
			last = a.At
		}
	}
	took := last.Sub(served[0].At)
	examFigure(t, "hang-conversations", "60 of 3000 conversations always hang: the other 2940 took %v, %.2f times the ideal %v, %d calls hung meanwhile, %d letters; %s", took.Round(time.Millisecond),
		took.Seconds()/ideal.Seconds(), ideal, served.count(func(a examServed) bool { return a.Report == "stuck" }), len(k.readAll(t, k.letters)), metrics.balance(t))
	examCheck(t, took.Seconds() <= 1.3*ideal.Seconds(), "took %v, at most %v allowed", took, ideal*13/10)
	examCheck(t, examMostServed(served) <= 200, "more than 200 arrivals in one second")
}

// examMostServed is the fullest window of 1.000 s, wherever it begins.
func examMostServed(served examServedList) int {
	most, first := 0, 0
	for last := range served {
		for served[last].At.Sub(served[first].At) >= time.Second {
			first++
		}
		most = max(most, last-first+1)
	}
	return most
}
