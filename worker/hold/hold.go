// Package hold decides why no calls are made now, and when to look again.
//
// The most expensive mistake of a queue worker is to spend attempts, and then dead letters, on a service
// that is down or a key that has expired. So when the answers say "it's the service", calls stop but for
// a probe now and then, and nothing is counted against an event.
//
// It is a pure state machine: answers and time come in. It makes no calls, schedules nothing and writes
// no log; its owner does that with the Change it gets. It is not safe for concurrent use.
//
// Non-obvious:
//   - Only a probe's answer ends an outage. Calls that went out before it began may still succeed, and
//     would end it again and again while most calls fail.
//   - While any hold is on, answers are no evidence for an outage: the few probes of another hold would
//     be taken for five failures in a row.
//   - A refused signature that is worth a second try with a new one (imclient.Error.Resigned) is no
//     evidence for anything.
package hold

import (
	"fmt"
	"slices"
	"time"

	"markread/imclient"
)

// Reason is why calls are held. The texts are the contract's.
type Reason string

// The reasons.
const (
	Outage      Reason = "outage"      // the service doesn't answer, or not sensibly
	Credentials Reason = "credentials" // every call would be refused: key, admin, app, host, billing
	Quota       Reason = "quota"       // this worker's share of the rate is 0
)

// Reasons is every reason that there is, for metrics that must say 0.
func Reasons() []Reason { return []Reason{Outage, Credentials, Quota} }

const (
	recentCalls   = 20 // an outage is judged by so many calls,
	recentFailed  = 16 // of which so many (80 %) failed transiently,
	recentOwners  = 5  // those of at least so many conversations;
	silentCalls   = 5  // or by so many in a row that got no ErrorCode
	outageFirst   = time.Second
	outageLongest = 15 * time.Second
	refusedProbe  = 15 * time.Second
	lockedProbe   = 60 * time.Second
	codeLocked    = 70050 // too many failed verifications: the server asks for a minute's pause
)

// Hold is one reason that is in force.
type Hold struct {
	Reason    Reason
	Since     time.Time
	Detail    string        // what was seen and what to do, for a person
	NextProbe time.Time     // zero: no probes, its owner ends it
	interval  time.Duration // between probes
	cause     string        // the label of the failure that Detail is about
}

// Change is what an answer did: which holds began, which ended, and which go on for another cause than
// before.
type Change struct{ Begun, Ended, Shifted []Hold }

// Holds is all that is in force, and the evidence for what may come.
type Holds struct {
	active  []Hold
	recent  []failure // the last calls, oldest first
	silent  int
	probing bool
	spread  float64
}

type failure struct {
	id     string
	failed bool
}

// New returns Holds with nothing in force.
func New() *Holds { return &Holds{spread: 1} }

// Spread multiplies the interval of probes: all partitions by those assigned, so that all the workers of
// a group together probe as often as one.
func (h *Holds) Spread(factor float64) { h.spread = max(1, factor) }

// Active is what is in force, in the order of its beginning.
func (h *Holds) Active() []Hold { return slices.Clone(h.active) }

// Any says whether anything is in force.
func (h *Holds) Any() bool { return len(h.active) > 0 }

// May says whether a call may be made now, and whether it is a probe. If not, it says when to ask again;
// a zero time means not before an answer or a Clear.
func (h *Holds) May(now time.Time) (ok, probe bool, again time.Time) {
	if len(h.active) == 0 {
		return true, false, time.Time{}
	}
	for _, a := range h.active {
		if a.NextProbe.IsZero() {
			return false, false, time.Time{}
		}
		if a.NextProbe.After(again) {
			again = a.NextProbe
		}
	}
	if h.probing {
		return false, false, time.Time{}
	}
	return !again.After(now), true, again
}

// Probing notes that a probe went out. Its answer must be given to Answer, or Abandoned called.
func (h *Holds) Probing() { h.probing = true }

// Abandoned notes that the probe will get no answer: this process gave it up.
func (h *Holds) Abandoned() { h.probing = false }

// Set puts a hold in force whose owner ends it with Clear.
func (h *Holds) Set(now time.Time, reason Reason, detail string) Change {
	if h.find(reason) >= 0 {
		return Change{}
	}
	return h.begin(now, Hold{Reason: reason, Detail: detail})
}

// Clear ends a hold.
func (h *Holds) Clear(reason Reason) Change {
	i := h.find(reason)
	if i < 0 {
		return Change{}
	}
	return Change{Ended: []Hold{h.end(i)}}
}

