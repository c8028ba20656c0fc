package engine

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"markread/consumer/event"
	"markread/imclient"
	"markread/worker/hold"
	"markread/worker/quota"
)

func (r *rig) invalidEvents(n int, lane event.Lane) {
	var events []event.Event
	for range n {
		e := r.event("", 0, lane)
		e.Invalid = errors.New("no JSON")
		events = append(events, e)
	}
	r.Receive(start, events)
}

// writeAll writes dead letters until none waits, and returns how many it wrote.
func (r *rig) writeAll(now time.Time) (n int) {
	for {
		batch := r.NextLetters(64)
		if len(batch) == 0 {
			return n
		}
		n += len(batch)
		r.LettersWritten(now, batch, make([]error, len(batch)))
	}
}

// All calls are rejected: 500 dead letters, then the lane is held, and the conversations in flight
// wait again.
func TestRejectedCallsWaitWhileTheirLaneIsHeld(t *testing.T) {
	r := newRig(t)
	for i := range 600 {
		r.receiveOne(fmt.Sprint("a", i), 10)
	}
	var last []*Call
	for range 499 {
		todo, _ := r.Next(start)
		r.CallDone(start, todo, unknown)
	}
	for range 3 {
		todo, _ := r.Next(start)
		last = append(last, todo)
	}
	for _, c := range last {
		r.CallDone(start, c, unknown)
	}
	if n := r.writeAll(start); n != 500 {
		t.Fatalf("%d dead letters, want 500", n)
	}
	r.Receive(start, []event.Event{r.event("fill", 10, event.Backfill)})
	r.CallDone(start, r.mustCall(start, "fill"), nil) // the other lane continues
	if todo, again := r.Next(start); todo != nil || !again.Equal(at(5)) {
		t.Fatalf("call %v, again at %v", todo, again)
	}
	probe := r.mustCall(at(5), "a502")
	r.CallDone(at(5), probe, unknown)
	if r.letters.len() != 0 || probe.conversation.Attempts() != 0 {
		t.Fatal("a rejected probe became a dead letter, or counts")
	}
	r.CallDone(at(10), r.mustCall(at(10), "a503"), nil)
	if r.holds.LaneHeld(0) {
		t.Fatal("a success doesn't end it")
	}
	for now := at(10); r.backlog.Len() > 0; now = now.Add(100 * time.Millisecond) {
		if now.After(at(13)) {
			t.Fatal("what waited is not called within 2 s")
		}
		for {
			todo, _ := r.Next(now)
			if todo == nil {
				break
			}
			r.CallDone(now, todo, nil)
		}
	}
}

func TestInvalidRecordsWaitWhileTheirLaneIsHeld(t *testing.T) {
	r := newRig(t)
	r.options.MaxPending = 2000
	r.invalidEvents(1200, event.Live)
	if n := r.writeAll(start); n != 500 {
		t.Fatalf("%d dead letters, want 500", n)
	}
	if r.letters.len() != 700 || !r.Idle() {
		t.Fatalf("%d dead letters wait; a shutdown must not wait for them", r.letters.len())
	}
	r.receiveOne("good", 1)
	r.CallDone(at(5), r.mustCall(at(5), "good"), nil)
	// The evidence restarts, with the parked records: one good event among all the bad ones doesn't
	// release them all.
	if n := r.writeAll(start); n != 500 || !r.holds.LaneHeld(0) {
		t.Fatalf("%d dead letters after it is over, want 500", n)
	}
	r.receiveOne("good2", 1)
	r.CallDone(at(10), r.mustCall(at(10), "good2"), nil)
	if n := r.writeAll(start); n != 200 || r.holds.LaneHeld(0) {
		t.Fatalf("%d dead letters after it is over again, want 200", n)
	}
}

// Until the server has accepted the signature, few calls are in flight: it may be about to refuse
// them all.
func TestFewCallsBeforeTheSignatureIsAccepted(t *testing.T) {
	r := newRig(t)
	r.signatureAccepted = false
	for i := range 100 {
		r.receiveOne(fmt.Sprint(i), 1)
	}
	var inFlight []*Call
	for range 4 {
		c, _ := r.Next(start)
		inFlight = append(inFlight, c)
	}
	if c, again := r.Next(start); c != nil || !again.Equal(at(0.25)) {
		t.Fatalf("call %v, again at %v", c, again)
	}
	hanging, _ := r.Next(at(0.25)) // now and then one more, in case these hang
	if hanging == nil {
		t.Fatal("no call after 250 ms")
	}
	r.CallDone(at(0.3), inFlight[0], timeout) // says nothing about the signature,
	more, _ := r.Next(at(0.5))
	r.CallDone(at(0.5), more, tooMany) // nor does this,
	if r.signatureAccepted {
		t.Fatal("60007 counted as an accepted signature")
	}
	r.CallDone(at(0.5), inFlight[1], unknown) // but this does
	for range 50 {
		if c, _ := r.Next(at(0.5)); c == nil {
			t.Fatal("held back though the signature was accepted")
		}
	}
	r.CallDone(at(0.6), inFlight[2], expired)
	if c, _ := r.Next(at(0.6)); c != nil {
		t.Fatal("a call though the signature was refused and many are in flight")
	}
}

