//go:build exam && unix

package main

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// TestExamMainJob: every form of input goes where the contract says, with broker, sandbox and worker as processes of their own.
func TestExamMainJob(t *testing.T) {
	const events = 3000
	began := time.Now()
	k := examStartBroker(t)
	sandbox := examStartSandbox(t, "--rate", "200")
	conversations := examConversations("job", 494)
	conversations = append(conversations, // ids at the edges of what is allowed
		examConversation{"r", "p"}, examConversation{strings.Repeat("R", 32), strings.Repeat("P", 32)}, examConversation{"@TGS#1", " "},
		examConversation{`quote"back\slash`, `</script>`}, examConversation{"a|b", "c"}, examConversation{"a", "b|c"}) // the last two share their key
	waiting, later := examMainJob(k, 1, began, conversations, events)
	all := slices.Concat(waiting, later)

	produce := func(inputs []examInput) {
		records := make([]*kgo.Record, len(inputs))
		for i := range inputs {
			records[i] = inputs[i].record
		}
		k.produce(t, records...)
	}
	produce(waiting)
	w := examStartWorker(t, k, sandbox.url)
	w.ready(t)
	for part := range slices.Chunk(later[:len(later)/2], 200) {
		produce(part)
	}
	k.settled(t, time.Minute, k.live, k.backfill)
	produce(later[len(later)/2:]) // half of these bring nothing new
	k.settled(t, time.Minute, k.live, k.backfill)
	metrics := examScrape(t, w.admin)
	took := w.stop(t, syscall.SIGTERM, examStopLimit)

	var valid []examEvent
	received := map[string]float64{}
	failed := map[string]float64{}
	for _, in := range all {
		received[in.record.Topic]++
		if in.class == "" {
			valid = append(valid, in.examEvent)
		} else {
			failed[in.record.Topic]++
		}
	}
	examComparePointers(t, examLargest(valid), sandbox.pointers(t))
	letters := examCheckLetters(t, k, began, all)
	examCheckCommits(t, k)

	for lane, topic := range map[string]string{"live": k.live, "backfill": k.backfill} {
		label := fmt.Sprintf("lane=%q", lane)
		got := metrics.sum("markread_events_received_total", label)
		examCheck(t, got == received[topic], "%v events received in the lane %s, want %v", got, lane, received[topic])
		got = metrics.sum("markread_events_total", label, `outcome="dead_lettered"`)
		examCheck(t, got == failed[topic], "%v events dead-lettered in the lane %s, want %v", got, lane, failed[topic])
	}
	balance := metrics.balance(t)
	for _, outcome := range []string{"applied", "collapsed", "superseded"} {
		examCheck(t, metrics.sum("markread_events_total", `outcome="`+outcome+`"`) >= 100, "hardly any event was %s: the row says little", outcome)
	}
	calls, applied := metrics.sum("markread_calls_total", `result="ok"`), metrics.sum("markread_events_total", `outcome="applied"`)
	examCheck(t, calls == applied, "%v calls succeeded, but %v events were applied", calls, applied)
	got := metrics.sum("markread_dead_letters_total", `class="invalid"`)
	examCheck(t, got == 30, "%v invalid letters by the metrics, want 30", got)
	got = metrics.sum("markread_dead_letters_total")
	examCheck(t, got == float64(letters), "%v letters by the metrics, want %d", got, letters)
	stats := sandbox.stats(t)
	examCheck(t, stats.Applied == int(applied), "the sandbox carried out %d calls, the worker counts %v", stats.Applied, applied)
	examCheck(t, stats.Codes["60007"] == 0 && stats.MaxPerSecond <= 200, "quota: codes %v, at most %d a second", stats.Codes, stats.MaxPerSecond)
	examCheck(t, stats.Encodings["string"] == stats.Calls, "MsgReadTime came as %v", stats.Encodings)
	examFigure(t, "main-job", "%d records (%d valid over %d conversations, %d failing), %d letters; %s; %d calls, most in 1.000 s %d; stop took %v", len(all),
		len(valid), len(conversations), len(all)-len(valid), letters, balance, stats.Calls, stats.MaxPerSecond, took.Round(time.Millisecond))
}

