// Package backlog holds the conversations that wait for a call, each with all its events collapsed
// into the one with the largest read time.
//
// It decides which conversation is called next. It does not decide when (packages quota and hold),
// makes no calls, and doesn't know what a failure means. It is a pure state machine: no goroutine,
// no clock, no I/O. It is not safe for concurrent use.
//
// What it promises:
//   - A conversation has at most one call in flight. Events that arrive meanwhile wait until it
//     ends; if it succeeds and covers them, they are settled without a call of their own.
//   - Read times form a lattice: only the largest T of a conversation matters. An event that an
//     earlier success covers is superseded immediately, as long as the success is remembered (see
//     AppliedTimes).
//   - Lane 0 has strict priority over lane 1, but lane 1 gets every 19th call (5.3 %), so that it
//     can't starve. A conversation with events of both lanes is in the better one.
//   - Within a lane the oldest conversation is first, by arrival. While first attempts of the lane
//     wait, its retries get at most every 10th call. While first attempts of any lane wait, few
//     retries are in flight: one that hangs holds its permit many times as long as a call that gets
//     a response.
//   - Probes rotate over conversations: a probed conversation goes behind all that wait for a
//     retry.
//
// Non-obvious:
//   - A retrying conversation continues collapsing: its next call carries the largest T of that
//     moment. That is why retries are scheduled here, not in the client.
//   - A million conversations may wait. So one takes 64 bytes and its payload, which Add copies.
//     Add overwrites it if the event has a larger T: what Best returns is valid until the next Add.
//   - What a success settles is decided when the call is taken, and by T for events that arrive
//     while it is in flight, never by the time of the response: the call does not cover a larger T
//     than the one it sent.
//   - A dropped conversation (dead-lettered) leaves the table immediately: events that arrive while
//     its dead letter is being written start a new conversation without attempts.
package backlog

import (
	"time"
)

// Lanes is the number of lanes; the smaller number is the better lane.
const Lanes = 2

// LaneSet is a set of lanes.
type LaneSet [Lanes]bool

// Event is one event that needs a call.
type Event struct {
	Lane     int
	ReadTime int64  // T, seconds since 1970
	Ref      uint64 // identifies the event in what is settled
	Attempts int    // counted before it arrived here
	// for the owner, and copied; begins with the conversation's ID, which is the same for all of
	// its events
	Payload []byte
	IDLen   uint8 // how many bytes of Payload are the ID
}

func (e Event) id() []byte { return e.Payload[:e.IDLen] }

// Backlog holds all waiting conversations.
type Backlog struct {
	conversations   table
	lanes           [Lanes]lane
	applied         *AppliedTimes
	start           time.Time
	arrivals        int64
	retriesInFlight int
	flying          []*Conversation // with a call in flight, in no particular order
	latest          int64           // no retry is due later
}

// lane is the queues of one lane, and the counters that keep it fair.
type lane struct {
	fresh         queue // first attempts, by arrival
	retries       queue // by due time
	conversations int   // waiting or in flight
	bytes         int   // of their payloads
	sinceRetry    int   // first attempts taken since the last retry
	overtaken     int   // calls taken by better lanes since this lane's last, while it waited
}

// New returns an empty backlog. applied outlives it, because applied is about the server, not about
// what waits. Times of later calls must not be before start.
func New(applied *AppliedTimes, start time.Time) *Backlog {
	return &Backlog{conversations: table{seed: applied.seeds[0]}, applied: applied, start: start}
}

// Add adds an event. It returns false if an earlier success covers the event, which is then not
// kept.
func (b *Backlog) Add(now time.Time, e Event) (kept bool) {
	hash := b.applied.hash(e.id())
	if b.applied.covers(now, e.id(), hash, e.ReadTime) {
		return false
	}
	b.arrivals++
	c := b.conversations.find(e.id(), hash)
	if c == nil {
		b.addConversation(e, hash)
		return true
	}
	s := c.state() // before best changes
	if e.ReadTime >= c.readTime {
		b.lanes[c.lane].bytes += len(e.Payload) - len(c.payload)
		c.set(e)
	}
	s.calls.Attempts = max(s.calls.Attempts, int32(e.Attempts))
	if s.flight != nil {
		s.flight.arrive(&s.refs, e, b.arrivals)
		return true
	}
	s.refs.add(e.Ref)
	if int(c.lane) > e.Lane {
		b.move(c, e.Lane)
	}
	return true
}

func (b *Backlog) addConversation(e Event, hash uint64) {
	c := &Conversation{lane: int8(e.Lane)}
	c.set(e)
	if e.Attempts > 0 {
		c.Calls().Attempts = int32(e.Attempts)
	}
	b.conversations.insert(c, hash)
	b.count(c, 1)
	b.lanes[e.Lane].fresh.push(c, b.arrivals)
}

