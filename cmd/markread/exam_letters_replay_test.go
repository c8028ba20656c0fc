//go:build exam && linux

package main

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

	"markread/worker/format"
)

// examHeader is the last header of that name.
func examHeader(r *kgo.Record, name string) (value string, ok bool) {
	for _, h := range r.Headers {
		if h.Key == name {
			value, ok = string(h.Value), true
		}
	}
	return value, ok
}

// written counts the letters and the resolutions on the dead-letter topic, by the naive reading of the contract.
func (k *examKafka) written(t *testing.T) (letters, resolutions int) {
	t.Helper()
	for _, r := range k.readAll(t, k.letters) {
		if _, is := examHeader(r, "markread.class"); is {
			letters++
		} else if _, is := examHeader(r, "markread.resolves"); is && r.Value == nil {
			resolutions++
		}
	}
	return letters, resolutions
}

// listed returns what ls prints as JSON.
func (k *examKafka) listed(t *testing.T, args ...string) (all []map[string]any) {
	t.Helper()
	for _, line := range k.deadLetters(t, 0, append([]string{"ls", "--json"}, args...)...).stdout.lines() {
		var l map[string]any
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		all = append(all, l)
	}
	return all
}

// TestExamLettersReplay: letters of all classes. Accounts that did not exist are made, a failure ends, and replays apply the events up to when the users
// read, days ago; what fails again comes back with one replay more, and is parked after three; a newer read time is not lowered.
func TestExamLettersReplay(t *testing.T) {
	t.Parallel()
	const (
		conversations = 40 // of each kind
		slow          = 8  // few enough, among healthy traffic, not to look like an outage
		daysAgo       = 3
	)
	k := examStartBroker(t)
	sandbox := examStartSandbox(t)
	sandbox.faults(t, `{"rules":[{"kind":"code","code":90994,"report":"slow"}]}`)
	w := examStartWorker(t, k, sandbox.url, "--attempts", "2", "--backoff-initial", "20ms", "--backoff-max", "50ms", "--max-rejected", "100")
	w.ready(t)
	healthy := examStartFlow(t, k, k.live, "healthy", 50)
	examWait(t, "healthy traffic", 30*time.Second, func() bool { return len(sandbox.pointers(t)) > 20 })

	// The time when the user read is in the header: the events have none of their own, as those of most backends.
	read := time.Now().Add(-daysAgo * 24 * time.Hour).Unix()
	want := map[examConversation]int64{}
	event := func(report string, i int, at int64) *kgo.Record {
		c := examConversation{report, "p" + strconv.Itoa(i)}
		want[c] = max(want[c], at)
		return &kgo.Record{
			Topic: k.live, Key: c.key(), Value: fmt.Appendf(nil, `{"Report_Account":%q,"Peer_Account":%q}`, c.report, c.peer),
			Headers: []kgo.RecordHeader{{Key: "markread.event-time", Value: strconv.AppendInt(nil, at*1000+999, 10)}, {Key: "trace", Value: []byte(report)}},
		}
	}
	var records []*kgo.Record
	for i := range conversations {
		records = append(records, event("nobody-late", i, read+int64(i)), event("nobody-late", i, read-100))
		if i < slow {
			records = append(records, event("slow", i, read+int64(i)), event("slow", i, read-100))
		}
		records = append(records, &kgo.Record{Topic: k.live, Key: []byte("x"), Value: []byte("no event " + strconv.Itoa(i))})
	}
	records = append(records, event("nobody-ever", 0, read))
	delete(want, examConversation{"nobody-ever", "p0"})
	k.produce(t, records...)
	count := func(class string) (letters, parked int) {
		for _, l := range k.listed(t, "--class", class, "--parked") {
			letters++
			if l["state"] == "parked" {
				parked++
			}
		}
		return letters, parked
	}
	examWait(t, "all letters", time.Minute, func() bool {
		represented := 0.0
		for _, l := range k.listed(t) {
			represented += l["collapsed"].(float64)
		}
		return int(represented) == len(records)
	})
	exhausted, _ := count("exhausted")
	rejected, _ := count("rejected")
	invalid, _ := count("invalid")
	examCheck(t, exhausted >= slow && rejected > conversations && invalid == conversations, "%d exhausted, %d rejected, %d invalid letters", exhausted, rejected, invalid)

	// Nothing is mended: what is replayed comes back, counted.
	out := k.deadLetters(t, 0, "replay", "--class", "exhausted", "--yes").stdout.String()
	if !strings.HasPrefix(out, fmt.Sprintf("replayed %d letters of %d conversations", exhausted, slow)) {
		t.Errorf("replay says %q", out)
	}
	k.settled(t, time.Minute, k.backfill)
	for _, e := range healthy.end() {
		want[e.examConversation] = e.readTime
	}
	for _, l := range k.listed(t, "--class", "exhausted") {
		examCheck(t, l["replays"] == 1.0 && l["event_time"] != nil && l["lane"] == "backfill", "a letter that came back: %v", l)
	}

	// Mended: the accounts exist, the server works. A user has read further meanwhile.
	sandbox.faults(t, `{}`)
	sandbox.asAdmin(t, "/v4/im_open_login_svc/account_import", `{"UserID":"nobody-late"}`)
	newer := examConversation{"nobody-late", "p7"}
	want[newer] = time.Now().Unix()
	examProduceEvents(t, k, k.live, []examEvent{{newer, want[newer]}})
	k.settled(t, time.Minute, k.live)
	k.deadLetters(t, 0, "replay", "--class", "rejected", "--yes")
	k.deadLetters(t, 0, "replay", "--class", "exhausted", "--yes")
	k.settled(t, time.Minute, k.live, k.backfill)
	examComparePointers(t, want, sandbox.pointers(t))
	again := k.deadLetters(t, 0, "replay", "--class", "exhausted", "--yes").stdout.String()
	examCheck(t, strings.HasPrefix(again, "nothing to replay"), "a second replay says %q", again)
	k.deadLetters(t, 3, "replay", "--class", "invalid", "--yes") // they are no events yet

	// One fails for ever. It has been replayed once.
	letters, resolutions := k.written(t)
	for range 4 {
		k.deadLetters(t, 0, "replay", "--class", "rejected", "--yes")
		k.settled(t, time.Minute, k.backfill)
	}
	moreLetters, moreResolutions := k.written(t)
	_, parked := count("rejected")
	examCheck(t, parked == 1 && moreLetters-letters == 2 && moreResolutions-resolutions == 2,
		"%d parked, %d letters and %d resolutions more; want 1, 2 and 2 after the first replay", parked, moreLetters-letters, moreResolutions-resolutions)
	k.deadLetters(t, 0, "discard", "--all", "--parked", "--yes")
	left := len(k.listed(t, "--state", "open", "--parked"))
	examCheck(t, left == 0, "%d letters are left", left)
	w.stop(t, syscall.SIGTERM, examStopLimit)
	examFigure(t, "letters-replay", "%d rejected, %d exhausted, %d invalid letters; after the mending all of %d conversations have the T of %d days ago; "+
		"one that fails for ever is parked after 3 replays: the topic has %d letters and %d resolutions", rejected, exhausted, invalid, len(want), daysAgo,
		moreLetters, moreResolutions)
}

