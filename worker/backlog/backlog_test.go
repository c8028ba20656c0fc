package backlog

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

var start = time.Unix(1_700_000_000, 0)

var all = LaneSet{true, true}

func at(seconds float64) time.Time {
	return start.Add(time.Duration(seconds * float64(time.Second)))
}

// fixture is a backlog that numbers its events.
type fixture struct {
	t *testing.T
	*Backlog
	next uint64
}

func newFixture(t *testing.T) *fixture {
	return &fixture{t: t, Backlog: New(NewAppliedTimes(), start)}
}

func (b *fixture) add(id string, lane int, readTime int64) (ref uint64) {
	b.t.Helper()
	b.next++
	if !b.Add(start, Event{Payload: fmt.Append(nil, id, b.next), IDLen: uint8(len(id)), Lane: lane,
		ReadTime: readTime, Ref: b.next}) {
		b.t.Fatalf("%s at %d: not kept", id, readTime)
	}
	return b.next
}

func (b *fixture) take(now time.Time, wantID string, wantTime int64) *Conversation {
	b.t.Helper()
	c := b.Take(now, all, 100)
	if c == nil {
		b.t.Fatalf("nothing to take, want %s", wantID)
	}
	if c.ID() != wantID || c.ReadTime() != wantTime {
		b.t.Fatalf("took %s up to %d, want %s up to %d", c.ID(), c.ReadTime(), wantID, wantTime)
	}
	return c
}

func list(refs Refs) []uint64 { return slices.Collect(refs.All()) }

// events returns how many events wait or are in flight.
func events(b *Backlog) (n int) {
	for c := range b.conversations.all() {
		for range c.events(true) {
			n++
		}
	}
	return n
}

func TestEventsCollapseIntoTheLargest(t *testing.T) {
	b := newFixture(t)
	b.add("a", 0, 10)
	largest := b.add("a", 0, 30)
	b.add("a", 0, 20)
	s := b.Succeeded(start, b.take(start, "a", 30))
	if !slices.Equal(list(s.Refs), []uint64{1, 2, 3}) || s.Sent != 3 || s.Applied != largest {
		t.Fatalf("settled %+v", s)
	}
	if b.Len() != 0 || events(b.Backlog) != 0 || b.Conversations(0) != 0 {
		t.Fatal("something is left")
	}
}

func TestLaterEventWinsAmongEqualTimes(t *testing.T) {
	b := newFixture(t)
	b.add("a", 0, 10)
	later := b.add("a", 0, 10)
	c := b.take(start, "a", 10)
	if d := b.Drop(c); string(d.Payload) != fmt.Sprint(c.ID(), later) || d.Refs.Len() != 2 {
		t.Fatalf("dropped %+v, want the payload of event %d", d, later)
	}
}

func TestEventsThatArriveDuringACall(t *testing.T) {
	b := newFixture(t)
	b.add("a", 1, 10)
	c := b.take(start, "a", 10)
	b.add("b", 1, 1)
	covered := b.add("a", 1, 10)
	newer := b.add("a", 0, 11)
	if got := b.Take(start, all, 100); got.ID() != "b" {
		t.Fatalf("took %s while its call is in flight", got.ID())
	}
	s := b.Succeeded(start, c)
	if !slices.Equal(list(s.Refs), []uint64{1, covered}) || s.Sent != 1 || s.Applied != 1 {
		t.Fatalf("settled %+v: the newer event is not covered", s)
	}
	if int(c.lane) != 0 {
		t.Fatal("the uncovered event arrived in lane 0")
	}
	if s := b.Succeeded(start, b.take(start, "a", 11)); !slices.Equal(list(s.Refs), []uint64{newer}) {
		t.Fatalf("settled %+v", s)
	}
}

func TestUncoveredEventsKeepTheirOrder(t *testing.T) {
	b := newFixture(t)
	b.add("a", 1, 10)
	c := b.take(start, "a", 10)
	b.add("b", 1, 1)
	b.add("a", 1, 11)
	b.add("c", 1, 1)
	b.Succeeded(start, c)
	b.take(start, "b", 1)
	a := b.take(start, "a", 11)
	b.add("a", 1, 12)
	b.add("a", 0, 13)
	b.Succeeded(start, a)
	if b.Conversations(0) != 1 || int(a.lane) != 0 {
		t.Fatal("one of the uncovered events arrived in lane 0")
	}
}

