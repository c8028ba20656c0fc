package hold

import (
	"fmt"
	"time"
)

const (
	rejectionWindow    = 500    // so many outcomes of a lane are evaluated together,
	rejectionCalls     = 25     // of which so many must be calls, unless the records are bad
	acceptedRejections = 10_000 // what an operator accepts with one command
)

// NoteRecord notes that a record of the lane was read.
func (h *Holds) NoteRecord(lane int, invalid bool) { h.rejections[lane].read(invalid) }

// NoteOutcome notes the outcome of an event of the lane; why says why it was rejected or invalid,
// and code is the rejection's label.
func (h *Holds) NoteOutcome(now time.Time, lane int, as Outcome, why, code string) Change {
	e := &h.rejections[lane]
	if !e.note(as, h.maxRejected) || h.Held(Rejections, lane) {
		return Change{}
	}
	return h.begin(now, Hold{
		Reason: Rejections, Lane: lane, interval: rejectedProbe, Do: Rejections.Do(), Code: code,
		Detail: fmt.Sprintf("%d of the last %d events of this lane were rejected or invalid, "+
			"the last: %s", e.bad(), rejectionWindow, why),
	})
}

// AcceptRejections ends the holds for rejections; the next 10,000 events of their lanes that are
// rejected or invalid begin no new one. by is who accepted them.
func (h *Holds) AcceptRejections(by string) (change Change) {
	for lane := range h.rejections {
		if h.Held(Rejections, lane) {
			evidence := h.rejections[lane] // unchanged: the lane is as bad as before
			evidence.accepted = acceptedRejections
			change.add(h.end(Rejections, lane))
			h.rejections[lane] = evidence
		}
	}
	return change.endedByOperator(by)
}

// MemoryFull notes that the memory of a lane is full of events that wait for its hold for
// rejections: nothing newer is read, so a probe can't find that the events are good again.
func (h *Holds) MemoryFull(lane int) (change Change) {
	if i := h.find(Rejections, lane); i >= 0 && h.active[i].Do != memoryFullDo {
		h.active[i].Do = memoryFullDo
		change.CauseChanged = []Hold{h.active[i]}
	}
	return change
}

const memoryFullDo = "memory is full of rejected or invalid events, and newer ones are not read: " +
	"fix the configuration or the producer, then markread resume --accept-rejections, " +
	"which sends the next 10,000 of them to the dead letters, until good ones arrive"

// Outcome is how an event of a lane finished, as evidence.
type Outcome uint8

// The outcomes.
const (
	Called   Outcome = iota // by a call that was not rejected
	Rejected                // by a call that was rejected
	Invalid                 // without a call: the record is no event
	outcomes
)

// rejectionEvidence is what a lane's last outcomes say about its events. Calls finish more slowly
// than records are read: after a start with a backlog of which one record in a hundred is invalid,
// hundreds of invalid records finish before the first call does. So it is not enough that almost
// all outcomes were bad. Either almost all records that were read must be invalid, or the outcomes
// must include enough calls, and almost all of these must be rejected.
type rejectionEvidence struct {
	last     ring          // outcomes
	count    [outcomes]int // of each outcome in last
	records  ring          // 1: invalid
	invalid  int           // how many of records are invalid
	accepted int           // how many more bad outcomes begin no hold
}

// ring keeps the last rejectionWindow values.
type ring struct {
	values  [rejectionWindow]uint8
	n, next int
}

// put adds a value and returns the value that it replaces, if any.
func (r *ring) put(value uint8) (old uint8, full bool) {
	old, full = r.values[r.next], r.n == rejectionWindow
	r.values[r.next] = value
	r.next = (r.next + 1) % rejectionWindow
	r.n = min(r.n+1, rejectionWindow)
	return old, full
}

func (e *rejectionEvidence) read(invalid bool) {
	value := uint8(0)
	if invalid {
		value = 1
	}
	old, _ := e.records.put(value) // 0 until the ring is full
	e.invalid += int(value) - int(old)
}

func (e *rejectionEvidence) bad() int { return e.count[Rejected] + e.count[Invalid] }

// note notes an outcome, and reports whether percent of the last 500 are bad, which is a reason for
// a hold.
func (e *rejectionEvidence) note(as Outcome, percent int) bool {
	e.count[as]++
	if old, full := e.last.put(uint8(as)); full {
		e.count[old]--
	}
	if e.last.n < rejectionWindow {
		return false
	}
	tooMany := func(bad, all int) bool { return bad*100 >= percent*all }
	if !tooMany(2*e.bad(), rejectionWindow) {
		e.accepted = 0 // the operator accepted them for a problem that is over
	}
	if !tooMany(e.bad(), rejectionWindow) {
		return false
	}
	calls := e.count[Called] + e.count[Rejected]
	records := e.records.n == rejectionWindow && tooMany(e.invalid, rejectionWindow)
	if as == Called || !records && (calls < rejectionCalls || !tooMany(e.count[Rejected], calls)) {
		return false
	}
	if e.accepted > 0 {
		e.accepted--
		return e.accepted == 0
	}
	return true
}
