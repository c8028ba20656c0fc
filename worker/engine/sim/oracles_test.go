package sim

import (
	"time"

	"markread/consumer/event"
	"markread/worker/engine"
	"markread/worker/hold"
)

// check checks everything once per second.
func (w *world) check() {
	for _, h := range w.workers {
		if h.engine == nil {
			continue
		}
		h.watchKey()
		if h.gen != nil {
			h.checkIdle()
			h.checkSums()
		}
	}
	if w.faultsOver {
		w.checkDrained()
	}
	if w.drainedAt == 0 {
		w.queue.push(entry{at: w.now + int64(time.Second), kind: checkDue})
	} else {
		w.queue.push(entry{at: w.now + int64(2*time.Second), kind: checkDue})
	}
}

// checkSums checks the contract's sum: received = outcomes + backlog + returned.
func (h *process) checkSums() {
	inMemory, deadLettered, applied := uint64(0), uint64(0), uint64(0)
	state := h.engine.State(h.time())
	for lane, n := range state.Counts {
		applied += n.Finished[engine.Applied]
		inMemory += n.Unsettled()
		sum := n.Returned + n.Unsettled()
		for o, k := range n.Finished {
			sum += k
			if engine.Outcome(o) == engine.DeadLettered {
				deadLettered += k
			}
		}
		if sum != n.Received {
			h.fail("sums", "worker %d, lane %d: %+v", h.id, lane, n)
		}
	}
	if left := h.gen.received - h.gen.finished; inMemory != left {
		h.fail("sums", "worker %d: %d events in memory, it reports %d", h.id, left, inMemory)
	}
	if deadLettered != h.shadow.writtenRefs {
		h.fail("sums", "worker %d: %d events dead-lettered, it reports %d", h.id,
			h.shadow.writtenRefs, deadLettered)
	}
	if n := h.inMemory(); n != h.shadow.inMemory {
		h.fail("sums", "worker %d: %d conversations in memory, it reports %d", h.id,
			h.shadow.inMemory, n)
	}
	if state.InFlight != len(h.calls) {
		h.fail("leak", "worker %d: %d calls in flight, %d permits", h.id, len(h.calls),
			state.InFlight)
	}
	if applied != h.succeeded {
		h.fail("sums", "worker %d: %d calls succeeded, it reports %d events were applied", h.id,
			h.succeeded, applied)
	}
}

// checkNothingLeft checks that nothing is left of a generation.
func (h *process) checkNothingLeft() {
	state := h.engine.State(h.time())
	for lane, n := range state.Counts {
		if n.Unsettled() != 0 {
			h.fail("leak", "worker %d, lane %d: %d events are left of a generation", h.id, lane,
				n.Unsettled())
		}
	}
	if state.InFlight != 0 {
		h.fail("leak", "worker %d: %d permits in use between generations", h.id, state.InFlight)
	}
}

// checkCapacity checks the bounds of memory: fetching continued only below them. While a lane is
// held for rejections, each lane has half of them for itself; if that hold began with this
// delivery, the bounds were still the shared ones.
func (h *process) checkCapacity(lane event.Lane, delivered int) {
	half := [2]int{(h.maxPending + 1) / 2, h.maxEvents / 2}
	var used [2][2]int // of each lane: conversations and dead letters, events
	state := h.engine.State(h.time())
	for l := range used {
		used[l] = [2]int{state.Conversations[l] + state.Letters[l],
			int(state.Counts[l].Unsettled())}
	}
	separate := h.held(hold.Rejections, int(event.Live)) ||
		h.held(hold.Rejections, int(event.Backfill))
	for i, most := range [2]int{h.maxPending, h.maxEvents} {
		live, backfill := used[event.Live][i], used[event.Backfill][i]
		ok := live+min(backfill, half[i]) < most+delivered
		if lane == event.Backfill {
			ok = live+backfill < half[i]+delivered
		}
		if !ok && !(separate && used[lane][i] < half[i]+delivered) {
			h.fail("memory", "worker %d: of %d conversations, or events, %d are live and %d "+
				"backfill; the lane %v continued", h.id, most, live, backfill, lane)
		}
	}
}

// endFaults ends the faults and the load: from now on everything must drain.
func (w *world) endFaults() {
	w.note("quiet", -1, 0, 0, 0)
	w.faultsOver = true
	w.keyFile = w.server.key
	w.active = [faults]int{}
	for _, h := range w.workers {
		h.rejoin()
		h.resume(false)
		// With fewer permits than partitions some members can't call; one member with all of them
		// can.
		if h.id > 0 && w.rateNow < len(w.kafka.logs) {
			h.stops = true
		}
	}
	w.setDrainBy()
}

