//go:build exam && linux

package exam

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"markread/cmd/markread/exam/kit"
)

// header returns the last header of that name.
func header(r *kgo.Record, name string) (value string, ok bool) {
	for _, h := range r.Headers {
		if h.Key == name {
			value, ok = string(h.Value), true
		}
	}
	return value, ok
}

// countDeadLetters counts the dead letters and the resolutions on the dead-letter topic, by a naive
// reading of the contract.
func countDeadLetters(k *kit.Kafka, t *testing.T) (letters, resolutions int) {
	t.Helper()
	for _, r := range k.ReadAll(t, k.DeadLetters) {
		if _, is := header(r, "markread.class"); is {
			letters++
		} else if _, is := header(r, "markread.resolves"); is && r.Value == nil {
			resolutions++
		}
	}
	return letters, resolutions
}

// listDeadLetters returns the output of `ls --json`.
func listDeadLetters(k *kit.Kafka, t *testing.T, args ...string) (all []map[string]any) {
	t.Helper()
	for _, line := range runDeadLetters(k, t, 0, append([]string{"ls", "--json"}, args...)...).
		Stdout.Lines() {
		var l map[string]any
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		all = append(all, l)
	}
	return all
}

// TestExamLettersReplay: dead letters of all classes. After missing accounts are created and a
// failure ends, replays apply the events with the read times of days ago. An event that fails again
// becomes a dead letter with one more replay, and is parked after three. A newer read time is not
// lowered.
func TestExamLettersReplay(t *testing.T) {
	t.Parallel()
	const (
		conversations = 40 // of each kind
		slow          = 8  // few enough, beside healthy traffic, not to look like an outage
		daysAgo       = 3
	)
	k := kit.StartBroker(t)
	sandbox := kit.StartSandbox(t)
	sandbox.SetFaults(t, `{"rules":[{"kind":"code","code":90994,"report":"slow"}]}`)
	w := kit.StartWorker(t, k, sandbox.URL, "--attempts", "2", "--backoff-initial", "20ms",
		"--backoff-max", "50ms", "--max-rejected", "100")
	w.WaitReady(t)
	healthy := kit.StartTraffic(t, k, k.Live, "healthy", 50)
	kit.Wait(t, "healthy traffic", 30*time.Second,
		func() bool { return len(sandbox.ReadTimes(t)) > 20 })

	// The read time is in the header: like those of most backends, the events have no MsgReadTime.
	read := time.Now().Add(-daysAgo * 24 * time.Hour).Unix()
	want := map[kit.Conversation]int64{}
	event := func(report string, i int, at int64) *kgo.Record {
		c := kit.Conversation{Report: report, Peer: "p" + strconv.Itoa(i)}
		want[c] = max(want[c], at)
		return &kgo.Record{
			Topic: k.Live, Key: c.Key(),
			Value: fmt.Appendf(nil, `{"Report_Account":%q,"Peer_Account":%q}`, c.Report, c.Peer),
			Headers: []kgo.RecordHeader{{Key: "markread.event-time", Value: strconv.AppendInt(nil,
				at*1000+999, 10)}, {Key: "trace", Value: []byte(report)}},
		}
	}
	var records []*kgo.Record
	for i := range conversations {
		records = append(records, event("nobody-late", i, read+int64(i)),
			event("nobody-late", i, read-100))
		if i < slow {
			records = append(records, event("slow", i, read+int64(i)), event("slow", i, read-100))
		}
		records = append(records, &kgo.Record{Topic: k.Live, Key: []byte("x"),
			Value: []byte("no event " + strconv.Itoa(i))})
	}
	records = append(records, event("nobody-ever", 0, read))
	delete(want, kit.Conversation{Report: "nobody-ever", Peer: "p0"})
	k.Produce(t, records...)
	count := func(class string) (letters, parked int) {
		for _, l := range listDeadLetters(k, t, "--class", class, "--parked") {
			letters++
			if l["state"] == "parked" {
				parked++
			}
		}
		return letters, parked
	}
	kit.Wait(t, "all dead letters", time.Minute, func() bool {
		represented := 0.0
		for _, l := range listDeadLetters(k, t) {
			represented += l["collapsed"].(float64)
		}
		return int(represented) == len(records)
	})
	exhausted, _ := count("exhausted")
	rejected, _ := count("rejected")
	invalid, _ := count("invalid")
	kit.Check(t, exhausted >= slow && rejected > conversations && invalid == conversations,
		"%d exhausted, %d rejected, %d invalid dead letters", exhausted, rejected, invalid)

	// Nothing is fixed: what is replayed becomes a dead letter again, with its replay counted.
	out := runDeadLetters(k, t, 0, "replay", "--class", "exhausted", "--yes").Stdout.String()
	if !strings.HasPrefix(out,
		fmt.Sprintf("replayed %d dead letters of %d conversations", exhausted, slow)) {
		t.Errorf("replay prints %q", out)
	}
	k.WaitCommitted(t, time.Minute, k.Backfill)
	for _, e := range healthy.End() {
		want[e.Conversation] = e.ReadTime
	}
	for _, l := range listDeadLetters(k, t, "--class", "exhausted") {
		kit.Check(t, l["replays"] == 1.0 && l["event_time"] != nil && l["lane"] == "backfill",
			"a dead letter after a failed replay: %v", l)
	}

	// Fixed: the accounts exist, the server works. Meanwhile a user has read further.
	sandbox.SetFaults(t, `{}`)
	postAsAdmin(sandbox, t, "/v4/im_open_login_svc/account_import", `{"UserID":"nobody-late"}`)
	newer := kit.Conversation{Report: "nobody-late", Peer: "p7"}
	want[newer] = time.Now().Unix()
	kit.ProduceEvents(t, k, k.Live, []kit.Event{{Conversation: newer, ReadTime: want[newer]}})
	k.WaitCommitted(t, time.Minute, k.Live)
	runDeadLetters(k, t, 0, "replay", "--class", "rejected", "--yes")
	runDeadLetters(k, t, 0, "replay", "--class", "exhausted", "--yes")
	k.WaitCommitted(t, time.Minute, k.Live, k.Backfill)
	kit.CompareReadTimes(t, want, sandbox.ReadTimes(t))
	again := runDeadLetters(k, t, 0, "replay", "--class", "exhausted", "--yes").Stdout.String()
	kit.Check(t, strings.HasPrefix(again, "nothing to replay"), "a second replay prints %q", again)
	runDeadLetters(k, t, 3, "replay", "--class", "invalid", "--yes") // they are still not events

	// One always fails. It has been replayed once.
	letters, resolutions := countDeadLetters(k, t)
	for range 4 {
		runDeadLetters(k, t, 0, "replay", "--class", "rejected", "--yes")
		k.WaitCommitted(t, time.Minute, k.Backfill)
	}
	moreLetters, moreResolutions := countDeadLetters(k, t)
	_, parked := count("rejected")
	kit.Check(t, parked == 1 && moreLetters-letters == 2 && moreResolutions-resolutions == 2,
		"%d parked, %d more dead letters and %d more resolutions; want 1, 2 and 2 after the "+
			"first replay", parked, moreLetters-letters, moreResolutions-resolutions)
	runDeadLetters(k, t, 0, "discard", "--all", "--parked", "--yes")
	left := len(listDeadLetters(k, t, "--state", "open", "--parked"))
	kit.Check(t, left == 0, "%d dead letters are left", left)
	w.Stop(t, syscall.SIGTERM, kit.StopLimit)
	kit.Figure(t, "letters-replay",
		"%d rejected, %d exhausted, %d invalid dead letters; after the fix all of %d "+
			"conversations have the T of %d days ago; one that always fails is parked after 3 "+
			"replays: the topic has %d dead letters and %d resolutions", rejected, exhausted,
		invalid, len(want), daysAgo, moreLetters, moreResolutions)
}

