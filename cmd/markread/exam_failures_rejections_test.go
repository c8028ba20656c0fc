//go:build exam && unix

package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// How many ends of a lane are judged together, and what an operator accepts at a time: the contract.
const (
	examRejectionWindow = 500
	examAccepted        = 10_000
)

// examFullSpeed is what counts as full speed, calls a second, in a row that shares the machine with others. TestExamQuota has it alone and
// wants more.
const examFullSpeed = 180

// TestExamRejections: the server rejects every call of the live lane: a wrong app, not 2,000 wrong events. After 500 of them the lane is
// held and the backfill has the quota to itself. When the server is mended, the lane goes on by itself.
func TestExamRejections(t *testing.T) {
	t.Parallel()
	const measured = 10 * time.Second
	k := examStartBroker(t)
	sandbox := examStartSandbox(t)
	sandbox.faults(t, `{"rules":[{"kind":"code","code":90008,"report":"wrong"}]}`)
	live := make([]examEvent, 2000)
	for i := range live {
		live[i] = examEvent{examConversation{"wrong", "p" + strconv.Itoa(i)}, time.Now().Unix() - 60}
	}
	backfill := examOneEach(examConversations("bulk", 4000))
	examProduceEvents(t, k, k.backfill, backfill)
	examProduceEvents(t, k, k.live, live)
	w := examStartWorker(t, k, sandbox.url)
	began := w.held(t, "rejections", 30*time.Second).Since
	examWait(t, "the letters of what brought the hold", 10*time.Second, func() bool { return len(k.readAll(t, k.letters)) >= examRejectionWindow })
	<-time.After(time.Until(began.Add(time.Second)))
	atHold := len(k.readAll(t, k.letters))
	<-time.After(time.Until(began.Add(time.Second + measured)))
	letters := len(k.readAll(t, k.letters))
	w.shows(t, "rejections")
	left := k.unsettled(t, k.backfill)

	sandbox.faults(t, `{}`)
	mended := time.Now()
	released := w.released(t, "rejections", 10*time.Second)
	k.settled(t, time.Minute, k.live, k.backfill)
	metrics := examScrape(t, w.admin)
	w.stop(t, syscall.SIGTERM, examStopLimit)

	served := sandbox.served(t)
	window := served.between(began.Add(time.Second), began.Add(time.Second+measured))
	perSecond := float64(window.applied()) / measured.Seconds()
	probed := map[string]bool{}
	probes := window.count(func(a examServed) bool {
		if a.Report == "wrong" {
			probed[a.Peer] = true
		}
		return a.Report == "wrong"
	})
	final := k.readAll(t, k.letters)
	rejected := examLettered(final)
	applied := slices.DeleteFunc(append(slices.Clone(live), backfill...), func(e examEvent) bool { return rejected[string(e.key())] > 0 })
	examFigure(t, "rejections", "every call of the live lane rejected: %d letters, then held for %v, %d more letters and %d probes of %d conversations in 10 s; the backfill got %.1f/s; gone on %v after it was mended; %d letters in all; %s; %s",
		atHold, released.Sub(began).Round(time.Millisecond), letters-atHold, probes, len(probed), perSecond, released.Sub(mended).Round(time.Millisecond), len(final),
		w.loggedOnce(t, "rejections", 1), metrics.balance(t))
	examCheck(t, left > 0, "the backfill ran dry: the row says nothing of its speed")
	examCheck(t, atHold >= examRejectionWindow && atHold <= examRejectionWindow+20, "%d letters until the hold, 500 and what was in flight allowed", atHold)
	examCheck(t, letters == atHold && len(final) == atHold, "%d letters when the hold began, %d at its end, %d at last", atHold, letters, len(final))
	examCheck(t, probes >= 1 && probes <= 3 && len(probed) == probes, "%d probes of %d conversations in 10 s, one in 5 s is due, each of another", probes, len(probed))
	examCheck(t, perSecond >= examFullSpeed, "the backfill got %.1f/s beside the hold, at least 180 required", perSecond)
	examCheck(t, released.Sub(mended) <= 6*time.Second, "gone on %v after it was mended", released.Sub(mended))
	examComparePointers(t, examLargest(applied), sandbox.pointers(t))
}

// examLettered counts the letters by their key.
func examLettered(letters []*kgo.Record) map[string]int {
	out := map[string]int{}
	for _, letter := range letters {
		out[string(letter.Key)]++
	}
	return out
}

// examNoEvents returns n records that are no events, each with a key of its own.
func examNoEvents(topic, prefix string, n int) []*kgo.Record {
	out := make([]*kgo.Record, n)
	for i := range out {
		out[i] = &kgo.Record{Topic: topic, Key: fmt.Appendf(nil, "%s-%d", prefix, i), Value: []byte("<event>another schema</event>")}
	}
	return out
}

