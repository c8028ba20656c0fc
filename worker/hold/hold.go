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

const (
	refusedProbe  = 15 * time.Second
	lockedProbe   = 60 * time.Second
	rejectedProbe = 5 * time.Second
	codeLocked    = 70050 // too many failed verifications: the server asks for a minute's pause

	// A conversation that arrives during an outage is probed within earlyProbeWait, so that a
	// single event doesn't wait for a distant probe. Steady arrivals must not cause a probe per
	// second for hours: new conversations may bring earlyProbeBurst probes forward, and one more
	// per earlyProbeEvery.
	earlyProbeWait  = time.Second
	earlyProbeBurst = 20
	earlyProbeEvery = time.Minute

	maxCauses = 8 // distinct causes kept per hold
)

// Hold is one active reason to make no calls.
type Hold struct {
	Reason    Reason
	Lane      int // All, or the one lane that is held
	Since     time.Time
	Detail    string    // what was seen
	Do        string    // what to do about it
	NextProbe time.Time // when the service is tried next; zero: unknown

	until    time.Time     // when it ends without a probe; zero: it doesn't
	interval time.Duration // between probes; 0: there are none
	cause    string        // the label of the failure that Detail is about
	causes   []string      // all causes that were reported
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

// Spread multiplies the interval between probes by factor, so that a group probes as often as a
// single worker.
func (h *Holds) Spread(now time.Time, factor float64) {
	h.spread = max(1, factor)
	for i := range h.active { // with more partitions than before, the wait becomes shorter
		a := &h.active[i]
		if next := now.Add(h.spreadOver(a.interval)); a.interval > 0 && next.Before(a.NextProbe) {
			a.NextProbe = next
		}
	}
	h.earlyProbes.SetLimitAt(now, rate.Every(h.spreadOver(earlyProbeEvery)))
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

// ProbeSent notes that a probe of the lane is sent, and schedules the next one.
func (h *Holds) ProbeSent(now time.Time, lane int) {
	h.lastProbe = now
	for i := range h.active {
		if a := &h.active[i]; a.holds(lane) && a.interval > 0 {
			if a.Reason == Outage {
				a.interval = outageInterval(now.Sub(a.Since))
			}
			a.NextProbe = now.Add(h.spreadOver(a.interval))
		}
	}
}

// ProbeInterrupted notes that a probe of the lane has no result: it was not sent, or a shutdown or a
// revoke interrupted it. Another one is due immediately.
func (h *Holds) ProbeInterrupted(now, sent time.Time, lane int) {
	for i := range h.active {
		if a := &h.active[i]; a.probedBy(lane, sent) {
			a.NextProbe = now
		}
	}
}

// ConversationArrived notes that a new conversation arrived: during an outage it brings the next
// probe forward.
func (h *Holds) ConversationArrived(now time.Time) {
	i := h.find(Outage, All)
	if i < 0 {
		return
	}
	soon := later(now, h.lastProbe.Add(earlyProbeWait))
	if a := &h.active[i]; a.NextProbe.After(soon) && h.earlyProbes.AllowN(now, 1) {
		a.NextProbe = soon
	}
}

// KeyChanged makes the next probe due: the key differs from the refused one.
func (h *Holds) KeyChanged(now time.Time) {
	if i := h.find(Credentials, All); i >= 0 {
		h.active[i].NextProbe = now
	}
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
			interval: interval, cause: err.Label, causes: []string{err.Label},
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

// probed ends the holds that a probe's response disproves, and updates what is known about the
// others.
func (h *Holds) probed(
	now, sent time.Time, lane int, err *imclient.Error,
) (change Change) {
	for _, a := range h.Active() {
		if a.probedBy(lane, sent) && a.endedBy(err) {
			change.add(h.end(a.Reason, a.Lane))
		}
	}
	for i := range h.active {
		a := &h.active[i]
		if !a.probedBy(lane, sent) {
			continue
		}
		if a.Reason == Credentials { // the server may ask for a longer pause
			a.interval = refusedInterval(err)
			a.NextProbe = now.Add(h.spreadOver(a.interval))
		}
		if a.Reason == Rejections || err == nil || err.Label == a.cause {
			continue
		}
		a.cause, a.Detail, a.Do = err.Label, "the last probe: "+err.WithoutRemedy(), err.Remedy()
		if !slices.Contains(a.causes, a.cause) && len(a.causes) < maxCauses {
			a.causes = append(a.causes, a.cause)
			change.CauseChanged = append(change.CauseChanged, *a)
		}
	}
	return change
}

// probedBy reports whether a probe of the lane that was sent at a time was a probe for the hold.
func (a Hold) probedBy(lane int, sent time.Time) bool {
	return a.interval > 0 && a.holds(lane) && a.Since.Before(sent)
}

// endedBy reports whether a probe's response disproves the hold: for an outage an ErrorCode that is
// not transient, for the credentials one that is also not held, for rejections only a success.
func (a Hold) endedBy(err *imclient.Error) bool {
	judged := err == nil || err.ErrorCode != 0 && err.Class != imclient.Transient
	switch a.Reason {
	case Outage:
		return judged
	case Credentials:
		return judged && (err == nil || err.Class != imclient.Held)
	case Rejections:
		return err == nil
	default:
		return false
	}
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
		NextProbe: until, until: until,
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

func (h *Holds) spreadOver(interval time.Duration) time.Duration {
	return time.Duration(float64(interval) * h.spread)
}

// outageInterval returns the interval between probes in an outage of that age. Most outages are
// short, and after one the worker idles for up to an interval, so it is short as long as that is
// affordable: half an hour takes fewer than 400 probes.
func outageInterval(age time.Duration) time.Duration {
	switch {
	case age < 15*time.Second:
		return time.Second
	case age < time.Minute:
		return 2 * time.Second
	default:
		return 5 * time.Second
	}
}

func refusedInterval(err *imclient.Error) time.Duration {
	if err != nil && err.ErrorCode == codeLocked {
		return lockedProbe
	}
	return refusedProbe
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
