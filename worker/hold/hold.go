// Package hold decides why no calls are made now, and when the service is probed.
//
// The most expensive mistake of a queue worker is to spend attempts, and then dead letters, on a
// service that is down or a key that has expired. So when the responses blame the service, calls
// stop except for a probe now and then, and nothing counts against an event.
//
// It is a pure state machine: responses and time are arguments. It makes no calls, schedules
// nothing and writes no log; its owner does that with the Change that it returns. It is not safe
// for concurrent use.
//
// What it promises:
//   - A lane is called freely if nothing holds it. Otherwise it is probed, by one call whenever all
//     its holds are due. A hold that only its owner ends, or a Retry-After, allows no probe.
//   - Every other hold ends by a probe or by its time.
//
// Non-obvious:
//   - Only a probe's response ends a probed hold. Calls that were sent before a hold began may
//     still succeed, and would end it again and again while most calls fail. That includes probes
//     for an earlier hold.
//   - The next probe's time depends on when the last one was sent, not on its response: a server
//     that hangs would otherwise stretch every interval by a call's timeout, and a probe that hangs
//     when the server is back would delay the end of the hold.
//   - While a hold is active, responses of its lane are no evidence for an outage: the few probes
//     of another hold would look like five failures in a row.
//   - A refused signature that is worth a second attempt (RetryWithNewSignature) is no evidence.
package hold

import (
	"slices"
	"time"

	"golang.org/x/time/rate"

	"markread/imclient"
)

// Lanes is the number of lanes.
const Lanes = 2

// All is the lane of a hold that holds every lane.
const All = -1

const maxCauses = 8 // distinct causes kept per hold

// Hold is one active reason to make no calls.
type Hold struct {
	Reason    Reason
	Lane      int // All, or the one lane that is held
	Since     time.Time
	Detail    string    // what was seen
	Do        string    // what to do about it
	Code      string    // the label of the failure that Detail is about; "": none
	NextProbe time.Time // when the service is tried next; zero: unknown

	By, Why string // of a pause: who paused, and the reason that they gave; may be empty
	EndedBy string // of a hold that an operator ended: who; may be empty

	until    time.Time     // when it ends without a probe; zero: it doesn't
	interval time.Duration // between probes; 0: there are none
	causes   []string      // all codes that were reported
}

func (a Hold) holds(lane int) bool { return a.Lane == All || a.Lane == lane }

// endedByOwner reports whether only its owner ends the hold: no time, and no probe.
func (a Hold) endedByOwner() bool { return a.interval == 0 && a.until.IsZero() }

// Change is what happened to the holds: which began, which ended, which continue for a new cause,
// and which were dropped because nothing is left that could end them.
type Change struct{ Begun, Ended, CauseChanged, Dropped []Hold }

// None reports whether nothing changed.
func (c Change) None() bool {
	return len(c.Begun)+len(c.Ended)+len(c.CauseChanged)+len(c.Dropped) == 0
}

func (c *Change) add(more Change) {
	c.Begun = append(c.Begun, more.Begun...)
	c.Ended = append(c.Ended, more.Ended...)
	c.CauseChanged = append(c.CauseChanged, more.CauseChanged...)
}

// endedByOperator notes who ended the holds that ended.
func (c Change) endedByOperator(operator string) Change {
	for i := range c.Ended {
		c.Ended[i].EndedBy = operator
	}
	return c
}

// Holds is the active holds, and the evidence for further ones.
type Holds struct {
	active []Hold
	spread float64

	calls       callEvidence
	rejections  [Lanes]rejectionEvidence
	maxRejected int

	earlyProbes *rate.Limiter // probes that arrivals may still bring forward
	lastProbe   time.Time     // when the last probe was sent, or when the outage began
}

// New returns Holds without an active hold. maxRejected per cent of a lane's outcomes may be
// rejected or invalid.
func New(maxRejected int) *Holds {
	earlyProbes := rate.NewLimiter(rate.Every(earlyProbeEvery), earlyProbeBurst)
	return &Holds{spread: 1, maxRejected: maxRejected, earlyProbes: earlyProbes}
}

// Active returns the active holds, oldest first.
func (h *Holds) Active() []Hold {
	active := slices.Clone(h.active)
	stopped := slices.ContainsFunc(active, Hold.endedByOwner)
	var pause time.Time
	for _, a := range active {
		pause = later(pause, a.until)
	}
	for i := range active {
		switch a := &active[i]; {
		case a.interval == 0:
		case stopped:
			a.NextProbe = time.Time{} // an operator's pause, for example, stops the probes too
		default:
			a.NextProbe = later(a.NextProbe, pause)
		}
	}
	return active
}

// LaneHeld reports whether any hold holds the lane.
func (h *Holds) LaneHeld(lane int) bool {
	return slices.ContainsFunc(h.active, func(a Hold) bool { return a.holds(lane) })
}

// Held reports whether a hold for the reason holds the lane.
func (h *Holds) Held(reason Reason, lane int) bool {
	return h.find(reason, All) >= 0 || h.find(reason, lane) >= 0
}

// May reports whether a conversation of the lane may be called now, and whether that is a probe;
// otherwise when to ask again (zero: not before something changes).
func (h *Holds) May(now time.Time, lane int) (ok, probe bool, again time.Time) {
	ok = true
	for i := range h.active {
		a := &h.active[i]
		switch {
		case !a.holds(lane):
			continue
		case !a.until.IsZero():
			ok, again = false, later(again, a.until)
		case a.endedByOwner():
			return false, false, time.Time{}
		default:
			probe, again = true, later(again, a.NextProbe)
		}
	}
	return ok && !again.After(now), probe, again
}