// Accepted rejections are counted, including events that wait already.
func TestAcceptedRejections(t *testing.T) {
	r := newRig(t)
	r.invalidEvents(25_000, event.Backfill)
	if n := r.writeAll(start); n != 500 {
		t.Fatalf("%d dead letters", n)
	}
	r.Resume(start, "", false)
	if n := r.writeAll(start); n != 0 {
		t.Fatalf("%d dead letters, but nothing was accepted", n)
	}
	for range 2 {
		r.Resume(start, "", true)
		if n := r.writeAll(start); n != 10_000 {
			t.Fatalf("%d dead letters, want the 10,000 that were accepted", n)
		}
		if !r.holds.Held(hold.Rejections, int(event.Backfill)) ||
			r.holds.LaneHeld(int(event.Live)) {
			t.Fatalf("held: %v", r.holds.Active())
		}
	}
}

// Dead letters that the topic refuses for 5 s hold the calls, and one that it accepts releases
// them.
func TestRefusingDeadLetterTopicHoldsCalls(t *testing.T) {
	r := newRig(t)
	r.invalidEvents(10, event.Live)
	for i := range 6 {
		if r.holds.LaneHeld(0) {
			t.Fatalf("held after %d s", i)
		}
		r.refuse(at(float64(i)), r.NextLetters(64))
	}
	r.receiveOne("a", 1)
	if todo, _ := r.Next(at(5)); todo != nil || !r.holds.Held(hold.DeadLetter, hold.All) {
		t.Fatal("a call though no dead letter can be written")
	}
	if next := r.holds.Active()[0].NextProbe; !next.Equal(at(6)) {
		t.Fatalf("the next try is shown at %v", next)
	}
	if !r.Idle() {
		t.Fatal("a shutdown waits for dead letters that the topic refuses")
	}
	batch := r.NextLetters(64)
	// a shutdown says nothing about the topic
	r.LettersWritten(at(6), batch, []error{ErrInterrupted})
	if !r.holds.LaneHeld(0) {
		t.Fatal("an interrupted write ended the hold")
	}
	if r.writeAll(at(6)) != 10 || r.holds.LaneHeld(0) {
		t.Fatalf("held: %v", r.holds.Active())
	}
	r.mustCall(at(6), "a")
}

// The dead letters of a generation are dropped with it: afterwards nothing could detect that the
// topic accepts records again.
func TestDeadLetterHoldEndsWithTheGeneration(t *testing.T) {
	r := newRig(t)
	r.invalidEvents(1, event.Live)
	for i := range 7 {
		r.refuse(at(float64(i)), r.NextLetters(64))
	}
	r.End(at(7))
	r.Begin(at(8), r.tracker, 12, 12)
	r.receiveOne("a", 1)
	r.mustCall(at(8), "a")
}

func TestPauseAndResume(t *testing.T) {
	r := newRig(t)
	r.receiveOne("a", 1)
	r.Pause(start, "", "")
	r.Pause(at(1), "", "")
	if todo, again := r.Next(at(1000)); todo != nil || !again.IsZero() {
		t.Fatalf("call %v, again %v", todo, again)
	}
	r.Resume(at(1000), "", false)
	r.CallDone(at(1000), r.mustCall(at(1000), "a"), nil)
}

// Retry-After: no call is made, the hold ends by itself, and nothing counts.
func TestRetryAfter(t *testing.T) {
	r := newRig(t)
	r.receiveOne("a", 1)
	r.receiveOne("b", 1)
	a, b := r.mustCall(start, "a"), r.mustCall(start, "b")
	r.receiveOne("c", 1)
	r.CallDone(start, a, &imclient.Error{Class: imclient.Throttled, Label: "http_429", Status: 429,
		RetryAfter: 7 * time.Second})
	r.CallDone(at(1), b, internal)
	if todo, again := r.Next(at(6.9)); todo != nil || !again.Equal(at(7)) {
		t.Fatalf("call %v, again at %v", todo, again)
	}
	if a.conversation.Attempts() != 0 || b.conversation.Attempts() != 0 {
		t.Fatal("counted in a hold")
	}
	r.mustCall(at(7), "c")
	if r.holds.LaneHeld(0) {
		t.Fatal("still held")
	}
}

func TestThrottlingShrinksTheLimit(t *testing.T) {
	r := newRig(t)
	r.quota = quota.New()
	r.quota.Reset(200, at(-10))
	r.receiveOne("a", 1)
	c := r.mustCall(start, "a")
	r.CallDone(start, c, tooMany)
	if n := r.quota.Limit(start); n != 170 {
		t.Fatalf("the limit is %d", n)
	}
	if c.conversation.Attempts() != 0 || r.holds.LaneHeld(0) {
		t.Fatal("counted, or held")
	}
}

