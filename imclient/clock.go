package imclient

import (
	"sync"
	"sync/atomic"
	"time"
)

// trustedSkew is how far the server's clock may be from ours. Beyond it one of the two is wrong,
// and nobody knows which: it may also be a proxy that writes the Date.
const trustedSkew = 24 * time.Hour

// lastYear is the last year that a Date is believed to come from a clock.
const lastYear = 2100

// clock knows what time it is here and, once the server has said so, there. Its zero value is
// ready. Safe for any number of goroutines.
//
// A Date that is farther from our clock than trustedSkew does not count, with one exception:
// signatures are dated by it if those that are dated without it are refused. So calls continue
// whether the Date is wrong or our clock is.
type clock struct {
	mu    sync.Mutex // held to change times
	times atomic.Pointer[times]
}

// times are the server's. Never changed once published.
type times struct {
	trusted      *serverTime // of the last Date within trustedSkew of our clock, nil: none
	untrusted    *serverTime // of the last other Date, nil: none since near
	useUntrusted bool        // signatures are dated by far
}

// stamp is the server's time when an answer came.
type serverTime struct {
	date       time.Time // the server's; whole seconds, no monotonic part
	receivedAt time.Time // ours, with its monotonic part
}

// now returns the time of the server's clock now.
func (s *serverTime) now() time.Time { return s.date.Add(time.Since(s.receivedAt)) }

// heard notes the Date of an answer. The zero Date and one that no clock shows say nothing.
func (c *clock) observe(date time.Time) {
	if date.Unix() <= 0 || date.Year() > lastYear {
		return
	}
	s := &serverTime{date: date, receivedAt: time.Now()}
	c.update(func(t *times) {
		if withinSkew(date, wallClock()) {
			*t = times{trusted: s}
		} else {
			t.untrusted = s
		}
	})
}

// redate makes the next signature dated by the other clock, if there are two that differ by more
// than trustedSkew: the server has refused one dated by this one.
func (c *clock) switchSource() {
	c.update(func(t *times) { t.useUntrusted = t.untrusted != nil && !t.useUntrusted })
}

func (c *clock) update(change func(*times)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.load()
	change(&t)
	c.times.Store(&t)
}

func (c *clock) load() times {
	if t := c.times.Load(); t != nil {
		return *t
	}
	return times{}
}

// server returns the time that signatures are dated by: the server's, ours if that is not known or
// not trusted.
func (c *clock) signingTime() time.Time {
	switch t := c.load(); {
	case t.useUntrusted:
		return t.untrusted.now()
	case t.trusted != nil:
		return t.trusted.now()
	}
	return wallClock()
}

// latest returns the later of our time and the server's, which is ours if it is not known or not
// trusted.
func (c *clock) latest() time.Time {
	here := wallClock()
	if trusted := c.load().trusted; trusted != nil {
		// Our clock may have been set since the Date came.
		if there := trusted.now(); there.After(here) && withinSkew(there, here) {
			return there
		}
	}
	return here
}

// within says whether two times are no farther apart than trustedSkew.
func withinSkew(a, b time.Time) bool { return a.Sub(b).Abs() <= trustedSkew }

// wall is the time without its monotonic part: differences of it see the clock being set.
func wallClock() time.Time { return time.Now().Round(0) }
