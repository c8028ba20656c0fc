package engine

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"markread/consumer/event"
	"markread/imclient"
	"markread/worker/hold"
)

var noSuchAccount = &imclient.Error{Class: imclient.Rejected, Label: "90012", ErrorCode: 90012}

// An event's explanation is exact however many dead letters wait, whichever way its conversation
// takes.
func TestExplain(t *testing.T) {
	r := newRig(t)
	ref := r.receiveOne("a", 1)
	want := func(waitsFor string, attempts int) {
		t.Helper()
		x := r.Explain(map[event.Ref]event.Lane{ref: event.Live})[ref]
		if x.Attempts != attempts || x.WaitsFor != waitsFor {
			t.Errorf("%+v, want %s after %d attempts", x, waitsFor, attempts)
		}
	}
	r.invalidEvents(1, event.Live) // another event's dead letter waits
	want("quota", 0)
	c := r.mustCall(start, "a")
	want("call", 0)
	r.CallDone(start, c, internal)
	want("retry", 1)
	r.Pause(start, "", "")
	want("hold", 1)
	r.Resume(start, "", false)
	r.CallDone(at(5), r.mustCall(at(5), "a"), internal)
	r.writeAll(at(5))
	r.CallDone(at(10), r.mustCall(at(10), "a"), internal)
	want("dead-letter", 3)
	batch := r.NextLetters(64)
	want("dead-letter", 3)
	r.refuse(at(10), batch)
	want("dead-letter", 3)
	r.Pause(at(10), "", "")
	want("dead-letter", 3)
}

// Of more events than it may check, Explain says what is most probable.
func TestExplainAmongMany(t *testing.T) {
	r := newRig(t)
	var refs []event.Ref
	for i := range 22_000 {
		refs = append(refs, r.receiveOne(fmt.Sprint(i), 1))
	}
	count := func() map[string]int {
		n, lanes := map[string]int{}, map[event.Ref]event.Lane{}
		for _, ref := range refs {
			lanes[ref] = event.Live
		}
		for _, x := range r.Explain(lanes) {
			n[x.WaitsFor]++
		}
		return n
	}
	c := r.mustCall(start, "0")
	if n := count(); n["call"] != 1 || n["quota"] != 21_999 {
		t.Errorf("%v", n)
	}
	r.CallDone(start, c, nil)
	for i := range refs[1:] {
		c, _ := r.Next(start)
		if i%2 == 0 {
			r.CallDone(start, c, internal)
		} else {
			r.CallDone(start, c, nil)
		}
	}
	var retrying []event.Ref
	for _, ref := range refs {
		if r.tracker.finished[ref] == 0 {
			retrying = append(retrying, ref)
		}
	}
	refs = retrying
	if n := count(); n["retry"] != 11_000 || len(n) != 1 {
		t.Errorf("%v", n)
	}
}

func TestConversation(t *testing.T) {
	r := newRig(t)
	look := func(now float64) Conversation { return r.Conversation(at(now), "a", "peer") }
	if c := look(0); c.Waiting != nil || c.Applied != nil {
		t.Errorf("nothing is known: %+v", c)
	}
	r.Receive(start, []event.Event{r.event("a", 10, event.Backfill)})
	if c := look(0); c.Waiting == nil || *c.Waiting != (Waiting{Lane: event.Backfill, Events: 1,
		ReadTime: 10, Since: c.Waiting.Since}) {
		t.Errorf("waiting: %+v", c.Waiting)
	}
	call := r.mustCall(start, "a")
	r.receiveOne("a", 20)
	if c := look(0); *c.Waiting != (Waiting{Lane: event.Backfill, Events: 2, ReadTime: 20,
		InFlight: true}) {
		t.Errorf("in flight: %+v", c.Waiting)
	}
	r.CallDone(start, call, internal)
	if c := look(0); *c.Waiting != (Waiting{Events: 2, ReadTime: 20, Attempts: 1,
		RetryAt: at(0.1), Failed: Failure{start, "91000", internal.WithoutRemedy()}}) {
		t.Errorf("retrying: %+v", c.Waiting)
	}
	r.CallDone(at(1), r.mustCall(at(1), "a"), nil)
	if c := look(2); c.Waiting != nil || c.Applied == nil || *c.Applied != (AppliedTime{20, at(1)}) {
		t.Errorf("applied: %+v", c)
	}
	r.End(at(2))
	if c := look(2); c.Waiting != nil || c.Applied == nil {
		t.Errorf("between generations: %+v", c)
	}
	if c := r.Conversation(at(2), "b", "peer"); c.Waiting != nil || c.Applied != nil {
		t.Errorf("another one: %+v", c)
	}
}

