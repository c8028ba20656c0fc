package imclient

import (
	"sync"
	"time"
)

// trustedSkew is how far the server's clock may differ from ours. If they differ more, one of the
// two is wrong, and it is unknown which one: a proxy may also have written the Date.
const trustedSkew = 24 * time.Hour

// lastYear is the last year of a Date that is accepted as a clock's time.
const lastYear = 2100

// clock provides this machine's time and, once a response had a Date, the server's. Its zero value
// is ready. It is safe for concurrent use.
//
// A Date that differs from our clock by more than trustedSkew is ignored, with one exception:
// signatures are dated by it if the server refuses signatures that are dated without it. So calls
// continue whether the Date is wrong or our clock is.
type clock struct {
	mu    sync.Mutex
	times times
}

// times are the server's times.
type times struct {
	trusted      *serverTime // of the last Date within trustedSkew of our clock; nil: none
	untrusted    *serverTime // of the last other Date; nil: none since trusted
	useUntrusted bool        // signatures are dated by untrusted
}

// serverTime is the server's time when a response arrived.
type serverTime struct {
	date       time.Time // the server's; whole seconds, no monotonic part
	receivedAt time.Time // our clock's, with its monotonic part
}

// now returns the current time of the server's clock.
func (s *serverTime) now() time.Time { return s.date.Add(time.Since(s.receivedAt)) }

// observe records a response's Date. It ignores the zero Date and dates that no clock shows.
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

// switchSource makes the next signature use the other clock, if there are two that differ by more
// than trustedSkew: the server has refused a signature dated by the current one.
func (c *clock) switchSource() {
	c.update(func(t *times) { t.useUntrusted = t.untrusted != nil && !t.useUntrusted })
}

func (c *clock) update(change func(*times)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change(&c.times)
}

func (c *clock) load() times {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.times
}

// signingTime returns the time that signatures are dated by: the server's, or ours if the server's
// is unknown or not trusted.
func (c *clock) signingTime() time.Time {
	switch t := c.load(); {
	case t.useUntrusted:
		return t.untrusted.now()
	case t.trusted != nil:
		return t.trusted.now()
	}
	return wallClock()
}

// latest returns the later of our time and the server's; ours if the server's is unknown or not
// trusted.
func (c *clock) latest() time.Time {
	here := wallClock()
	if trusted := c.load().trusted; trusted != nil {
		// Our clock may have been set since the Date arrived.
		if there := trusted.now(); there.After(here) && withinSkew(there, here) {
			return there
		}
	}
	return here
}

// withinSkew reports whether two times differ by at most trustedSkew.
func withinSkew(a, b time.Time) bool { return a.Sub(b).Abs() <= trustedSkew }

// wallClock returns the time without its monotonic part, so that differences include changes of the
// clock.
func wallClock() time.Time { return time.Now().Round(0) }
