//go:build exam && unix

package exam

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"markread/cmd/markread/exam/kit"
)

// The contract: the number of outcomes of a lane that are evaluated together, and how many dead
// letters an operator accepts with one command.
const (
	rejectionWindow = 500
	maxAccepted     = 10_000
)

// fullRate is what counts as the full rate, in calls a second, in a test that shares the machine
// with others. TestExamQuota runs alone and requires more.
const fullRate = 180

// TestExamRejections: the server rejects every call of the live lane, as for a wrong app, not for
// 2,000 wrong events. After 500 rejections the lane is held, and the backfill has the quota to
// itself. When the server is fixed, the lane continues by itself.
func TestExamRejections(t *testing.T) {
	t.Parallel()
	const measured = 10 * time.Second
	k := kit.StartBroker(t)
	sandbox := kit.StartSandbox(t)
	sandbox.SetFaults(t, `{"rules":[{"kind":"code","code":90008,"report":"wrong"}]}`)
	live := make([]kit.Event, 2000)
	for i := range live {
		live[i] = kit.NewEvent("wrong", "p"+strconv.Itoa(i), time.Now().Unix()-60)
	}
	backfill := kit.OneEventEach(kit.Conversations("bulk", 4000))
	kit.ProduceEvents(t, k, k.Backfill, backfill)
	kit.ProduceEvents(t, k, k.Live, live)
	w := kit.StartWorker(t, k, sandbox.URL)
	began := w.WaitHeld(t, "rejections", 30*time.Second).Since
	kit.Wait(t, "the dead letters that caused the hold", 10*time.Second,
		func() bool { return len(k.ReadAll(t, k.DeadLetters)) >= rejectionWindow })
	<-time.After(time.Until(began.Add(time.Second)))
	atHold := len(k.ReadAll(t, k.DeadLetters))
	<-time.After(time.Until(began.Add(time.Second + measured)))
	letters := len(k.ReadAll(t, k.DeadLetters))
	w.CheckHeld(t, "rejections")
	left := k.Lag(t, k.Backfill)

	sandbox.SetFaults(t, `{}`)
	fixed := time.Now()
	released := w.WaitReleased(t, "rejections", 10*time.Second)
	k.WaitCommitted(t, time.Minute, k.Live, k.Backfill)
	metrics := kit.Scrape(t, w.Admin)
	w.Stop(t, syscall.SIGTERM, kit.StopLimit)

	served := sandbox.Calls(t)
	window := served.Between(began.Add(time.Second), began.Add(time.Second+measured))
	perSecond := float64(window.Applied()) / measured.Seconds()
	probed := map[string]bool{}
	probes := window.Count(func(a kit.SandboxCall) bool {
		if a.Report == "wrong" {
			probed[a.Peer] = true
		}
		return a.Report == "wrong"
	})
	final := k.ReadAll(t, k.DeadLetters)
	rejected := countByKey(final)
	applied := slices.DeleteFunc(append(slices.Clone(live), backfill...),
		func(e kit.Event) bool { return rejected[string(e.Key())] > 0 })
	kit.Figure(t, "rejections", "every call of the live lane rejected: %d dead letters, then "+
		"held for %v, %d more dead letters and %d probes of %d conversations in 10 s; the "+
		"backfill got %.1f/s; continued %v after the fix; %d dead letters in all; %s; %s", atHold,
		released.Sub(began).Round(time.Millisecond), letters-atHold, probes, len(probed), perSecond,
		released.Sub(fixed).Round(time.Millisecond), len(final),
		w.CheckHoldLogged(t, "rejections", 1), metrics.Balance(t))
	kit.Check(t, left > 0, "the backfill ran dry: the test proves nothing about its rate")
	kit.Check(t, atHold >= rejectionWindow && atHold <= rejectionWindow+20,
		"%d dead letters until the hold, 500 and those in flight allowed", atHold)
	kit.Check(t, letters == atHold && len(final) == atHold,
		"%d dead letters when the hold began, %d before its end, %d in the end", atHold, letters,
		len(final))
	kit.Check(t, probes >= 1 && probes <= 3 && len(probed) == probes,
		"%d probes of %d conversations in 10 s, want one every 5 s, each of another conversation",
		probes, len(probed))
	kit.Check(t, perSecond >= fullRate,
		"the backfill got %.1f/s during the hold, at least 180 required", perSecond)
	kit.Check(t, released.Sub(fixed) <= 6*time.Second, "continued %v after the fix",
		released.Sub(fixed))
	kit.CompareReadTimes(t, kit.Largest(applied), sandbox.ReadTimes(t))
}

