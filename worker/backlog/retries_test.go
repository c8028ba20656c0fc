package backlog

import (
	"fmt"
	"testing"
)

// A retry that hangs keeps its permit for long: a few of them must not deprive first attempts of
// theirs.
func TestFewRetriesAreInFlightWhileFirstAttemptsWait(t *testing.T) {
	b := newFixture(t)
	for i := range 100 {
		b.add(fmt.Sprint("stuck", i), 0, 1)
	}
	for range 100 {
		b.Retry(b.Take(start, all, 3), start)
	}
	for i := range 1000 {
		b.add(fmt.Sprint("new", i), i%2, 1)
	}
	inFlight := 0
	for b.lanes[0].fresh.len()+b.lanes[1].fresh.len() > 0 {
		c := b.Take(at(1), all, 3)
		if !c.Retrying() {
			b.Succeeded(at(1), c)
			continue
		}
		if inFlight++; inFlight == 3 {
			break
		}
	}
	for b.lanes[0].fresh.len() > 0 {
		if c := b.Take(at(1), all, 3); c.Lane() == 0 && c.Retrying() {
			t.Fatal("a fourth retry is in flight, and first attempts wait")
		}
	}
	if c := b.Take(at(1), LaneSet{true, false}, 3); !c.Retrying() {
		t.Fatal("no first attempt waits in an open lane, and the retries must continue")
	}
}

// Retries of the better lane don't take the permits of the other lane's first attempts.
func TestRetriesOfOneLaneLeaveTheOtherItsPermits(t *testing.T) {
	b := newFixture(t)
	for i := range 100 {
		b.add(fmt.Sprint("stuck", i), 0, 1)
	}
	for range 100 {
		b.Retry(b.Take(start, all, 3), start)
	}
	for i := range 100 {
		b.add(fmt.Sprint("fill", i), 1, 1)
	}
	retries := 0
	for range 60 {
		if c := b.Take(at(1), all, 3); c.Retrying() {
			retries++
		}
	}
	if retries != 3 {
		t.Fatalf("%d of 60 calls in flight are retries", retries)
	}
}

func TestClosedLanesWait(t *testing.T) {
	b := newFixture(t)
	b.add("live", 0, 1)
	b.add("fill", 1, 1)
	backfillOnly := LaneSet{false, true}
	if c := b.TakeProbe(backfillOnly); c.ID() != "fill" {
		t.Fatalf("took %s", c.ID())
	} else {
		b.Retry(c, at(5))
	}
	if b.Waiting(LaneSet{}) || !b.Waiting(LaneSet{true, false}) {
		t.Fatal("the wrong lane waits")
	}
	if ok, due := b.Ready(start, backfillOnly); ok || !due.Equal(at(5)) {
		t.Fatalf("ready %v, due %v", ok, due)
	}
	if c := b.Take(start, backfillOnly, 10); c != nil {
		t.Fatalf("took %s", c.ID())
	}
	if ok, _ := b.Ready(start, LaneSet{true, false}); !ok {
		t.Fatal("the open lane is not ready")
	}
}

// Whatever their due times: each conversation is probed once before any is probed again.
func TestDeferredProbesRotateExactly(t *testing.T) {
	b := newFixture(t)
	for i := range 20 {
		b.add(fmt.Sprint(i), i%2, 1)
		b.Retry(b.Take(start, all, 100), at(float64(i*i%17))) // in any order
	}
	for round := range 3 {
		seen := map[string]bool{}
		for i := range 20 {
			c := b.TakeProbe(all)
			if seen[c.ID()] {
				t.Fatalf("round %d: %s is probed twice", round, c.ID())
			}
			seen[c.ID()] = true
			b.Defer(c, at(float64(i*7%5)))
		}
	}
}
