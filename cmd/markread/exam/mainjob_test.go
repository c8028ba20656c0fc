//go:build exam && unix

package exam

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

	"markread/cmd/markread/exam/kit"
)

// TestExamMainJob: every form of input gets the result that the contract requires, with broker,
// sandbox and worker as separate processes.
func TestExamMainJob(t *testing.T) {
	const events = 3000
	began := time.Now()
	k := kit.StartBroker(t)
	sandbox := kit.StartSandbox(t, "--rate", "200")
	conversations := kit.Conversations("job", 494)
	conversations = append(conversations, // ids at the limits
		kit.Conversation{Report: "r", Peer: "p"}, kit.Conversation{Report: strings.Repeat("R", 32),
			Peer: strings.Repeat("P", 32)}, kit.Conversation{Report: "@TGS#1", Peer: " "},
		// the last two share their key
		kit.Conversation{Report: `quote"back\slash`, Peer: `</script>`},
		kit.Conversation{Report: "a|b", Peer: "c"}, kit.Conversation{Report: "a", Peer: "b|c"})
	waiting, later := mainJob(k, 1, began, conversations, events)
	all := slices.Concat(waiting, later)

	produce := func(inputs []input) {
		records := make([]*kgo.Record, len(inputs))
		for i := range inputs {
			records[i] = inputs[i].record
		}
		k.Produce(t, records...)
	}
	produce(waiting)
	w := kit.StartWorker(t, k, sandbox.URL)
	w.WaitReady(t)
	for part := range slices.Chunk(later[:len(later)/2], 200) {
		produce(part)
	}
	k.WaitCommitted(t, time.Minute, k.Live, k.Backfill)
	produce(later[len(later)/2:]) // half of these change nothing
	k.WaitCommitted(t, time.Minute, k.Live, k.Backfill)
	metrics := kit.Scrape(t, w.Admin)
	took := w.Stop(t, syscall.SIGTERM, kit.StopLimit)

	var valid []kit.Event
	received := map[string]float64{}
	failed := map[string]float64{}
	for _, in := range all {
		received[in.record.Topic]++
		if in.class == "" {
			valid = append(valid, in.Event)
		} else {
			failed[in.record.Topic]++
		}
	}
	kit.CompareReadTimes(t, kit.Largest(valid), sandbox.ReadTimes(t))
	letters := checkDeadLetters(t, k, began, all)
	kit.CheckCommits(t, k)

	for lane, topic := range map[string]string{"live": k.Live, "backfill": k.Backfill} {
		label := fmt.Sprintf("lane=%q", lane)
		got := metrics.Sum("markread_events_received_total", label)
		kit.Check(t, got == received[topic], "%v events received in the lane %s, want %v", got,
			lane, received[topic])
		got = metrics.Sum("markread_events_total", label, `outcome="dead_lettered"`)
		kit.Check(t, got == failed[topic], "%v events dead-lettered in the lane %s, want %v", got,
			lane, failed[topic])
	}
	balance := metrics.Balance(t)
	for _, outcome := range []string{"applied", "collapsed", "superseded"} {
		kit.Check(t, metrics.Sum("markread_events_total", `outcome="`+outcome+`"`) >= 100,
			"hardly any event was %s: the test proves little", outcome)
	}
	calls, applied := metrics.Sum("markread_calls_total", `result="ok"`),
		metrics.Sum("markread_events_total", `outcome="applied"`)
	kit.Check(t, calls == applied, "%v calls succeeded, but %v events were applied", calls, applied)
	got := metrics.Sum("markread_dead_letters_total", `class="invalid"`)
	kit.Check(t, got == 30, "%v invalid dead letters in the metrics, want 30", got)
	got = metrics.Sum("markread_dead_letters_total")
	kit.Check(t, got == float64(letters), "%v dead letters in the metrics, want %d", got, letters)
	stats := sandbox.Stats(t)
	kit.Check(t, stats.Applied == int(applied),
		"the sandbox applied %d calls, the worker counts %v", stats.Applied, applied)
	kit.Check(t, stats.Codes["60007"] == 0 && stats.MaxPerSecond <= 200,
		"quota: codes %v, at most %d a second", stats.Codes, stats.MaxPerSecond)
	kit.Check(t, stats.Encodings["string"] == stats.Calls, "MsgReadTime came as %v",
		stats.Encodings)
	kit.Figure(t, "main-job", "%d records (%d valid over %d conversations, %d failing), %d dead "+
		"letters; %s; %d calls, most in 1.000 s %d; shutdown took %v", len(all), len(valid),
		len(conversations), len(all)-len(valid), letters, balance, stats.Calls, stats.MaxPerSecond,
		took.Round(time.Millisecond))
}

