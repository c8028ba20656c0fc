package quota

import "time"

// permits is the bookkeeping of the promise, and all of it.
type permits struct {
	n        int
	window   time.Duration
	inFlight int         // sent, not answered
	cooling  []time.Time // answered: when each permit comes back, earliest first
}

// free reports whether a permit is free, and else when the next one comes back; zero: that depends
// on a response.
func (p *permits) free(now time.Time) (ok bool, again time.Time) {
	p.expireCooling(now)
	over := p.inFlight + len(p.cooling) - p.n
	if over >= 0 && over < len(p.cooling) { // after a Reset to fewer permits not the first one
		return false, p.cooling[over]
	}
	return over < 0, time.Time{}
}

func (p *permits) expireCooling(now time.Time) {
	i := 0
	for i < len(p.cooling) && !p.cooling[i].After(now) {
		i++
	}
	p.cooling = p.cooling[i:]
}

func (p *permits) giveBack(now time.Time) {
	p.inFlight--
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
	for len(p.cooling)+p.inFlight < all {
		p.cooling = append(p.cooling, time.Time{})
	}
	for i := range p.cooling {
		p.cooling[i] = now.Add(p.window)
	}
}
