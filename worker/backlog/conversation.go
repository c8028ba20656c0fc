package backlog

// Conversation is one reader and one peer, with the events that wait for a call. Its exported
// fields belong to its owner. It must not be used after Succeeded or Drop.
type Conversation struct {
	Baseline     uint64 // the owner's mark at the last attempt
	Failures     int32  // consecutive unsuccessful calls: the backoff grows with them
	Attempts     int32  // the failures that count as attempts
	NewSignature bool   // the last call's signature was refused; it is repeated with a new one

	lane     int8
	retrying bool
	idLen    uint8
	index    int32  // in its queue
	key      int64  // in its queue: the arrival of the oldest event, or a retry's due time
	payload  string // of the event with the largest T; of equal T the later one
	best     uint64
	readTime int64
	refs     []uint64
	flight   *flight // nil: no call is in flight
}

// flight is the state of a call in flight.
type flight struct {
	ref      uint64 // the event whose T was sent
	readTime int64  // T
	sent     int    // how many events it was sent for: the first of the conversation's refs

	lane       int8     // the best lane of the conversation and of all events that arrived since
	newer      []uint64 // arrived since, with a larger T: this call doesn't cover them
	newerOrder int64
	newerLane  int8
}

// Settled is what a successful call settles: Refs[:Sent] waited for it, Applied, whose T was sent,
// among them; the others arrived while it was in flight and are covered by it.
type Settled struct {
	Refs    []uint64
	Sent    int
	Applied uint64
}

// Dropped is what a dropped conversation leaves: its events, and payload and T of the event with
// the largest T.
type Dropped struct {
	Refs     []uint64
	Payload  string
	ReadTime int64
}

// ID identifies the conversation.
func (c *Conversation) ID() string { return c.payload[:c.idLen] }

// ReadTime returns the T to send, or the T that was sent while a call is in flight.
func (c *Conversation) ReadTime() int64 {
	if c.flight != nil {
		return c.flight.readTime
	}
	return c.readTime
}

// InFlight reports whether a call is in flight.
func (c *Conversation) InFlight() bool { return c.flight != nil }

// Retrying reports whether the last call failed.
func (c *Conversation) Retrying() bool { return c.retrying }

// Lane returns the lane that the conversation waits in, or was called in.
func (c *Conversation) Lane() int { return int(c.lane) }

// Payload returns the payload of the event with the largest T.
func (c *Conversation) Payload() string { return c.payload }

// Oldest returns the event that arrived first.
func (c *Conversation) Oldest() (ref uint64) { return c.refs[0] }

// arrive adds an event while a call is in flight.
func (f *flight) arrive(c *Conversation, e Event, arrival int64) {
	f.lane = min(f.lane, int8(e.Lane))
	if e.ReadTime <= f.readTime {
		c.refs = appendRef(c.refs, e.Ref)
		return
	}
	if len(f.newer) == 0 {
		f.newerOrder, f.newerLane = arrival, int8(e.Lane)
	}
	f.newer = appendRef(f.newer, e.Ref)
	f.newerLane = min(f.newerLane, int8(e.Lane))
}