// TestExamLettersKilled: replays are killed at random points, many times; then two run at the same
// time. Each dead letter's event is published, no dead letter is resolved before that, and in the
// end all are.
func TestExamLettersKilled(t *testing.T) {
	t.Parallel()
	letters, kills := 100_000, 20
	if testing.Short() {
		// as many dead letters per kill as in the long form, else they are replayed before the kill
		letters, kills = 20_000, 4
	}
	k := kit.StartBroker(t)
	now := time.Now()
	want := map[kit.Conversation]int64{}
	kit.ProduceDeadLetters(t, k, letters, func(i int) kit.DeadLetter {
		c := kit.Conversation{Report: "u" + strconv.Itoa(i*7%(letters*4/5)), Peer: "p"}
		l := kit.DeadLetter{Class: "rejected", Code: "90048", NoReadTime: i%2 == 0}
		l.Event = kit.Event{Conversation: c, ReadTime: now.Unix() - 86_400 + int64(i*31%5000)}
		l.FailedAt = now.Add(time.Duration(i-letters) * time.Millisecond)
		want[c] = max(want[c], l.ReadTime)
		return l
	})
	random := rand.New(rand.NewPCG(4, 2))
	size := func() int64 { return k.Records(t, k.Backfill) }
	killed, inTheMiddle := 0, 0
	for killed < kills {
		before := size()
		// leaves some for the next one
		p := startDeadLetters(k, t, "replay", "--yes", "--limit", strconv.Itoa(letters/kills))
		// Half of them are killed as soon as something is published: before it is resolved, or
		// meanwhile.
		if killed%2 == 0 {
			kit.Wait(t, "something is published", time.Minute,
				func() bool { return p.Ended() || size() > before })
		} else {
			<-time.After(time.Duration(50+random.IntN(400)) * time.Millisecond)
		}
		_ = p.Cmd.Process.Kill()
		if p.Exit(t, 10*time.Second) == -1 {
			inTheMiddle++
		}
		killed++
		checkResolved(k, t, want)
	}
	first, second := startDeadLetters(k, t, "replay", "--yes"),
		startDeadLetters(k, t, "replay", "--yes")
	kit.Check(t, first.Exit(t, 2*time.Minute) == 0 && second.Exit(t, 2*time.Minute) == 0,
		"two at the same time: %s %s", first.Stderr.Tail(3), second.Stderr.Tail(3))
	checkResolved(k, t, want)
	open := len(listDeadLetters(k, t))
	published := readReplayed(t, k)
	written, resolutions := countDeadLetters(k, t)
	kit.Figure(t, "letters-killed",
		"%d dead letters of %d conversations, %d kills, %d of them before the end, then two "+
			"replays at the same time: %d records published, %d resolutions; the two took %.1f "+
			"and %.1f s", letters, len(want), killed, inTheMiddle, len(published), resolutions,
		first.Duration.Seconds(), second.Duration.Seconds())
	kit.Check(t, open == 0 && written == letters, "%d dead letters are open of %d, %d were written",
		open, written, letters)
	kit.Check(t, inTheMiddle*2 >= kills, "%d of %d kills came in time: the test proves little",
		inTheMiddle, kills)
	kit.CompareReadTimes(t, want, kit.Largest(published))
	kit.Check(t, resolutions >= letters && resolutions <= 2*letters,
		"%d resolutions of %d dead letters", resolutions, letters)
}

