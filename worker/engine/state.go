package engine

import (
	"time"

	"markread/worker/backlog"
)

// State is the engine's state at one moment, in numbers.
type State struct {
	Counts        [backlog.Lanes]Counts
	Calls         uint64             // sent, and responded to or failed
	Conversations [backlog.Lanes]int // waiting or in flight
	Letters       [backlog.Lanes]int // not yet acknowledged
	Share, Limit  int                // permits of this worker, and how many of them are usable
	InFlight      int                // calls
	Cooling       int                // permits
}

// State returns the state at now.
func (e *Engine) State(now time.Time) State {
	s := State{
		Counts:   e.counts,
		Calls:    e.calls,
		Share:    e.quota.Share(),
		Limit:    e.quota.Limit(now),
		InFlight: e.quota.InFlight(),
		Cooling:  e.quota.Cooling(now),
	}
	for lane := range s.Conversations {
		if s.Letters[lane] = e.letters.reserved[lane].letters; e.backlog != nil {
			s.Conversations[lane] = e.backlog.Conversations(lane)
		}
	}
	return s
}

// Ready is for simulations. It reports whether a conversation could be called at that time if
// nothing held it, and otherwise when its retry is due.
func (e *Engine) Ready(at time.Time) (ok bool, due time.Time) {
	return e.backlog.Ready(at, backlog.LaneSet{true, true})
}
