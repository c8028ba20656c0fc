//go:build exam && unix

package exam

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"markread/cmd/markread/exam/kit"
)

// TestExamDeadLetterTopic: the dead-letter topic refuses every write for 10 s. Nothing is lost, and
// nothing is committed past an event whose dead letter could not be written. After 5 s calls are
// held, so that no more events have to wait.
func TestExamDeadLetterTopic(t *testing.T) {
	t.Parallel()
	const refused = 10 * time.Second
	k := kit.StartEmbedded(t, "the broker refuses writes to a topic")
	sandbox := kit.StartSandbox(t)
	// The server rejects every tenth, and every tenth is not an event.
	var records []*kgo.Record
	var events []kit.Event
	for i, e := range kit.OneEventEach(kit.Conversations("x", 4000)) {
		switch i % 10 {
		case 3:
			e.Report = fmt.Sprintf("nobody-%d", i)
		case 7:
			records = append(records, &kgo.Record{Topic: k.Live, Key: e.Key(),
				Value: fmt.Appendf(nil, "not an event, number %d", i)})
			continue
		default:
			events = append(events, e)
		}
		records = append(records, kit.RecordOf(k.Live, e))
	}
	bad := func(r *kgo.Record) bool {
		return strings.HasPrefix(string(r.Value), "not an event") ||
			strings.HasPrefix(string(r.Key), "nobody")
	}
	k.Produce(t, records...)
	w := kit.StartWorker(t, k, sandbox.URL)
	kit.Wait(t, "calls", 30*time.Second, func() bool { return sandbox.Stats(t).Applied >= 200 })

	k.RefuseWrites(t, k.DeadLetters, "NOT_ENOUGH_REPLICAS")
	began := time.Now()
	before := len(k.ReadAll(t, k.DeadLetters))
	held := w.WaitHeld(t, "dead-letter", 8*time.Second)
	// calls that were in flight have arrived by then
	quiet := time.Now().Add(300 * time.Millisecond)
	for time.Since(began) < refused-time.Second {
		checkNotCommittedPast(k, t, records, bad)
		<-time.After(time.Second)
	}
	<-time.After(time.Until(began.Add(refused)))
	w.CheckHeld(t, "dead-letter")
	tries := k.WriteAttempts(t, k.DeadLetters)
	during := len(k.ReadAll(t, k.DeadLetters))
	k.AcceptWrites(t, k.DeadLetters)
	ended := time.Now()
	released := w.WaitReleased(t, "dead-letter", 10*time.Second)
	k.WaitCommitted(t, time.Minute, k.Live)
	metrics := kit.Scrape(t, w.Admin)
	w.Stop(t, syscall.SIGTERM, kit.StopLimit)

	// The first batch is written in parallel; what fails is then retried one dead letter at a time.
	firstTry := slices.IndexFunc(tries, func(at time.Time) bool { return at.After(began) })
	later := 0
	for _, at := range tries[firstTry:] {
		if at.After(tries[firstTry].Add(500 * time.Millisecond)) {
			later++
		}
	}
	most := kit.MostIn1s(tries[firstTry:], func(a, b time.Time) time.Duration { return b.Sub(a) })
	complaints := strings.Count(w.Stderr.String(),
		"the dead-letter topic refuses this record's dead letter")
	served := sandbox.Calls(t)
	letters := k.ReadAll(t, k.DeadLetters)
	wrong := map[string]int{}
	for _, r := range records {
		if bad(r) {
			wrong[string(r.Key)]++
		}
	}
	unexpected := 0
	for _, letter := range letters {
		if _, ok := wrong[string(letter.Key)]; !ok {
			unexpected++
		}
		delete(wrong, string(letter.Key))
	}
	kit.Figure(t, "dead-letter-topic",
		"refusing for 10 s: held %v after the first refused write, %d calls before and %d during "+
			"the hold; %d write attempts (%d in the first half second, at most %d in 1 s), "+
			"continued %v after its end; %d dead letters for 800 failing records; %d lines about "+
			"refused dead letters, %s; %s", held.Since.Sub(tries[firstTry]).Round(time.Millisecond),
		len(served.Between(began, held.Since)), len(served.Between(quiet, ended)),
		len(tries)-firstTry, len(tries)-firstTry-later, most, released.Sub(ended).
			Round(time.Millisecond), len(letters), complaints,
		w.CheckHoldLogged(t, "dead-letter", 1), metrics.Balance(t))
	kit.Check(t, complaints >= 1 && complaints <= 3,
		"%d lines about refused dead letters: repeats are not throttled", complaints)
	kit.Check(t, during == before, "%d dead letters were written while the topic refused writes",
		during-before)
	kit.Check(t, len(served.Between(quiet, ended)) == 0, "%d calls during the hold",
		len(served.Between(quiet, ended)))
	kit.Check(t, later <= int(refused/time.Second)+1,
		"%d write attempts after the first batch, at most one a second allowed", later)
	kit.Check(t, len(letters) == 800 && len(wrong) == 0 && unexpected == 0,
		"%d dead letters for 800 failing records, %d without one, %d unexpected", len(letters),
		len(wrong), unexpected)
	kit.Check(t, served.MostIn1s() <= 200, "more than 200 arrivals in one second")
	kit.CompareReadTimes(t, kit.Largest(events), sandbox.ReadTimes(t))
}

