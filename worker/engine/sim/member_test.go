package sim

import (
	"time"

	"markread/consumer/offsets"
	"markread/worker/quota"
)

// revoke starts the end of the generation: no new calls; calls and dead letters in flight have the
// drain timeout.
func (h *process) revoke() {
	h.working = false
	h.wakes++
	h.note("revoked", h.id, int64(h.gen.number), 0, 0)
	h.later(h.drainTimeout, drainEnds, h.gen.number)
	if h.on[freeze] && h.chance(0.7, dieGroup, 7<<32|uint64(h.id), uint64(h.gen.unique)) {
		// beyond the end of the drain, where calls and timers race
		h.later(h.drainTimeout-int64(2*time.Second), freezes, h.gen.number)
	}
}

func (h *process) onRebalance(generation int) {
	switch {
	case generation != h.kafka.group.generation:
	case h.gen != nil && h.gen.number == generation && h.working:
		h.revoke()
	case h.gen == nil:
		// it may not know yet that it is a member
		h.later(int64(50*time.Millisecond), rebalanceSeen, generation)
	}
}

// proofLimit is how old a proof of membership may be: the rest of the session is for a call, plus a
// second.
const proofLimit = int64(session - 5*time.Second - time.Second)

// proofAge is the age of the proof, by the clock that shows the greater age.
func (h *process) proofAge() int64 { return max(h.now-h.proof, h.now+h.wall-h.proofWall) }

// membershipLost returns why no call may be sent.
func (h *process) membershipLost() error {
	if h.proofAge() > proofLimit {
		return errUnproven
	}
	return nil
}

// beat sends a heartbeat, and the next one in a second.
func (h *process) beat(generation int) {
	if h.gen == nil || h.gen.number != generation {
		return
	}
	h.later(int64(time.Second), beats, generation)
	h.beatsSent++
	lost := h.active[beatsLost] > 0
	if !lost || h.current[beatsLost].strength < 0.5 { // only its response is lost
		h.kafka.group.beat(h.world, h.id, h.life)
	}
	if lost {
		return
	}
	response := entry{at: h.now + h.span(time.Millisecond, 800*time.Millisecond, dieGroup,
		8<<32|uint64(h.id), uint64(h.beatsSent)),
		kind: proven, w: int16(h.id), life: h.life, a: generation,
		seen: [2]int64{h.now, h.now + h.wall}}
	if h.gen.expired {
		response.kind = expelled
	}
	h.queue.push(response)
}

// proven is the response to a heartbeat: the proof dates from the request.
func (h *process) proven(e entry) {
	if h.gen != nil && h.gen.number == e.a && e.seen[0] > h.proof {
		h.proof, h.proofWall = e.seen[0], e.seen[1]
	}
}

// leave stops the process; rejoin starts it again.
func (h *process) leave() {
	if h.gen != nil && h.working {
		h.leaving = true
		h.revoke()
	}
}

func (h *process) rejoin() {
	switch {
	case h.leaving:
		h.rejoins = true
	case !h.running() && h.engine == nil:
		h.start()
	}
}

// kill ends the process. What it sent continues.
func (h *process) kill() {
	if !h.running() {
		return
	}
	h.stats.kills++
	h.life++
	h.reset()
}

func (h *process) reset() {
	h.engine, h.gen, h.working, h.leaving = nil, nil, false, false
	h.frozenUntil = 0
}

// interruptAll interrupts everything in flight.
func (h *process) interruptAll() {
	h.note("cut off", h.id, int64(len(h.calls)), int64(len(h.writing)), 0)
	for len(h.calls) > 0 {
		r := h.calls[0]
		h.forget(r)
		r.cut = true
		h.stats.cutCalls++
		h.shadow.cutOff(r)
		h.engine.CallInterrupted(h.time(), r.Call)
	}
	if len(h.writing) > 0 {
		clear(h.acked) // the writer gets no acknowledgement
		h.stats.cutLetters += len(h.writing)
		h.lettersEnded(h.writes, true)
	}
	h.endDrain()
}

func (h *process) endDrain() {
	h.drained = true
	h.lastCommitUntil = h.now + int64(5*time.Second)
	if len(h.committing) == 0 && !h.commit() {
		h.markAllKnown()
		h.endGeneration()
	}
}

func (h *process) endGeneration() {
	h.checkSums()
	h.shadow.holds.cause = "generation ends"
	h.engine.End(h.time())
	h.watchHolds()
	h.shadow.holds.cause = ""
	h.checkNothingLeft()
	h.note("generation ends", h.id, int64(h.gen.number), 0, 0)
	g := h.gen
	h.gen, h.drained = nil, false
	for i := range g.partitions {
		if l := g.partitions[i].log; l.owner == g {
			l.owner = nil
		}
	}
	if !h.leaving {
		h.later(h.span(time.Millisecond, 100*time.Millisecond, dieGroup, 6<<32|uint64(h.id),
			uint64(g.unique)), joins, 0)
		return
	}
	life, returns := h.life, h.rejoins
	h.stats.left++
	h.life++
	h.reset()
	h.kafka.group.remove(h.world, h.id, life)
	if returns {
		h.start()
	}
}

// beginGeneration does what Worker.begin does.
func (h *process) beginGeneration(number int) {
	if number != h.kafka.group.generation {
		h.kafka.group.join(h.world, h) // the next generation is already being created
		return
	}
	h.stats.unique++
	g := &generation{process: h, number: number, unique: h.stats.unique, started: h.now}
	var owned []int
	for _, l := range h.assigned {
		owned = append(owned, h.terms.index(l))
		l.owner = g
		t := offsets.New(max(l.committed, 0), l.committed)
		h.inherit(l, &t)
		g.partitions = append(g.partitions,
			assignedPartition{log: l, tracker: t, first: l.settled, next: l.settled})
	}
	g.expired = !h.kafka.group.isMember(h.id, h.life, number)
	h.proof, h.proofWall = h.kafka.group.generationAt, h.kafka.group.generationAt+h.wall
	h.later(int64(h.unit(dieGroup, 5<<32, uint64(h.id)<<32|uint64(g.unique))*float64(time.Second)),
		beats, number)
	h.gen, h.working, h.drained, h.writeBackoff = g, true, false, false
	h.writing, h.committing, h.lastCommitUntil = nil, nil, 0
	h.shadow.begin(h.conversations)
	h.shadow.holds.lastProbed = -1
	now := h.time()
	all := h.terms.all()
	if len(h.assigned) == 0 {
		h.shadow.holds.cause = "nothing to probe with"
	}
	h.engine.Begin(now, g, len(h.assigned), all)
	h.watchHolds()
	h.shadow.holds.cause = ""
	// with more partitions than before the wait becomes shorter
	for i := range h.shadow.holds.active {
		if a := &h.shadow.holds.active[i]; a.interval > 0 {
			wait := time.Duration(float64(a.interval) * h.spread())
			a.notBefore = min(a.notBefore, h.now+int64(wait)-holdSlack(wait))
		}
	}
	h.setShare(quota.Share(h.ownRate, all, owned))
	h.note("generation", h.id, int64(number), int64(len(h.assigned)),
		int64(h.engine.State(now).Limit))
	for i := range g.partitions {
		h.fetchLater(i)
	}
	h.later(h.commitEvery, commitDue, number)
}
