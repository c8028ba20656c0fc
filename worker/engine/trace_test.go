package engine

import (
	"slices"
	"strings"
	"testing"
	"time"

	"markread/consumer/event"
)

// callObserver collects the calls of finished events.
type callObserver struct {
	noObserver
	calls []*Call
}

func (o *callObserver) EventFinished(_ event.Lane, _ time.Duration, c *Call) {
	o.calls = append(o.calls, c)
}

// traced returns an event with a traceparent that ends in flags.
func (r *rig) traced(report string, readTime int64, lane event.Lane, flags string) event.Event {
	e := r.event(report, readTime, lane)
	e.Record.Headers = []event.Header{{Key: "traceparent",
		Value: []byte(strings.TrimSuffix(traceparent, "01") + flags)}}
	return e
}

// An applied event's position and traceparent are of the record whose T was sent, although a later
// record of the same T has replaced it in memory. The other outcomes have none.
func TestTraceOfTheAppliedEvent(t *testing.T) {
	r, o := newRig(t), &callObserver{}
	r.options.Observer = o
	r.Receive(start, []event.Event{
		r.traced("a", 5, event.Live, "02"),      // offset 0, collapses
		r.traced("a", 10, event.Backfill, "03"), // offset 1, is applied
	})
	c := r.mustCall(start, "a")
	r.CallDone(start, c, internal)
	c = r.mustCall(at(1), "a")
	r.Receive(at(1), []event.Event{
		r.traced("a", 10, event.Live, "04"), // superseded
		r.traced("a", 20, event.Live, "05"), // is applied next
	})
	r.CallDone(at(1), c, nil)
	next := r.mustCall(at(1), "a")
	r.CallDone(at(1), next, nil)
	r.receiveOne("a", 20) // superseded
	if want := []*Call{nil, c, nil, next, nil}; !slices.Equal(o.calls, want) {
		t.Fatalf("%v, want %v", o.calls, want)
	}
	if r := c.Position(); r.Topic != "mark-read-backfill" || r.Offset != 1 ||
		c.Traceparent[25] != 3 || c.Settled != 2 || c.Attempts != 1 || c.Failures != 1 {
		t.Errorf("the first call: %+v", c)
	}
	if r := next.Position(); r.Topic != "mark-read" || r.Offset != 3 ||
		next.Traceparent[25] != 5 || next.Settled != 1 || next.Attempts != 0 || next.Failures != 0 {
		t.Errorf("the second call: %+v", next)
	}
}

// A conversation keeps only the record of its largest T; Records finds it for each of its events.
func TestRecordsOfWaitingEvents(t *testing.T) {
	r := newRig(t)
	events := []event.Event{r.traced("a", 10, event.Live, "01"), r.traced("a", 20, event.Live, "02"),
		r.traced("b", 10, event.Live, "03")}
	r.Receive(start, events)
	got := r.Records(slices.Values([]event.Ref{events[0].Ref, events[1].Ref, 99}))
	if len(got) != 2 || got[events[0].Ref].Offset != 1 || got[events[1].Ref].Offset != 1 ||
		got[events[0].Ref].Traceparent()[25] != 2 {
		t.Errorf("%+v", got)
	}
	r.End(start)
	if got := r.Records(slices.Values([]event.Ref{})); len(got) != 0 {
		t.Errorf("%+v", got)
	}
}
