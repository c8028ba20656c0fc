package sim

import (
	"errors"
	"time"

	"markread/consumer/event"
	"markread/worker/engine"
)

var errInvalid = errors.New("Report_Account is missing")

// appended wakes a fetch that waits at the end of the log.
func (h *process) appended(l *log) {
	if h.gen == nil || !h.working {
		return
	}
	for i := range h.gen.partitions {
		if p := &h.gen.partitions[i]; p.log == l && p.idle {
			p.idle = false
			h.fetchLater(i)
		}
	}
}

func (h *process) fetchLater(i int) {
	p := &h.gen.partitions[i]
	wait := h.span(time.Millisecond, 80*time.Millisecond, dieFetch,
		uint64(h.gen.unique)<<16|uint64(i), uint64(p.next))
	h.later(wait, fetched, int(h.gen.unique)<<16|i)
}

// fetch is the response to a fetch. Where it matters, the capacity was checked before the fetch was
// sent.
func (h *process) fetch(a int) {
	if h.gen == nil || int(h.gen.unique) != a>>16 || !h.working {
		return
	}
	i := a & (1<<16 - 1)
	p := &h.gen.partitions[i]
	if h.active[fetchFails] > 0 {
		h.later(int64(500*time.Millisecond), fetched, a)
		return
	}
	if !h.engine.HasCapacity(p.lane) {
		p.blocked = true
		h.stats.blocked[p.lane]++
		return
	}
	n := min(h.fetchMost, len(p.records)-p.next)
	if n == 0 {
		p.tracker.Skip(p.end)
		p.idle = true
		return
	}
	h.events = h.events[:0]
	for j := p.next; j < p.next+n; j++ {
		r := &p.records[j]
		arrival, attempts, finished := p.tracker.Add(r.offset, epoch.Add(time.Duration(r.at)))
		h.checkInherited(p, r, attempts, finished)
		if finished {
			continue
		}
		r.deliveries++
		r.receivedAt = h.now
		e := event.Event{
			Lane: p.lane, Report: []byte(h.kafka.names[r.conversation]), Peer: []byte(peer),
			ReadTime: r.readTime, EventTime: epoch.Add(time.Duration(r.at)),
			Record: event.Record{Topic: p.topic, Partition: p.number, Offset: r.offset},
			Ref:    event.Ref(uint64(i)<<arrivalBits | arrival), Attempts: attempts,
		}
		if r.invalid {
			e.Invalid, e.Report, e.Peer = errInvalid, nil, nil
		}
		h.events = append(h.events, e)
	}
	h.note("deliver", h.id, int64(i), int64(p.next), int64(n))
	p.next += n
	n = len(h.events)
	h.gen.received += uint64(n)
	h.engine.Receive(h.time(), h.events)
	h.afterReceive(p)
	h.shadow.holds.batch = n
	h.watchHolds()
	h.shadow.holds.batch = 0
	if p.next == len(p.records) {
		p.tracker.Skip(p.end)
	}
	h.checkCapacity(p.lane, n)
	h.fetchLater(i)
}

// resumeFetching resumes the fetches that waited for capacity.
func (h *process) resumeFetching() {
	if !h.working {
		return
	}
	for i := range h.gen.partitions {
		if p := &h.gen.partitions[i]; p.blocked && h.engine.HasCapacity(p.lane) {
			p.blocked = false
			h.fetchLater(i)
		}
	}
}

// Finish implements Tracker: the engine reports that an event is finished. The server and the
// dead-letter topic show whether it is.
func (g *generation) Finish(ref event.Ref) (event.Lane, time.Time) {
	h := g.process
	p := &g.partitions[ref>>arrivalBits]
	arrival := uint64(ref) & (1<<arrivalBits - 1)
	r := &p.records[p.first+int(arrival)]
	if r.finishedIn == g.unique {
		h.fail("loss", "offset %d of %s/%d is finished twice", r.offset, p.topic, p.number)
	}
	r.finishedIn = g.unique
	if p.owner == g {
		r.done, r.changedAt = true, h.now
	}
	if !h.world.finished(r) {
		h.fail("loss", "offset %d of %s/%d (%s at %d) is finished, but the server has %d and "+
			"there is no dead letter", r.offset, p.topic, p.number, h.kafka.names[r.conversation],
			r.readTime, h.server.readStates[r.conversation].largest)
	}
	g.finished++
	if !h.shadow.writing {
		h.shadow.conversations[r.conversation].events--
	}
	return p.lane, p.tracker.Finish(arrival)
}

// Attempted implements Tracker.
func (g *generation) Attempted(ref event.Ref, attempts int) {
	if r := g.record(uint64(ref)); g.partitions[ref>>arrivalBits].owner == g {
		r.attempts, r.changedAt = attempts, g.process.now
	}
	g.process.shadow.attemptsReported = attempts
	g.partitions[ref>>arrivalBits].tracker.Attempted(uint64(ref)&(1<<arrivalBits-1), attempts)
}

