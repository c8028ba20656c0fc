package sim

import (
	"slices"
	"time"

	"markread/consumer/event"
)

// quotaTerms is what a member's share depends on, as for consumer's members: a member publishes it
// when it joins, and the leader assigns partitions only to members with the same terms.
type quotaTerms struct {
	rate       int
	partitions [2]int // by lane
}

// staleAgainst reports whether the two differ only in the number of partitions: one of them has not
// detected new ones yet.
func (o quotaTerms) staleAgainst(other quotaTerms) bool {
	return o != other && o.rate == other.rate
}

func (o quotaTerms) all() int { return o.partitions[event.Live] + o.partitions[event.Backfill] }

// index returns the position of a log among all partitions.
func (o quotaTerms) index(l *log) int {
	if l.lane == event.Live {
		return l.number
	}
	return o.partitions[event.Live] + l.number
}

// staleFor is how long a member may use an old number of partitions.
const staleFor = int64(3 * time.Second)

// currentTerms returns the terms with which the member joins.
func (h *process) currentTerms() quotaTerms {
	k := &h.kafka
	o := quotaTerms{h.ownRate, k.partitions}
	if k.grownAt > 0 && h.now < k.grownAt+staleFor &&
		h.chance(0.5, dieGroup, 9<<32|uint64(h.id), uint64(h.now)) {
		o.partitions = k.before
	}
	return o
}

// grow adds partitions to a topic.
func (k *kafka) grow(w *world, lane event.Lane, more int) {
	k.before, k.grownAt = k.partitions, w.now
	for range more {
		l := &log{topic: "mark-read", number: k.partitions[lane], lane: lane, committed: -1}
		at := k.partitions[event.Live] // after the live ones, or at the end
		if lane == event.Backfill {
			l.topic, at = "mark-read-backfill", len(k.logs)
		}
		k.logs = slices.Insert(k.logs, at, l)
		k.partitions[lane]++
	}
	w.stats.grown += more
	w.note("partitions", -1, int64(lane), int64(k.partitions[lane]), 0)
}

// ofLane returns the logs of a lane.
func (k *kafka) ofLane(lane event.Lane) []*log {
	if n := k.partitions[event.Live]; lane == event.Backfill {
		return k.logs[n:]
	} else {
		return k.logs[:n]
	}
}

// rollOut restarts the workers one after the other, with another rate.
func (w *world) rollOut(p phase) {
	w.rateNow = max(1, int(float64(w.rate)*(0.4+0.6*p.strength)))
	if p.lane == 0 {
		w.rateNow = w.rate
	}
	for i, h := range w.workers {
		w.queue.push(entry{at: w.now + (p.to-p.from)*int64(i)/int64(len(w.workers)), kind: rolls,
			w: int16(i), life: h.life})
	}
}

// roll restarts this worker, unless it was already restarted.
func (h *process) roll() {
	switch {
	case h.ownRate == h.rateNow || h.leaving || h.stops:
	case h.gen == nil || !h.working:
		h.later(int64(time.Second), rolls, 0) // it is joining or draining
	default:
		h.stats.rolled++
		h.leave()
		h.rejoins = true
	}
}

// assign assigns the partitions to the members with the same terms as the leader, which is the
// first member. It schedules another rebalance soon if a number of partitions is not yet known.
func (g *group) assign(w *world) {
	leader := g.members[0].quotaTerms
	var agreed []member
	behind := leader.partitions != w.kafka.partitions
	for _, m := range g.members {
		if m.quotaTerms == leader {
			agreed = append(agreed, m)
			continue
		}
		behind = behind || leader.staleAgainst(m.quotaTerms)
		w.stats.mismatched++
	}
	if behind {
		w.queue.push(entry{at: w.now + int64(10*time.Second), kind: rebalanceDue})
	}
	shift := int(w.roll(dieGroup, 2<<32, uint64(g.generation)) % uint64(len(agreed)))
	for _, m := range g.members {
		h := w.workers[m.id]
		if h.life != m.life {
			continue
		}
		h.assigned, h.terms = []*log{}, m.quotaTerms
		i := slices.IndexFunc(agreed,
			func(a member) bool { return a.id == m.id && a.life == m.life })
		if i < 0 {
			continue
		}
		for _, l := range w.kafka.logs {
			if l.number < leader.partitions[l.lane] && (l.number+shift)%len(agreed) == i {
				h.assigned = append(h.assigned, l)
			}
		}
	}
}
