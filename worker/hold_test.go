package worker

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
	r.receive(start, events)
}

// writeAll writes letters until none waits, and returns how many there were.
func (r *rig) writeAll(now time.Time) (n int) {
	for {
		batch := r.nextLetters(64)
		if len(batch) == 0 {
			return n
		}
		n += len(batch)
		r.wrote(now, batch, make([]error, len(batch)))
	}
}

// Everything is rejected: 500 letters, then the lane waits, and what was on its way goes back to waiting.
func TestRejectedCallsWaitWhileTheirLaneIsHeld(t *testing.T) {
	r := newRig(t)
	for i := range 600 {
		r.receiveOne(fmt.Sprint("a", i), 10)
	}
	var last []*call
	for range 499 {
		todo, _ := r.next(start)
		r.answer(start, todo, unknown)
	}
	for range 3 {
		todo, _ := r.next(start)
		last = append(last, todo)
	}
	for _, c := range last {
		r.answer(start, c, unknown)
	}
	if n := r.writeAll(start); n != 500 {
		t.Fatalf("%d letters, want 500", n)
	}
	r.receive(start, []event.Event{r.event("fill", 10, event.Backfill)})
	r.answer(start, r.mustCall(start, "fill"), nil) // the other lane goes on
	if todo, again := r.next(start); todo != nil || !again.Equal(at(5)) {
		t.Fatalf("call %v, again at %v", todo, again)
	}
	probe := r.mustCall(at(5), "a502")
	r.answer(at(5), probe, unknown)
	if r.letters.len() != 0 || probe.conversation.Attempts != 0 {
		t.Fatal("a rejected probe became a letter, or counts")
	}
	r.answer(at(10), r.mustCall(at(10), "a503"), nil)
	if r.holds.On(0) {
		t.Fatal("a success doesn't end it")
	}
	for now := at(10); r.backlog.Len() > 0; now = now.Add(100 * time.Millisecond) {
		if now.After(at(13)) {
			t.Fatal("what waited is not called within 2 s")
		}
		for {
			todo, _ := r.next(now)
			if todo == nil {
				break
			}
			r.answer(now, todo, nil)
		}
	}
}

func TestInvalidRecordsWaitWhileTheirLaneIsHeld(t *testing.T) {
	r := newRig(t)
	r.options.MaxPending = 2000
	r.invalidEvents(1200, event.Live)
	if n := r.writeAll(start); n != 500 {
		t.Fatalf("%d letters, want 500", n)
	}
	if r.letters.len() != 700 || !r.idle() {
		t.Fatalf("%d letters wait; a stop must not wait for them", r.letters.len())
	}
	r.receiveOne("good", 1)
	r.answer(at(5), r.mustCall(at(5), "good"), nil)
	// The count begins anew, with what waited: one good event among all the bad ones doesn't let them all go.
	if n := r.writeAll(start); n != 500 || !r.holds.On(0) {
		t.Fatalf("%d letters after it is over, want 500", n)
	}
	r.receiveOne("good2", 1)
	r.answer(at(10), r.mustCall(at(10), "good2"), nil)
	if n := r.writeAll(start); n != 200 || r.holds.On(0) {
		t.Fatalf("%d letters after it is over again, want 200", n)
	}
}

// As long as the server has not taken the signature, few calls are out: it may be about to refuse them all.
func TestFewCallsBeforeTheSignatureIsTaken(t *testing.T) {
	r := newRig(t)
	r.accepted = false
	for i := range 100 {
		r.receiveOne(fmt.Sprint(i), 1)
	}
	var out []*call
	for range 4 {
		c, _ := r.next(start)
		out = append(out, c)
	}
	if c, again := r.next(start); c != nil || !again.Equal(at(0.25)) {
		t.Fatalf("call %v, again at %v", c, again)
	}
	hanging, _ := r.next(at(0.25)) // now and then one more, in case that these hang
	if hanging == nil {
		t.Fatal("no call after 250 ms")
	}
	r.answer(at(0.3), out[0], timeout) // that says nothing,
	more, _ := r.next(at(0.5))
	r.answer(at(0.5), more, tooMany) // nor does that
	if r.accepted {
		t.Fatal("60007 was taken for a signature that is good")
	}
	r.answer(at(0.5), out[1], unknown) // that does
	for range 50 {
		if c, _ := r.next(at(0.5)); c == nil {
			t.Fatal("held back though the signature was taken")
		}
	}
	r.answer(at(0.6), out[2], expired)
	if c, _ := r.next(at(0.6)); c != nil {
		t.Fatal("a call though the signature was refused and many are out")
	}
}

