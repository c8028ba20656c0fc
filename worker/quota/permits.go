package quota

import "time"

// permits is the bookkeeping of the promise, and all of it.
type permits struct {
	n       int
	window  time.Duration
	out     int         // sent, not answered
	cooling []time.Time // answered: when each permit comes back, earliest first
}

// free says whether a permit is there to be taken; if not, when the next one comes back. A zero
// time means that this depends on an answer.
func (p *permits) free(now time.Time) (ok bool, again time.Time) {
	p.thaw(now)
	over := p.out + len(p.cooling) - p.n
	if over < 0 {
		return true, time.Time{}
	}
	// After a Reset to fewer permits there may be more to wait for than the first one.
	if over < len(p.cooling) {
		return false, p.cooling[over]
	}
	return false, time.Time{}
}

func (p *permits) thaw(now time.Time) {
	i := 0
	for i < len(p.cooling) && !p.cooling[i].After(now) {
		i++
	}
	p.cooling = p.cooling[i:]
}

func (p *permits) giveBack(now time.Time) {
	p.out--
	if p.window > 0 {
		p.cooling = append(p.cooling, now.Add(p.window))
	}
}

// reset sets how many permits may be used. all are as many as there may come to be while what
// others used still cools: those that the limit grows by in the next second are among them.
func (p *permits) reset(n, all int, now time.Time) {
	p.n = n
	// What cools already belongs to calls that this process answered; it must not be forgotten when
	// there are fewer permits than calls in the last second.
	for len(p.cooling)+p.out < all {
		p.cooling = append(p.cooling, time.Time{})
	}
	for i := range p.cooling {
		p.cooling[i] = now.Add(p.window)
	}
}
