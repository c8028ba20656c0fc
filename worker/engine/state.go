package engine

import (
	"time"

	"markread/consumer/event"
	"markread/worker/backlog"
	"markread/worker/hold"
)

// State are the engine's state of one moment.
type State struct {
	Counts        [backlog.Lanes]Counts
	Calls         uint64             // sent, and answered or failed
	Conversations [backlog.Lanes]int // waiting or in flight
	Letters       [backlog.Lanes]int // not acknowledged yet
	Share, Limit  int                // permits of this worker, and those of them that may be used
	InFlight      int                // calls
	Cooling       int                // permits
}

// State returns the state of this moment.
func (c *Engine) State(now time.Time) State {
	n := State{
		Counts:   c.counts,
		Calls:    c.calls,
		Share:    c.quota.Share(),
		Limit:    c.quota.Limit(now),
		InFlight: c.quota.InFlight(),
		Cooling:  c.quota.Cooling(now),
	}
	for lane := range n.Conversations {
		if n.Letters[lane] = c.letters.reserved[lane].letters; c.backlog != nil {
			n.Conversations[lane] = c.backlog.Conversations(lane)
		}
	}
	return n
}

// Holds returns the active holds, in the order of their beginning.
func (c *Engine) Holds() []hold.Hold { return c.holds.Active() }

// Explanation is what an unfinished event waits for.
type Explanation struct {
	Attempts int
	WaitsFor string // one of the contract's: quota call retry hold dead-letter
}

// Explain returns what unfinished events wait for; lanes has the lanes that they came in.
func (c *Engine) Explain(lanes map[event.Ref]event.Lane) map[event.Ref]Explanation {
	refs := make([]uint64, 0, len(lanes))
	for ref := range lanes {
		refs = append(refs, uint64(ref))
	}
	explained := make(map[event.Ref]Explanation, len(lanes))
	if len(refs) == 0 {
		return explained
	}
	found := c.backlog.Find(refs)
	for ref, lane := range lanes {
		of := found[uint64(ref)]
		x := Explanation{WaitsFor: c.waitsFor(of, int(lane))}
		if of != nil {
			x.Attempts = int(of.Attempts)
		}
		explained[ref] = x
	}
	return explained
}

// waitsFor returns what the events of a conversation of the lane wait for. A conversation that was not found
// (nil) has mostly become a letter.
func (c *Engine) waitsFor(of *backlog.Conversation, lane int) string {
	if of != nil {
		lane = of.Lane() // a live event may have lifted it
	}
	switch {
	case of != nil && of.Out():
		return "call"
	case of == nil && len(c.letters.waiting)+c.letters.writing > 0:
		return "dead-letter"
	case c.holds.On(lane):
		return "hold"
	case of != nil && of.Retrying():
		return "retry"
	default:
		return "quota"
	}
}

// Ready reports whether a conversation may be called at that time when nothing holds it, and else when the next
// retry is due.
func (c *Engine) Ready(at time.Time) (ok bool, due time.Time) {
	return c.backlog.Ready(at, backlog.LaneSet{true, true})
}
