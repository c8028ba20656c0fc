package engine

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"markread/consumer/event"
)

// damaged returns an event of count indistinguishable records.
func (r *rig) damaged(lane event.Lane, count int) event.Event {
	e := r.event("", 0, lane)
	e.Record.Damage = &event.Damage{Last: e.Record.Offset + int64(count) - 1, Count: count,
		Size: 90, Err: errors.New("bad length")}
	e = withRef(event.Decode(e.Record, start), e)
	r.tracker.events[e.Ref] = e
	return e
}

func withRef(e, of event.Event) event.Event {
	e.Ref, e.Lane = of.Ref, of.Lane
	return e
}

// sums checks that the counts include every event, and returns those of a lane.
func (r *rig) sums(lane event.Lane) Counts {
	r.t.Helper()
	n := r.counts[lane]
	sum := n.Returned + n.Unsettled()
	for _, ended := range n.Finished {
		sum += ended
	}
	if sum != n.Received {
		r.t.Fatalf("%+v: the sum is %d", n, sum)
	}
	return n
}

// Indistinguishable records have one dead letter and count one by one; but one forged count must
// not stop fetching.
func TestDamagedRecordsCountOneByOneAndTakeMemoryOnce(t *testing.T) {
	const forged = 1 << 31
	r := newRig(t)
	r.Receive(start, []event.Event{r.damaged(event.Backfill, forged), r.damaged(event.Live, 3)})
	if n := r.sums(event.Backfill); n.Received != forged || n.Unsettled() != forged {
		t.Fatalf("received %d, unsettled %d", n.Received, n.Unsettled())
	}
	for _, lane := range []event.Lane{event.Live, event.Backfill} {
		if l := r.memoryUse(lane); l[unsettled] != 1 || l[conversations] != 1 ||
			!r.HasCapacity(lane) {
			t.Fatalf("%v: %+v, capacity %v", lane, l, r.HasCapacity(lane))
		}
	}
	batch := r.NextLetters(10)
	l := batch[0]
	if len(batch) != 2 || l.Class != "invalid" || l.Code != "" || l.Attempts != 0 ||
		l.Collapsed != forged || !strings.Contains(l.Message, "2147483648 records") {
		t.Fatalf("%d dead letters, %+v", len(batch), l.DeadLetter)
	}
	r.refuse(start, batch)
	if n := r.sums(event.Backfill); n.Unsettled() != forged ||
		r.memoryUse(event.Backfill)[unsettled] != 1 {
		t.Fatalf("after a refusal %+v, %+v", n, r.memoryUse(event.Backfill))
	}
	r.LettersWritten(start, r.NextLetters(1), make([]error, 1))
	if n := r.sums(event.Backfill); n.Finished[DeadLettered] != forged ||
		r.memoryUse(event.Backfill) != (memoryUse{}) || r.tracker.finished[l.Event.Ref] != 1 {
		t.Fatalf("written: %+v, %+v, finished %d times", n, r.memoryUse(event.Backfill),
			r.tracker.finished[l.Event.Ref])
	}
	r.End(start)
	if n := r.sums(event.Live); n.Returned != 3 || n.Unsettled() != 0 {
		t.Fatalf("revoked: %+v", n)
	}
	r.Begin(start, r.tracker, 12, 12)
	if r.memoryUse(event.Live) != (memoryUse{}) {
		t.Fatalf("a new generation begins with %+v", r.memoryUse(event.Live))
	}
}

// A dead letter of damaged records is one piece of evidence, and waits like others while its lane
// is held for rejections.
func TestDamagedRecordsAreEvidenceOnce(t *testing.T) {
	r := newRig(t)
	for range 499 {
		r.Receive(start, []event.Event{r.damaged(event.Live, 1000)})
	}
	if r.holds.LaneHeld(int(event.Live)) {
		t.Fatalf("held: %v", r.holds.Active())
	}
	for range 10 {
		r.Receive(start, []event.Event{r.damaged(event.Live, 1000)})
	}
	if !r.holds.LaneHeld(int(event.Live)) || len(r.letters.parked[0]) == 0 ||
		r.memoryUse(event.Live)[unsettled] != 509 {
		t.Fatalf("%d parked, %+v", len(r.letters.parked[0]), r.memoryUse(event.Live))
	}
	r.Resume(start, "", true)
	r.writeAll(start)
	if n := r.sums(event.Live); n.Finished[DeadLettered] != 509_000 ||
		r.letters.reserved != [2]reserved{} {
		t.Fatalf("%+v, %+v", n, r.letters.reserved)
	}
}

// After Receive has returned, the fetcher reuses a record's bytes; the dead letter keeps its own
// copy, null, empty or not.
func TestLettersKeepTheirOwnBytes(t *testing.T) {
	records := []event.Record{
		{},
		{Key: []byte{}, Value: []byte{}, Headers: []event.Header{{}, {Key: "", Value: []byte{}}}},
		{Key: []byte("key"), Value: []byte("\x01\x02no event\x05"),
			Headers: []event.Header{{Key: "name", Value: []byte("value")}, {Key: "null"},
				{Key: "\xff", Value: []byte{0xff}}}},
	}
	r := newRig(t)
	for i, record := range records {
		given := record.Clone()
		e := r.event("", 0, event.Live)
		e.Invalid, e.Record = errors.New("no event"), given
		r.Receive(start, []event.Event{e})
		for _, b := range [][]byte{given.Key, given.Value} {
			clear(b)
		}
		for _, h := range given.Headers {
			clear(h.Value)
		}
		for range 2 { // a refusal changes nothing
			batch := r.NextLetters(1)
			if got, want := fmt.Sprintf("%#v", batch[0].Event.Record),
				fmt.Sprintf("%#v", record); got != want {
				t.Errorf("record %d: %s, want %s", i, got, want)
			}
			r.refuse(start, batch)
			if kept := batch[0].Event.Record; kept.Key != nil || kept.Value != nil ||
				kept.Headers != nil {
				t.Errorf("record %d: kept twice", i)
			}
		}
		r.LettersWritten(start, r.NextLetters(1), make([]error, 1))
	}
}

// Headers use memory, too: they are counted, and only so many dead letters are unpacked at a time.
func TestLettersOfManyHeadersAreBounded(t *testing.T) {
	r := newRig(t)
	many := make([]event.Header, 100_000) // 200,000 bytes of a record
	for range 100 {
		e := r.event("", 0, event.Live)
		e.Invalid, e.Record.Headers = errors.New("no event"), many
		r.Receive(start, []event.Event{e})
	}
	if l := r.memoryUse(event.Live); l[recordBytes] < 100*200_000 || l[recordBytes] > 100*210_000 {
		t.Errorf("%+v", l)
	}
	if n := len(r.NextLetters(64)); n != 5 {
		t.Errorf("%d dead letters are written concurrently", n)
	}
	long := []event.Header{{Key: strings.Repeat("n", 1<<20), Value: make([]byte, 1<<20)}}
	for range 32 {
		e := r.event("", 0, event.Live)
		e.Invalid, e.Record.Headers = errors.New("no event"), long
		r.Receive(start, []event.Event{e})
	}
	if r.HasCapacity(event.Live) {
		t.Errorf("capacity despite %d bytes of headers", r.memoryUse(event.Live)[recordBytes])
	}
}