// checkNotCommittedPast requires that no offset is committed past a failing record without a dead
// letter.
func checkNotCommittedPast(k *kit.Kafka, t *testing.T, records []*kgo.Record,
	bad func(*kgo.Record) bool) {
	t.Helper()
	// read before the dead letters: later ones can only make the check milder
	committed := k.Committed(t)
	written := map[string]bool{}
	for _, letter := range k.ReadAll(t, k.DeadLetters) {
		written[string(letter.Key)] = true
	}
	for _, r := range records {
		if at := committed[kit.Partition{Topic: r.Topic, Partition: r.Partition}]; bad(r) &&
			!written[string(r.Key)] && r.Offset < at {
			t.Errorf("%s %d is committed to %d, past the failing record at %d without a dead "+
				"letter", r.Topic, r.Partition, at, r.Offset)
		}
	}
}

// TestExamDeadLetterTopicGone: the dead-letter topic is deleted, and recreated after a while. What
// can't be written waits, is not committed past, and is written in the end.
func TestExamDeadLetterTopicGone(t *testing.T) {
	t.Parallel()
	const gone = 12 * time.Second
	k := kit.StartBroker(t)
	sandbox := kit.StartSandbox(t)
	events := kit.OneEventEach(kit.Conversations("gone", 1500))
	bad := invalidRecords(k.Live, "bad", 45) // far from a hold for rejections
	produce := func(from, to int) {
		t.Helper()
		for i := from; i < to; i += 100 {
			kit.ProduceEvents(t, k, k.Live, events[i:i+100])
			k.Produce(t, bad[i*3/100:i*3/100+3]...)
		}
	}
	produce(0, 500)
	w := kit.StartWorker(t, k, sandbox.URL)
	k.WaitCommitted(t, 30*time.Second, k.Live)
	before := k.ReadAll(t, k.DeadLetters)

	k.DeleteTopics(t, kit.Context(t), k.DeadLetters)
	k.WaitGone(t, k.DeadLetters, kit.Partitions)
	began := time.Now()
	produce(500, 1500)
	held := w.WaitHeld(t, "dead-letter", gone)
	<-time.After(time.Until(began.Add(gone)))
	w.CheckHeld(t, "dead-letter")
	committed := k.Committed(t)
	past := 0
	for _, r := range bad[15:] {
		if committed[kit.Partition{Topic: r.Topic, Partition: r.Partition}] > r.Offset {
			past++
		}
	}
	k.CreateTopics(t, kit.NewTopics(kit.Partitions, k.DeadLetters)...)
	ended := time.Now()
	released := w.WaitReleased(t, "dead-letter", 20*time.Second)
	k.WaitCommitted(t, time.Minute, k.Live)
	metrics := kit.Scrape(t, w.Admin)
	w.Stop(t, syscall.SIGTERM, kit.StopLimit)
	after := countByKey(k.ReadAll(t, k.DeadLetters))
	missing := 0
	for _, r := range bad[15:] {
		if after[string(r.Key)] == 0 {
			missing++
		}
	}
	kit.Figure(t, "dead-letter-topic-gone",
		"deleted: held after %v, %d of 30 failing records committed past; continued %v after it "+
			"was recreated; %d dead letters before, %d after; %s; %s", held.Since.Sub(began).
			Round(time.Millisecond), past, released.Sub(ended).Round(time.Millisecond), len(before),
		len(after), w.CheckHoldLogged(t, "dead-letter", 1), metrics.Balance(t))
	kit.Check(t, len(before) == 15, "%d dead letters before, want 15", len(before))
	kit.Check(t, past == 0, "%d failing records without a dead letter are committed", past)
	kit.Check(t, missing == 0 && len(after) == 30, "%d dead letters, %d missing, want 30",
		len(after), missing)
	kit.CompareReadTimes(t, kit.Largest(events), sandbox.ReadTimes(t))
}

