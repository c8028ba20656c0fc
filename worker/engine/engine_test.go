package engine

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"markread/consumer/event"
	"markread/imclient"
	"markread/worker/hold"
	"markread/worker/quota"
)

var start = time.Unix(1_700_000_000, 0)

func at(seconds float64) time.Time {
	return start.Add(time.Duration(seconds * float64(time.Second)))
}

// fakeTracker counts how often each event was finished.
type fakeTracker struct {
	events   map[event.Ref]event.Event
	finished map[event.Ref]int
	attempts map[event.Ref]int
}

func (f *fakeTracker) Finish(ref event.Ref) (event.Lane, time.Time) {
	f.finished[ref]++
	return f.events[ref].Lane, f.events[ref].EventTime
}

func (f *fakeTracker) Attempted(ref event.Ref, attempts int) { f.attempts[ref] = attempts }

// noObserver ignores everything.
type noObserver struct{}

func (noObserver) EventFinished(event.Lane, time.Duration, *Call)   {}
func (noObserver) CallEnded(*imclient.Error, time.Duration)         {}
func (noObserver) CallRetried(*Call, *imclient.Error, int32, int32) {}
func (noObserver) LetterWritten(*Letter)                            {}
func (noObserver) Limit(time.Time, int, int)                        {}
func (noObserver) HoldsChanged(time.Time, hold.Change, []hold.Hold) {}

func (q *letterQueue) len() int { return q.reserved[0].letters + q.reserved[1].letters }

// rig is an engine with a generation of fake events.
type rig struct {
	t *testing.T
	*Engine
	tracker *fakeTracker
}

func newRig(t *testing.T) *rig {
	c := New(Options{
		Attempts: 3, MaxInFlight: 100, MaxPending: 1000, MaxRejected: 95,
		Backoff:  imclient.NewBackoff(100*time.Millisecond, time.Second),
		Jitter:   func(string, int) float64 { return 1 },
		Topics:   event.Topics{Live: "mark-read", Backfill: "mark-read-backfill"},
		Observer: noObserver{},
	})
	c.signatureAccepted = true
	tracker := &fakeTracker{map[event.Ref]event.Event{}, map[event.Ref]int{}, map[event.Ref]int{}}
	c.Begin(start, tracker, 12, 12)
	return &rig{t, c, tracker}
}

func (r *rig) event(report string, readTime int64, lane event.Lane) event.Event {
	e := event.Event{
		Ref: event.Ref(len(r.tracker.events) + 1), Lane: lane,
		Report: []byte(report), Peer: []byte("peer"),
		ReadTime:  readTime,
		Record:    event.Record{Topic: "mark-read", Offset: int64(len(r.tracker.events))},
		EventTime: start,
	}
	r.tracker.events[e.Ref] = e
	return e
}

func (r *rig) receiveOne(report string, readTime int64) event.Ref {
	e := r.event(report, readTime, event.Live)
	r.Receive(start, []event.Event{e})
	return e.Ref
}

func (r *rig) mustCall(now time.Time, report string) *Call {
	r.t.Helper()
	todo, again := r.Next(now)
	if todo == nil {
		r.t.Fatalf("no call, again at %v; want one for %s", again, report)
	}
	if todo.Read.Report != report {
		r.t.Fatalf("call for %s, want %s", todo.Read.Report, report)
	}
	return todo
}

// refuse reports that the dead-letter topic did not accept a batch.
func (r *rig) refuse(now time.Time, batch []*Letter) {
	r.t.Helper()
	failures := make([]error, len(batch))
	for i := range failures {
		failures[i] = errors.New("not enough replicas")
	}
	if !r.LettersWritten(now, batch, failures) {
		r.t.Fatal("a refusal is not reported")
	}
}

func (r *rig) finishedAs() [outcomes]uint64 {
	var sum [outcomes]uint64
	for _, lane := range r.counts {
		for o, n := range lane.Finished {
			sum[o] += n
		}
	}
	return sum
}