// A hold of one lane doesn't hold the other: there attempts count, or a poison message would be
// called forever.
func TestAttemptsCountInTheLaneThatIsNotHeld(t *testing.T) {
	r := newRig(t)
	r.invalidEvents(600, event.Live)
	r.Receive(start, []event.Event{r.event("poison", 1, event.Backfill)})
	for i := range 3 {
		now := at(float64(i) * 2)
		r.CallDone(now, r.mustCall(now, "poison"), internal)
	}
	if r.letters.waiting[len(r.letters.waiting)-1].Class != "exhausted" {
		t.Fatal("no dead letter after 3 attempts")
	}
}

// A held lane whose memory is full neither stops the other lane nor uses all memory; and it shows
// what only an operator can do then.
func TestFullHeldLane(t *testing.T) {
	r := newRig(t) // of 1,000
	r.invalidEvents(1100, event.Backfill)
	r.writeAll(start)
	if r.HasCapacity(event.Backfill) || !r.HasCapacity(event.Live) {
		t.Fatalf("capacity: live %v, backfill %v", r.HasCapacity(event.Live),
			r.HasCapacity(event.Backfill))
	}
	if do := r.holds.Active()[0].Do; !strings.Contains(do, "memory is full") {
		t.Fatalf("what to do: %s", do)
	}
	for i := range 499 {
		r.receiveOne(fmt.Sprint(i), 1)
	}
	if !r.HasCapacity(event.Live) {
		t.Fatal("live has no capacity below its half")
	}
	if r.receiveOne("last", 1); r.HasCapacity(event.Live) {
		t.Fatal("live has more than its half")
	}
	r.Resume(start, "", true)
	if r.writeAll(start) != 600 || r.holds.LaneHeld(1) || !r.HasCapacity(event.Live) {
		t.Fatalf("held: %v", r.holds.Active())
	}
}

// Invalid records may have any size.
func TestLettersAreBoundedByTheirSizeToo(t *testing.T) {
	r := newRig(t)
	for _, lane := range []event.Lane{event.Backfill, event.Live} {
		for range 30 {
			e := r.event("", 0, lane)
			e.Invalid, e.Record.Value = errors.New("no JSON"), make([]byte, 1<<20)
			r.Receive(start, []event.Event{e})
		}
		if !r.HasCapacity(lane) {
			t.Fatalf("%v: no capacity", lane)
		}
		e := r.event("", 0, lane)
		e.Invalid, e.Record.Value = errors.New("no JSON"), make([]byte, 2<<20)
		if r.Receive(start, []event.Event{e}); r.HasCapacity(lane) {
			t.Fatalf("%v: capacity despite dead letters of %d bytes", lane,
				r.letters.reserved[lane].bytes)
		}
	}
	if r.writeAll(start); !r.HasCapacity(event.Live) || !r.HasCapacity(event.Backfill) ||
		r.letters.reserved != [2]reserved{} {
		t.Fatalf("after all are written: %+v", r.letters.reserved)
	}
}

// One invalid record in ten is no reason for a hold, not even among the records that waited during
// one.
func TestRecoveredLaneIsNotHeldAgain(t *testing.T) {
	r := newRig(t)
	r.options.MaxPending = 20_000
	for i := range 600 {
		r.receiveOne(fmt.Sprint("early", i), 1)
	}
	for range 500 {
		todo, _ := r.Next(start)
		r.CallDone(start, todo, unknown)
	}
	for i := range 8000 {
		if r.receiveOne(fmt.Sprint("late", i), 1); i%10 == 0 {
			r.invalidEvents(1, event.Live)
		}
	}
	probe, _ := r.Next(at(5))
	if r.CallDone(at(5), probe, nil); r.holds.LaneHeld(0) {
		t.Fatalf("held again immediately: %v", r.holds.Active())
	}
}

// An interrupted probe showed nothing: the next one is not put off for a whole interval.
func TestInterruptedProbeIsRepeatedImmediately(t *testing.T) {
	r := newRig(t)
	r.receiveOne("a", 1)
	r.CallDone(start, r.mustCall(start, "a"), refused)
	r.CallInterrupted(at(16), r.mustCall(at(15), "a"))
	r.CallDone(at(16), r.mustCall(at(16), "a"), refused)
	if todo, again := r.Next(at(30)); todo != nil || !again.Equal(at(31)) {
		t.Fatalf("call %v, again at %v", todo, again)
	}
}

// A worker that has nothing to probe with does not show forever a hold that only a probe would end.
func TestProbedHoldsAreDroppedWithoutPartitions(t *testing.T) {
	r := newRig(t)
	r.receiveOne("a", 1)
	r.CallDone(start, r.mustCall(start, "a"), refused)
	r.Pause(start, "", "")
	r.End(start)
	if r.Begin(start, r.tracker, 0, 12); r.holds.Held(hold.Credentials, hold.All) ||
		!r.holds.Held(hold.Paused, hold.All) {
		t.Fatalf("held: %v", r.holds.Active())
	}
}