// readReplayed returns the events that were replayed to the backfill topic.
func readReplayed(t *testing.T, k *kit.Kafka) (events []kit.Event) {
	t.Helper()
	k.ReadEach(t, k.Backfill, func(r *kgo.Record) { events = append(events, parseReplayed(t, r)) })
	return events
}

// parseReplayed reads a replayed record as a worker does: T is MsgReadTime, else the event-time
// header.
func parseReplayed(t *testing.T, r *kgo.Record) kit.Event {
	t.Helper()
	e := decodeEvent(t, r)
	at, _ := header(r, "markread.event-time")
	ms, err := strconv.ParseInt(at, 10, 64)
	if replays, _ := header(r, "markread.replays"); err != nil || replays != "1" ||
		slices.ContainsFunc(r.Headers, func(h kgo.RecordHeader) bool {
			return strings.HasPrefix(h.Key, "__dlq.") || h.Key == "markread.class"
		}) {
		t.Fatalf("headers of a replayed record: %v", r.Headers)
	}
	if e.ReadTime == 0 {
		e.ReadTime = ms / 1000
	}
	return e
}

// checkResolved requires that each resolved dead letter was published, with a T at least as large.
func checkResolved(k *kit.Kafka, t *testing.T, want map[kit.Conversation]int64) {
	t.Helper()
	records := k.ReadAll(t, k.DeadLetters) // read before the published records: those may only grow
	largest := kit.Largest(readReplayed(t, k))
	byID := map[string]*kgo.Record{}
	for _, r := range records {
		byID[fmt.Sprintf("%d:%d", r.Partition, r.Offset)] = r
	}
	lost := 0
	for _, r := range records {
		id, is := header(r, "markread.resolves")
		if !is {
			continue
		}
		letter := byID[id]
		if letter == nil {
			t.Fatalf("a resolution of %s, which is not a dead letter", id)
		}
		// the exam's dead letters have their T there, too
		at, _ := header(letter, "markread.event-time")
		ms, _ := strconv.ParseInt(at, 10, 64)
		report, peer, _ := strings.Cut(string(letter.Key), "|")
		if largest[kit.Conversation{Report: report, Peer: peer}] < ms/1000 {
			lost++
		}
	}
	kit.Check(t, lost == 0, "%d dead letters are resolved, but their events were not published",
		lost)
}