var (
	timeout  = &imclient.Error{Class: imclient.Transient, Label: "timeout"}
	internal = &imclient.Error{Class: imclient.Transient, Label: "91000", ErrorCode: 91000}
	noKey    = &imclient.Error{Class: imclient.Held, Label: imclient.LabelKey}
	unknown  = &imclient.Error{Class: imclient.Rejected, Label: "90012", ErrorCode: 90012,
		Message: "no such account"}
	tooMany = &imclient.Error{Class: imclient.Throttled, Label: "60007", ErrorCode: 60007}
	refused = &imclient.Error{Class: imclient.Held, Label: "70009", ErrorCode: 70009}
	expired = &imclient.Error{Class: imclient.Held, Label: "70001", ErrorCode: 70001,
		RetryWithNewSignature: true}
)

func TestOutcomes(t *testing.T) {
	r := newRig(t)
	r.receiveOne("a", 10)
	r.receiveOne("a", 20)
	c := r.mustCall(start, "a")
	r.receiveOne("a", 15) // covered by the call in flight
	r.receiveOne("a", 30) // not covered
	r.CallDone(start, c, nil)
	r.receiveOne("a", 5) // covered by an earlier success
	if got, want := r.finishedAs(),
		[outcomes]uint64{Applied: 1, Collapsed: 1, Superseded: 2}; got != want {
		t.Fatalf("outcomes %v, want %v", got, want)
	}
	r.CallDone(start, r.mustCall(start, "a"), nil)
	if got, want := r.finishedAs(),
		[outcomes]uint64{Applied: 2, Collapsed: 1, Superseded: 2}; got != want {
		t.Fatalf("outcomes %v, want %v", got, want)
	}
	for ref := range r.tracker.events {
		if r.tracker.finished[ref] != 1 {
			t.Errorf("event %d finished %d times", ref, r.tracker.finished[ref])
		}
	}
	if r.counts[event.Live].Unsettled() != 0 || !r.Idle() {
		t.Error("something is left")
	}
}

func TestLetterIsWrittenBeforeItsEventsFinish(t *testing.T) {
	r := newRig(t)
	r.receiveOne("a", 10)
	best := r.receiveOne("a", 20)
	r.CallDone(start, r.mustCall(start, "a"), unknown)
	if r.tracker.finished[best] != 0 || r.Idle() {
		t.Fatal("finished without a dead letter")
	}
	batch := r.NextLetters(10)
	if len(batch) != 1 || r.Idle() {
		t.Fatalf("%d dead letters", len(batch))
	}
	r.refuse(start, batch)
	batch = r.NextLetters(10)
	l := batch[0]
	if l.Class != "rejected" || l.Code != "90012" || l.Attempts != 1 || l.Collapsed != 2 ||
		l.Event.Record.Offset != r.tracker.events[best].Record.Offset || l.Event.ReadTime != 20 {
		t.Fatalf("dead letter %+v", l.DeadLetter)
	}
	r.LettersWritten(start, batch, make([]error, 1))
	if r.finishedAs()[DeadLettered] != 2 || !r.Idle() {
		t.Fatalf("outcomes %v", r.finishedAs())
	}
}

func TestRefusedLettersKeepTheirOrder(t *testing.T) {
	r := newRig(t)
	var events []event.Event
	for range 4 {
		e := r.event("", 0, event.Live)
		e.Invalid = errors.New("bad")
		events = append(events, e)
	}
	r.Receive(start, events)
	r.refuse(start, r.NextLetters(2))
	if batch := r.NextLetters(10); len(batch) != 1 || batch[0].Event.Ref != events[0].Ref {
		t.Fatalf("%d dead letters are written while the topic refuses, want the first", len(batch))
	} else {
		r.LettersWritten(start, batch, make([]error, 1))
	}
	for i, l := range r.NextLetters(10) {
		if l.Event.Ref != events[i+1].Ref {
			t.Fatalf("dead letter %d is of event %d, want %d", i, l.Event.Ref, events[i+1].Ref)
		}
	}
}