// TestExamLettersKilled: replays are killed at any moment, many times; then two run at once. Each letter's event is published, no letter is resolved
// before that, and in the end all are.
func TestExamLettersKilled(t *testing.T) {
	t.Parallel()
	letters, kills := 100_000, 20
	if testing.Short() {
		letters, kills = 20_000, 4 // as many for each as in the long form, else they are replayed before they are killed
	}
	k := examStartBroker(t)
	now := time.Now()
	want := map[examConversation]int64{}
	examWriteLetters(t, k, letters, func(i int) examLetter {
		c := examConversation{"u" + strconv.Itoa(i*7%(letters*4/5)), "p"}
		l := examLetter{examEvent: examEvent{c, now.Unix() - 86_400 + int64(i*31%5000)}, class: "rejected", code: "90048"}
		l.failedAt = now.Add(time.Duration(i-letters) * time.Millisecond)
		l.noReadTime = i%2 == 0
		want[c] = max(want[c], l.readTime)
		return l
	})
	random := rand.New(rand.NewPCG(4, 2))
	size := func() (n int64) {
		for _, end := range k.ends(t, k.backfill) {
			n += end
		}
		return n
	}
	killed, inTheMiddle := 0, 0
	for killed < kills {
		before := size()
		p := k.startDeadLetters(t, "replay", "--yes", "--limit", strconv.Itoa(letters/kills)) // so that something is left for the next
		// Half of them are killed as soon as something is published: before it is resolved, or while it is.
		if killed%2 == 0 {
			examWait(t, "something is published", time.Minute, func() bool {
				select {
				case <-p.exited:
					return true
				default:
					return size() > before
				}
			})
		} else {
			<-time.After(time.Duration(50+random.IntN(400)) * time.Millisecond)
		}
		_ = p.cmd.Process.Kill()
		if p.exit(t, 10*time.Second) == -1 {
			inTheMiddle++
		}
		killed++
		k.checkResolved(t, want)
	}
	first, second := k.startDeadLetters(t, "replay", "--yes"), k.startDeadLetters(t, "replay", "--yes")
	examCheck(t, first.exit(t, 2*time.Minute) == 0 && second.exit(t, 2*time.Minute) == 0, "two at once: %s %s", first.stderr.tail(3), second.stderr.tail(3))
	k.checkResolved(t, want)
	open := len(k.listed(t))
	published := examPublished(t, k)
	written, resolutions := k.written(t)
	examFigure(t, "letters-killed", "%d letters of %d conversations, %d kills, %d of them in the middle, then two replays at once: "+
		"%d records published, %d resolutions; two at once took %.1f and %.1f s",
		letters, len(want), killed, inTheMiddle, published.records, resolutions, first.duration.Seconds(), second.duration.Seconds())
	examCheck(t, open == 0 && written == letters, "%d letters are open of %d, %d were written", open, written, letters)
	examCheck(t, inTheMiddle*2 >= kills, "%d of %d kills came in time: the row says little", inTheMiddle, kills)
	wrong := 0
	for c, readTime := range want {
		if published.largest[c] != readTime {
			wrong++
		}
	}
	examCheck(t, wrong == 0, "the largest T of %d conversations was not published", wrong)
	examCheck(t, resolutions >= letters && resolutions <= 2*letters, "%d resolutions of %d letters", resolutions, letters)
}

