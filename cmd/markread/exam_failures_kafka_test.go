//go:build exam && unix

package main

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// TestExamDeadLetterTopic: the dead-letter topic refuses every write for 10 s. Nothing is lost and nothing is committed past what could
// not be written; after 5 s calls are held, so that not even more has to wait for it.
func TestExamDeadLetterTopic(t *testing.T) {
	t.Parallel()
	const refused = 10 * time.Second
	k := examStartEmbedded(t, "the broker refuses what is written to a topic")
	sandbox := examStartSandbox(t)
	// Every tenth is rejected by the server, and every tenth is no event at all.
	var records []*kgo.Record
	var events []examEvent
	for i, e := range examOneEach(examConversations("x", 4000)) {
		switch i % 10 {
		case 3:
			e.report = fmt.Sprintf("nobody-%d", i)
		case 7:
			records = append(records, &kgo.Record{Topic: k.live, Key: e.key(), Value: fmt.Appendf(nil, "not an event, number %d", i)})
			continue
		default:
			events = append(events, e)
		}
		records = append(records, examRecordOf(k.live, e))
	}
	bad := func(r *kgo.Record) bool {
		return strings.HasPrefix(string(r.Value), "not an event") || strings.HasPrefix(string(r.Key), "nobody")
	}
	k.produce(t, records...)
	w := examStartWorker(t, k, sandbox.url)
	examWait(t, "calls", 30*time.Second, func() bool { return sandbox.stats(t).Applied >= 200 })

	k.refuse(t, k.letters, "NOT_ENOUGH_REPLICAS")
	began := time.Now()
	before := len(k.readAll(t, k.letters))
	held := w.held(t, "dead-letter", 8*time.Second)
	quiet := time.Now().Add(300 * time.Millisecond) // calls that were out have arrived by then
	for time.Since(began) < refused-time.Second {
		k.nothingPastLetters(t, records, bad)
		<-time.After(time.Second)
	}
	<-time.After(time.Until(began.Add(refused)))
	w.shows(t, "dead-letter")
	tries := k.tries(t, k.letters)
	during := len(k.readAll(t, k.letters))
	k.accept(t, k.letters)
	ended := time.Now()
	released := w.released(t, "dead-letter", 10*time.Second)
	k.settled(t, time.Minute, k.live)
	metrics := examScrape(t, w.admin)
	w.stop(t, syscall.SIGTERM, examStopLimit)

	// The first batch goes out side by side, and what fails of it is tried again one letter at a time.
	firstTry := slices.IndexFunc(tries, func(at time.Time) bool { return at.After(began) })
	later, most := 0, 0
	for _, at := range tries[firstTry:] {
		if at.After(tries[firstTry].Add(500 * time.Millisecond)) {
			later++
		}
	}
	for i := range tries[firstTry:] {
		in := 0
		for _, at := range tries[firstTry+i:] {
			if at.Sub(tries[firstTry+i]) < time.Second {
				in++
			}
		}
		most = max(most, in)
	}
	complaints := 0
	for _, line := range w.stderr.lines() {
		if strings.Contains(line, "refuses the letter") {
			complaints++
		}
	}
	served := sandbox.served(t)
	letters := k.readAll(t, k.letters)
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
	examFigure(t, "dead-letter-topic", "refusing for 10 s: held %v after the first refused write, %d calls before and %d in the hold; %d write tries (%d in the first half second, at most %d in 1 s), gone on %v after its end; %d letters for 800 failing records; %d lines about refused letters, %s; %s",
		held.Since.Sub(tries[firstTry]).Round(time.Millisecond), len(served.between(began, held.Since)), len(served.between(quiet, ended)),
		len(tries)-firstTry, len(tries)-firstTry-later, most, released.Sub(ended).Round(time.Millisecond), len(letters), complaints, w.loggedOnce(t, "dead-letter", 1), metrics.balance(t))
	examCheck(t, complaints >= 1 && complaints <= 3, "%d lines about refused letters: repeats are not thinned", complaints)
	examCheck(t, during == before, "%d letters were written while the topic refused", during-before)
	examCheck(t, len(served.between(quiet, ended)) == 0, "%d calls in the hold", len(served.between(quiet, ended)))
	examCheck(t, later <= int(refused/time.Second)+1, "%d write tries after the first batch, at most one a second allowed", later)
	examCheck(t, len(letters) == 800 && len(wrong) == 0 && unexpected == 0, "%d letters for 800 failing records, %d without one, %d unexpected", len(letters), len(wrong), unexpected)
	examCheck(t, examMostServed(served) <= 200, "more than 200 arrivals in one second")
	examComparePointers(t, examLargest(events), sandbox.pointers(t))
}

// nothingPastLetters requires that no offset is committed past a failing record that has no letter.
func (k *examKafka) nothingPastLetters(t *testing.T, records []*kgo.Record, bad func(*kgo.Record) bool) {
	t.Helper()
	committed := k.committed(t) // before the letters are read: those that come between would only help
	written := map[string]bool{}
	for _, letter := range k.readAll(t, k.letters) {
		written[string(letter.Key)] = true
	}
	for _, r := range records {
		if at := committed[examPartition{r.Topic, r.Partition}]; bad(r) && !written[string(r.Key)] && r.Offset < at {
			t.Errorf("%s %d is committed to %d, past the failing record at %d that has no letter", r.Topic, r.Partition, at, r.Offset)
		}
	}
}