func TestInvalidEventsNeedNoCall(t *testing.T) {
	r := newRig(t)
	e := r.event("", 0, event.Backfill)
	e.Invalid = errors.New("Report_Account is missing")
	r.Receive(start, []event.Event{e})
	if todo, _ := r.Next(start); todo != nil {
		t.Fatal("a call")
	}
	batch := r.NextLetters(1)
	l := batch[0]
	if l.Class != "invalid" || l.Code != "" || l.Attempts != 0 || l.Collapsed != 1 ||
		l.Message != "Report_Account is missing" {
		t.Fatalf("dead letter %+v", l.DeadLetter)
	}
	r.LettersWritten(start, batch, make([]error, 1))
	if r.counts[event.Backfill].Finished[DeadLettered] != 1 {
		t.Fatal("not counted in its lane")
	}
}

func TestHasCapacity(t *testing.T) {
	r := newRig(t)
	r.options.MaxPending = 10
	fill := func(n int) {
		for i := range n {
			r.receiveOne(fmt.Sprint(len(r.tracker.events), i), 1)
		}
	}
	fill(4)
	if !r.HasCapacity(event.Live) || !r.HasCapacity(event.Backfill) {
		t.Fatal("no capacity below half")
	}
	fill(1)
	if !r.HasCapacity(event.Live) || r.HasCapacity(event.Backfill) {
		t.Fatal("backfill must stop at half, live must continue")
	}
	for range 5 { // dead letters use memory, too
		e := r.event("", 0, event.Live)
		e.Invalid = errors.New("bad")
		r.Receive(start, []event.Event{e})
	}
	if r.HasCapacity(event.Live) {
		t.Fatal("capacity beyond the bound")
	}
	todo, _ := r.Next(start)
	r.CallDone(start, todo, nil)
	if !r.HasCapacity(event.Live) {
		t.Fatal("no capacity after an event finished")
	}
}

func TestHasCapacityForEvents(t *testing.T) {
	r := newRig(t)
	r.options.MaxEvents = 4
	r.receiveOne("a", 1)
	r.receiveOne("a", 1)
	if !r.HasCapacity(event.Live) || r.HasCapacity(event.Backfill) {
		t.Fatal("backfill must stop at half of the events")
	}
	r.receiveOne("a", 1)
	r.receiveOne("a", 1)
	if r.HasCapacity(event.Live) {
		t.Fatal("capacity beyond the bound of events, though there is one conversation only")
	}
	r.CallDone(start, r.mustCall(start, "a"), unknown)
	if r.HasCapacity(event.Live) {
		t.Fatal("the events that a dead letter stands for are in memory, too")
	}
	r.written(start, r.NextLetters(1)[0])
	if !r.HasCapacity(event.Live) {
		t.Fatal("no capacity after the dead letter was written")
	}
}

func TestRevokeReturnsUnfinishedEvents(t *testing.T) {
	r := newRig(t)
	r.receiveOne("a", 1)
	r.receiveOne("a", 2)
	r.receiveOne("b", 2)
	r.CallDone(start, r.mustCall(start, "a"), nil)
	r.End(start)
	n := r.counts[event.Live]
	if n.Received != 3 || n.Returned != 1 || n.Unsettled() != 0 {
		t.Fatalf("%+v", n)
	}
	if r.HasCapacity(event.Live) {
		t.Fatal("capacity without a generation")
	}
}

