package engine

import (
	"errors"
	"strings"
	"time"

	"markread/consumer/event"
	"markread/imclient"
	"markread/worker/backlog"
	"markread/worker/hold"
)

// While the dead-letter topic refuses, one letter is tried so often; after so long that is a hold.
const (
	LetterRetry    = time.Second
	letterPatience = 5 * time.Second
)

// Letter is a dead letter on its way: its events finish when it is written.
type Letter struct {
	event.DeadLetter
	Refs   []uint64
	packed string // the record's key, value and headers, which the record has only while the letter is written
}

// letterQueue is the letters that are not yet acknowledged, in their order. How many and how large they are
// counts against the bounds of what is in memory (core.room).
type letterQueue struct {
	waiting      []*Letter
	parked       [backlog.Lanes][]*Letter // of invalid records, while their lane is held for rejections
	writing      int
	reserved     [backlog.Lanes]reserved
	refusedSince time.Time // since when the topic takes none; zero: it took the last
}

// reserved is what a lane's letters take in memory. unread is how many events they stand for that were never in
// memory: those of damaged records beyond one for each letter.
type reserved struct {
	letters, bytes int
	unread         uint64
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
	h := &q.reserved[l.Event.Lane]
	h.letters += n
	h.bytes += n * len(l.packed)
	h.unread += uint64(n) * l.unread() // modulo 2^64: n may be -1
}

// unread is how many events the letter stands for that were never in memory.
func (l *Letter) unread() uint64 {
	if l.Event.Record.Damage == nil {
		return 0
	}
	return uint64(l.Collapsed - 1)
}

func (q *letterQueue) len() (n int) {
	for _, h := range q.reserved {
		n += h.letters
	}
	return n
}

// refusing says whether the topic refused the last letters.
func (q *letterQueue) refusing() bool { return !q.refusedSince.IsZero() }

// release takes out the letters of a lane that were parked.
func (q *letterQueue) release(lane int) []*Letter {
	parked := q.parked[lane]
	q.parked[lane] = nil
	for _, l := range parked {
		q.reserve(l, -1)
	}
	return parked
}

// admit queues the letter of an invalid record. Like a rejected call it is evidence for a hold, and while
// that is on it waits.
func (c *Engine) admit(now time.Time, l *Letter) {
	lane := int(l.Event.Lane)
	if c.holds.Held(hold.Rejections, lane) {
		c.letters.park(l)
		c.noteMemoryFull(now, lane)
		return
	}
	c.letters.add(l)
	c.changed(now, c.holds.Ended(now, lane, hold.Invalid,
		"invalid: "+event.WithoutValue(l.Event.Invalid)))
}

// noteMemoryFull notes when a lane that is held for rejections can't read on: no good event will be found by itself.
func (c *Engine) noteMemoryFull(now time.Time, lane int) {
	if c.holds.Held(hold.Rejections, lane) && !c.HasCapacity(event.Lane(lane)) {
		c.changed(now, c.holds.MemoryFull(lane))
	}
}

// letterBytes bounds the packed records of the letters that are written at the same time, unless one is larger:
// unpacked, a record of very many headers takes twenty times as much.
const letterBytes = 1 << 20

// NextLetters hands out letters to be written, at most n, and one while the topic refuses; what became of
// them must be reported with wrote.
func (c *Engine) NextLetters(n int) []*Letter {
	q := &c.letters
	if q.refusing() {
		n = 1
	}
	n = min(n, len(q.waiting))
	bytes := 0
	for i, l := range q.waiting[:n] {
		if bytes += len(l.packed); i > 0 && bytes > letterBytes {
			n = i
			break
		}
		unpackParts(l.packed, &l.Event.Record)
	}
	batch := q.waiting[:n:n]
	q.waiting = q.waiting[n:]
	q.writing += n
	return batch
}

// ErrCutOff is the failure of a letter whose write was interrupted by a stop: the topic did not refuse it.
var ErrCutOff = errors.New("the write was cut off")

// LettersWritten takes in what became of a batch of letters: failures[i] is nil when the topic has batch[i]. The others
// go back to the front of the queue. It reports whether the topic refuses letters: then the next attempt should
// wait for letterRetry.
func (c *Engine) LettersWritten(now time.Time, batch []*Letter, failures []error) (refuses bool) {
	q := &c.letters
	q.writing -= len(batch)
	var refused []*Letter
	var failure error
	for i, l := range batch {
		if failures[i] == nil {
			c.written(now, l)
			continue
		}
		stripParts(&l.Event.Record)
		refused = append(refused, l)
		if failures[i] != ErrCutOff {
			failure = failures[i]
		}
	}
	if len(refused) > 0 {
		q.waiting = append(refused, q.waiting...)
	}
	switch {
	case failure != nil:
		if !q.refusing() {
			q.refusedSince = now
		}
		if failing := now.Sub(q.refusedSince); failing >= letterPatience || c.holds.Held(hold.DeadLetter, hold.All) {
			c.changed(now, c.holds.Set(now, hold.DeadLetter, "the dead-letter topic refuses letters: "+failure.Error(),
				hold.DeadLetter.Do(), now.Add(LetterRetry)))
		}
		return true
	case len(refused) == 0 && len(batch) > 0:
		q.refusedSince = time.Time{}
		c.changed(now, c.holds.Clear(hold.DeadLetter))
	}
	return false
}

// written ends the events that an acknowledged letter stands for.
func (c *Engine) written(now time.Time, l *Letter) {
	c.letters.reserve(l, -1)
	for _, ref := range l.Refs {
		c.settle(now, ref, DeadLettered)
	}
	c.counts[l.Event.Lane].Finished[DeadLettered] += l.unread()
	c.observer.LetterWritten(l)
}

// invalidLetter makes the letter of an invalid record, whose bytes it copies; of damaged records one letter for all.
func invalidLetter(now time.Time, e event.Event) *Letter {
	l := &Letter{Refs: []uint64{uint64(e.Ref)}, packed: packParts(&e.Record), DeadLetter: event.DeadLetter{
		Event: e, Class: "invalid", Message: e.Invalid.Error(), Collapsed: standsFor(&e), FailedAt: now,
	}}
	stripParts(&l.Event.Record)
	return l
}

// standsFor returns how many events an event stands for: one, unless its record is damaged.
func standsFor(e *event.Event) int {
	if e.Record.Damage == nil {
		return 1
	}
	return max(1, e.Record.Damage.Count)
}

// failedLetter takes the conversation out of the backlog.
func (c *Engine) failedLetter(now time.Time, class string, of *backlog.Conversation, failure *imclient.Error) *Letter {
	d := c.backlog.Drop(of)
	e := unpack(d.Payload, c.options.Topics)
	e.ReadTime = d.ReadTime
	e.Report, e.Peer = strings.Clone(e.Report), strings.Clone(e.Peer) // else they keep d.Payload alive
	packed := packParts(&e.Record)
	stripParts(&e.Record)
	return &Letter{Refs: d.Refs, packed: packed, DeadLetter: event.DeadLetter{
		Event: e, Class: class, Code: failure.Label, Message: failure.Error(),
		Attempts: int(of.Attempts), Collapsed: len(d.Refs), FailedAt: now,
	}}
}

// Idle reports that nothing is in flight: no call, and no letter that could be written now.
func (c *Engine) Idle() bool {
	return c.quota.InFlight() == 0 && c.letters.writing == 0 && (len(c.letters.waiting) == 0 || c.letters.refusing())
}

// HasLetters reports whether letters wait to be written.
func (c *Engine) HasLetters() bool { return len(c.letters.waiting) > 0 }