// The time of the only event of a conversation is known, as its record has it.
func TestConversationSince(t *testing.T) {
	r := newRig(t)
	e := r.event("a", 10, event.Live)
	e.Record.Time = at(-60)
	r.Receive(start, []event.Event{e})
	if c := r.Conversation(start, "a", "peer"); !c.Waiting.Since.Equal(at(-60)) {
		t.Errorf("since %v", c.Waiting.Since)
	}
	later := r.event("a", 11, event.Live)
	later.Record.Time = at(-30)
	r.Receive(start, []event.Event{later})
	if c := r.Conversation(start, "a", "peer"); !c.Waiting.Since.IsZero() {
		t.Errorf("since %v, which is of another event", c.Waiting.Since)
	}
}

// The newest rejected or invalid events are known, also those that a hold keeps from becoming dead
// letters; a repeated one is in the list once.
func TestRejected(t *testing.T) {
	r := newRig(t)
	list := func() (s string) {
		for _, e := range r.Rejected() {
			s += fmt.Sprintf("%s/%d:%d %s %q %s %s, ", e.Topic, e.Partition, e.Offset, e.Code,
				e.Message, e.Report, e.Peer)
		}
		return s
	}
	r.invalidEvents(600, event.Backfill) // offsets 0 to 599
	if n := r.writeAll(start); n != 500 || !r.holds.Held(hold.Rejections, int(event.Backfill)) {
		t.Fatalf("%d dead letters", n)
	}
	if e := r.Rejected(); len(e) != 10 || e[0].Offset != 599 || e[9].Offset != 590 ||
		e[0].Lane != event.Backfill || e[0].At != start || e[0].Message != "no JSON" {
		t.Errorf("%s", list())
	}
	long := r.event(strings.Repeat("x", 1000), 1, event.Live) // offset 600
	long.Invalid = errors.New("too long")
	r.Receive(start, []event.Event{long})
	if e := r.Rejected()[0]; len(e.Report) != 64 || e.Peer != "peer" {
		t.Errorf("accounts %q %q", e.Report, e.Peer)
	}
	late := r.event("a", 1, event.Live) // offset 601
	r.Receive(at(1), []event.Event{late})
	r.CallDone(at(2), r.mustCall(at(1), "a"), noSuchAccount)
	e := r.Rejected()
	if e[0].Offset != 601 || e[0].Code != "90012" || e[0].Report != "a" || e[0].Peer != "peer" ||
		!strings.Contains(e[0].Message, "90012") || e[0].At != at(2) || len(e) != 10 {
		t.Errorf("%s", list())
	}
	probed := r.event("b", 1, event.Backfill) // offset 602, of the lane that is held
	r.Receive(at(10), []event.Event{probed})
	for i := range 3 {
		now := at(10 + 6*float64(i))
		c := r.mustCall(now, "b")
		if !c.Probe {
			t.Fatal("no probe")
		}
		r.CallDone(now, c, noSuchAccount)
	}
	if e := r.Rejected(); e[0].Offset != 602 || e[1].Offset != 601 || e[2].Offset != 600 ||
		e[0].At != at(22) {
		t.Errorf("%s", list())
	}
	r.End(at(30))
	if len(r.Rejected()) != 10 {
		t.Error("a rebalance has removed them")
	}
}