// countByKey counts the records by key.
func countByKey(letters []*kgo.Record) map[string]int {
	out := map[string]int{}
	for _, letter := range letters {
		out[string(letter.Key)]++
	}
	return out
}

// invalidRecords returns n records that are not events, each with its own key.
func invalidRecords(topic, prefix string, n int) []*kgo.Record {
	out := make([]*kgo.Record, n)
	for i := range out {
		out[i] = &kgo.Record{Topic: topic, Key: fmt.Appendf(nil, "%s-%d", prefix, i),
			Value: []byte("<event>another schema</event>")}
	}
	return out
}

// TestExamRejectionsInvalid: the backfill topic contains only records that are not events. After
// 500 dead letters the backfill lane is held, and the live lane continues at the full rate. When
// good records arrive, the backfill lane continues by itself.
func TestExamRejectionsInvalid(t *testing.T) {
	t.Parallel()
	const measured = 8 * time.Second
	k := kit.StartBroker(t)
	sandbox := kit.StartSandbox(t)
	live := kit.OneEventEach(kit.Conversations("fine", 2400))
	kit.ProduceEvents(t, k, k.Live, live)
	k.Produce(t, invalidRecords(k.Backfill, "bad", 900)...)
	w := kit.StartWorker(t, k, sandbox.URL)
	began := w.WaitHeld(t, "rejections", 30*time.Second).Since
	kit.Wait(t, "the dead letters that caused the hold", 10*time.Second,
		func() bool { return len(k.ReadAll(t, k.DeadLetters)) >= rejectionWindow })
	<-time.After(time.Until(began.Add(time.Second)))
	atHold := len(k.ReadAll(t, k.DeadLetters))
	<-time.After(time.Until(began.Add(2*time.Second + measured))) // the first second has no calls
	letters := len(k.ReadAll(t, k.DeadLetters))
	w.CheckHeld(t, "rejections")
	left := k.Lag(t, k.Live)

	good := kit.OneEventEach(kit.Conversations("good", 50))
	kit.ProduceEvents(t, k, k.Backfill, good)
	fixed := time.Now()
	released := w.WaitReleased(t, "rejections", 10*time.Second)
	k.WaitCommitted(t, time.Minute, k.Live, k.Backfill)
	metrics := kit.Scrape(t, w.Admin)
	w.Stop(t, syscall.SIGTERM, kit.StopLimit)

	served := sandbox.Calls(t)
	perSecond := float64(served.Between(served[0].At, served[0].At.Add(measured)).
		Applied()) / measured.Seconds()
	final := k.ReadAll(t, k.DeadLetters)
	kit.Figure(t, "rejections-invalid",
		"every record of the backfill invalid: %d dead letters, then held, %d more in %v; live "+
			"got %.1f/s; continued %v after good records came; %d dead letters in all; %s; %s",
		atHold, letters-atHold, measured, perSecond, released.Sub(fixed).Round(time.Millisecond),
		len(final), w.CheckHoldLogged(t, "rejections", 1), metrics.Balance(t))
	kit.Check(t, left > 0, "the live lane ran dry: the test proves nothing about its rate")
	kit.Check(t, atHold == rejectionWindow, "%d dead letters until the hold, want 500", atHold)
	kit.Check(t, letters == atHold, "%d more dead letters during the hold", letters-atHold)
	kit.Check(t, perSecond >= fullRate, "live got %.1f/s during the hold, at least 180 required",
		perSecond)
	kit.Check(t, released.Sub(fixed) <= 6*time.Second, "continued %v after good records came",
		released.Sub(fixed))
	kit.Check(t, len(final) == 900 && len(countByKey(final)) == 900,
		"%d dead letters of %d records, want one for each of 900", len(final),
		len(countByKey(final)))
	kit.CompareReadTimes(t, kit.Largest(append(good, live...)), sandbox.ReadTimes(t))
}