func TestRetryContinuesCollapsing(t *testing.T) {
	b := newFixture(t)
	b.add("a", 0, 10)
	c := b.take(start, "a", 10)
	b.add("a", 0, 12)
	b.add("a", 0, 9)
	b.Retry(c, at(5))
	b.add("a", 0, 15)
	if ok, due := b.Ready(at(4.9), all); ok || !due.Equal(at(5)) {
		t.Fatalf("Ready = %v, %v before the retry is due", ok, due)
	}
	if b.Take(at(4.9), all, 100) != nil {
		t.Fatal("taken before it is due")
	}
	s := b.Succeeded(at(5), b.take(at(5), "a", 15))
	if s.Refs.Len() != 4 || s.Sent != 4 {
		t.Fatalf("settled %+v", s)
	}
}

func TestCoveredEventsNeedNoCall(t *testing.T) {
	b := newFixture(t)
	b.add("a", 0, 10)
	b.Succeeded(start, b.take(start, "a", 10))
	for _, row := range []struct {
		readTime int64
		now      time.Time
		kept     bool
	}{
		{10, at(0), false},
		{9, at(599), false},
		{11, at(1), true},
	} {
		if got := b.Add(row.now,
			Event{Payload: []byte("a"), IDLen: 1, ReadTime: row.readTime}); got != row.kept {
			t.Errorf("T %d after %v: kept %v", row.readTime, row.now.Sub(start), got)
		}
	}
	if !b.Add(at(601), Event{Payload: []byte("a"), IDLen: 1, ReadTime: 5}) {
		t.Error("a repair after more than ten minutes was swallowed")
	}
}

func TestFailureCoversNoEvent(t *testing.T) {
	b := newFixture(t)
	b.add("a", 0, 10)
	b.Drop(b.take(start, "a", 10))
	b.add("a", 0, 10)
	if c := b.take(start, "a", 10); c.Calls().Attempts != 0 || c.Calls().Failures != 0 {
		t.Fatal("a new life begins with old attempts")
	}
}

func TestTheOldestGoesFirst(t *testing.T) {
	b := newFixture(t)
	for i := range 100 {
		b.add(fmt.Sprint(i%50), 0, int64(100-i))
	}
	for i := range 50 {
		b.Succeeded(start, b.take(start, fmt.Sprint(i), int64(100-i)))
	}
}

func TestLiveGoesFirstButBackfillIsServed(t *testing.T) {
	b := newFixture(t)
	for i := range 2000 {
		b.add(fmt.Sprint("backfill ", i), 1, 1)
	}
	var backfill []int
	for i := range 200 {
		b.add(fmt.Sprint("live ", i), 0, 1)
		c := b.Take(start, all, 100)
		if int(c.lane) == 1 {
			backfill = append(backfill, i)
		}
		b.Succeeded(start, c)
	}
	if len(backfill) != 10 {
		t.Fatalf("backfill got %d of 200 calls, want every 19th", len(backfill))
	}
	// While no live event waits, backfill gets all calls.
	for b.Conversations(0) > 0 {
		b.Succeeded(start, b.Take(start, all, 100))
	}
	for range 100 {
		if c := b.Take(start, all, 100); int(c.lane) != 1 {
			t.Fatal("lane 0 is empty")
		} else {
			b.Succeeded(start, c)
		}
	}
}

func TestLiveEventMovesItsConversationToLive(t *testing.T) {
	b := newFixture(t)
	b.add("x", 1, 1)
	b.add("a", 1, 1)
	b.add("a", 0, 2)
	if b.Conversations(0) != 1 || b.Conversations(1) != 1 {
		t.Fatalf("lanes: %d and %d", b.Conversations(0), b.Conversations(1))
	}
	c := b.take(start, "a", 2)
	b.Retry(c, at(1))
	b.Retry(b.take(start, "x", 1), at(1))
	b.add("x", 0, 2)
	if b.Conversations(0) != 2 || b.Conversations(1) != 0 {
		t.Fatal("a retrying conversation was not lifted")
	}
}

