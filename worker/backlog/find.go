package backlog

import (
	"iter"
	"time"
)

// Lookup returns the conversation with the ID; nil if none waits or is in flight.
func (b *Backlog) Lookup(id []byte) *Conversation {
	return b.conversations.find(id, b.applied.hash(id))
}

// RetryDue returns when the conversation's retry is due; zero if it waits for no retry.
func (b *Backlog) RetryDue(c *Conversation) time.Time {
	if !c.retrying || c.InFlight() {
		return time.Time{}
	}
	return b.start.Add(time.Duration(c.key))
}

// findAtMost bounds how many conversations Find checks, and how many of their events in addition to
// the oldest ones. That takes about a millisecond.
const findAtMost = 10_000

// Find returns the conversations of the wanted events. It must not take long, so it may not find
// some: of many conversations it checks first those in flight, then those that wait for a retry,
// then those that wait for their first attempt, the next to be called first. calledOnes reports
// that it has checked all conversations that were ever called: an event that it has not found waits
// for its first attempt, or has left the backlog.
func (b *Backlog) Find(wanted map[uint64]bool) (
	found map[uint64]*Conversation, calledOnes bool) {
	found, calledOnes = make(map[uint64]*Conversation, len(wanted)), true
	for _, all := range [2]bool{false, true} { // the oldest of each first: usually it suffices
		checked := 0
	walk:
		for c := range b.byUrgency() {
			for ref := range c.events(all) {
				if len(found) == len(wanted) {
					return found, calledOnes
				}
				if checked++; checked > findAtMost {
					calledOnes = calledOnes && !c.called()
					break walk
				}
				if wanted[ref] {
					found[ref] = c
				}
			}
		}
	}
	return found, calledOnes
}

// byUrgency returns all conversations: those in flight, then the retries, then the others.
func (b *Backlog) byUrgency() iter.Seq[*Conversation] {
	return func(yield func(*Conversation) bool) {
		lists := [...][]*Conversation{b.flying, b.lanes[0].retries.items, b.lanes[1].retries.items,
			b.lanes[0].fresh.items, b.lanes[1].fresh.items}
		for _, list := range lists {
			for _, c := range list {
				if !yield(c) {
					return
				}
			}
		}
	}
}

// called reports whether the conversation was ever called.
func (c *Conversation) called() bool { return c.retrying || c.InFlight() }