// TestExamRejectionsInvalid: the backfill lane brings only records that are no events. After 500 letters it is held and the live lane
// goes on at full speed; when good records come, the lane goes on by itself.
func TestExamRejectionsInvalid(t *testing.T) {
	t.Parallel()
	const measured = 8 * time.Second
	k := examStartBroker(t)
	sandbox := examStartSandbox(t)
	live := examOneEach(examConversations("fine", 2400))
	examProduceEvents(t, k, k.live, live)
	k.produce(t, examNoEvents(k.backfill, "bad", 900)...)
	w := examStartWorker(t, k, sandbox.url)
	began := w.held(t, "rejections", 30*time.Second).Since
	examWait(t, "the letters of what brought the hold", 10*time.Second, func() bool { return len(k.readAll(t, k.letters)) >= examRejectionWindow })
	<-time.After(time.Until(began.Add(time.Second)))
	atHold := len(k.readAll(t, k.letters))
	<-time.After(time.Until(began.Add(2*time.Second + measured))) // the first second has no calls
	letters := len(k.readAll(t, k.letters))
	w.shows(t, "rejections")
	left := k.unsettled(t, k.live)

	good := examOneEach(examConversations("good", 50))
	examProduceEvents(t, k, k.backfill, good)
	mended := time.Now()
	released := w.released(t, "rejections", 10*time.Second)
	k.settled(t, time.Minute, k.live, k.backfill)
	metrics := examScrape(t, w.admin)
	w.stop(t, syscall.SIGTERM, examStopLimit)

	served := sandbox.served(t)
	perSecond := float64(served.between(served[0].At, served[0].At.Add(measured)).applied()) / measured.Seconds()
	final := k.readAll(t, k.letters)
	examFigure(t, "rejections-invalid", "every record of the backfill invalid: %d letters, then held, %d more in %v; live got %.1f/s; gone on %v after good records came; %d letters in all; %s; %s",
		atHold, letters-atHold, measured, perSecond, released.Sub(mended).Round(time.Millisecond), len(final), w.loggedOnce(t, "rejections", 1), metrics.balance(t))
	examCheck(t, left > 0, "the live lane ran dry: the row says nothing of its speed")
	examCheck(t, atHold == examRejectionWindow, "%d letters until the hold, want 500", atHold)
	examCheck(t, letters == atHold, "%d letters more in the hold", letters-atHold)
	examCheck(t, perSecond >= examFullSpeed, "live got %.1f/s beside the hold, at least 180 required", perSecond)
	examCheck(t, released.Sub(mended) <= 6*time.Second, "gone on %v after good records came", released.Sub(mended))
	examCheck(t, len(final) == 900 && len(examLettered(final)) == 900, "%d letters of %d records, want one for each of 900", len(final), len(examLettered(final)))
	examComparePointers(t, examLargest(append(good, live...)), sandbox.pointers(t))
}

// TestExamRejectionsAccepted: an operator who knows that the events are wrong lets the next 10,000 go to the dead letters, and no more.
// One good event among so many bad ones ends the hold by itself, and is no reason to let all of them go either.
func TestExamRejectionsAccepted(t *testing.T) {
	t.Parallel()
	const all = 12_000
	k := examStartBroker(t)
	sandbox := examStartSandbox(t)
	k.produce(t, examNoEvents(k.live, "bad", all)...)
	w := examStartWorker(t, k, sandbox.url)
	letters := func() int {
		n := int64(0)
		for _, end := range k.ends(t, k.letters) {
			n += end
		}
		return int(n)
	}
	// rest waits until the worker has read everything and holds, and no letter is under way any more.
	rest := func(atLeast int) int {
		t.Helper()
		examWait(t, fmt.Sprintf("%d letters, and a hold", atLeast), 30*time.Second, func() bool { return letters() >= atLeast && w.isHeld(t, "rejections") })
		<-time.After(time.Second)
		return letters()
	}
	first := rest(examRejectionWindow)
	examWait(t, "all records are read", 10*time.Second, func() bool { return examScrape(t, w.admin).sum("markread_events_received_total") == all })

	said := w.command(t, "resume", "--accept-rejections")
	accepted := time.Now()
	second := rest(examRejectionWindow + examAccepted)
	took := time.Since(accepted) - time.Second

	good := examOneEach(examConversations("good", 1))
	examProduceEvents(t, k, k.live, good)
	examWait(t, "the good event is applied", 20*time.Second, func() bool { return sandbox.stats(t).Applied == 1 })
	third := rest(second + examRejectionWindow)
	w.command(t, "resume", "--accept-rejections")
	k.settled(t, 30*time.Second, k.live)
	metrics := examScrape(t, w.admin)
	w.stop(t, syscall.SIGTERM, examStopLimit)

	final := examLettered(k.readAll(t, k.letters))
	begun, _, ended := w.logged(t, "rejections")
	examFigure(t, "rejections-accepted", "12000 invalid records: %d letters, then held; accepted: %d more in %v, then held; after one good event %d more, then held; accepted: all %d; the command says %q; %d holds begun, %d ended; %s",
		first, second-first, took.Round(10*time.Millisecond), third-second, len(final), said, begun, ended, metrics.balance(t))
	examCheck(t, first == examRejectionWindow, "%d letters until the first hold, want 500", first)
	examCheck(t, second-first == examAccepted, "%d letters accepted, want 10,000", second-first)
	examCheck(t, third-second == examRejectionWindow, "%d letters because of one good event, want 500", third-second)
	examCheck(t, len(final) == all, "letters of %d records, want %d", len(final), all)
	examComparePointers(t, examLargest(good), sandbox.pointers(t))
}

// command runs a command of the product about this worker and returns what it prints.
func (w *examWorker) command(t *testing.T, args ...string) string {
	t.Helper()
	p := examStart(t, args[0], "product", nil, append(args, "--admin-url", w.admin)...)
	if code := p.exit(t, 20*time.Second); code != 0 {
		t.Fatalf("markread %s ended with %d: %s", strings.Join(args, " "), code, p.stderr.String())
	}
	return strings.TrimSpace(p.stdout.String())
}
