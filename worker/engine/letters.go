package engine

import (
	"errors"
	"slices"
	"time"

	"markread/consumer/event"
	"markread/imclient"
	"markread/worker/backlog"
	"markread/worker/hold"
)

// While the topic refuses dead letters, one is tried per LetterRetry; after letterHoldAfter that is
// a hold.
const (
	LetterRetry     = time.Second
	letterHoldAfter = 5 * time.Second
)

// letterBatchBytes bounds the packed records of the dead letters that are written concurrently,
// unless a single one is larger: unpacked, a record with very many headers takes twenty times as
// much memory.
const letterBatchBytes = 1 << 20

// ErrInterrupted is the failure of a dead letter whose write a shutdown or a revoke interrupted;
// the topic did not refuse it.
var ErrInterrupted = errors.New("the write was interrupted")

// Letter is a dead letter to be written: its events finish when the topic acknowledges it.
type Letter struct {
	event.DeadLetter
	// for the log: what failed, which is Message without the remedy, and the remedy; "": none
	Reason, Do string
	Refs       []uint64
	packed     string // key, value and headers of the record, which has them only during the write
}

// notInMemory is how many events of the dead letter were never in memory: all damaged records but
// one.
func (l *Letter) notInMemory() uint64 {
	if l.Event.Record.Damage == nil {
		return 0
	}
	return uint64(l.Collapsed - 1)
}

// letterQueue holds the unacknowledged dead letters, in order.
type letterQueue struct {
	waiting      []*Letter
	parked       [backlog.Lanes][]*Letter // of invalid records, during a hold for rejections
	writing      []*Letter
	reserved     [backlog.Lanes]reserved
	refusedSince time.Time // since when the topic refuses all; zero: it accepted the last
}

// reserved is what a lane's dead letters use of the bounds of memory; see HasCapacity.
type reserved struct {
	letters, bytes int
	notInMemory    uint64
}

func (q *letterQueue) add(l *Letter) {
	q.reserve(l, 1)
	q.waiting = append(q.waiting, l)
}

func (q *letterQueue) park(l *Letter) {
	q.reserve(l, 1)
	q.parked[l.Event.Lane] = append(q.parked[l.Event.Lane], l)
}

func (q *letterQueue) reserve(l *Letter, n int) {
	r := &q.reserved[l.Event.Lane]
	r.letters += n
	r.bytes += n * len(l.packed)
	r.notInMemory += uint64(n) * l.notInMemory() // modulo 2^64: n may be -1
}

// refusing reports whether the topic refused the last dead letters.
func (q *letterQueue) refusing() bool { return !q.refusedSince.IsZero() }

// release removes the parked dead letters of a lane, and returns them.
func (q *letterQueue) release(lane int) []*Letter {
	parked := q.parked[lane]
	q.parked[lane] = nil
	for _, l := range parked {
		q.reserve(l, -1)
	}
	return parked
}

// admit queues the dead letter of an invalid record. It is evidence for a hold; during the hold it
// is parked.
func (e *Engine) admit(now time.Time, l *Letter) {
	lane := int(l.Event.Lane)
	if e.holds.Held(hold.Rejections, lane) {
		e.letters.park(l)
		e.noteMemoryFull(now, lane)
		return
	}
	e.letters.add(l)
	why := "invalid: " + event.WithoutValue(l.Event.Invalid)
	e.holdsChanged(now, e.holds.NoteOutcome(now, lane, hold.Invalid, why, ""))
}

// noteMemoryFull notes that a lane held for rejections has no capacity to read more: it can't find
// a good event.
func (e *Engine) noteMemoryFull(now time.Time, lane int) {
	if e.holds.Held(hold.Rejections, lane) && !e.HasCapacity(event.Lane(lane)) {
		e.holdsChanged(now, e.holds.MemoryFull(lane))
	}
}

// Idle reports whether nothing is in flight: no call, and no dead letter that could be written now.
func (e *Engine) Idle() bool {
	return e.quota.InFlight()+len(e.letters.writing) == 0 &&
		(!e.HasLetters() || e.letters.refusing())
}

// HasLetters reports whether dead letters wait to be written.
func (e *Engine) HasLetters() bool { return len(e.letters.waiting) > 0 }