// What an operator accepts is counted, also of what waits already.
func TestAcceptedRejections(t *testing.T) {
	r := newRig(t)
	r.invalidEvents(25_000, event.Backfill)
	if n := r.writeAll(start); n != 500 {
		t.Fatalf("%d letters", n)
	}
	r.resume(start, false)
	if n := r.writeAll(start); n != 0 {
		t.Fatalf("%d letters, but nothing was accepted", n)
	}
	for range 2 {
		r.resume(start, true)
		if n := r.writeAll(start); n != 10_000 {
			t.Fatalf("%d letters, want the 10,000 that were accepted", n)
		}
		if !r.holds.Held(hold.Rejections, int(event.Backfill)) || r.holds.On(int(event.Live)) {
			t.Fatalf("held: %v", r.holds.Active())
		}
	}
}

// Letters that the topic refuses for 5 s hold the calls, and one that it takes lets them go on.
func TestARefusingDeadLetterTopicHoldsTheCalls(t *testing.T) {
	r := newRig(t)
	r.invalidEvents(10, event.Live)
	for i := range 6 {
		if r.holds.On(0) {
			t.Fatalf("held after %d s", i)
		}
		r.refuse(at(float64(i)), r.nextLetters(64))
	}
	r.receiveOne("a", 1)
	if todo, _ := r.next(at(5)); todo != nil || !r.holds.Held(hold.DeadLetter, hold.All) {
		t.Fatal("a call though no letter can be written")
	}
	if next := r.holds.Active()[0].NextProbe; !next.Equal(at(6)) {
		t.Fatalf("the next try is shown at %v", next)
	}
	if !r.idle() {
		t.Fatal("a stop waits for letters that the topic refuses")
	}
	batch := r.nextLetters(64)
	r.wrote(at(6), batch, []error{errCutOff}) // a stop says nothing about the topic
	if !r.holds.On(0) {
		t.Fatal("a write that was cut off ended the hold")
	}
	if r.writeAll(at(6)) != 10 || r.holds.On(0) {
		t.Fatalf("held: %v", r.holds.Active())
	}
	r.mustCall(at(6), "a")
}

// The letters of a generation go with it: nothing would ever find out that the topic is well again.
func TestARefusingDeadLetterTopicIsForgottenWithTheGeneration(t *testing.T) {
	r := newRig(t)
	r.invalidEvents(1, event.Live)
	for i := range 7 {
		r.refuse(at(float64(i)), r.nextLetters(64))
	}
	r.end(at(7))
	r.begin(at(8), r.tracker, 12, 12)
	r.receiveOne("a", 1)
	r.mustCall(at(8), "a")
}

func TestPauseAndResume(t *testing.T) {
	r := newRig(t)
	r.receiveOne("a", 1)
	r.pause(start)
	r.pause(at(1))
	if todo, again := r.next(at(1000)); todo != nil || !again.IsZero() {
		t.Fatalf("call %v, again %v", todo, again)
	}
	r.resume(at(1000), false)
	r.answer(at(1000), r.mustCall(at(1000), "a"), nil)
}

// Retry-After: nobody calls, and it is over by itself; nothing counts.
func TestRetryAfter(t *testing.T) {
	r := newRig(t)
	r.receiveOne("a", 1)
	r.receiveOne("b", 1)
	a, b := r.mustCall(start, "a"), r.mustCall(start, "b")
	r.receiveOne("c", 1)
	r.answer(start, a, &imclient.Error{Class: imclient.Throttled, Label: "http_429", Status: 429, RetryAfter: 7 * time.Second})
	r.answer(at(1), b, internal)
	if todo, again := r.next(at(6.9)); todo != nil || !again.Equal(at(7)) {
		t.Fatalf("call %v, again at %v", todo, again)
	}
	if a.conversation.Attempts != 0 || b.conversation.Attempts != 0 {
		t.Fatal("counted in a hold")
	}
	r.mustCall(at(7), "c")
	if r.holds.On(0) {
		t.Fatal("still held")
	}
}