// examPublication is what was replayed: how many records, and the largest T of each conversation.
type examPublication struct {
	records int
	largest map[examConversation]int64
}

func examPublished(t *testing.T, k *examKafka) examPublication {
	t.Helper()
	out := examPublication{largest: map[examConversation]int64{}}
	for _, r := range k.readAll(t, k.backfill) {
		c, readTime := examReplayed(t, r)
		out.records++
		out.largest[c] = max(out.largest[c], readTime)
	}
	return out
}

// examReplayed reads a replayed record as a worker should: its T is that of the value, else that of the header.
func examReplayed(t *testing.T, r *kgo.Record) (examConversation, int64) {
	t.Helper()
	var e struct {
		Report string `json:"Report_Account"`
		Peer   string `json:"Peer_Account"`
		T      int64  `json:"MsgReadTime"`
	}
	if err := json.Unmarshal(r.Value, &e); err != nil {
		t.Fatalf("%v: %s", err, r.Value)
	}
	at, _ := examHeader(r, "markread.event-time")
	ms, err := strconv.ParseInt(at, 10, 64)
	if replays, _ := examHeader(r, "markread.replays"); err != nil || replays != "1" || slices.ContainsFunc(r.Headers, func(h kgo.RecordHeader) bool {
		return strings.HasPrefix(h.Key, "__dlq.") || h.Key == "markread.class"
	}) {
		t.Fatalf("headers of a replayed record: %v", r.Headers)
	}
	if e.T == 0 {
		e.T = ms / 1000
	}
	return examConversation{e.Report, e.Peer}, e.T
}

// checkResolved requires that what is resolved was published, with a T at least as large.
func (k *examKafka) checkResolved(t *testing.T, want map[examConversation]int64) {
	t.Helper()
	records := k.readAll(t, k.letters) // before what was published: that may only grow
	largest := examPublished(t, k).largest
	byID := map[string]*kgo.Record{}
	for _, r := range records {
		byID[fmt.Sprintf("%d:%d", r.Partition, r.Offset)] = r
	}
	lost := 0
	for _, r := range records {
		id, is := examHeader(r, "markread.resolves")
		if !is {
			continue
		}
		letter := byID[id]
		if letter == nil {
			t.Fatalf("a resolution of %s, which is no letter", id)
		}
		at, _ := examHeader(letter, "markread.event-time") // the exam's letters have their T there, too
		ms, _ := strconv.ParseInt(at, 10, 64)
		report, peer, _ := strings.Cut(string(letter.Key), "|")
		if largest[examConversation{report, peer}] < ms/1000 {
			lost++
		}
	}
	examCheck(t, lost == 0, "%d letters are resolved whose events were not published", lost)
}