func TestLiveEventMovesItsConversationDuringItsCall(t *testing.T) {
	b := newFixture(t)
	b.add("a", 1, 5)
	c := b.take(start, "a", 5)
	b.add("a", 0, 4)
	b.Retry(c, at(1))
	if int(c.lane) != 0 || b.Conversations(0) != 1 || b.Conversations(1) != 0 {
		t.Fatalf("lane %d, lanes: %d and %d", int(c.lane), b.Conversations(0), b.Conversations(1))
	}
}

func TestRetriesGetATenthWhileFirstAttemptsWait(t *testing.T) {
	b := newFixture(t)
	for i := range 300 {
		b.add(fmt.Sprint("failing ", i), 0, 1)
	}
	for range 300 {
		b.Retry(b.Take(start, all, 100), start)
	}
	for i := range 500 {
		b.add(fmt.Sprint("new ", i), 0, 1)
	}
	retries := 0
	for range 500 {
		c := b.Take(at(1), all, 100)
		if c.Retrying() {
			retries++
		}
		b.Succeeded(at(1), c)
	}
	if retries != 50 {
		t.Fatalf("%d of 500 calls were retries, want a tenth", retries)
	}
}

func TestProbesRotate(t *testing.T) {
	b := newFixture(t)
	b.add("poison", 0, 1)
	for i := range 4 {
		b.add(fmt.Sprint(i), 1, 1)
	}
	seen := map[string]int{}
	for i := range 20 {
		c := b.TakeProbe(all)
		seen[c.ID()]++
		b.Retry(c, at(float64(i+1)))
	}
	for id, n := range seen {
		if n != 4 {
			t.Errorf("%s was probed %d times of 20", id, n)
		}
	}
	if b.Succeeded(start, b.TakeProbe(all)); !b.Waiting(all) {
		t.Fatal("four conversations still wait")
	}
}

func TestRetryBefore(t *testing.T) {
	b := newFixture(t)
	for i := range 100 {
		b.add(fmt.Sprint(i), 0, 1)
	}
	for i := range 100 {
		b.Retry(b.Take(start, all, 100), at(float64(i)))
	}
	b.RetryBefore(at(0), at(2), func(id string) float64 { return float64(len(id)) / 4 })
	n := 0
	for b.Take(at(2), all, 100) != nil {
		n++
	}
	if n != 100 {
		t.Fatalf("%d of 100 retries are due after 2 s", n)
	}
}

func TestAppliedTimesAreBounded(t *testing.T) {
	m := NewAppliedTimes()
	m.limit = 100
	for i := range 1000 {
		m.remember(start, fmt.Append(nil, i%300), 1)
	}
	if len(m.successes) > 100 || len(m.order)-m.head > 100 || cap(m.order) > 1000 {
		t.Fatalf("%d remembered, %d in order, at most 100 are allowed", len(m.successes),
			len(m.order)-m.head)
	}
	latest := fmt.Append(nil, 999%300)
	if !m.covers(start, latest, m.hash(latest), 1) {
		t.Fatal("the latest was forgotten")
	}
	m.remember(at(700), []byte("x"), 1)
	if len(m.successes) != 1 {
		t.Fatalf("%d remembered, all but one are too old", len(m.successes))
	}
}

// What a conversation keeps is what Bytes counts: a small event frees the memory of a large one.
func TestSmallPayloadReplacesALargeOne(t *testing.T) {
	b := newFixture(t)
	large := make([]byte, 1<<20)
	large[0] = 'a'
	b.Add(start, Event{Payload: large, IDLen: 1, ReadTime: 1, Ref: 100})
	b.add("a", 0, 2)
	c := b.take(start, "a", 2)
	if kept := cap(c.payload); kept > 100 || b.Bytes(0) > 100 {
		t.Errorf("%d bytes are kept, %d counted", kept, b.Bytes(0))
	}
}