// setDrainBy sets by when everything must have drained: 75 seconds for expiring sessions, backoff
// and probes, and the time that the calls take at nine tenths of the permits, which is 190 calls
// per second of 200. More time is needed because members share the probes of their group, so each
// waits longer for its own, and twice as long if the first probe is refused for a signature from
// before; because a pause that the server asked for is observed; and because a reduced limit needs
// 80 seconds to grow back. It is called again for each generation: when the faults end there may be
// no member.
func (w *world) setDrainBy() {
	bound := 75 * time.Second
	for _, h := range w.workers {
		if h.engine == nil || h.assigned == nil {
			continue
		}
		spread := h.spread()
		seconds := 75 + 3*(spread-1)
		for _, a := range h.shadow.holds.active {
			seconds = max(seconds, 75+(2*spread-1)*a.interval.Seconds())
		}
		events := 0
		for _, l := range h.assigned {
			for j := l.settled; j < len(l.records); j++ {
				if h.gen == nil || l.records[j].finishedIn != h.gen.unique {
					events++
				}
			}
		}
		latency := (w.latency + w.jitter/4).Seconds()
		perCall := (1.005 + latency) / 0.9 / float64(max(1, h.shadow.holds.share))
		// Little memory and small fetches take time, too.
		capacity := max(1, min(w.maxPending, w.maxEvents/2)/2-1)
		perCall = max(perCall, (latency+0.1)/float64(min(capacity, w.fetchMost)))
		seconds += float64(events) * perCall
		seconds += max(0, time.Duration(h.shadow.holds.pausedTo-w.now).Seconds())
		if state := h.engine.State(h.time()); state.Limit < state.Share {
			seconds += 80
		}
		bound = max(bound, time.Duration(seconds*float64(time.Second)))
	}
	w.drainBy = max(w.drainBy, w.now+int64(bound))
}

// checkDrained checks whether everything has drained, and that it doesn't take too long.
func (w *world) checkDrained() {
	if w.drainedAt > 0 {
		return
	}
	for _, h := range w.workers {
		switch {
		case h.stops && h.gen != nil && h.working:
			h.leave()
		case h.engine != nil &&
			h.shadow.holds.heldFor(h.now, hold.Rejections) > int64(20*time.Second):
			h.resume(true) // only an operator ends the hold if all remaining events are wrong
		}
	}
	drained := true
	for _, l := range w.kafka.logs {
		drained = drained && l.committed == l.end
	}
	for _, h := range w.workers {
		drained = drained && (h.gen == nil || h.engine.Idle() && len(h.committing) == 0)
	}
	if drained {
		w.drainedAt = w.now
		w.stats.drained += time.Duration(w.now - w.length)
		w.stats.tightest = max(w.stats.tightest,
			float64(w.now-w.length)/float64(w.drainBy-w.length))
		return
	}
	if w.now > w.drainBy {
		for _, l := range w.kafka.logs {
			if l.committed != l.end {
				w.fail("liveness", "%s/%d is committed up to %d of %d, %v after the faults were "+
					"over, by worker %v", l.topic, l.number, l.committed, l.end,
					time.Duration(w.now-w.length), l.ownerState())
			}
		}
		w.fail("liveness", "dead letters or commits are still in flight %v after the faults were "+
			"over", time.Duration(w.now-w.length))
	}
}

func (v *holdView) heldFor(now int64, reason hold.Reason) int64 {
	for _, a := range v.active {
		if a.reason == reason {
			return now - a.since
		}
	}
	return 0
}

func (l *log) ownerState() any {
	if l.owner == nil {
		return "nobody"
	}
	h := l.owner.process
	held := []any{h.id}
	for _, a := range h.engine.Holds() {
		held = append(held, string(a.Reason))
	}
	state := h.engine.State(h.time())
	return append(held, state.Conversations, state.Letters)
}

func (w *world) done() bool { return w.drainedAt > 0 && w.now > w.drainedAt+int64(2*time.Second) }

// finalChecks checks the final state, in which nothing may be in flight or waiting.
func (w *world) finalChecks() {
	largest := make([]int64, w.conversations)
	for _, l := range w.kafka.logs {
		if l.committed != l.end || l.settled != len(l.records) {
			w.fail("loss", "%s/%d: %d committed of %d, at rest", l.topic, l.number, l.committed,
				l.end)
		}
		for i := range l.records {
			r := &l.records[i]
			if r.invalid && r.dead == 0 {
				w.fail("letters", "no dead letter of the invalid offset %d", r.offset)
			}
			if !r.invalid && r.dead == 0 {
				largest[r.conversation] = max(largest[r.conversation], r.readTime)
			}
			w.stats.repeated += int(max(1, r.deliveries)) - 1
		}
	}
	for i, t := range w.server.readStates {
		if t.largest < largest[i] {
			w.fail("loss", "%s: the server has %d, the largest T is %d", w.kafka.names[i],
				t.largest, largest[i])
		}
	}
	for _, h := range w.workers {
		if h.gen == nil {
			continue
		}
		h.checkSums()
		state := h.engine.State(h.time())
		if n := state.Cooling; n != 0 && w.now-h.gen.started > int64(1100*time.Millisecond) {
			w.fail("leak", "worker %d: %d permits still cool", h.id, n)
		}
		if state.Conversations != [2]int{} || state.Letters != [2]int{} || state.InFlight != 0 ||
			len(h.calls) != 0 {
			w.fail("leak", "worker %d: %d conversations, %d dead letters, %d calls are left", h.id,
				state.Conversations, state.Letters, len(h.calls))
		}
		for i := range h.gen.partitions {
			p := &h.gen.partitions[i]
			if p.tracker.Committable() != p.end {
				w.fail("leak", "worker %d: %s/%d could be committed up to %d of %d", h.id, p.topic,
					p.number, p.tracker.Committable(), p.end)
			}
		}
	}
}