// record returns the record that a Ref identifies.
func (g *generation) record(ref uint64) *record {
	p := &g.partitions[ref>>arrivalBits]
	return &p.records[p.first+int(ref&(1<<arrivalBits-1))]
}

// commitDue is a tick of the commit ticker, or a retry of the last commit.
func (h *process) commitDue(generation int) {
	if h.gen == nil || h.gen.number != generation {
		return
	}
	h.checkSums()
	if len(h.committing) == 0 && !h.commit() && h.drained {
		h.markAllKnown()
		h.endGeneration()
		return
	}
	if !h.drained {
		h.later(h.commitEvery, commitDue, generation)
	}
}

// commit sends the offsets that have advanced. It returns false if none has.
func (h *process) commit() bool {
	for i := range h.gen.partitions {
		p := &h.gen.partitions[i]
		if c, news := p.tracker.Commit(metadataMost); news {
			h.committing = append(h.committing, commitment{p.log, i, c, h.now})
		}
	}
	if len(h.committing) == 0 {
		return false
	}
	h.commits++
	id := uint64(h.id)<<40 | uint64(h.commits)
	h.later(h.span(time.Millisecond, 100*time.Millisecond, dieCommit, id, 2), commitArrives,
		h.commits)
	return true
}

func (h *process) commitEnded(refusal int) {
	if h.gen == nil {
		return
	}
	ok, fenced := refusal == 0, refusal == 2
	if ok {
		for _, c := range h.committing {
			h.gen.partitions[c.index].tracker.Accept(c.Commit)
		}
	}
	h.committing = h.committing[:0]
	switch {
	case !h.drained:
	case ok:
		h.commitDue(h.gen.number)
	case fenced, h.now > h.lastCommitUntil:
		h.endGeneration()
	default:
		h.later(int64(300*time.Millisecond), commitDue, h.gen.number)
	}
}

// letterTopic is a model of the dead-letter topic. Its content is noted in the records.
type letterTopic struct {
	*world
}

const (
	invalidClass = iota
	rejectedClass
	exhaustedClass
)

func classOf(l *engine.Letter) int {
	switch l.Class {
	case "invalid":
		return invalidClass
	case "rejected":
		return rejectedClass
	}
	return exhaustedClass
}

// write stores a dead letter or not, and returns whether the writer gets an acknowledgement, and
// after how long.
func (t *letterTopic) write(h *process, l *engine.Letter) (acked bool, took int64) {
	r := h.gen.record(l.Refs[len(l.Refs)-1])
	id := uint64(r.offset)<<20 | uint64(r.conversation)
	n := uint64(h.writes)
	took = t.span(time.Millisecond, 50*time.Millisecond, dieLetter, id, n)
	if t.active[lettersSlow] > 0 {
		took += int64(t.unit(dieLetter, id, n+1<<40) * 4 * float64(time.Second))
	}
	if t.active[lettersRefused] > 0 {
		t.stats.lettersRefused++
		return false, took
	}
	lost := t.active[lettersLost] > 0 && t.chance(0.3, dieLetter, id, n+2<<40)
	t.store(h, l, lost)
	return !lost, took
}

func (t *letterTopic) store(h *process, l *engine.Letter, lost bool) {
	h.checkLetter(l)
	for _, ref := range l.Refs {
		r := h.gen.record(ref)
		r.dead++
		if lost {
			r.lost++
		}
		if r.dead > r.deliveries+r.lost {
			t.fail("letters", "offset %d of %s has %d dead letters; it was delivered %d times, "+
				"and %d acknowledgements were lost", r.offset, t.kafka.names[r.conversation],
				r.dead, r.deliveries, r.lost)
		}
	}
	if lost {
		t.stats.lettersLost++
	}
	t.stats.letters[classOf(l)]++
	t.note("letter", h.id, l.Event.Record.Offset, int64(classOf(l)), int64(len(l.Refs)))
}

// writeLetters starts to write the waiting dead letters, as Worker.writeLetters does.
func (h *process) writeLetters() {
	if h.writing != nil || h.writeBackoff || h.drained {
		return
	}
	batch := h.engine.NextLetters(letterBatch)
	if len(batch) == 0 {
		return
	}
	h.writes++
	h.writing, h.acked = batch, make([]bool, len(batch))
	longest := int64(0)
	for i, l := range batch {
		acked, took := h.letters.write(h, l)
		h.acked[i] = acked
		longest = max(longest, took)
	}
	h.later(longest, lettersEnd, h.writes)
}

// lettersEnded reports the results of a batch.
func (h *process) lettersEnded(n int, cut bool) {
	if h.gen == nil || h.writing == nil || n != h.writes {
		return
	}
	batch := h.writing
	h.writing = nil
	if h.wrote(batch, h.acked, cut) && !cut {
		h.writeBackoff = true
		h.later(int64(engine.LetterRetry), lettersDue, 0)
	}
}