// NextLetters returns at most n dead letters to write, and at most one while the topic refuses. The
// results must be reported with LettersWritten.
func (e *Engine) NextLetters(n int) []*Letter {
	q := &e.letters
	if q.refusing() {
		n = 1
	}
	n = min(n, len(q.waiting))
	bytes := 0
	for i, l := range q.waiting[:n] {
		if bytes += len(l.packed); i > 0 && bytes > letterBatchBytes {
			n = i
			break
		}
		unpackParts(l.packed, &l.Event.Record)
	}
	batch := q.waiting[:n:n]
	q.waiting = q.waiting[n:]
	q.writing = append(q.writing, batch...)
	return batch
}

// LettersWritten reports the results of a batch: failures[i] is nil if the topic has acknowledged
// batch[i]. The others return to the front of the queue. It reports whether the topic refuses dead
// letters: then the next attempt should wait for LetterRetry.
func (e *Engine) LettersWritten(now time.Time, batch []*Letter, failures []error) (refuses bool) {
	q := &e.letters
	if len(batch) > 0 { // a batch is in one piece
		i := slices.Index(q.writing, batch[0])
		q.writing = slices.Delete(q.writing, i, i+len(batch))
	}
	var left []*Letter
	var refusal error
	for i, l := range batch {
		if failures[i] == nil {
			e.written(now, l)
			continue
		}
		stripParts(&l.Event.Record)
		left = append(left, l)
		if failures[i] != ErrInterrupted {
			refusal = failures[i]
		}
	}
	if len(left) > 0 {
		q.waiting = append(left, q.waiting...)
	}
	switch {
	case refusal != nil:
		if !q.refusing() {
			q.refusedSince = now
		}
		if now.Sub(q.refusedSince) >= letterHoldAfter || e.holds.Held(hold.DeadLetter, hold.All) {
			e.setHold(now, hold.DeadLetter,
				"the dead-letter topic refuses dead letters: "+refusal.Error(),
				hold.DeadLetter.Do(), now.Add(LetterRetry))
		}
	case len(left) == 0 && len(batch) > 0:
		q.refusedSince = time.Time{}
		e.holdsChanged(now, e.holds.Clear(hold.DeadLetter))
	}
	return refusal != nil
}

// written finishes the events that an acknowledged dead letter stands for.
func (e *Engine) written(now time.Time, l *Letter) {
	e.letters.reserve(l, -1)
	for _, ref := range l.Refs {
		e.settle(now, ref, DeadLettered, nil)
	}
	e.counts[l.Event.Lane].Finished[DeadLettered] += l.notInMemory()
	e.options.Observer.LetterWritten(l)
}

// newLetter returns a dead letter with a copy of the record's bytes.
func newLetter(refs []uint64, d event.DeadLetter) *Letter {
	l := &Letter{DeadLetter: d, Reason: d.Message, Refs: refs, packed: packParts(&d.Event.Record)}
	stripParts(&l.Event.Record)
	return l
}

// invalidLetter returns the dead letter of an invalid record; indistinguishable damaged records
// share one.
func invalidLetter(now time.Time, ev event.Event) *Letter {
	ev.Report, ev.Peer = nil, nil // they share the fetched bytes, and would keep all of them
	return newLetter([]uint64{uint64(ev.Ref)}, event.DeadLetter{
		Event: ev, Class: "invalid", Message: ev.Invalid.Error(),
		Collapsed: standsFor(&ev), FailedAt: now,
	})
}

// standsFor returns how many events an event stands for: one, unless its record is damaged.
func standsFor(ev *event.Event) int {
	if ev.Record.Damage == nil {
		return 1
	}
	return max(1, ev.Record.Damage.Count)
}

// failedLetter removes the conversation from the backlog, and returns its dead letter.
func (e *Engine) failedLetter(
	now time.Time, class string, conv *backlog.Conversation, failure *imclient.Error,
) *Letter {
	attempts := conv.Attempts()
	d := e.backlog.Drop(conv)
	ev := unpack(d.Payload, d.ReadTime, e.options.Topics)
	refs := slices.AppendSeq(make([]uint64, 0, d.Refs.Len()), d.Refs.All())
	l := newLetter(refs, event.DeadLetter{
		Event: ev, Class: class, Code: failure.Label, Message: failure.Error(),
		Attempts: attempts, Collapsed: len(refs), FailedAt: now,
	})
	// Message begins with what failed: a substring of it needs no memory of its own.
	l.Reason, l.Do = l.Message[:len(failure.WithoutRemedy())], failure.RemedyWithoutRetry()
	return l
}