// TestExamBrokerKilled: the broker is killed under load and is back after 5 s with its data on
// disk.
func TestExamBrokerKilled(t *testing.T) {
	t.Parallel()
	const down = 5 * time.Second
	dir := t.TempDir()
	k := kit.StartEmbedded(t, "it kills and restarts the broker", "-data-dir", dir)
	sandbox := kit.StartSandbox(t)
	backlog := kit.OneEventEach(kit.Conversations("disk", 3000))
	kit.ProduceEvents(t, k, k.Live, backlog)
	w := kit.StartWorker(t, k, sandbox.URL)
	flow := kit.StartTraffic(t, k, k.Live, "flow", 20)
	kit.Wait(t, "calls", 30*time.Second, func() bool { return sandbox.Stats(t).Applied >= 600 })

	k.Signal(t, syscall.SIGKILL)
	k.Exit(t, 5*time.Second)
	killed := time.Now()
	<-time.After(down)
	again := kit.Start(t, "broker again", "broker", nil, "-data-dir", dir, "-addr", k.Addr)
	again.Line(t, `listening on (\S+)`, 20*time.Second)
	back := time.Now()
	records := k.Records(t, k.Live)
	committed := k.Committed(t)
	var first time.Duration
	kit.Wait(t, "a commit after the broker's return", time.Minute, func() bool {
		for p, offset := range k.Committed(t) {
			if offset > committed[p] {
				first = time.Since(back)
			}
		}
		return first > 0
	})
	events := append(flow.End(), backlog...)
	k.WaitCommitted(t, time.Minute, k.Live)
	settled := time.Since(back)
	w.Stop(t, syscall.SIGTERM, kit.StopLimit)

	served := sandbox.Calls(t)
	calls := map[kit.Conversation]int{}
	for _, a := range served {
		calls[a.Conversation]++
	}
	repeated := len(served) - len(calls)
	kit.Figure(t, "broker-killed",
		"down for %v: %d calls meanwhile, first commit %v after it was ready, first call %v, all "+
			"%d committed after %v; %d calls repeated", back.Sub(killed).Round(time.Millisecond),
		len(served.Between(killed, back)), first.Round(time.Millisecond),
		served.FirstAppliedAfter(t, back).Round(time.Millisecond), len(events),
		settled.Round(time.Millisecond), repeated)
	kit.Check(t, records >= 3000, "the broker came back with %d records", records)
	kit.Check(t, first <= 30*time.Second, "continued after %v, at most 30 s allowed", first)
	kit.Check(t, served.MostIn1s() <= 200, "more than 200 arrivals in one second")
	k.CheckNoDeadLetters(t, "a broker that was down")
	kit.CompareReadTimes(t, kit.Largest(events), sandbox.ReadTimes(t))
}
