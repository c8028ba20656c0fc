package history

import (
	"time"

	"markread/worker/console/sample"
)

// settled is how long after its end a slot may still change: members are read one after the other,
// up to a scrape's interval and timeout before Add.
const settled = 4 * time.Second

// History is the history of a group; a worker's is one of a group with one member.
type History struct {
	rings [2]ring // of Hour and Day
	last  map[string]*sample.Member
	at    time.Time // of the last Add
}

// New returns an empty history.
func New() *History {
	return &History{rings: [2]ring{newRing(Hour), newRing(Day)}, last: map[string]*sample.Member{}}
}

// Add adds the members' counters and gauges at one moment, by the members' names. A member's first
// sample, and the first one after its counters began again, only set the base for the next
// increase; see sample.Base.
func (h *History) Add(at time.Time, members map[string]*sample.Member) {
	at = at.Round(0) // the slots follow the wall clock, also when it is set
	back := h.at.Sub(at)
	if back > 0 && !h.at.IsZero() {
		clear(h.last) // the clock was set back: no interval is known
	}
	if back >= 0 && back <= sample.MaxGap {
		return // this time is already covered
	}
	var gauges slot
	var increases []interval
	bases := make(map[string]*sample.Member, len(members))
	for name, m := range members {
		if m == nil {
			continue
		}
		gauges.addGauges(m)
		prev := h.last[name]
		if prev != nil && !m.At.After(prev.At) {
			bases[name] = prev // read once, passed twice
			continue
		}
		bases[name] = m
		if base := sample.Base(prev, m); base != nil {
			increases = append(increases, increase(base, m))
		}
	}
	for name, prev := range h.last {
		if bases[name] == nil && at.Sub(prev.At) <= sample.MaxGap {
			bases[name] = prev // silent, but not for long
		}
	}
	h.last = bases
	for i := range h.rings {
		r := &h.rings[i]
		r.advance(at)
		if len(members) > 0 {
			r.at(r.number(at)).setGauges(&gauges)
		}
		for _, in := range increases {
			r.spread(in, at)
		}
		if len(increases) > 0 && !h.at.IsZero() && at.Sub(h.at) <= sample.MaxGap {
			r.cover(h.at, at)
		}
	}
	h.at = at
}

// Slot values. Those before gaugesFrom are increases, the others are the latest gauges.
const (
	callsFrom    = 0
	inFrom       = callsFrom + len(sample.Results)
	outFrom      = inFrom + sample.Lanes
	letters      = outFrom + len(sample.Outcomes)
	agesFrom     = letters + 1
	agesOf       = len(sample.AgeBounds) + 1
	gaugesFrom   = agesFrom + sample.Lanes*agesOf
	quotaRate    = gaugesFrom
	quotaLimit   = gaugesFrom + 1
	backlogFrom  = gaugesFrom + 2
	backlogBound = backlogFrom + sample.Lanes
	values       = backlogBound + 1
)

// slot is what happened in one step.
type slot struct {
	covered float32 // seconds of the step in which a member was observed
	gauged  bool
	oldest  [sample.Lanes]float32 // the largest age of an unfinished event that was seen
	values  [values]float32
}

// addGauges adds a member's gauges to the sums. One that is not known counts as 0.
func (s *slot) addGauges(m *sample.Member) {
	sum := func(i int, v float64) {
		if v > 0 {
			s.values[i] += float32(v)
		}
	}
	if m.Rate > 0 {
		s.values[quotaRate] = float32(m.Rate) // it is the group's
	}
	sum(quotaLimit, m.Limit)
	sum(backlogBound, m.MaxPending)
	for i, l := range m.Lanes {
		sum(backlogFrom+i, l.Conversations)
		for _, p := range m.Partitions {
			if p.Topic == l.Topic && p.Oldest > 0 {
				s.oldest[i] = max(s.oldest[i], float32(p.Oldest))
			}
		}
	}
}

func (s *slot) setGauges(from *slot) {
	s.gauged = true
	copy(s.values[gaugesFrom:], from.values[gaugesFrom:])
	for i, age := range from.oldest {
		s.oldest[i] = max(s.oldest[i], age)
	}
}

// interval is how much a member's counters increased between two times.
type interval struct {
	from, to time.Time
	values   [gaugesFrom]float32
}

func increase(base, m *sample.Member) interval {
	in := interval{from: base.At.Round(0), to: m.At.Round(0)}
	set := func(i int, from, to float64) { in.values[i] += float32(sample.Increase(from, to)) }
	for i := range m.Calls {
		set(callsFrom+i, base.Calls[i], m.Calls[i])
	}
	for lane := range m.Lanes {
		from, to := &base.Lanes[lane], &m.Lanes[lane]
		set(inFrom+lane, from.Received, to.Received)
		for i := range to.Finished {
			set(outFrom+i, from.Finished[i], to.Finished[i])
		}
		for i := range to.Ages {
			set(agesFrom+lane*agesOf+i, from.Ages[i], to.Ages[i])
		}
	}
	for code, n := range m.Letters {
		set(letters, base.Letters[code], n)
	}
	return in
}

// ring keeps the latest slots of a range. A slot's number is its time divided by the step.
type ring struct {
	Range
	slots []slot
	last  int64 // the latest slot's number; 0: none
}

func newRing(r Range) ring { return ring{Range: r, slots: make([]slot, r.Count)} }

func (r *ring) number(at time.Time) int64 { return at.UnixNano() / int64(r.Step) }

func (r *ring) at(number int64) *slot { return &r.slots[number%int64(len(r.slots))] }

// advance makes the slot of a time the latest, and clears what is new. A clock that was set back
// makes the slots from there on new.
func (r *ring) advance(at time.Time) {
	to := r.number(at)
	from := r.last + 1
	if to < r.last {
		from, to = to, r.last
	}
	for n := max(from, to-int64(len(r.slots))+1); n <= to; n++ {
		*r.at(n) = slot{}
	}
	r.last = r.number(at)
}

// spread adds an increase to the slots of its time, in proportion: a scrape every 2 s would
// otherwise count for 4 s in one slot of 5 s, and for 6 s in the next.
func (r *ring) spread(in interval, now time.Time) {
	if in.to.After(now) {
		in.to = now
	}
	whole := in.to.Sub(in.from)
	if whole <= 0 || whole > sample.MaxGap {
		return
	}
	r.each(in.from, in.to, func(s *slot, part time.Duration) {
		share := float32(part.Seconds() / whole.Seconds())
		for i, v := range in.values {
			s.values[i] += v * share
		}
	})
}

func (r *ring) cover(from, to time.Time) {
	r.each(from, to, func(s *slot, part time.Duration) { s.covered += float32(part.Seconds()) })
}

// each calls do for each kept slot between two times, which are at most MaxGap apart.
func (r *ring) each(from, to time.Time, do func(s *slot, part time.Duration)) {
	for n := r.number(from); n <= r.number(to); n++ {
		start := time.Unix(0, n*int64(r.Step))
		end := start.Add(r.Step)
		part := minTime(end, to).Sub(maxTime(start, from))
		if part > 0 && n <= r.last && n > r.last-int64(len(r.slots)) {
			do(r.at(n), part)
		}
	}
}

func minTime(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func maxTime(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
