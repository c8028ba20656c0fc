package backlog

import (
	"fmt"
	"testing"
	"time"
)

func TestFind(t *testing.T) {
	b := newFixture(t)
	b.add("a", 0, 1)
	second := b.add("a", 0, 2)
	other := b.add("b", 0, 2)
	c := b.take(start, "a", 2)
	newer := b.add("a", 0, 3)
	found, _ := b.Find(map[uint64]bool{1: true, second: true, other: true, newer: true, 99: true})
	for ref, id := range map[uint64]string{1: "a", second: "a", other: "b", newer: "a"} {
		if found[ref] == nil || found[ref].ID() != id {
			t.Errorf("event %d: found %v, want %s", ref, found[ref], id)
		}
	}
	if found[99] != nil || !found[1].InFlight() || found[other].InFlight() {
		t.Error("wrong state")
	}
	b.Succeeded(start, c)
}

// The owner holds a lock meanwhile, so one conversation with very many events must not take long.
func TestFindIsBounded(t *testing.T) {
	b := newFixture(t)
	const last = findAtMost + 1
	for ref := range uint64(last) {
		b.Add(start, Event{Payload: []byte("a"), IDLen: 1, ReadTime: 1, Ref: ref + 1})
	}
	found := func(ref uint64) bool {
		found, _ := b.Find(map[uint64]bool{ref: true})
		return found[ref] != nil
	}
	if !found(last-1) || found(last) {
		t.Errorf("it does not end after %d events", findAtMost)
	}
}

// Of many conversations Find checks those that were called, and reports whether it has checked all
// of these.
func TestFindAmongMany(t *testing.T) {
	b := newFixture(t)
	for i := range findAtMost + 100 {
		b.add(fmt.Sprint("waits", i), 1, 1)
	}
	first := uint64(1)
	flying, retrying := b.add("flying", 0, 1), b.add("retrying", 0, 1)
	b.take(start, "flying", 1)
	b.Retry(b.take(start, "retrying", 1), at(3600))
	last := b.add("last", 1, 1)
	found, calledOnes := b.Find(map[uint64]bool{first: true, flying: true, retrying: true,
		last: true})
	if found[flying] == nil || found[retrying] == nil || found[first] == nil || !calledOnes {
		t.Errorf("found %v, all that were called: %t", found, calledOnes)
	}
	if found[last] != nil {
		t.Error("it has checked more than it may")
	}
	for c := b.Take(start, all, 100); c != nil; c = b.Take(start, all, 100) {
		b.Retry(c, at(7200))
	}
	if _, calledOnes := b.Find(map[uint64]bool{last + 1: true}); calledOnes {
		t.Errorf("it can't have checked all of %d retries", b.Len())
	}
}

func TestLookup(t *testing.T) {
	b := newFixture(t)
	look := func() (c *Conversation, due time.Time) {
		t.Helper()
		if c = b.Lookup([]byte("a")); c == nil {
			t.Fatal("not found")
		}
		return c, b.RetryDue(c)
	}
	if b.Lookup([]byte("a")) != nil {
		t.Fatal("found before it was added")
	}
	b.add("a", 1, 10)
	b.add("b", 0, 10)
	if c, due := look(); c.Events() != 1 || c.Lane() != 1 || c.InFlight() || !due.IsZero() {
		t.Errorf("waiting: %+v, due %v", c, due)
	}
	b.add("a", 0, 20)
	c := b.take(start, "a", 20)
	b.take(start, "b", 10)
	b.add("a", 0, 30)
	b.add("a", 0, 15)
	if c, due := look(); c.Events() != 4 || !c.InFlight() || !due.IsZero() {
		t.Errorf("in flight: %+v with %d events, due %v", c, c.Events(), due)
	}
	b.Retry(c, at(7))
	if c, due := look(); c.Events() != 4 || c.InFlight() || !due.Equal(at(7)) {
		t.Errorf("retrying: %+v with %d events, due %v", c, c.Events(), due)
	}
	c = b.take(at(7), "a", 30)
	if _, due := look(); !due.IsZero() {
		t.Errorf("retried: due %v", due)
	}
	b.Succeeded(at(7), c)
	if b.Lookup([]byte("a")) != nil {
		t.Error("found after its success")
	}
	if readTime, when, ok := b.applied.Last(at(8), []byte("a")); !ok || readTime != 30 ||
		!when.Equal(at(7)) {
		t.Errorf("applied %d at %v, %t", readTime, when, ok)
	}
	for id, now := range map[string]time.Time{"a": at(7).Add(rememberFor), "b": at(8)} {
		if readTime, when, ok := b.applied.Last(now, []byte(id)); ok {
			t.Errorf("%s: applied %d at %v", id, readTime, when)
		}
	}
}
