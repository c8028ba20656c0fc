package consumer

import "time"

// tracker knows which events of one partition have finished. It is a pure state machine: no lock, no clock.
//
// It tracks the order of arrival, not offsets: a log has holes (compaction, transaction markers, aborted
// transactions), and waiting for offset+1 would wait for ever. An event's arrival number stands for it.
//
// It needs 16 bytes an event, in chunks that are given back when all their events have finished.
type tracker struct {
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

// newTracker begins at position. committed is -1 when the group has no committed offset.
func newTracker(position, committed int64) tracker {
	return tracker{position: position, committed: committed}
}

func (t *tracker) slot(n uint64) *slot {
	return &t.chunks[(n-t.first&^chunkMask)/chunkSize][n&chunkMask]
}

// add takes the next record and returns its arrival number. Offsets must grow.
func (t *tracker) add(offset int64, at time.Time) uint64 {
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

// skip says that there is nothing to deliver before position.
func (t *tracker) skip(position int64) { t.position = max(t.position, position) }

// finish says that an event has reached its end, and returns the time that add was given: zero for events
// that were forgotten by a reset, which are ignored.
func (t *tracker) finish(n uint64) (at time.Time) {
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

// committable returns the offset up to which everything has finished.
func (t *tracker) committable() int64 {
	if t.first < t.end {
		return t.slot(t.first).offset
	}
	return t.position
}

// accept says that the group has committed offset, unless a reset came between: an offset of the old log
// must not pass for one of the new.
func (t *tracker) accept(offset int64) {
	if offset <= t.committable() {
		t.committed = offset
	}
}

// oldest returns the oldest event that has not finished.
func (t *tracker) oldest() (n uint64, offset int64, at time.Time, ok bool) {
	if t.first == t.end {
		return 0, 0, time.Time{}, false
	}
	s := t.slot(t.first)
	return t.first, s.offset, time.UnixMilli(s.time), true
}

// reset begins anew at position, which may lie before what is committed: the log is another one now. The
// events of the old log are forgotten; arrival numbers go on.
func (t *tracker) reset(position int64) {
	for t.first < t.end {
		t.finish(t.first)
	}
	t.position, t.committed = position, -1
}
