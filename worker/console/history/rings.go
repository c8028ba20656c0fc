package history

import (
	"time"

	"markread/worker/console/sample"
)

// History is the history of a group; a worker's is one of a group with one member.
type History struct{}

// New returns an empty history.
func New() *History { return &History{} }

// Add adds the members' counters and gauges at one moment, by the members' names. A member's first
// sample, and the first one after its counters began again, only set the base for the next increase.
func (h *History) Add(at time.Time, members map[string]*sample.Member) {}

// Points returns the points of a range after a time in Unix seconds; 0: all. The last point is
// complete.
func (h *History) Points(r Range, after int64) Points {
	return Points{Step: int(r.Step / time.Second), Series: map[string][]*float64{}}
}