func TestThrottlingShrinksTheLimit(t *testing.T) {
	r := newRig(t)
	r.quota = quota.New()
	r.quota.Reset(200, at(-10))
	r.receiveOne("a", 1)
	c := r.mustCall(start, "a")
	r.answer(start, c, tooMany)
	if n := r.quota.Limit(start); n != 170 {
		t.Fatalf("the limit is %d", n)
	}
	if c.conversation.Attempts != 0 || r.holds.On(0) {
		t.Fatal("counted, or held")
	}
}

// A hold of one lane is none of the other's: there attempts count, or a poison would be called for ever.
func TestAttemptsCountInTheLaneThatIsNotHeld(t *testing.T) {
	r := newRig(t)
	r.invalidEvents(600, event.Live)
	r.receive(start, []event.Event{r.event("poison", 1, event.Backfill)})
	for i := range 3 {
		now := at(float64(i) * 2)
		r.answer(now, r.mustCall(now, "poison"), internal)
	}
	if r.letters.waiting[len(r.letters.waiting)-1].Class != "exhausted" {
		t.Fatal("no letter after 3 attempts")
	}
}

// A lane that is held, and full of what waits, neither stops the other one nor takes all memory; and it says
// what only an operator can do then.
func TestAHeldLaneThatIsFull(t *testing.T) {
	r := newRig(t) // of 1,000
	r.invalidEvents(1100, event.Backfill)
	r.writeAll(start)
	if r.room(event.Backfill) || !r.room(event.Live) {
		t.Fatalf("room: live %v, backfill %v", r.room(event.Live), r.room(event.Backfill))
	}
	if do := r.holds.Active()[0].Do; !strings.Contains(do, "memory is full") {
		t.Fatalf("what to do: %s", do)
	}
	for i := range 499 {
		r.receiveOne(fmt.Sprint(i), 1)
	}
	if !r.room(event.Live) {
		t.Fatal("live has no room below its half")
	}
	if r.receiveOne("last", 1); r.room(event.Live) {
		t.Fatal("live has more than its half")
	}
	r.resume(start, true)
	if r.writeAll(start) != 600 || r.holds.On(1) || !r.room(event.Live) {
		t.Fatalf("held: %v", r.holds.Active())
	}
}

// Records that are no events may be of any size.
func TestLettersAreBoundedByTheirSizeToo(t *testing.T) {
	r := newRig(t)
	for _, lane := range []event.Lane{event.Backfill, event.Live} {
		for range 30 {
			e := r.event("", 0, lane)
			e.Invalid, e.Record.Value = errors.New("no JSON"), make([]byte, 1<<20)
			r.receive(start, []event.Event{e})
		}
		if !r.room(lane) {
			t.Fatalf("%v: no room", lane)
		}
		e := r.event("", 0, lane)
		e.Invalid, e.Record.Value = errors.New("no JSON"), make([]byte, 2<<20)
		if r.receive(start, []event.Event{e}); r.room(lane) {
			t.Fatalf("%v: room beside letters of %d bytes", lane, r.letters.held[lane].bytes)
		}
	}
	if r.writeAll(start); !r.room(event.Live) || !r.room(event.Backfill) || r.letters.held != [2]held{} {
		t.Fatalf("after all are written: %+v", r.letters.held)
	}
}

// One invalid record in ten is no reason for a hold, also not among what waited in one.
func TestAMendedLaneIsNotHeldAgain(t *testing.T) {
	r := newRig(t)
	r.options.MaxPending = 20_000
	for i := range 600 {
		r.receiveOne(fmt.Sprint("early", i), 1)
	}
	for range 500 {
		todo, _ := r.next(start)
		r.answer(start, todo, unknown)
	}
	for i := range 8000 {
		if r.receiveOne(fmt.Sprint("late", i), 1); i%10 == 0 {
			r.invalidEvents(1, event.Live)
		}
	}
	probe, _ := r.next(at(5))
	if r.answer(at(5), probe, nil); r.holds.On(0) {
		t.Fatalf("held again at once: %v", r.holds.Active())
	}
}

// A hold that only a probe would end is not shown for ever by a worker that has nothing to probe with.
func TestWithoutPartitionsNothingIsProbed(t *testing.T) {
	r := newRig(t)
	r.receiveOne("a", 1)
	r.answer(start, r.mustCall(start, "a"), refused)
	r.pause(start)
	r.end(start)
	if r.begin(start, r.tracker, 0, 12); r.holds.Held(hold.Credentials, hold.All) || !r.holds.Held(hold.Paused, hold.All) {
		t.Fatalf("held: %v", r.holds.Active())
	}
}