// examCheckLetters compares the dead-letter topic with the input, and returns how many letters there are.
func examCheckLetters(t *testing.T, k *examKafka, began time.Time, all []examInput) int {
	t.Helper()
	type origin struct {
		topic             string
		partition, offset string
	}
	inputs := map[origin]examInput{}
	events := map[examConversation][]examInput{} // rejected, in order
	wantInvalid := 0
	for _, in := range all {
		if in.class == "" {
			continue
		}
		inputs[origin{in.record.Topic, strconv.Itoa(int(in.record.Partition)), strconv.FormatInt(in.record.Offset, 10)}] = in
		if in.class == "rejected" {
			events[in.examConversation] = append(events[in.examConversation], in)
		} else {
			wantInvalid++
		}
	}
	letters := k.readAll(t, k.letters)
	collapsed := map[examConversation]int{}
	newest := map[examConversation]bool{}
	for _, letter := range letters {
		ours := examOurHeaders(letter)
		from := origin{ours["__dlq.errors.topic"], ours["__dlq.errors.partition"], ours["__dlq.errors.offset"]}
		in, ok := inputs[from]
		if !ok {
			t.Errorf("a letter from %v, which is no failing record or was a letter already", from)
			continue
		}
		delete(inputs, from)
		stands, _ := strconv.Atoi(ours["markread.collapsed"])
		if in.class == "invalid" {
			wantInvalid--
			examCheck(t, stands == 1, "%s: markread.collapsed %d", in.kind, stands)
		} else {
			collapsed[in.examConversation] += stands
			newest[in.examConversation] = newest[in.examConversation] || in.record == examNewest(events[in.examConversation]).record
		}
		examCheckLetter(t, k, in, letter, ours, began)
	}
	examCheck(t, wantInvalid == 0, "%d invalid records have no letter", wantInvalid)
	for c, group := range events {
		examCheck(t, collapsed[c] == len(group), "the letters of %v stand for %d events, want %d", c, collapsed[c], len(group))
		examCheck(t, newest[c], "no letter of %v has the event with the largest T, of equal ones the later", c)
	}
	return len(letters)
}

// examNewest is the event that a letter for the whole group shows.
func examNewest(group []examInput) examInput {
	out := group[0]
	for _, in := range group[1:] {
		if in.readTime >= out.readTime {
			out = in
		}
	}
	return out
}

// examOurs tells which headers of a letter are ours.
func examOurs(name string) bool {
	return strings.HasPrefix(name, "markread.") || strings.HasPrefix(name, "__dlq.")
}

func examOurHeaders(letter *kgo.Record) map[string]string {
	out := map[string]string{}
	for _, h := range letter.Headers {
		if examOurs(h.Key) {
			out[h.Key] = string(h.Value)
		}
	}
	return out
}

// examCheckLetter compares one letter with its record, header by header.
func examCheckLetter(t *testing.T, k *examKafka, in examInput, letter *kgo.Record, ours map[string]string, began time.Time) {
	t.Helper()
	same := func(a, b []byte) bool { return bytes.Equal(a, b) && (a == nil) == (b == nil) }
	examCheck(t, same(letter.Key, in.record.Key), "%s: key %q (nil: %v), was %q (nil: %v)", in.kind, letter.Key, letter.Key == nil, in.record.Key, in.record.Key == nil)
	examCheck(t, same(letter.Value, in.record.Value), "%s: value %q (nil: %v), was %q (nil: %v)", in.kind, letter.Value, letter.Value == nil, in.record.Value, in.record.Value == nil)
	kept := func(headers []kgo.RecordHeader) (out []string) {
		for _, h := range headers {
			if !examOurs(h.Key) {
				out = append(out, fmt.Sprintf("%q=%q", h.Key, h.Value))
			}
		}
		return out
	}
	examCheck(t, slices.Equal(kept(letter.Headers), kept(in.record.Headers)), "%s: headers %v, were %v", in.kind, kept(letter.Headers), kept(in.record.Headers))

	want := map[string]string{
		"__dlq.errors.topic": in.record.Topic, "__dlq.errors.partition": strconv.Itoa(int(in.record.Partition)),
		"__dlq.errors.offset": strconv.FormatInt(in.record.Offset, 10), "__dlq.errors.group": k.group,
		"markread.class": in.class, "markread.event-time": in.eventTime, "markread.replays": in.replays,
		"__dlq.errors.delivery.count": "0", "markread.code": "", "markread.lane": "live",
	}
	if in.record.Topic == k.backfill {
		want["markread.lane"] = "backfill"
	}
	if in.class == "rejected" {
		want["__dlq.errors.delivery.count"], want["markread.code"] = "1", examUnknownAccountCode(in.report)
	}
	for name, value := range want {
		examCheck(t, ours[name] == value, "%s: header %s is %q, want %q", in.kind, name, ours[name], value)
	}
	names := append([]string{"__dlq.errors.message", "markread.failed-at", "markread.collapsed"}, slices.Collect(maps.Keys(want))...)
	count := 0
	for _, h := range letter.Headers {
		if examOurs(h.Key) {
			count++
			examCheck(t, slices.Contains(names, h.Key), "%s: forged or unknown header %s=%q in the letter", in.kind, h.Key, h.Value)
		}
	}
	examCheck(t, count == len(names) && len(ours) == len(names), "%s: %d headers of ours, %d names, want %d: %v", in.kind, count, len(ours), len(names), ours)
	message := ours["__dlq.errors.message"]
	examCheck(t, message != "" && strings.Contains(message, in.says), "%s: the message %q does not say %q", in.kind, message, in.says)
	at, err := time.Parse(time.RFC3339, ours["markread.failed-at"])
	examCheck(t, err == nil && at.After(began.Add(-time.Second)) && at.Before(time.Now().Add(time.Second)), "%s: failed-at %q", in.kind, ours["markread.failed-at"])
}

// examUnknownAccountCode is what the sandbox documents for an unknown Report_Account and Peer_Account.
func examUnknownAccountCode(report string) string {
	if strings.HasPrefix(report, "nobody") {
		return "90008"
	}
	return "90003"
}
