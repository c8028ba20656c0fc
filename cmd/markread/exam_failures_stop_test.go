//go:build exam && unix

package main

import (
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestExamStopHeld: a worker that is held can be stopped like any other, at once and cleanly: what waits is not its business any more.
// Its successor, for whom all is well, settles every event.
func TestExamStopHeld(t *testing.T) {
	for reason, row := range map[string]struct {
		start      func(*testing.T) *examKafka
		begin, end func(*testing.T, *examKafka, *examSandbox, string)
	}{
		"outage": {
			examStartBroker,
			func(t *testing.T, _ *examKafka, s *examSandbox, _ string) {
				s.faults(t, `{"rules":[{"kind":"status","status":503}]}`)
			},
			func(t *testing.T, _ *examKafka, s *examSandbox, _ string) { s.faults(t, `{}`) },
		},
		"credentials": {
			examStartBroker,
			func(t *testing.T, _ *examKafka, _ *examSandbox, file string) { examWriteKey(t, file, "a wrong key") },
			func(t *testing.T, _ *examKafka, _ *examSandbox, file string) { examWriteKey(t, file, examKey) },
		},
		"dead-letter": {
			func(t *testing.T) *examKafka {
				return examStartEmbedded(t, "the broker refuses what is written to a topic")
			},
			func(t *testing.T, k *examKafka, _ *examSandbox, _ string) {
				k.refuse(t, k.letters, "TOPIC_AUTHORIZATION_FAILED")
			},
			func(t *testing.T, k *examKafka, _ *examSandbox, _ string) { k.accept(t, k.letters) },
		},
	} {
		t.Run(reason, func(t *testing.T) {
			t.Parallel()
			k := row.start(t)
			sandbox := examStartSandbox(t)
			file := filepath.Join(t.TempDir(), "key")
			examWriteKey(t, file, examKey)
			events := examOneEach(examConversations("held", 1200))
			bad := examNoEvents(k.live, "bad", 20) // one in sixty: no hold for rejections
			row.begin(t, k, sandbox, file)
			k.produce(t, bad[:10]...)
			examProduceEvents(t, k, k.live, events)
			k.produce(t, bad[10:]...)
			w := examStartWorkerOnFile(t, k, sandbox.url, file)
			w.held(t, reason, 20*time.Second)
			left := k.unsettled(t, k.live)
			took := w.stop(t, syscall.SIGTERM, examStopLimit)

			row.end(t, k, sandbox, file)
			next := examStartWorkerOnFile(t, k, sandbox.url, file)
			k.settled(t, 30*time.Second, k.live)
			metrics := examScrape(t, next.admin)
			next.stop(t, syscall.SIGTERM, examStopLimit)
			letters := k.readAll(t, k.letters)
			of := examLettered(letters)
			wrong := 0
			for key := range of {
				if !strings.HasPrefix(key, "bad-") {
					wrong++
				}
			}
			examFigure(t, "stop-held", "%s: stopped after %v with %d records left; the next worker settled all, %d letters for %d records that are no events; %s",
				reason, took.Round(time.Millisecond), left, len(letters), len(of), metrics.balance(t))
			examCheck(t, left > 0, "nothing was left: the row says nothing")
			examCheck(t, took <= 7*time.Second, "the stop took %v; no call takes longer than 5 s", took)
			// A letter that was written behind what waits is written again: its record was not committed.
			examCheck(t, len(of) == len(bad) && wrong == 0 && len(letters) <= 2*len(bad), "%d letters of %d records, %d of them wrong, want %d", len(letters), len(of), wrong, len(bad))
			examComparePointers(t, examLargest(events), sandbox.pointers(t))
		})
	}
}

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
