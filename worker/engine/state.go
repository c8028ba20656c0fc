package engine

import (
	"time"

	"markread/consumer/event"
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

// Explanation says what an unfinished event waits for.
type Explanation struct {
	Attempts int
	WaitsFor string // a word of the contract: quota call retry hold dead-letter
}

// Explain returns what unfinished events wait for. lanes has the lane in which each event arrived.
func (e *Engine) Explain(lanes map[event.Ref]event.Lane) map[event.Ref]Explanation {
	explained := make(map[event.Ref]Explanation, len(lanes))
	if len(lanes) == 0 {
		return explained // maybe there is no generation
	}
	wanted := make(map[uint64]bool, len(lanes))
	for ref := range lanes {
		wanted[uint64(ref)] = true
	}
	found := e.backlog.Find(wanted)
	for ref, lane := range lanes {
		conv, lane := found[uint64(ref)], int(lane)
		x := Explanation{WaitsFor: "quota"}
		if conv != nil {
			lane = conv.Lane() // a live event may have moved it to the live lane
			x.Attempts = conv.Attempts()
		}
		switch {
		case conv != nil && conv.InFlight():
			x.WaitsFor = "call"
		case conv == nil && len(e.letters.waiting)+e.letters.writing > 0:
			x.WaitsFor = "dead-letter" // in most cases: it has left the backlog
		case e.holds.LaneHeld(lane):
			x.WaitsFor = "hold"
		case conv != nil && conv.Retrying():
			x.WaitsFor = "retry"
		}
		explained[ref] = x
	}
	return explained
}
