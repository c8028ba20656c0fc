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

// How many ends of a lane are judged together, and what an operator accepts at a time: the
// contract.
const (
	rejectionWindow = 500
	maxAccepted     = 10_000
)

// fullRate is what counts as full speed, calls a second, in a row that shares the machine with
// others. TestExamQuota has it alone and wants more.
const fullRate = 180

// TestExamRejections: the server rejects every call of the live lane: a wrong app, not 2,000 wrong
// events. After 500 of them the lane is held and the backfill has the quota to itself. When the
// server is mended, the lane goes on by itself.
func TestExamRejections(t *testing.T) {
	t.Parallel()
	const measured = 10 * time.Second
	k := kit.StartBroker(t)
	sandbox := kit.StartSandbox(t)
	sandbox.SetFaults(t, `{"rules":[{"kind":"code","code":90008,"report":"wrong"}]}`)
	live := make([]kit.Event, 2000)
	for i := range live {
		live[i] = kit.Event{Conversation: kit.Conversation{Report: "wrong",
			Peer: "p" + strconv.Itoa(i)},
			ReadTime: time.Now().Unix() - 60}
	}
	backfill := kit.OneEventEach(kit.Conversations("bulk", 4000))
	kit.ProduceEvents(t, k, k.Backfill, backfill)
	kit.ProduceEvents(t, k, k.Live, live)
	w := kit.StartWorker(t, k, sandbox.URL)
	began := w.WaitHeld(t, "rejections", 30*time.Second).Since
	kit.Wait(t, "the letters of what brought the hold", 10*time.Second,
		func() bool { return len(k.ReadAll(t, k.DeadLetters)) >= rejectionWindow })
	<-time.After(time.Until(began.Add(time.Second)))
	atHold := len(k.ReadAll(t, k.DeadLetters))
	<-time.After(time.Until(began.Add(time.Second + measured)))
	letters := len(k.ReadAll(t, k.DeadLetters))
	w.CheckHeld(t, "rejections")
	left := k.Lag(t, k.Backfill)

	sandbox.SetFaults(t, `{}`)
	mended := time.Now()
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
	kit.Figure(t, "rejections", "every call of the live lane rejected: %d letters, then held for "+
		"%v, %d more letters "+
		"and %d probes of %d conversations in 10 s; the backfill got %.1f/s; gone on %v after it "+
		"was mended; %d "+
		"letters in all; %s; %s",
		atHold, released.Sub(began).Round(time.Millisecond), letters-atHold, probes, len(probed),
		perSecond,
		released.Sub(mended).Round(time.Millisecond), len(final),
		w.CheckHoldLogged(t, "rejections", 1), metrics.Balance(t))
	kit.Check(t, left > 0, "the backfill ran dry: the row says nothing of its speed")
	kit.Check(t, atHold >= rejectionWindow && atHold <= rejectionWindow+20,
		"%d letters until the hold, 500 and what was in flight allowed", atHold)
	kit.Check(t, letters == atHold && len(final) == atHold,
		"%d letters when the hold began, %d at its end, %d at last",
		atHold, letters, len(final))
	kit.Check(t, probes >= 1 && probes <= 3 && len(probed) == probes,
		"%d probes of %d conversations in 10 s, one in 5 s is due, each of another", probes,
		len(probed))
	kit.Check(t, perSecond >= fullRate,
		"the backfill got %.1f/s beside the hold, at least 180 required", perSecond)
	kit.Check(t, released.Sub(mended) <= 6*time.Second, "gone on %v after it was mended",
		released.Sub(mended))
	kit.CompareReadTimes(t, kit.Largest(applied), sandbox.ReadTimes(t))
}

// countByKey counts the letters by their key.
func countByKey(letters []*kgo.Record) map[string]int {
	out := map[string]int{}
	for _, letter := range letters {
		out[string(letter.Key)]++
	}
	return out
}

// invalidRecords returns n records that are no events, each with a key of its own.
func invalidRecords(topic, prefix string, n int) []*kgo.Record {
	out := make([]*kgo.Record, n)
	for i := range out {
		out[i] = &kgo.Record{Topic: topic, Key: fmt.Appendf(nil, "%s-%d", prefix, i),
			Value: []byte("<event>another schema</event>")}
	}
	return out
}

