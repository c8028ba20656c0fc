package imclient

import (
	"sync/atomic"
	"time"
)

// clock knows what time it is here and, once the server has said so, there.
// Its zero value is ready.
type clock struct {
	last atomic.Pointer[stamp]
}

// stamp is the server's time when an answer came.
type stamp struct {
	date time.Time // the server's; whole seconds, no monotonic part
	came time.Time // ours, with its monotonic part
}

// heard notes the Date header of an answer; one that can't be read says
// nothing.
func (c *clock) heard(date time.Time) {
	if !date.IsZero() {
		c.last.Store(&stamp{date: date, came: time.Now()})
	}
}

// server returns the server's time, ours if it is not known.
func (c *clock) server() time.Time {
	if last := c.last.Load(); last != nil {
		return last.date.Add(time.Since(last.came))
	}
	return wall()
}

// latest returns the later of our time and the server's.
func (c *clock) latest() time.Time {
	here, there := wall(), c.server()
	if there.After(here) {
		return there
	}
	return here
}

// wall is the time without its monotonic part: differences of it see the clock
// being set.
func wall() time.Time { return time.Now().Round(0) }
