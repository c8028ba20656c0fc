package engine

import (
	"time"

	"markread/consumer/event"
	"markread/worker/backlog"
)

// catchUpAtMost is how long the calls of a lane wait for the reading of its backlog.
const catchUpAtMost = 15 * time.Second

// catchUp delays the calls of a lane at the beginning of a generation as long as more of its events
// wait in Kafka: a later event of the same conversation would make most of these calls superfluous.
// It ends for good when all partitions have been read, when memory is full, or after catchUpAtMost.
type catchUp struct {
	behind [backlog.Lanes]int // partitions whose backlog is known not to be read completely
	over   [backlog.Lanes]bool
	// until then permits cool, and it is not known yet what waits; zero: without a rate calls are
	// not scarce
	from time.Time
}

// Behind notes that n more partitions of a lane (or fewer, if n is negative) are known to have
// events from before their first fetch that were not received yet.
func (e *Engine) Behind(lane event.Lane, n int) { e.catchUp.behind[lane] += n }

// catchingUp reports whether calls of the lane wait, and until when at most.
func (e *Engine) catchingUp(now time.Time, lane int) (waits bool, until time.Time) {
	c := &e.catchUp
	until = c.from.Add(catchUpAtMost)
	if c.over[lane] || c.from.IsZero() || now.Before(c.from) {
		return false, until
	}
	waits = c.behind[lane] > 0 && now.Before(until) && e.HasCapacity(event.Lane(lane))
	c.over[lane] = !waits
	return waits, until
}