// TestExamLettersLive: a replay of 100,000 dead letters does not delay live events. The server
// responds in 100 ms; the delay is measured from production to the response.
func TestExamLettersLive(t *testing.T) {
	letters, seconds := 100_000, 30
	if testing.Short() {
		letters, seconds = 20_000, 5
	}
	const (
		perSecond = 20
		latency   = 100 * time.Millisecond
	)
	k := kit.StartBroker(t)
	im := kit.StartRecorder(t, "-rate", "200", "-latency", latency.String())
	now := time.Now()
	kit.ProduceDeadLetters(t, k, letters, func(i int) kit.DeadLetter {
		return kit.DeadLetter{Event: kit.NewEvent("u"+strconv.Itoa(i), "p", now.Unix()-86_400),
			Class: "rejected", Code: "90048", FailedAt: now}
	})
	w := kit.StartWorker(t, k, im.URL)
	w.WaitReady(t)
	warm := kit.OneEventEach(kit.Conversations("warm", 1))
	kit.ProduceEvents(t, k, k.Live, warm)
	im.WaitApplied(t, warm, 30*time.Second) // the permits have cooled since the start
	measure := func(name string) kit.Delays {
		flow := kit.StartTraffic(t, k, k.Live, name, perSecond)
		<-time.After(time.Duration(seconds) * time.Second)
		flow.End()
		k.WaitCommitted(t, 30*time.Second, k.Live)
		delays := flow.ArrivalDelays(t, im.Arrivals(t))
		for i := range delays {
			delays[i] += latency
		}
		return delays
	}
	alone := measure("alone")
	kit.ProduceEvents(t, k, k.Backfill,
		kit.OneEventEach(kit.Conversations("bulk", 200*(seconds+5))))
	kit.Wait(t, "the backfill calls", 30*time.Second,
		func() bool { return im.Count(t) > 200*3/2+perSecond*seconds })
	before := measure("busy")
	kit.Check(t, k.Lag(t, k.Backfill) > 0, "the backfill ran dry: the test proves nothing")
	p := startDeadLetters(k, t, "replay", "--yes")
	kit.Wait(t, "the replay publishes", 30*time.Second,
		func() bool { return k.Lag(t, k.Backfill) > 0 })
	during := measure("during")
	kit.Check(t, p.Exit(t, time.Minute) == 0, "the replay failed")
	left := k.Lag(t, k.Backfill)
	w.Stop(t, syscall.SIGTERM, kit.StopLimit)
	ratio := float64(during.Percentile(99)) / float64(alone.Percentile(99))
	kit.Figure(t, "letters-live", "replay of %d dead letters took %.1f s; live alone %v; beside "+
		"a backfill %v; beside the replay %v (p99 %.2f times); %d events of the replay left; %v",
		letters, p.Duration.Seconds(), alone, before, during, ratio, left,
		kit.MeasureCalls(im.Arrivals(t)))
	kit.Check(t, left > 0, "the replay's events ran out: the test proves nothing")
	if !testing.Short() { // a short run has too few for a p99
		kit.Check(t, ratio <= 1.2, "live p99 is %.2f times as long as alone", ratio)
	}
	kit.Check(t, kit.MeasureCalls(im.Arrivals(t)).MostIn1s <= 200,
		"more than 200 arrivals in one second")
}