// TestExamDeadLetterTopicGone: the dead-letter topic is deleted, and made again after a while. What can't be written waits, is not committed
// past, and is written at last.
func TestExamDeadLetterTopicGone(t *testing.T) {
	t.Parallel()
	const gone = 12 * time.Second
	k := examStartBroker(t)
	sandbox := examStartSandbox(t)
	events := examOneEach(examConversations("gone", 1500))
	bad := examNoEvents(k.live, "bad", 45) // far from a hold for rejections
	produce := func(from, to int) {
		t.Helper()
		for i := from; i < to; i += 100 {
			examProduceEvents(t, k, k.live, events[i:i+100])
			k.produce(t, bad[i*3/100:i*3/100+3]...)
		}
	}
	produce(0, 500)
	w := examStartWorker(t, k, sandbox.url)
	k.settled(t, 30*time.Second, k.live)
	before := k.readAll(t, k.letters)

	k.deleteTopics(t, examContext(t), k.letters)
	began := time.Now()
	produce(500, 1500)
	held := w.held(t, "dead-letter", gone)
	<-time.After(time.Until(began.Add(gone)))
	w.shows(t, "dead-letter")
	committed := k.committed(t)
	past := 0
	for _, r := range bad[15:] {
		if committed[examPartition{r.Topic, r.Partition}] > r.Offset {
			past++
		}
	}
	k.createTopics(t, k.letters)
	ended := time.Now()
	released := w.released(t, "dead-letter", 20*time.Second)
	k.settled(t, time.Minute, k.live)
	metrics := examScrape(t, w.admin)
	w.stop(t, syscall.SIGTERM, examStopLimit)
	after := examLettered(k.readAll(t, k.letters))
	missing := 0
	for _, r := range bad[15:] {
		if after[string(r.Key)] == 0 {
			missing++
		}
	}
	examFigure(t, "dead-letter-topic-gone", "deleted: held after %v, %d of 30 failing records committed past; gone on %v after it was made again; %d letters before, %d after; %s; %s",
		held.Since.Sub(began).Round(time.Millisecond), past, released.Sub(ended).Round(time.Millisecond), len(before), len(after), w.loggedOnce(t, "dead-letter", 1), metrics.balance(t))
	examCheck(t, len(before) == 15, "%d letters before, want 15", len(before))
	examCheck(t, past == 0, "%d failing records without a letter are committed", past)
	examCheck(t, missing == 0 && len(after) == 30, "%d letters, %d missing, want 30", len(after), missing)
	examComparePointers(t, examLargest(events), sandbox.pointers(t))
}

// TestExamBrokerKilled: the broker is killed in full flow and is back after 5 s, with what it had on disk.
func TestExamBrokerKilled(t *testing.T) {
	t.Parallel()
	const away = 5 * time.Second
	dir := t.TempDir()
	k := examStartEmbedded(t, "it kills the broker, and starts it again", "-data-dir", dir)
	sandbox := examStartSandbox(t)
	backlog := examOneEach(examConversations("disk", 3000))
	examProduceEvents(t, k, k.live, backlog)
	w := examStartWorker(t, k, sandbox.url)
	flow := examStartFlow(t, k, k.live, "flow", 20)
	examWait(t, "calls", 30*time.Second, func() bool { return sandbox.stats(t).Applied >= 600 })

	k.signal(t, syscall.SIGKILL)
	k.exit(t, 5*time.Second)
	killed := time.Now()
	<-time.After(away)
	again := examStart(t, "broker again", "broker", nil, "-data-dir", dir, "-addr", k.addr)
	again.line(t, `listening on (\S+)`, 20*time.Second)
	back := time.Now()
	ends := k.ends(t, k.live) // of what must be settled at least, with nothing new
	committed := k.committed(t)
	var first time.Duration
	examWait(t, "a commit after the broker's return", time.Minute, func() bool {
		for p, offset := range k.committed(t) {
			if offset > committed[p] {
				first = time.Since(back)
			}
		}
		return first > 0
	})
	events := append(flow.end(), backlog...)
	k.settled(t, time.Minute, k.live)
	settled := time.Since(back)
	w.stop(t, syscall.SIGTERM, examStopLimit)

	records := int64(0)
	for _, end := range ends {
		records += end
	}
	served := sandbox.served(t)
	calls := map[examConversation]int{}
	repeated := 0
	for _, a := range served {
		c := examConversation{a.Report, a.Peer}
		if calls[c]++; calls[c] > 1 {
			repeated++
		}
	}
	examFigure(t, "broker-killed", "away for %v: %d calls meanwhile, first commit %v after it was ready, first call %v, all %d settled after %v; %d calls repeated",
		back.Sub(killed).Round(time.Millisecond), len(served.between(killed, back)), first.Round(time.Millisecond), served.after(t, back).Round(time.Millisecond),
		len(events), settled.Round(time.Millisecond), repeated)
	examCheck(t, records >= 3000, "the broker came back with %d records", records)
	examCheck(t, first <= 30*time.Second, "went on after %v, at most 30 s allowed", first)
	examCheck(t, examMostServed(served) <= 200, "more than 200 arrivals in one second")
	k.noLetters(t, "a broker that was away")
	examComparePointers(t, examLargest(events), sandbox.pointers(t))
}