// checkDeadLetters compares the dead-letter topic with the input, and returns the number of dead
// letters.
func checkDeadLetters(t *testing.T, k *kit.Kafka, began time.Time, all []input) int {
	t.Helper()
	type origin struct {
		topic             string
		partition, offset string
	}
	inputs := map[origin]input{}
	events := map[kit.Conversation][]input{} // rejected, in order
	wantInvalid := 0
	for _, in := range all {
		if in.class == "" {
			continue
		}
		inputs[origin{in.record.Topic, strconv.Itoa(int(in.record.Partition)),
			strconv.FormatInt(in.record.Offset, 10)}] = in
		if in.class == "rejected" {
			events[in.Conversation] = append(events[in.Conversation], in)
		} else {
			wantInvalid++
		}
	}
	letters := k.ReadAll(t, k.DeadLetters)
	collapsed := map[kit.Conversation]int{}
	newest := map[kit.Conversation]bool{}
	for _, letter := range letters {
		ours := markreadHeaders(letter)
		from := origin{ours["__dlq.errors.topic"], ours["__dlq.errors.partition"],
			ours["__dlq.errors.offset"]}
		in, ok := inputs[from]
		if !ok {
			t.Errorf("a dead letter from %v, which is not a failing record or has one already",
				from)
			continue
		}
		delete(inputs, from)
		stands, _ := strconv.Atoi(ours["markread.collapsed"])
		if in.class == "invalid" {
			wantInvalid--
			kit.Check(t, stands == 1, "%s: markread.collapsed %d", in.kind, stands)
		} else {
			collapsed[in.Conversation] += stands
			newest[in.Conversation] = newest[in.Conversation] ||
				in.record == representative(events[in.Conversation]).
					record
		}
		checkDeadLetter(t, k, in, letter, ours, began)
	}
	kit.Check(t, wantInvalid == 0, "%d invalid records have no dead letter", wantInvalid)
	for c, group := range events {
		kit.Check(t, collapsed[c] == len(group),
			"the dead letters of %v stand for %d events, want %d", c, collapsed[c], len(group))
		kit.Check(t, newest[c], "no dead letter of %v has the event with the largest T, of equal "+
			"ones the later", c)
	}
	return len(letters)
}

// representative returns the event that a dead letter for the whole group shows: the largest T, of
// equal ones the later.
func representative(group []input) input {
	out := group[0]
	for _, in := range group[1:] {
		if in.ReadTime >= out.ReadTime {
			out = in
		}
	}
	return out
}

// isMarkreadHeader reports whether the worker writes a header of this name.
func isMarkreadHeader(name string) bool {
	return strings.HasPrefix(name, "markread.") || strings.HasPrefix(name, "__dlq.")
}

func markreadHeaders(letter *kgo.Record) map[string]string {
	out := map[string]string{}
	for _, h := range letter.Headers {
		if isMarkreadHeader(h.Key) {
			out[h.Key] = string(h.Value)
		}
	}
	return out
}

// checkDeadLetter compares one dead letter with its record, header by header.
func checkDeadLetter(t *testing.T, k *kit.Kafka, in input, letter *kgo.Record,
	ours map[string]string, began time.Time) {
	t.Helper()
	same := func(a, b []byte) bool { return bytes.Equal(a, b) && (a == nil) == (b == nil) }
	kit.Check(t, same(letter.Key, in.record.Key), "%s: key %q (nil: %v), was %q (nil: %v)", in.kind,
		letter.Key, letter.Key == nil, in.record.Key, in.record.Key == nil)
	kit.Check(t, same(letter.Value, in.record.Value), "%s: value %q (nil: %v), was %q (nil: %v)",
		in.kind, letter.Value, letter.Value == nil, in.record.Value, in.record.Value == nil)
	kept := func(headers []kgo.RecordHeader) (out []string) {
		for _, h := range headers {
			if !isMarkreadHeader(h.Key) {
				out = append(out, fmt.Sprintf("%q=%q", h.Key, h.Value))
			}
		}
		return out
	}
	kit.Check(t, slices.Equal(kept(letter.Headers), kept(in.record.Headers)),
		"%s: headers %v, were %v", in.kind, kept(letter.Headers), kept(in.record.Headers))

	want := map[string]string{
		"__dlq.errors.topic":     in.record.Topic,
		"__dlq.errors.partition": strconv.Itoa(int(in.record.Partition)),
		"__dlq.errors.offset":    strconv.FormatInt(in.record.Offset, 10),
		"__dlq.errors.group":     k.Group,
		"markread.class":         in.class, "markread.event-time": in.eventTime,
		"markread.replays":            in.replays,
		"__dlq.errors.delivery.count": "0", "markread.code": "", "markread.lane": "live",
	}
	if in.record.Topic == k.Backfill {
		want["markread.lane"] = "backfill"
	}
	if in.class == "rejected" {
		want["__dlq.errors.delivery.count"], want["markread.code"] = "1",
			unknownAccountCode(in.Report)
	}
	for name, value := range want {
		kit.Check(t, ours[name] == value, "%s: header %s is %q, want %q", in.kind, name, ours[name],
			value)
	}
	names := append([]string{"__dlq.errors.message", "markread.failed-at", "markread.collapsed"},
		slices.Collect(maps.Keys(want))...)
	count := 0
	for _, h := range letter.Headers {
		if isMarkreadHeader(h.Key) {
			count++
			kit.Check(t, slices.Contains(names, h.Key),
				"%s: forged or unknown header %s=%q in the dead letter", in.kind, h.Key, h.Value)
		}
	}
	kit.Check(t, count == len(names) && len(ours) == len(names),
		"%s: %d headers of ours, %d names, want %d: %v", in.kind, count, len(ours), len(names),
		ours)
	message := ours["__dlq.errors.message"]
	kit.Check(t, message != "" && strings.Contains(message, in.mentions),
		"%s: the message %q does not contain %q", in.kind, message, in.mentions)
	at, err := time.Parse(time.RFC3339, ours["markread.failed-at"])
	kit.Check(t, err == nil && at.After(began.Add(-time.Second)) && at.Before(time.Now().
		Add(time.Second)), "%s: failed-at %q", in.kind, ours["markread.failed-at"])
}

// unknownAccountCode returns the sandbox's documented code for an unknown Report_Account or
// Peer_Account.
func unknownAccountCode(report string) string {
	if strings.HasPrefix(report, "nobody") {
		return "90008"
	}
	return "90003"
}
