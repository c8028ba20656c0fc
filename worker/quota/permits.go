package quota

import "time"

// permits is the complete bookkeeping behind the promise.
type permits struct {
	n        int
	window   time.Duration
	inFlight int         // sent, without a response
	cooling  []time.Time // when each permit returns after its response, earliest first
}

// free reports whether a permit is free, and otherwise when the next one returns; zero: that
// depends on a response.
func (p *permits) free(now time.Time) (ok bool, again time.Time) {
	p.expireCooling(now)
	over := p.inFlight + len(p.cooling) - p.n
	if over >= 0 && over < len(p.cooling) { // after a Reset to fewer permits it is not the first
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

// reset sets how many permits may be used. all is how many there may be while permits that others
// used still cool: it includes permits that the limit grows by in the next second.
func (p *permits) reset(n, all int, now time.Time) {
	p.n = n
	// Permits that already cool belong to calls of this process; they must not be forgotten when
	// there are fewer permits than calls in the last second.
	for len(p.cooling)+p.inFlight < all {
		p.cooling = append(p.cooling, time.Time{})
	}
	for i := range p.cooling {
		p.cooling[i] = now.Add(p.window)
	}
}
