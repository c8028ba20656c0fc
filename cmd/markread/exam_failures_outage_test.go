//go:build exam && unix

package main

import (
	"slices"
	"syscall"
	"testing"
	"time"
)

// TestExamOutage: the server is away for 12 s, each 3 s in another way, with live traffic going on. Hardly any call is made and nothing
// is dead-lettered; then all events are applied.
func TestExamOutage(t *testing.T) {
	t.Parallel()
	const part = 3 * time.Second
	k := examStartBroker(t)
	sandbox := examStartSandbox(t)
	gate := examStartGate(t, sandbox.url)
	w := examStartWorker(t, k, gate.url, "--attempts", "2") // an outage that spends attempts would show at once
	flow := examStartFlow(t, k, k.live, "outage", 50)
	examWait(t, "calls", 30*time.Second, func() bool { return sandbox.stats(t).Applied >= 100 })

	connects := func() float64 { return examScrape(t, w.admin).sum("markread_calls_total", `code="connect"`) }
	var since time.Time
	began := time.Now()
	for i, fault := range []string{`{"rules":[{"kind":"status","status":502}]}`, `{"rules":[{"kind":"reset"}]}`, `{"rules":[{"kind":"hang"}]}`, ""} {
		if fault == "" {
			gate.refuse()
		} else {
			sandbox.faults(t, fault)
		}
		if i == 0 {
			since = w.held(t, "outage", 2*time.Second).Since
		}
		<-time.After(time.Until(began.Add(time.Duration(i+1) * part)))
		shown := w.shows(t, "outage")
		examCheck(t, shown.Since.Equal(since), "the outage began anew at %v, it was on since %v", shown.Since, since)
		examCheck(t, shown.Next != nil, "the outage shows no next probe")
	}
	refused := connects() // before the last part there were none
	waiting := k.unsettled(t, k.live)
	sandbox.faults(t, `{}`)
	gate.accept(t)
	ended := time.Now()
	w.released(t, "outage", 20*time.Second)
	<-time.After(2 * time.Second) // traffic goes on after it, too
	events := flow.end()
	k.settled(t, 30*time.Second, k.live)
	settled := time.Since(ended)
	metrics := examScrape(t, w.admin)
	w.stop(t, syscall.SIGTERM, examStopLimit)

	served := sandbox.served(t)
	first, during := served.between(began, began.Add(2*time.Second)), served.between(began.Add(2*time.Second), ended)
	calls := float64(len(during)) + refused
	examFigure(t, "outage", "12 s of 502, reset, hang, refused with 50 events/s: %d calls in the first 2 s, then %v (%v refused); first success %v after its end, all %d settled after %v; %s; %s",
		len(first), calls, refused, served.after(t, ended).Round(time.Millisecond), len(events), settled.Round(time.Millisecond), w.loggedOnce(t, "outage", 1), metrics.balance(t))
	examCheck(t, calls <= 60, "%v calls in the outage after its first 2 s, at most 60 allowed", calls)
	examCheck(t, during.applied() == 0 && refused > 0 && waiting >= 500, "no outage: %d applied in it, %v refused, %d waiting", during.applied(), refused, waiting)
	examCheck(t, metrics.sum("markread_held") == 0, "still held")
	k.noLetters(t, "an outage")
	examComparePointers(t, examLargest(events), sandbox.pointers(t))
}

// TestExamOutageLonely: an outage met by an event that is alone in its topic. It waits, and so does one that comes later; both are
// applied when the server is back, and the later one is tried soon after its arrival, however long the probes' interval has become.
func TestExamOutageLonely(t *testing.T) {
	t.Parallel()
	k := examStartBroker(t)
	sandbox := examStartSandbox(t)
	w := examStartWorker(t, k, sandbox.url, "--attempts", "2")
	w.ready(t)
	sandbox.faults(t, `{"rules":[{"kind":"status","status":502}]}`)
	events := examOneEach(examConversations("lonely", 2))
	produced := time.Now()
	examProduceEvents(t, k, k.live, events[:1])
	since := w.held(t, "outage", 20*time.Second).Since
	<-time.After(5 * time.Second) // the interval is 4 s by now
	later := time.Now()
	examProduceEvents(t, k, k.live, events[1:])
	<-time.After(5 * time.Second)
	left := k.unsettled(t, k.live)
	sandbox.faults(t, `{}`)
	ended := time.Now()
	k.settled(t, 20*time.Second, k.live)
	settled := time.Since(ended)
	w.stop(t, syscall.SIGTERM, examStopLimit)

	served := sandbox.served(t)
	tried := slices.IndexFunc(served, func(a examServed) bool { return a.Report == events[1].report })
	examFigure(t, "outage-lonely", "one event alone in 502: held after %v and %d calls, %d calls in all until the end of the outage; a later one was tried after %v; both settled %v after the end; %s",
		since.Sub(produced).Round(time.Millisecond), len(served.between(produced, since)), len(served.between(produced, ended)),
		served[tried].At.Sub(later).Round(time.Millisecond), settled.Round(time.Millisecond), w.loggedOnce(t, "outage", 1))
	examCheck(t, left == 2, "%d events left in the outage, want 2", left)
	examCheck(t, served[tried].At.Sub(later) <= 1500*time.Millisecond, "an event that came in the outage was tried after %v, at most 1 s and a bit allowed", served[tried].At.Sub(later))
	examCheck(t, len(served.between(produced, ended)) <= 20, "%d calls", len(served.between(produced, ended)))
	k.noLetters(t, "an outage")
	examComparePointers(t, examLargest(events), sandbox.pointers(t))
}