// TestExamRejectionsInvalid: the backfill lane brings only records that are no events. After 500
// letters it is held and the live lane goes on at full speed; when good records come, the lane goes
// on by itself.
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
	kit.Wait(t, "the letters of what brought the hold", 10*time.Second,
		func() bool { return len(k.ReadAll(t, k.DeadLetters)) >= rejectionWindow })
	<-time.After(time.Until(began.Add(time.Second)))
	atHold := len(k.ReadAll(t, k.DeadLetters))
	<-time.After(time.Until(began.Add(2*time.Second + measured))) // the first second has no calls
	letters := len(k.ReadAll(t, k.DeadLetters))
	w.CheckHeld(t, "rejections")
	left := k.Lag(t, k.Live)

	good := kit.OneEventEach(kit.Conversations("good", 50))
	kit.ProduceEvents(t, k, k.Backfill, good)
	mended := time.Now()
	released := w.WaitReleased(t, "rejections", 10*time.Second)
	k.WaitCommitted(t, time.Minute, k.Live, k.Backfill)
	metrics := kit.Scrape(t, w.Admin)
	w.Stop(t, syscall.SIGTERM, kit.StopLimit)

	served := sandbox.Calls(t)
	perSecond := float64(served.Between(served[0].At, served[0].At.Add(measured)).
		Applied()) / measured.Seconds()
	final := k.ReadAll(t, k.DeadLetters)
	kit.Figure(t, "rejections-invalid",
		"every record of the backfill invalid: %d letters, then held, %d more in %v; live got "+
			"%.1f/s; gone on %v "+
			"after good records came; %d letters in all; %s; %s",
		atHold, letters-atHold, measured, perSecond, released.Sub(mended).Round(time.Millisecond),
		len(final),
		w.CheckHoldLogged(t, "rejections", 1), metrics.Balance(t))
	kit.Check(t, left > 0, "the live lane ran dry: the row says nothing of its speed")
	kit.Check(t, atHold == rejectionWindow, "%d letters until the hold, want 500", atHold)
	kit.Check(t, letters == atHold, "%d letters more in the hold", letters-atHold)
	kit.Check(t, perSecond >= fullRate, "live got %.1f/s beside the hold, at least 180 required",
		perSecond)
	kit.Check(t, released.Sub(mended) <= 6*time.Second, "gone on %v after good records came",
		released.Sub(mended))
	kit.Check(t, len(final) == 900 && len(countByKey(final)) == 900,
		"%d letters of %d records, want one for each of 900",
		len(final), len(countByKey(final)))
	kit.CompareReadTimes(t, kit.Largest(append(good, live...)), sandbox.ReadTimes(t))
}

// TestExamRejectionsAccepted: an operator who knows that the events are wrong lets the next 10,000
// go to the dead letters, and no more. One good event among so many bad ones ends the hold by
// itself, and is no reason to let all of them go either.
func TestExamRejectionsAccepted(t *testing.T) {
	t.Parallel()
	const all = 12_000
	k := kit.StartBroker(t)
	sandbox := kit.StartSandbox(t)
	k.Produce(t, invalidRecords(k.Live, "bad", all)...)
	w := kit.StartWorker(t, k, sandbox.URL)
	letters := func() int {
		n := int64(0)
		for _, end := range k.EndOffsets(t, k.DeadLetters) {
			n += end
		}
		return int(n)
	}
	// rest waits until the worker has read everything and holds, and no letter is under way any
	// more.
	rest := func(atLeast int) int {
		t.Helper()
		kit.Wait(t, fmt.Sprintf("%d letters, and a hold", atLeast), 30*time.Second,
			func() bool { return letters() >= atLeast && w.IsHeld(t, "rejections") })
		<-time.After(time.Second)
		return letters()
	}
	first := rest(rejectionWindow)
	kit.Wait(t, "all records are read", 10*time.Second,
		func() bool { return kit.Scrape(t, w.Admin).Sum("markread_events_received_total") == all })

	said := runCommand(w, t, "resume", "--accept-rejections")
	accepted := time.Now()
	second := rest(rejectionWindow + maxAccepted)
	took := time.Since(accepted) - time.Second

	good := kit.OneEventEach(kit.Conversations("good", 1))
	kit.ProduceEvents(t, k, k.Live, good)
	kit.Wait(t, "the good event is applied", 20*time.Second,
		func() bool { return sandbox.Stats(t).Applied == 1 })
	third := rest(second + rejectionWindow)
	runCommand(w, t, "resume", "--accept-rejections")
	k.WaitCommitted(t, 30*time.Second, k.Live)
	metrics := kit.Scrape(t, w.Admin)
	w.Stop(t, syscall.SIGTERM, kit.StopLimit)

	final := countByKey(k.ReadAll(t, k.DeadLetters))
	begun, _, ended := w.HoldLogLines(t, "rejections")
	kit.Figure(t, "rejections-accepted",
		"12000 invalid records: %d letters, then held; accepted: %d more in %v, then held; after "+
			"one good event %d "+
			"more, then held; accepted: all %d; the command says %q; %d holds begun, %d ended; %s",
		first, second-first, took.Round(10*time.Millisecond), third-second, len(final), said, begun,
		ended,
		metrics.Balance(t))
	kit.Check(t, first == rejectionWindow, "%d letters until the first hold, want 500", first)
	kit.Check(t, second-first == maxAccepted, "%d letters accepted, want 10,000", second-first)
	kit.Check(t, third-second == rejectionWindow, "%d letters because of one good event, want 500",
		third-second)
	kit.Check(t, len(final) == all, "letters of %d records, want %d", len(final), all)
	kit.CompareReadTimes(t, kit.Largest(good), sandbox.ReadTimes(t))
}

// runCommand runs a command of the product about this worker and returns what it prints.
func runCommand(w *kit.Worker, t *testing.T, args ...string) string {
	t.Helper()
	p := kit.Start(t, args[0], "product", nil, append(args, "--admin-url", w.Admin)...)
	if code := p.Exit(t, 20*time.Second); code != 0 {
		t.Fatalf("markread %s ended with %d: %s", strings.Join(args, " "), code, p.Stderr.String())
	}
	return strings.TrimSpace(p.Stdout.String())
}
