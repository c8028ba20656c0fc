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

// TestExamThrottled: the server allows 120/s while the worker believes 200: other programs use the app's quota. The worker finds out and
// uses most of what there is, with hardly a refusal, and all of it when the others have gone.
func TestExamThrottled(t *testing.T) {
	t.Parallel()
	const (
		allowed  = 120
		settling = 10 * time.Second
		within   = 60 * time.Second // to get above 190/s again
		window   = 5 * time.Second
	)
	measured := 20 * time.Second
	if testing.Short() {
		measured = 10 * time.Second
	}
	k := examStartBroker(t)
	sandbox := examStartSandbox(t)
	events := examOneEach(examConversations("strict", 18_000))
	examProduceEvents(t, k, k.live, events)
	w := examStartWorker(t, k, sandbox.url)
	examWait(t, "calls", 30*time.Second, func() bool { return sandbox.stats(t).Applied >= 500 })

	sandbox.faults(t, `{"rate":120}`)
	strict := time.Now()
	<-time.After(settling + measured)
	sandbox.faults(t, `{}`)
	free := time.Now()
	refused := sandbox.stats(t).Codes["60007"]

	// Back when a whole window was above 190/s.
	var back time.Duration
	examWait(t, "above 190/s again", within+window, func() bool {
		now := time.Now()
		if now.Sub(free) < window {
			return false
		}
		<-time.After(250 * time.Millisecond) // the whole list each time: not too often
		served := sandbox.served(t)
		now = served[len(served)-1].At
		back = now.Sub(free) - window
		return float64(served.between(now.Add(-window), now).applied()) > 190*window.Seconds()
	})
	left := k.unsettled(t, k.live)
	metrics := examScrape(t, w.admin)
	w.stop(t, syscall.SIGTERM, examStopLimit)

	served := sandbox.served(t)
	early := served.between(strict, strict.Add(settling))
	steady := served.between(strict.Add(settling), free)
	throttled := func(a examServed) bool { return a.Code == 60007 }
	perSecond := float64(steady.applied()) / free.Sub(strict.Add(settling)).Seconds()
	share := float64(steady.count(throttled)) / float64(len(steady))
	examFigure(t, "throttled", "%d/s allowed: first 10 s %d of %d calls 60007; then %.1f/s applied (%.1f %%), %d of %d calls 60007 (%.2f %%); above 190/s %v after 200/s were allowed again; %s", allowed,
		early.count(throttled), len(early), perSecond, 100*perSecond/allowed, steady.count(throttled), len(steady), 100*share, back.Round(100*time.Millisecond), metrics.balance(t))
	examCheck(t, left > 0, "the backlog ran dry: the row says nothing")
	examCheck(t, refused > 0, "nothing was ever refused: the row says nothing")
	examCheck(t, perSecond >= 0.85*allowed, "%.1f/s applied, at least %.1f required", perSecond, 0.85*allowed)
	examCheck(t, share <= 0.02, "%.2f %% of the calls got 60007, at most 2 %% allowed", 100*share)
	examCheck(t, back <= within, "above 190/s after %v, at most %v allowed", back, within)
	k.noLetters(t, "a stricter server")
}

// TestExamRetryAfter: an answer that asks for 7 s of silence gets them, from both lanes; only calls that were out may still arrive.
func TestExamRetryAfter(t *testing.T) {
	t.Parallel()
	const (
		asked   = 7 * time.Second
		latency = 50 * time.Millisecond
	)
	k := examStartBroker(t)
	sandbox := examStartSandbox(t)
	events := examOneEach(examConversations("later", 1500))
	examProduceEvents(t, k, k.backfill, events[:1000])
	examProduceEvents(t, k, k.live, events[1000:])
	w := examStartWorker(t, k, sandbox.url)
	sandbox.faults(t, `{"latency":{"min":"50ms"}}`)
	examWait(t, "calls", 30*time.Second, func() bool { return sandbox.stats(t).Applied >= 330 }) // half way between two gaps
	// A few answers in full flow. They reach the worker a latency after their calls arrived, and some calls are out by then.
	for tries := 0; !w.isHeld(t, "throttled") && tries < 10; tries++ { // again if nothing came in those 20 ms
		sandbox.faults(t, `{"latency":{"min":"50ms"},"rules":[{"kind":"status","status":429,"retry_after":"7","for":"20ms"}]}`)
		<-time.After(300 * time.Millisecond)
	}
	hold := w.shows(t, "throttled")
	flow := examStartFlow(t, k, k.live, "meanwhile", 20)
	ended := w.released(t, "throttled", 15*time.Second)
	metrics := examScrape(t, w.admin)
	all := append(flow.end(), events...)
	k.settled(t, 30*time.Second, k.live, k.backfill)
	w.stop(t, syscall.SIGTERM, examStopLimit)

	served := sandbox.served(t)
	var first, last time.Time // answers that asked for a pause
	for _, a := range served {
		if a.Status == 429 {
			if last = a.At.Add(latency); first.IsZero() {
				first = last
			}
		}
	}
	// What was under way: sent before the answer was there. 20 ms for the scheduler.
	out := len(served.between(first, first.Add(20*time.Millisecond)))
	inside := served.between(first.Add(20*time.Millisecond), last.Add(asked))
	resumed := served.between(last.Add(asked), time.Now())[0].At.Sub(last)
	shown := "no end"
	if hold.Next != nil {
		shown = hold.Next.Sub(first).Round(time.Millisecond).String()
	}
	examFigure(t, "retry-after", "%d answers asked for 7 s: %d calls arrived within 20 ms of the first, %d in the rest of the 7 s, the next %v after the last of them; shown: %q, end %v after the first answer, hold seen to end after %v; %s",
		served.count(func(a examServed) bool { return a.Status == 429 }), out, len(inside), resumed.Round(time.Millisecond), hold.Detail, shown,
		ended.Sub(first).Round(time.Millisecond), w.loggedOnce(t, "throttled", 1))
	examCheck(t, len(inside) == 0, "%d calls in the 7 s, the first %v after the answer", len(inside), func() time.Duration {
		if len(inside) == 0 {
			return 0
		}
		return inside[0].At.Sub(first)
	}())
	examCheck(t, resumed <= asked+2*time.Second, "calls went on %v after the answer", resumed)
	examCheck(t, hold.Next != nil && hold.Next.Sub(first) > 6*time.Second && hold.Next.Sub(first) < 8*time.Second, "the hold shows its end %v after the answer", shown)
	examCheck(t, metrics.sum("markread_calls_total", `result="throttled"`, `code="http_429"`) > 0, "no call counts as throttled")
	k.noLetters(t, "Retry-After")
	examComparePointers(t, examLargest(all), sandbox.pointers(t))
}

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