// TestExamLettersLive: users don't feel a replay of 100,000 letters. The server answers in 100 ms; what is measured is from reading to the answer.
func TestExamLettersLive(t *testing.T) {
	letters, seconds := 100_000, 30
	if testing.Short() {
		letters, seconds = 20_000, 5
	}
	const (
		perSecond = 20
		latency   = 100 * time.Millisecond
	)
	k := examStartBroker(t)
	im := examStartRecorder(t, "-rate", "200", "-latency", latency.String())
	now := time.Now()
	examWriteLetters(t, k, letters, func(i int) examLetter {
		return examLetter{examEvent: examEvent{examConversation{"u" + strconv.Itoa(i), "p"}, now.Unix() - 86_400}, class: "rejected", code: "90048", failedAt: now}
	})
	w := examStartWorker(t, k, im.url)
	w.ready(t)
	warm := examOneEach(examConversations("warm", 1))
	examProduceEvents(t, k, k.live, warm)
	im.called(t, warm, 30*time.Second) // the permits have cooled since the start
	measure := func(name string) []time.Duration {
		flow := examStartFlow(t, k, k.live, name, perSecond)
		<-time.After(time.Duration(seconds) * time.Second)
		flow.end()
		k.settled(t, 30*time.Second, k.live)
		var delays []time.Duration
		for _, a := range im.arrivals(t) {
			if at, ours := flow.at[examConversation{a.Report, a.Peer}]; ours {
				delays = append(delays, time.Unix(0, a.Wall).Sub(at)+latency)
			}
		}
		slices.Sort(delays)
		examCheck(t, len(delays) == len(flow.events), "%s: %d calls for %d events", name, len(delays), len(flow.events))
		return delays
	}
	alone := measure("alone")
	examProduceEvents(t, k, k.backfill, examOneEach(examConversations("bulk", 200*(seconds+5))))
	examWait(t, "the backfill is worked off", 30*time.Second, func() bool { return im.count(t) > 200*3/2+perSecond*seconds })
	before := measure("busy")
	examCheck(t, k.unsettled(t, k.backfill) > 0, "the backfill ran dry: the row says nothing")
	p := k.startDeadLetters(t, "replay", "--yes")
	examWait(t, "the replay publishes", 30*time.Second, func() bool { return k.unsettled(t, k.backfill) > 0 })
	during := measure("during")
	examCheck(t, p.exit(t, time.Minute) == 0, "the replay failed")
	left := k.unsettled(t, k.backfill)
	w.stop(t, syscall.SIGTERM, examStopLimit)
	at := func(d []time.Duration, percent int) time.Duration {
		return d[len(d)*percent/100].Round(100 * time.Microsecond)
	}
	ratio := float64(at(during, 99)) / float64(at(alone, 99))
	examFigure(t, "letters-live", "replay of %d letters took %.1f s; "+
		"live alone p50 %v, p99 %v; beside a backfill p50 %v, p99 %v; beside the replay p50 %v, p99 %v (%.2f times), most %v; "+
		"%d events of the replay left; %v", letters,
		p.duration.Seconds(), at(alone, 50), at(alone, 99), at(before, 50), at(before, 99), at(during, 50), at(during, 99), ratio,
		during[len(during)-1].Round(time.Millisecond), left, examMeasure(im.arrivals(t)))
	examCheck(t, left > 0, "the replay's events ran out: the row says nothing")
	if !testing.Short() { // too few for a p99
		examCheck(t, ratio <= 1.2, "live p99 is %.2f times what it was", ratio)
	}
	examCheck(t, examMeasure(im.arrivals(t)).mostIn1s <= 200, "more than 200 arrivals in one second")
}

// TestExamLettersFewConversations: what a replay takes grows with the letters, however few conversations they are of: 300,000 of 3,000 conversations, in no
// order of time.
func TestExamLettersFewConversations(t *testing.T) {
	letters, conversations := 300_000, 3_000
	if testing.Short() {
		letters = 60_000
	}
	k := examStartBroker(t)
	now := time.Now()
	examWriteLetters(t, k, letters, func(i int) examLetter {
		l := examLetter{examEvent: examEvent{examConversation{"u" + strconv.Itoa(i%conversations), "p"}, now.Unix() - int64(i*7919%letters)}, class: "rejected", code: "90048"}
		l.failedAt = now.Add(-time.Duration(i*104_729%letters) * time.Millisecond)
		return l
	})
	p := k.startDeadLetters(t, "replay", "--yes")
	most := p.most(2 * time.Minute)
	code := p.exit(t, 2*time.Minute)
	out := strings.TrimSpace(p.stdout.String())
	examFigure(t, "letters-few-conversations", "%s: %.2f s, %d MiB of RSS at most", out, p.duration.Seconds(), most>>20)
	examCheck(t, code == 0 && out == fmt.Sprintf("replayed %s letters of 3,000 conversations to %s", format.Thousands(int64(letters)), k.backfill), "%d: %s", code, out)
	examCheck(t, p.duration < 20*time.Second && most < 200<<20, "it took %v, and %d bytes", p.duration, most)
}
