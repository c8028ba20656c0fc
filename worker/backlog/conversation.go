package backlog

// Conversation is one reader and one peer, with the events that wait for a call. Its exported fields
// are its owner's to keep; it must not be used after Succeeded or Drop.
type Conversation struct {
	ID       string
	Resigned bool   // its last call was refused for the signature, and is repeated with a new one
	Failures int    // calls in a row that did not succeed: what the backoff grows with
	Attempts int    // those of them that count
	Baseline uint64 // the owner's mark of the last attempt

	record   any // of the event with the largest T, of equal T the later
	best     uint64
	readTime int64
	refs     []uint64
	order    int64 // arrival of the oldest event
	key      int64 // in its queue: order, or the due time of a retry
	index    int32 // in its queue
	lane     int8
	retrying bool
	flight   *flight // not nil: a call is out
}

// flight is what is known of a call that is out.
type flight struct {
	ref      uint64 // the event whose T was sent
	readTime int64  // T
	sent     int    // how many events it was sent for: the first of the conversation's refs

	lane       int8     // the best lane among the conversation and all that arrived since
	newer      []uint64 // arrived since, with a larger T: this call doesn't cover them
	newerOrder int64
	newerLane  int8
}

// Settled is what a successful call settles: Refs[:Sent] waited for it, Applied among them with the T
// that was sent; the others came while it was out and are covered by it.
type Settled struct {
	Refs    []uint64
	Sent    int
	Applied uint64
}

// Dropped is what leaves without success: Record is that of the event with the largest T.
type Dropped struct {
	Refs   []uint64
	Record any
}

// ReadTime is the T to send, or while a call is out the one that was sent.
func (c *Conversation) ReadTime() int64 {
	if c.flight != nil {
		return c.flight.readTime
	}
	return c.readTime
}

// Out says whether a call is out.
func (c *Conversation) Out() bool { return c.flight != nil }

// Retrying says whether the last call failed.
func (c *Conversation) Retrying() bool { return c.retrying }

// Lane is the lane that the conversation waits in, or was called in.
func (c *Conversation) Lane() int { return int(c.lane) }

// Record is that of the event with the largest T.
func (c *Conversation) Record() any { return c.record }

// Oldest is the event that came first.
func (c *Conversation) Oldest() (ref uint64) { return c.refs[0] }

func (c *Conversation) wait(e Event, arrival int64) {
	if len(c.refs) == 0 {
		c.order = arrival
	}
	c.refs = append(c.refs, e.Ref)
	c.Attempts = max(c.Attempts, e.Attempts)
	c.keepLargest(e)
}

func (c *Conversation) keepLargest(e Event) {
	if e.ReadTime >= c.readTime {
		c.readTime, c.best, c.record = e.ReadTime, e.Ref, e.Record
	}
}

func (f *flight) arrive(c *Conversation, e Event, arrival int64) {
	c.keepLargest(e)
	f.lane = min(f.lane, int8(e.Lane))
	if e.ReadTime <= f.readTime {
		c.refs = append(c.refs, e.Ref)
		return
	}
	if len(f.newer) == 0 {
		f.newerOrder, f.newerLane = arrival, int8(e.Lane)
	}
	f.newer = append(f.newer, e.Ref)
	f.newerLane = min(f.newerLane, int8(e.Lane))
}

// holds calls yield for the events of the conversation until it returns false.
func (c *Conversation) holds(yield func(ref uint64) bool) {
	for _, ref := range c.refs {
		if !yield(ref) {
			return
		}
	}
	if c.flight != nil {
		for _, ref := range c.flight.newer {
			if !yield(ref) {
				return
			}
		}
	}
}
