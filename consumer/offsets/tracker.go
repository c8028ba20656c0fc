// Package offsets knows which events of a partition have finished, and so up to where its offset
// may be committed: the end of the finished prefix, never more. It is a pure state machine: no
// lock, no clock, no Kafka.
package offsets

import "time"

// Tracker is one partition. It is not safe for concurrent use; New makes one.
//
// It tracks the order of arrival, not offsets: a log has holes (compaction, transaction markers,
// aborted transactions), and waiting for offset+1 would wait for ever. An event's arrival number
// stands for it. It needs 16 bytes an event, in chunks that are given back when all their events
// have finished.
type Tracker struct {
	chunks    []*chunk // chunks[0] holds the arrival numbers from first&^chunkMask on
	spare     *chunk   // one emptied chunk, so that a steady flow allocates nothing
	first     uint64   // arrival number of the oldest event that has not finished
	end       uint64   // arrival number of the next event
	position  int64    // next to read: all before is delivered or will never be there
	committed int64    // what the group has committed; -1: nothing

	inherited    []span      // what the former owner knew of events not read yet, in order
	fingerprint  fingerprint // by which the log of what is inherited is known again
	version      uint64      // grows with what a commit would say of single events
	accepted     uint64      // the version that is committed
	resetVersion uint64      // the version at which this log began
}

const (
	chunkSize = 512
	chunkMask = chunkSize - 1
)

type chunk struct {
	slots     [chunkSize]slot
	finished  int // how many of them have
	attempted int // how many have attempts
}

type slot struct {
	offset int64  // ^offset (negative): finished
	state  uint64 // milliseconds since 1970, and above them the attempts
}

const (
	timeBits    = 52
	maxTime     = 1<<timeBits - 1
	maxAttempts = 1<<(64-timeBits) - 1
)

func (s *slot) time() time.Time { return time.UnixMilli(int64(s.state & maxTime)) }

func (s *slot) attempts() int { return int(s.state >> timeBits) }

// New returns a tracker that begins at position. committed is -1 when the group has no committed
// offset.
func New(position, committed int64) Tracker {
	return Tracker{position: position, committed: committed}
}

func (t *Tracker) chunk(n uint64) *chunk { return t.chunks[(n-t.first&^chunkMask)/chunkSize] }

func (t *Tracker) slot(n uint64) *slot { return &t.chunk(n).slots[n&chunkMask] }

// Add takes the next record, whose offset must be larger, and returns its arrival number, and what
// an earlier owner knew of it: its counted attempts, or that it has finished: don't deliver it.
func (t *Tracker) Add(offset int64, at time.Time) (n uint64, attempts int, finished bool) {
	n = t.end
	if int((n-t.first&^chunkMask)/chunkSize) == len(t.chunks) {
		c := t.spare
		if t.spare = nil; c == nil {
			c = new(chunk)
		}
		c.finished, c.attempted = 0, 0
		t.chunks = append(t.chunks, c)
	}
	attempts, finished = t.inherit(offset)
	*t.slot(n) = slot{offset, uint64(min(max(at.UnixMilli(), 0), maxTime))}
	t.end++
	t.position = offset + 1
	if attempts > 0 {
		t.attempted(n, attempts)
	}
	if finished {
		t.finish(n)
	}
	return n, attempts, finished
}

// Skip says that there is nothing to deliver before position.
func (t *Tracker) Skip(position int64) { t.position = max(t.position, position) }

// Finish says that an event has finished, and returns the time that Add was given; zero: a reset
// has forgotten the event.
func (t *Tracker) Finish(n uint64) (at time.Time) {
	if n < t.first || n >= t.end {
		return time.Time{}
	}
	at = t.slot(n).time()
	if t.slot(n).offset >= 0 {
		t.version++
		t.finish(n)
	}
	return at
}

func (t *Tracker) finish(n uint64) {
	s := t.slot(n)
	s.offset = ^s.offset
	t.chunk(n).finished++
	for t.first < t.end && t.slot(t.first).offset < 0 {
		if t.first++; t.first&chunkMask == 0 {
			t.spare, t.chunks[0] = t.chunks[0], nil
			t.chunks = t.chunks[1:]
		}
	}
}

// Attempted notes how many counted attempts an event has had, for the next owner.
func (t *Tracker) Attempted(n uint64, attempts int) {
	if n < t.first || n >= t.end || t.slot(n).offset < 0 {
		return
	}
	t.version++
	t.attempted(n, attempts)
}

func (t *Tracker) attempted(n uint64, attempts int) {
	s := t.slot(n)
	if s.attempts() == 0 {
		t.chunk(n).attempted++
	}
	s.state = s.state&maxTime | uint64(min(attempts, maxAttempts))<<timeBits
}

// Committable returns the offset up to which everything has finished.
func (t *Tracker) Committable() int64 {
	if t.first < t.end {
		return t.slot(t.first).offset
	}
	return t.position
}

// Commit is what can be committed: the offset up to which everything has finished, and what is
// known of the events beyond it.
type Commit struct {
	Offset   int64
	Metadata string
	version  uint64
}

// Commit returns what can be committed now, with at most limit bytes of metadata, and whether it
// says more than what was accepted last.
func (t *Tracker) Commit(limit int) (c Commit, changed bool) {
	c = Commit{t.Committable(), t.metadata(limit), t.version}
	return c, c.Offset > t.committed || c.version != t.accepted
}

// Accept says that the group has committed c. Before a reset it was an offset of the old log.
func (t *Tracker) Accept(c Commit) {
	if c.version >= t.resetVersion {
		t.committed, t.accepted = c.Offset, c.version
	}
}

// Oldest returns the oldest event that has not finished.
func (t *Tracker) Oldest() (n uint64, offset int64, at time.Time, ok bool) {
	if t.first == t.end {
		return 0, 0, time.Time{}, false
	}
	s := t.slot(t.first)
	return t.first, s.offset, s.time(), true
}

// Reset begins anew at position, which may lie before what is committed: the log is another one
// now. The events of the old log are forgotten; arrival numbers go on.
func (t *Tracker) Reset(position int64) {
	for t.first < t.end {
		t.Finish(t.first)
	}
	t.position, t.committed = position, -1
	t.inherited = nil
	t.version++
	t.resetVersion = t.version
}

// Position is the next offset to read; negative: it is not known yet where to begin.
func (t *Tracker) Position() int64 { return t.position }

// Committed is what the group has committed; -1: nothing.
func (t *Tracker) Committed() int64 { return t.committed }
