// Package offsets tracks which events of a partition have finished, and calculates what may be
// committed: the offset at the end of the contiguous finished prefix, never more, and metadata
// about the events beyond it for the partition's next owner. It is a pure state machine without
// locks, clock or I/O: it does not read or commit, and does not decide when to commit.
//
// It promises:
//   - Damaged or forged metadata never makes an event count as finished that was written after the
//     commit. Metadata of another log is detected if the caller checks Fingerprint. Metadata that
//     is ignored causes repeated events, never lost ones.
//   - Metadata fits into the given limit. Events for which there is no space are repeated.
//   - It needs 8 bytes for each unfinished event, 16 in unusual logs.
//
// Non-obvious: it tracks arrival order, not offsets, because logs have holes. After a Reset, late
// calls of Finish and Accept for the old log have no effect.
package offsets

import "time"

// Tracker tracks one partition. New returns one. It is not safe for concurrent use.
//
// It tracks the order of arrival, not offsets: a log has holes (compaction, transaction markers,
// aborted transactions), and waiting for offset+1 would wait forever. An arrival number identifies
// an event. The events are in chunks that are released when all of a chunk's events have finished.
type Tracker struct {
	chunks    []*chunk // chunks[0] holds the arrival numbers starting at first&^chunkMask
	spare     *chunk   // one emptied chunk, so that a steady flow allocates nothing
	first     uint64   // arrival number of the oldest event that has not finished
	end       uint64   // arrival number of the next event
	position  int64    // next offset to read: all before it is delivered, or will never exist
	committed int64    // the group's committed offset; -1: none

	inherited    []span      // the previous owner's knowledge of events not read yet, in order
	fingerprint  fingerprint // identifies the log that inherited is about
	version      uint64      // grows with each change to the metadata of a commit
	accepted     uint64      // the committed version
	resetVersion uint64      // the version at the last Reset
}

// New returns a tracker that starts reading at position. committed is the group's committed offset;
// -1: none.
func New(position, committed int64) Tracker {
	return Tracker{position: position, committed: committed}
}

func (t *Tracker) chunk(n uint64) *chunk { return t.chunks[(n-t.first&^chunkMask)/chunkSize] }

func (t *Tracker) slot(n uint64) slot { return t.chunk(n).get(n) }

// Add adds the next record. Its offset must be larger than the previous record's. Add returns the
// arrival number, and what an earlier owner knew of the event: its counted attempts, or that it has
// finished and must not be delivered.
func (t *Tracker) Add(offset int64, at time.Time) (n uint64, attempts int, finished bool) {
	n = t.end
	s := slot{offset, uint64(min(max(at.UnixMilli(), 0), maxTime))}
	if int((n-t.first&^chunkMask)/chunkSize) == len(t.chunks) {
		c := t.spare
		if t.spare = nil; c == nil {
			c = new(chunk)
		}
		c.start(s)
		t.chunks = append(t.chunks, c)
	} else {
		t.chunk(n).set(n, s)
	}
	attempts, finished = t.inherit(offset)
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

// Skip records that there is nothing to deliver before position.
func (t *Tracker) Skip(position int64) { t.position = max(t.position, position) }

// Finish marks an event as finished, and returns the time that was passed to Add; zero: the event
// is not tracked, or a Reset has dropped it.
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
	c := t.chunk(n)
	s := c.get(n)
	s.offset = ^s.offset
	c.set(n, s)
	c.finished++
	for t.first < t.end && t.slot(t.first).offset < 0 {
		if t.first++; t.first&chunkMask == 0 {
			t.spare, t.chunks[0] = t.chunks[0], nil
			t.chunks = t.chunks[1:]
		}
	}
}

// Attempted stores how many counted attempts an event has had, for the next owner.
func (t *Tracker) Attempted(n uint64, attempts int) {
	if n < t.first || n >= t.end || t.slot(n).offset < 0 {
		return
	}
	t.version++
	t.attempted(n, attempts)
}

func (t *Tracker) attempted(n uint64, attempts int) {
	c := t.chunk(n)
	s := c.get(n)
	if s.attempts() == 0 {
		c.attempted++
	}
	s.state = s.state&maxTime | uint64(min(attempts, maxAttempts))<<timeBits
	c.set(n, s)
}

// Committable returns the offset before which every event has finished.
func (t *Tracker) Committable() int64 {
	if t.first < t.end {
		return t.slot(t.first).offset
	}
	return t.position
}

// Commit is what may be committed: the offset before which every event has finished, and metadata
// about the events beyond it.
type Commit struct {
	Offset   int64
	Metadata string
	version  uint64
}

// Commit returns what may be committed now, with at most limit bytes of metadata, and whether it
// differs from the last accepted commit.
func (t *Tracker) Commit(limit int) (c Commit, changed bool) {
	c = Commit{t.Committable(), t.metadata(limit), t.version}
	return c, c.Offset > t.committed || c.version != t.accepted
}

// Accept records that the group has committed c. It ignores a c from before the last Reset, because
// its offset belongs to the old log.
func (t *Tracker) Accept(c Commit) {
	if c.version >= t.resetVersion {
		t.committed, t.accepted = c.Offset, c.version
	}
}

// Oldest returns the oldest unfinished event; ok is false if there is none.
func (t *Tracker) Oldest() (n uint64, offset int64, at time.Time, ok bool) {
	if t.first == t.end {
		return 0, 0, time.Time{}, false
	}
	s := t.slot(t.first)
	return t.first, s.offset, s.time(), true
}

// Reset starts again at position, which may lie before the committed offset, because the log was
// replaced. It drops the events of the old log; arrival numbers continue.
func (t *Tracker) Reset(position int64) {
	for t.first < t.end {
		t.Finish(t.first)
	}
	t.position, t.committed = position, -1
	t.inherited = nil
	t.version++
	t.resetVersion = t.version
}

// Position returns the next offset to read; negative: the start is not known yet.
func (t *Tracker) Position() int64 { return t.position }

// Committed returns the group's committed offset; -1: none.
func (t *Tracker) Committed() int64 { return t.committed }