// TestExamRejectionsAccepted: an operator who knows that the events are wrong lets the next 10,000
// become dead letters, and no more. One good event among so many bad ones ends the hold, but does
// not let the other bad ones pass either.
func TestExamRejectionsAccepted(t *testing.T) {
	t.Parallel()
	const all = 12_000
	k := kit.StartBroker(t)
	sandbox := kit.StartSandbox(t)
	k.Produce(t, invalidRecords(k.Live, "bad", all)...)
	w := kit.StartWorker(t, k, sandbox.URL)
	letters := func() int { return int(k.Records(t, k.DeadLetters)) }
	// waitAtRest waits until the worker has read everything and holds the lane, and no dead-letter
	// write is in flight.
	waitAtRest := func(atLeast int) int {
		t.Helper()
		kit.Wait(t, fmt.Sprintf("%d dead letters, and a hold", atLeast), 30*time.Second,
			func() bool { return letters() >= atLeast && w.IsHeld(t, "rejections") })
		<-time.After(time.Second)
		return letters()
	}
	first := waitAtRest(rejectionWindow)
	kit.Wait(t, "all records are read", 10*time.Second,
		func() bool { return kit.Scrape(t, w.Admin).Sum("markread_events_received_total") == all })

	output := runCommand(w, t, "resume", "--accept-rejections")
	accepted := time.Now()
	second := waitAtRest(rejectionWindow + maxAccepted)
	took := time.Since(accepted) - time.Second

	good := kit.OneEventEach(kit.Conversations("good", 1))
	kit.ProduceEvents(t, k, k.Live, good)
	kit.Wait(t, "the good event is applied", 20*time.Second,
		func() bool { return sandbox.Stats(t).Applied == 1 })
	third := waitAtRest(second + rejectionWindow)
	runCommand(w, t, "resume", "--accept-rejections")
	k.WaitCommitted(t, 30*time.Second, k.Live)
	metrics := kit.Scrape(t, w.Admin)
	w.Stop(t, syscall.SIGTERM, kit.StopLimit)

	final := countByKey(k.ReadAll(t, k.DeadLetters))
	begun, _, ended := w.HoldLogLines(t, "rejections")
	kit.Figure(t, "rejections-accepted",
		"12000 invalid records: %d dead letters, then held; accepted: %d more in %v, then held; "+
			"after one good event %d more, then held; accepted: all %d; the command prints %q; "+
			"%d holds begun, %d ended; %s", first, second-first, took.Round(10*time.Millisecond),
		third-second, len(final), output, begun, ended, metrics.Balance(t))
	kit.Check(t, first == rejectionWindow, "%d dead letters until the first hold, want 500", first)
	kit.Check(t, second-first == maxAccepted, "%d dead letters accepted, want 10,000", second-first)
	kit.Check(t, third-second == rejectionWindow,
		"%d dead letters because of one good event, want 500", third-second)
	kit.Check(t, len(final) == all, "dead letters of %d records, want %d", len(final), all)
	kit.CompareReadTimes(t, kit.Largest(good), sandbox.ReadTimes(t))
}

// runCommand runs a command of the product with the worker's --admin-url and returns its output.
func runCommand(w *kit.Worker, t *testing.T, args ...string) string {
	t.Helper()
	p := kit.Start(t, args[0], "product", nil, append(args, "--admin-url", w.Admin)...)
	if code := p.Exit(t, 20*time.Second); code != 0 {
		t.Fatalf("markread %s ended with %d: %s", strings.Join(args, " "), code, p.Stderr.String())
	}
	return strings.TrimSpace(p.Stdout.String())
}
