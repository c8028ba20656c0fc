// Package offsets knows which events of a partition have finished, and so up to where its offset may be committed: the end of the finished
// prefix, never more.
//
// It is a pure state machine: no lock, no clock, no Kafka. Package consumer feeds it and commits; a simulation can do the same.
package offsets

import "time"

// Tracker is one partition. It is not safe for concurrent use; New makes one, the zero value has read nothing.
//
// It tracks the order of arrival, not offsets: a log has holes (compaction, transaction markers, aborted
// transactions), and waiting for offset+1 would wait for ever. An event's arrival number stands for it.
//
// It needs 16 bytes an event, in chunks that are given back when all their events have finished.
type Tracker struct {
	chunks    []*chunk // chunks[0] holds the arrival numbers from first&^chunkMask on
	spare     *chunk   // one emptied chunk, so that a steady flow allocates nothing
	first     uint64   // arrival number of the oldest event that has not finished
	end       uint64   // arrival number of the next event
	position  int64    // next offset to read: everything before it is delivered or will never be there
	committed int64    // what the group has committed; -1: nothing
}

const (
	chunkSize = 4096
	chunkMask = chunkSize - 1
)

type chunk [chunkSize]slot

type slot struct {
	offset int64 // ^offset (negative): finished
	time   int64 // milliseconds since 1970
}

// New returns a tracker that begins at position. committed is -1 when the group has no committed offset.
func New(position, committed int64) Tracker {
	return Tracker{position: position, committed: committed}
}

func (t *Tracker) slot(n uint64) *slot {
	return &t.chunks[(n-t.first&^chunkMask)/chunkSize][n&chunkMask]
}

// Add takes the next record and returns its arrival number. Offsets must grow.
func (t *Tracker) Add(offset int64, at time.Time) uint64 {
	n := t.end
	if int((n-t.first&^chunkMask)/chunkSize) == len(t.chunks) {
		c := t.spare
		if t.spare = nil; c == nil {
			c = new(chunk)
		}
		t.chunks = append(t.chunks, c)
	}
	*t.slot(n) = slot{offset: offset, time: at.UnixMilli()}
	t.end++
	t.position = offset + 1
	return n
}

// Skip says that there is nothing to deliver before position.
func (t *Tracker) Skip(position int64) { t.position = max(t.position, position) }

// Finish says that an event has reached its end, and returns the time that Add was given: zero for events
// that were forgotten by a reset, which are ignored.
func (t *Tracker) Finish(n uint64) (at time.Time) {
	if n < t.first || n >= t.end {
		return time.Time{}
	}
	s := t.slot(n)
	at = time.UnixMilli(s.time)
	if s.offset >= 0 {
		s.offset = ^s.offset
	}
	for t.first < t.end && t.slot(t.first).offset < 0 {
		if t.first++; t.first&chunkMask == 0 {
			t.spare, t.chunks[0] = t.chunks[0], nil
			t.chunks = t.chunks[1:]
		}
	}
	return at
}

// Committable returns the offset up to which everything has finished.
func (t *Tracker) Committable() int64 {
	if t.first < t.end {
		return t.slot(t.first).offset
	}
	return t.position
}

// Accept says that the group has committed offset, unless a reset came between: an offset of the old log
// must not pass for one of the new.
func (t *Tracker) Accept(offset int64) {
	if offset <= t.Committable() {
		t.committed = offset
	}
}

// Oldest returns the oldest event that has not finished.
func (t *Tracker) Oldest() (n uint64, offset int64, at time.Time, ok bool) {
	if t.first == t.end {
		return 0, 0, time.Time{}, false
	}
	s := t.slot(t.first)
	return t.first, s.offset, time.UnixMilli(s.time), true
}

// Reset begins anew at position, which may lie before what is committed: the log is another one now. The
// events of the old log are forgotten; arrival numbers go on.
func (t *Tracker) Reset(position int64) {
	for t.first < t.end {
		t.Finish(t.first)
	}
	t.position, t.committed = position, -1
}

// Position is the next offset to read; negative: it is not known yet where to begin.
func (t *Tracker) Position() int64 { return t.position }

// Committed is what the group has committed; -1: nothing.
func (t *Tracker) Committed() int64 { return t.committed }
