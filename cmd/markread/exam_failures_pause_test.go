//go:build exam && unix

package main

import (
	"syscall"
	"testing"
	"time"
)

// TestExamPause: an operator pauses a worker in full flow, and lets it go on. Meanwhile it makes no call, stays in its group, and reads
// on; nothing is lost.
func TestExamPause(t *testing.T) {
	t.Parallel()
	const paused = 8 * time.Second
	k := examStartBroker(t)
	sandbox := examStartSandbox(t)
	backlog := examOneEach(examConversations("pause", 1000))
	examProduceEvents(t, k, k.live, backlog)
	w := examStartWorker(t, k, sandbox.url)
	flow := examStartFlow(t, k, k.live, "flow", 20)
	examWait(t, "calls", 30*time.Second, func() bool { return sandbox.stats(t).Applied >= 200 })

	asked := time.Now()
	saidPaused := w.command(t, "pause")
	hold := w.held(t, "paused", time.Second)
	quiet := hold.Since.Add(50 * time.Millisecond) // calls that were out have arrived by then
	received := examScrape(t, w.admin).sum("markread_events_received_total")
	<-time.After(time.Until(hold.Since.Add(paused)))
	w.shows(t, "paused")
	metrics := examScrape(t, w.admin)
	members := metrics.sum("markread_generations_total")
	read := metrics.sum("markread_events_received_total") - received
	resumed := time.Now()
	saidResumed := w.command(t, "resume")
	w.released(t, "paused", time.Second)
	events := append(flow.end(), backlog...)
	k.settled(t, 30*time.Second, k.live)
	metrics = examScrape(t, w.admin)
	w.stop(t, syscall.SIGTERM, examStopLimit)

	served := sandbox.served(t)
	inside := len(served.between(quiet, resumed))
	examFigure(t, "pause", "paused in full flow %v after the command began, %d calls in %v, %v events read meanwhile; first call %v after the command to resume began; %q, %q; %s; %s",
		hold.Since.Sub(asked).Round(time.Millisecond), inside, paused, read, served.after(t, resumed).Round(time.Millisecond), saidPaused, saidResumed,
		w.loggedOnce(t, "paused", 1), metrics.balance(t))
	examCheck(t, inside == 0, "%d calls while paused", inside)
	examCheck(t, hold.Next == nil, "a pause has no probes, but shows one at %v", hold.Next)
	examCheck(t, read >= 100 && members == 1, "%v events read while paused, %v generations", read, members)
	examCheck(t, served.after(t, resumed) <= 2*time.Second, "went on %v after the command", served.after(t, resumed))
	k.noLetters(t, "a pause")
	examComparePointers(t, examLargest(events), sandbox.pointers(t))
}