// Whatever the server does: each event finishes exactly once, the T that was applied covers it, and
// no conversation has two calls in flight.
func TestEveryEventFinishesOnce(t *testing.T) {
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 3))
		r := newRig(t)
		r.quota = quota.New()
		r.quota.Reset(50, start)
		stopped := &imclient.Error{}
		results := []*imclient.Error{nil, nil, nil, nil, timeout, internal, unknown, tooMany,
			expired, refused, stopped}
		appliedTo := map[string]int64{}
		var inFlight []*Call
		now := start
		n := 50 + random.IntN(200)
		for done := false; !done; {
			now = now.Add(time.Duration(random.IntN(20)) * time.Millisecond)
			if n > 0 {
				n--
				lane := event.Lane(random.IntN(2))
				e := r.event(fmt.Sprint(random.IntN(20)), 1+random.Int64N(30), lane)
				if random.IntN(20) == 0 {
					e.Invalid = errors.New("bad")
					r.tracker.events[e.Ref] = e
				}
				r.Receive(now, []event.Event{e})
			}
			todo, again := r.Next(now)
			switch {
			case todo != nil:
				for _, c := range inFlight {
					if c.Read.Report == todo.Read.Report {
						t.Fatalf("seed %d: two calls of %s are in flight", seed, c.Read.Report)
					}
				}
				inFlight = append(inFlight, todo)
			case len(inFlight) == 0 && n == 0 && !again.IsZero():
				now = again
			}
			if len(inFlight) > 0 && random.IntN(3) > 0 {
				i := random.IntN(len(inFlight))
				c := inFlight[i]
				inFlight = slices.Delete(inFlight, i, i+1)
				switch failure := results[random.IntN(len(results))]; failure {
				case stopped:
					r.CallInterrupted(now, c)
				case nil:
					appliedTo[c.Read.Report] = max(appliedTo[c.Read.Report], c.Read.Time)
					fallthrough
				default:
					r.CallDone(now, c, failure)
				}
			}
			letters := r.NextLetters(random.IntN(3))
			failures := make([]error, len(letters))
			for i, l := range letters {
				if random.IntN(4) == 0 {
					failures[i] = errors.New("refused")
				} else if l.Class != "invalid" {
					// a dead letter covers the events that it stands for, as a call would
					appliedTo[string(l.Event.Report)] = max(appliedTo[string(l.Event.Report)], l.Event.ReadTime)
				}
			}
			r.LettersWritten(now, letters, failures)
			done = n == 0 && len(inFlight) == 0 && r.backlog.Len() == 0 && r.letters.len() == 0
		}
		for ref, e := range r.tracker.events {
			if r.tracker.finished[ref] != 1 {
				t.Fatalf("seed %d: event %d finished %d times", seed, ref, r.tracker.finished[ref])
			}
			if e.Invalid == nil && appliedTo[string(e.Report)] < e.ReadTime {
				t.Fatalf("seed %d: event %d of T %d is not covered by %d", seed, ref, e.ReadTime,
					appliedTo[string(e.Report)])
			}
		}
		for lane, n := range r.counts {
			if n.Unsettled() != 0 {
				t.Fatalf("seed %d: lane %d: %+v", seed, lane, n)
			}
		}
	}
}

// A worker that gets no share from the group's leader, because they are configured with different
// rates, reports that: "run fewer workers" would be the wrong advice.
func TestMismatchedRateIsExplained(t *testing.T) {
	r := newRig(t)
	r.receiveOne("a", 10)
	const why = "the group's leader uses a rate of 200, this worker uses 100"
	r.SetMismatch(start, why, "give all workers the same --rate")
	if active := r.holds.Active(); len(active) != 1 || active[0].Reason != hold.Quota ||
		!strings.Contains(active[0].Detail, why) || !strings.Contains(active[0].Do, "--rate") {
		t.Fatalf("held: %+v", active)
	}
	if todo, _ := r.Next(at(2)); todo != nil {
		t.Error("it calls without a share")
	}
	r.SetShare(at(3), 50)
	if active := r.holds.Active(); len(active) != 0 {
		t.Errorf("with a share still held: %+v", active)
	}
	if todo, _ := r.Next(at(5)); todo == nil {
		t.Error("it has a share and does not call")
	}
}
