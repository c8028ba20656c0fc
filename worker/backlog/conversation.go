package backlog

import "iter"

// Conversation is one reader and one peer, with the events that wait for a call. It must not be
// used after Succeeded or Drop. A million of them may wait in memory, most with one event and
// before their first call: only these fields exist then, in 64 bytes.
type Conversation struct {
	payload  []byte // of the event with the largest T; of equal T the later one
	best     uint64 // that event
	readTime int64
	key      int64 // in its queue: the arrival of the oldest event, or a retry's due time
	index    int32 // in its queue or, while a call is in flight, in Backlog.flying
	lane     int8
	idLen    uint8
	retrying bool
	more     *state // nil: best is the only event, and there was no call
}

// state is what a conversation has once it has several events, or its first call.
type state struct {
	calls  Calls
	refs   Refs    // all events but flight.newer; never empty
	flight *flight // nil: no call is in flight
}

// Calls is what the owner knows of a conversation's earlier calls.
type Calls struct {
	Baseline     uint64 // the owner's mark at the last attempt
	Failures     int32  // consecutive unsuccessful calls: the backoff grows with them
	Attempts     int32  // the failures that count as attempts
	NewSignature bool   // the last call's signature was refused; it is repeated with a new one
}

// flight is the state of a call in flight.
type flight struct {
	ref        uint64 // the event whose T was sent
	readTime   int64  // T
	sent       int    // how many events it was sent for: the first of the conversation's refs
	lane       int8   // the best lane of the conversation and of all events that arrived since
	newer      Refs   // arrived since, with a larger T: this call doesn't cover them
	newerOrder int64
	newerLane  int8
}

// Settled is what a successful call settles: the first Sent of Refs waited for it, Applied, whose T
// was sent, among them; the others arrived while it was in flight and are covered by it.
type Settled struct {
	Refs    Refs
	Sent    int
	Applied uint64
}

// Dropped is what a dropped conversation leaves: its events, and payload and T of the event with
// the largest T.
type Dropped struct {
	Refs     Refs
	Payload  []byte
	ReadTime int64
}

// ID returns a copy of the conversation's ID.
func (c *Conversation) ID() string { return string(c.id()) }

func (c *Conversation) id() []byte { return c.payload[:c.idLen] }

// Best returns the payload and T of the event with the largest T. The payload is valid until the
// next Add.
func (c *Conversation) Best() (payload []byte, readTime int64) { return c.payload, c.readTime }

// ReadTime returns the T to send, or the T that was sent while a call is in flight.
func (c *Conversation) ReadTime() int64 {
	if c.InFlight() {
		return c.more.flight.readTime
	}
	return c.readTime
}

// InFlight reports whether a call is in flight.
func (c *Conversation) InFlight() bool { return c.more != nil && c.more.flight != nil }

// Retrying reports whether the last call failed.
func (c *Conversation) Retrying() bool { return c.retrying }

// Lane returns the lane that the conversation waits in, or was called in.
func (c *Conversation) Lane() int { return int(c.lane) }

// Oldest returns the event that arrived first.
func (c *Conversation) Oldest() (ref uint64) {
	if c.more == nil {
		return c.best
	}
	return c.more.refs.first
}

// Events returns how many events the conversation has.
func (c *Conversation) Events() int {
	switch {
	case c.more == nil:
		return 1
	case c.InFlight():
		return c.more.refs.n + c.more.flight.newer.n
	}
	return c.more.refs.n
}

// events returns all events, in order of arrival, or only the oldest one.
func (c *Conversation) events(all bool) iter.Seq[uint64] {
	return func(yield func(uint64) bool) {
		if !all || c.more == nil {
			yield(c.Oldest())
			return
		}
		for ref := range c.more.refs.All() {
			if !yield(ref) {
				return
			}
		}
		if !c.InFlight() {
			return
		}
		for ref := range c.more.flight.newer.All() {
			if !yield(ref) {
				return
			}
		}
	}
}

// Attempts returns how many attempts count.
func (c *Conversation) Attempts() int {
	if c.more == nil {
		return 0
	}
	return int(c.more.calls.Attempts)
}

// Calls returns the owner's fields.
func (c *Conversation) Calls() *Calls { return &c.state().calls }

// state returns the state.
func (c *Conversation) state() *state {
	if c.more == nil {
		c.more = new(state)
		c.more.refs.add(c.best)
	}
	return c.more
}

// set makes e the event that the conversation is called for. The ID stays, because tables may refer
// to it.
func (c *Conversation) set(e Event) {
	if n := len(e.Payload); n > cap(c.payload) || n < cap(c.payload)/2 { // Bytes has n
		c.payload = append([]byte(nil), e.Payload...)
	} else {
		c.payload = append(c.payload[:0], e.Payload...)
	}
	c.idLen, c.readTime, c.best = e.IDLen, e.ReadTime, e.Ref
}

// arrive adds an event while a call is in flight.
func (f *flight) arrive(refs *Refs, e Event, arrival int64) {
	f.lane = min(f.lane, int8(e.Lane))
	if e.ReadTime <= f.readTime {
		refs.add(e.Ref)
		return
	}
	if f.newer.n == 0 {
		f.newerOrder, f.newerLane = arrival, int8(e.Lane)
	}
	f.newer.add(e.Ref)
	f.newerLane = min(f.newerLane, int8(e.Lane))
}