// Set begins or updates a hold of all lanes that its owner ends with Clear. next is when the owner
// retries; zero: never.
func (h *Holds) Set(now time.Time, reason Reason, detail, do string, next time.Time) Change {
	if i := h.find(reason, All); i >= 0 {
		h.active[i].Detail, h.active[i].Do, h.active[i].NextProbe = detail, do, next
		return Change{}
	}
	return h.begin(now, Hold{Reason: reason, Lane: All, Detail: detail, Do: do, NextProbe: next})
}

// Pause begins an operator's hold, or updates who paused and why. Resume ends it.
func (h *Holds) Pause(now time.Time, by, why string) Change {
	detail := "paused by an operator"
	if by != "" {
		detail = "paused by " + by
	}
	if why != "" {
		detail += ": " + why
	}
	paused := Hold{Reason: Paused, Lane: All, Detail: detail, Do: Paused.Do(), By: by, Why: why}
	i := h.find(Paused, All)
	if i < 0 {
		return h.begin(now, paused)
	}
	if h.active[i].Detail == detail {
		return Change{}
	}
	paused.Since = h.active[i].Since
	h.active[i] = paused
	return Change{CauseChanged: []Hold{paused}}
}

// Resume ends a pause; by is who ended it.
func (h *Holds) Resume(by string) Change { return h.Clear(Paused).endedByOperator(by) }

// Clear ends a hold that Set began.
func (h *Holds) Clear(reason Reason) Change { return h.end(reason, All) }

// Expire ends the holds whose time has passed.
func (h *Holds) Expire(now time.Time) (change Change) {
	for _, a := range slices.Clone(h.active) {
		if !a.until.IsZero() && !a.until.After(now) {
			change.add(h.end(a.Reason, a.Lane))
		}
	}
	return change
}

// CallDone notes the result of a call for the conversation id in its lane; err is nil for a
// success. probeSent is when it was sent if it is a probe, else zero.
func (h *Holds) CallDone(
	now time.Time, id string, lane int, err *imclient.Error, probeSent time.Time,
) (change Change) {
	probe := !probeSent.IsZero()
	if err != nil && err.RetryWithNewSignature {
		if probe {
			h.ProbeInterrupted(now, probeSent, lane) // to be repeated with the new signature
		}
		return change
	}
	if probe {
		change.add(h.probed(now, probeSent, lane, err))
	} else if !h.LaneHeld(lane) {
		h.calls.note(now, id, err)
	}
	if err == nil {
		return change
	}
	begin := func(reason Reason, detail string, interval time.Duration) {
		change.add(h.begin(now, Hold{
			Reason: reason, Lane: All, Detail: detail, Do: err.Remedy(),
			Code: err.Label, interval: interval, causes: []string{err.Label},
		}))
	}
	why := h.calls.outage(now, err)
	switch {
	case err.Class == imclient.Held && !h.Held(Credentials, lane):
		begin(Credentials, err.WithoutRemedy(), refusedInterval(err))
	case err.Class == imclient.Transient && why != "" && !h.LaneHeld(lane):
		begin(Outage, why, outageInterval(0))
		h.lastProbe = now
	}
	if err.RetryAfter > 0 {
		change.add(h.pause(now, err))
	}
	return change
}

// pause holds all calls for a Retry-After.
func (h *Holds) pause(now time.Time, err *imclient.Error) Change {
	until := now.Add(err.RetryAfter)
	if i := h.find(Throttled, All); i >= 0 {
		a := &h.active[i]
		a.until = later(a.until, until)
		a.NextProbe = a.until
		return Change{}
	}
	return h.begin(now, Hold{
		Reason: Throttled, Lane: All, Detail: err.WithoutRemedy(), Do: err.Remedy(),
		Code: err.Label, NextProbe: until, until: until,
	})
}

// DropProbed drops the holds that only a probe would end: there is nothing left to probe with.
func (h *Holds) DropProbed() (change Change) {
	for _, a := range h.Active() {
		if a.interval > 0 {
			change.Dropped = append(change.Dropped, h.end(a.Reason, a.Lane).Ended...)
		}
	}
	return change
}

func (h *Holds) begin(now time.Time, hold Hold) Change {
	hold.Since = now
	if hold.interval > 0 {
		hold.NextProbe = now.Add(h.spreadOver(hold.interval))
	}
	h.active = append(h.active, hold)
	h.calls = callEvidence{}
	return Change{Begun: []Hold{hold}}
}

func (h *Holds) end(reason Reason, lane int) Change {
	i := h.find(reason, lane)
	if i < 0 {
		return Change{}
	}
	ended := h.active[i]
	h.active = slices.Delete(h.active, i, i+1)
	if reason == Rejections {
		old := h.rejections[lane]
		h.rejections[lane] = rejectionEvidence{records: old.records, invalid: old.invalid}
	}
	return Change{Ended: []Hold{ended}}
}

func (h *Holds) find(reason Reason, lane int) int {
	is := func(a Hold) bool { return a.Reason == reason && a.Lane == lane }
	return slices.IndexFunc(h.active, is)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