// Answer takes in what a call of conversation id brought; err is nil for a success.
func (h *Holds) Answer(now time.Time, id string, err *imclient.Error, probe bool) Change {
	if probe {
		h.probing = false
	}
	var change Change
	switch {
	case err != nil && err.Resigned: // a probe may be repeated at once
		return change
	case h.Any() && probe:
		change.Ended = h.endedBy(err)
		if h.Any() {
			change.Shifted = h.probeAgain(now, err)
		}
	case !h.Any():
		h.note(id, err)
	}
	switch {
	case err != nil && err.Class == imclient.Held && h.find(Credentials) < 0:
		begun := h.begin(now, Hold{Reason: Credentials, Detail: err.Error(), interval: refusedInterval(err), cause: err.Label})
		change.Begun = append(change.Begun, begun.Begun...)
	case !h.Any():
		if why := h.outage(err); why != "" {
			change.Begun = append(change.Begun, h.begin(now, Hold{Reason: Outage, Detail: why, interval: outageFirst, cause: err.Label}).Begun...)
		}
	}
	return change
}

// endedBy ends the holds that the answer to a probe disproves: it has an ErrorCode, and that says
// neither "later" nor "not you".
func (h *Holds) endedBy(err *imclient.Error) (ended []Hold) {
	if err != nil && (err.ErrorCode == 0 || err.Class == imclient.Transient) {
		return nil
	}
	for i := len(h.active) - 1; i >= 0; i-- {
		refused := err != nil && err.Class == imclient.Held && h.active[i].Reason == Credentials
		if h.active[i].NextProbe.IsZero() || refused {
			continue
		}
		ended = append(ended, h.end(i))
	}
	return ended
}

// probeAgain sets when each hold is probed next, after a probe that did not end it, and what was seen. The
// outage's interval doubles; a refusal's depends on its code. It returns the holds whose cause has changed.
func (h *Holds) probeAgain(now time.Time, err *imclient.Error) (shifted []Hold) {
	for i := range h.active {
		a := &h.active[i]
		switch {
		case a.NextProbe.IsZero():
			continue
		case a.Reason == Credentials:
			a.interval = refusedInterval(err)
		default:
			a.interval = min(2*a.interval, outageLongest)
		}
		a.NextProbe = now.Add(h.spreadOver(a.interval))
		if err != nil && err.Label != a.cause {
			a.cause, a.Detail = err.Label, fmt.Sprintf("the last probe: %v", err)
			shifted = append(shifted, *a)
		}
	}
	return shifted
}

func (h *Holds) note(id string, err *imclient.Error) {
	failed := err != nil && err.Class == imclient.Transient
	if len(h.recent) == recentCalls {
		h.recent = append(h.recent[:0], h.recent[1:]...)
	}
	h.recent = append(h.recent, failure{id, failed})
	if err != nil && err.ErrorCode == 0 && failed {
		h.silent++
	} else {
		h.silent = 0
	}
}

// outage says why the last calls look like an outage, or nothing.
func (h *Holds) outage(last *imclient.Error) string {
	if h.silent >= silentCalls {
		return fmt.Sprintf("%d calls in a row got no ErrorCode, the last: %v", h.silent, last)
	}
	if len(h.recent) < recentCalls || last == nil {
		return ""
	}
	failed, owners := 0, map[string]bool{}
	for _, c := range h.recent {
		if c.failed {
			failed++
			owners[c.id] = true
		}
	}
	if failed < recentFailed || len(owners) < recentOwners {
		return ""
	}
	return fmt.Sprintf("%d of the last %d calls failed, the last: %v", failed, recentCalls, last)
}

func (h *Holds) begin(now time.Time, hold Hold) Change {
	hold.Since = now
	if hold.interval > 0 {
		hold.NextProbe = now.Add(h.spreadOver(hold.interval))
	}
	h.active = append(h.active, hold)
	h.recent, h.silent = nil, 0
	return Change{Begun: []Hold{hold}}
}

func (h *Holds) end(i int) Hold {
	ended := h.active[i]
	h.active = slices.Delete(h.active, i, i+1)
	return ended
}

func (h *Holds) find(reason Reason) int {
	return slices.IndexFunc(h.active, func(a Hold) bool { return a.Reason == reason })
}

func (h *Holds) spreadOver(interval time.Duration) time.Duration {
	return time.Duration(float64(interval) * h.spread)
}

func refusedInterval(err *imclient.Error) time.Duration {
	if err != nil && err.ErrorCode == codeLocked {
		return lockedProbe
	}
	return refusedProbe
}