// move moves a waiting conversation to another lane, where it keeps its place by age or its due
// time.
func (b *Backlog) move(c *Conversation, to int) {
	from := &b.lanes[c.lane]
	q, dst := &from.fresh, &b.lanes[to].fresh
	if c.retrying {
		q, dst = &from.retries, &b.lanes[to].retries
	}
	q.remove(c)
	dst.push(c, c.key)
	b.relocate(c, int8(to))
}

func (b *Backlog) relocate(c *Conversation, to int8) {
	b.count(c, -1)
	c.lane = to
	b.count(c, 1)
}

func (b *Backlog) forget(c *Conversation) {
	b.conversations.remove(c)
	b.count(c, -1)
}

// count adds n times c to the counts of its lane.
func (b *Backlog) count(c *Conversation, n int) {
	b.lanes[c.lane].conversations += n
	b.lanes[c.lane].bytes += n * len(c.payload)
}

// Waiting reports whether any conversation of the open lanes waits, due or not.
func (b *Backlog) Waiting(open LaneSet) bool { return b.soonest(open) != nil }

// Ready reports whether a conversation of the open lanes may be called now, and otherwise when
// their next retry is due (zero: not before something is added or a call ends).
func (b *Backlog) Ready(now time.Time, open LaneSet) (ok bool, due time.Time) {
	first := b.soonest(open)
	if first == nil || !first.top().retrying {
		return first != nil, time.Time{}
	}
	due = b.start.Add(time.Duration(first.top().key))
	return !due.After(now), due
}

// endCall marks c as not in flight, and returns the flight that ended.
func (b *Backlog) endCall(c *Conversation) *flight {
	f := c.more.flight
	c.more.flight = nil
	last := len(b.flying) - 1
	moved := b.flying[last]
	b.flying[c.index], moved.index, b.flying[last] = moved, c.index, nil
	b.flying = b.flying[:last]
	if c.retrying {
		b.retriesInFlight--
	}
	return f
}

// Succeeded ends the call of c: it covers every event up to the T that was sent.
func (b *Backlog) Succeeded(now time.Time, c *Conversation) Settled {
	f := b.endCall(c)
	s := Settled{Refs: c.more.refs, Sent: f.sent, Applied: f.ref}
	b.applied.remember(now, c.id(), f.readTime)
	if f.newer.n == 0 {
		b.forget(c)
		return s
	}
	b.relocate(c, f.newerLane)
	c.more.refs, c.retrying = f.newer, false
	c.more.calls.Failures, c.more.calls.Attempts = 0, 0
	b.lanes[c.lane].fresh.push(c, f.newerOrder)
	return s
}

// Retry ends the call of c without success; c may be called again at due.
func (b *Backlog) Retry(c *Conversation, due time.Time) {
	b.mergeArrived(c)
	b.retry(c, int64(due.Sub(b.start)))
}

// Defer is Retry for a failed probe: c may be called again at due, but behind all other retries.
func (b *Backlog) Defer(c *Conversation, due time.Time) {
	b.mergeArrived(c)
	b.retry(c, max(int64(due.Sub(b.start)), b.latest+1))
}

func (b *Backlog) retry(c *Conversation, key int64) {
	c.retrying = true
	b.lanes[c.lane].retries.push(c, key)
	b.latest = max(b.latest, key)
}

// Drop ends the call of c and forgets c, with all its events, including events that arrived during
// the call.
func (b *Backlog) Drop(c *Conversation) Dropped {
	b.mergeArrived(c)
	b.forget(c)
	return Dropped{Refs: c.more.refs, Payload: c.payload, ReadTime: c.readTime}
}

func (b *Backlog) mergeArrived(c *Conversation) {
	f := b.endCall(c)
	c.more.refs.addAll(f.newer)
	b.relocate(c, f.lane)
}

// RetryBefore makes every waiting retry due before latest: what they waited for is over. spread
// returns a fraction in [0, 1) of the time until latest.
func (b *Backlog) RetryBefore(now, latest time.Time, spread func(id string) float64) {
	from, span := int64(now.Sub(b.start)), float64(latest.Sub(now))
	b.latest = 0
	for i := range b.lanes {
		b.lanes[i].retries.rekey(func(c *Conversation) int64 {
			key := min(c.key, from+int64(span*spread(c.ID())))
			b.latest = max(b.latest, key)
			return key
		})
	}
}

// Conversations returns how many conversations of a lane wait or are in flight.
func (b *Backlog) Conversations(lane int) int { return b.lanes[lane].conversations }

// Bytes returns the size of the payloads of a lane's conversations.
func (b *Backlog) Bytes(lane int) int { return b.lanes[lane].bytes }

// Len returns how many conversations of all lanes wait or are in flight.
func (b *Backlog) Len() int { return b.conversations.n }
