package sim

import (
	"slices"
	"time"

	"markread/imclient"
	"markread/worker/backlog"
	"markread/worker/hold"
)

// holdView is what is seen of a worker's holds, and an independent view of what should be: what
// evidence there is, and when the next probe may be.
type holdView struct {
	active []seenHold
	cause  string // what is happening now that may end a hold
	sent   int64  // when the call was sent whose response is cause

	recent           []recentResult // while no hold was active
	noCode           int
	noCodeSince      int64
	newConversations int   // conversations that arrived
	earlyProbeDue    int64 // when one that arrived during an outage must have been probed
	earlyProbes      int   // probes that they brought forward
	outageProbes     int   // each of them may be one that was brought forward
	pausedTo         int64 // by Retry-After
	endedAt          int64 // when the last hold ended
	operator         bool  // paused by an operator
	repeatedProbes   int   // how often in a row, in addition to the first
	// the conversation that was last probed; -1: none, or it may be probed again
	lastProbed   int32
	share        int
	outcomes     [backlog.Lanes][]uint8 // the last 500
	outcomesNext [backlog.Lanes]int
	// how many events were delivered, if that is happening now
	batch int
	// the lane was held before: parked records count again, which is not seen here
	rejectionsRestarted [backlog.Lanes]bool
	accepted            bool
}

type seenHold struct {
	reason    hold.Reason
	lane      int
	since     int64
	began     time.Time // by the worker's clock
	notBefore int64     // of the next probe
	interval  time.Duration
}

func (a seenHold) holds(lane int) bool { return a.lane == hold.All || a.lane == lane }

type recentResult struct {
	conversation int32
	failed       bool
}

func (v *holdView) on(lane int) bool {
	return slices.ContainsFunc(v.active, func(a seenHold) bool { return a.holds(lane) })
}

func (v *holdView) held(reason hold.Reason, lane int) bool {
	return slices.ContainsFunc(v.active,
		func(a seenHold) bool { return a.reason == reason && a.holds(lane) })
}

// watchHolds compares the active holds with the previous ones, and checks the ended and the new
// ones.
func (h *process) watchHolds() {
	v := &h.shadow.holds
	if h.engine == nil {
		return
	}
	now := h.engine.Holds()
	kept := v.active[:0]
	for _, a := range v.active {
		if find(now, a) {
			kept = append(kept, a)
			continue
		}
		h.stats.ended[a.reason]++
		h.note("hold ends: "+string(a.reason), h.id, int64(a.lane), h.now-a.since, 0)
		v.endedAt = h.now
		h.checkEnd(a)
		h.checkRetriedSoon(a)
		if a.reason == hold.Rejections {
			v.rejectionsRestarted[a.lane] = true
			if v.cause != "accepts" {
				// the evidence restarts, with the parked records
				v.outcomes[a.lane], v.outcomesNext[a.lane] = nil, 0
			}
		}
	}
	v.active = kept
	for _, a := range now {
		if seen(v.active, a) {
			continue
		}
		h.stats.begun[a.Reason]++
		h.note("hold: "+string(a.Reason), h.id, int64(a.Lane), 0, 0)
		v.active = append(v.active,
			seenHold{reason: a.Reason, lane: a.Lane, since: h.now, began: a.Since})
		h.checkBegin(&v.active[len(v.active)-1])
	}
}

// find reports whether a hold that was seen is still active. A hold for the same reason that began
// since is another one: parked records may cause a new hold for rejections as soon as the first one
// ends.
func find(active []hold.Hold, was seenHold) bool {
	return slices.ContainsFunc(active, func(a hold.Hold) bool {
		return a.Reason == was.reason && a.Lane == was.lane && a.Since.Equal(was.began)
	})
}

func seen(active []seenHold, is hold.Hold) bool {
	return slices.ContainsFunc(active,
		func(a seenHold) bool { return a.reason == is.Reason && a.lane == is.Lane })
}

// spread is the factor by which the intervals of this worker's probes are longer.
func (h *process) spread() float64 {
	return float64(h.terms.all()) / float64(max(1, len(h.assigned)))
}

func (a *seenHold) next(h *process, interval time.Duration) {
	a.interval = interval
	wait := time.Duration(float64(interval) * h.spread())
	a.notBefore = h.now + int64(wait) - holdSlack(wait)
}

// probed notes that a probe for the hold is sent.
func (a *seenHold) probed(h *process) {
	switch a.reason {
	case hold.Outage:
		a.next(h, outageWait(h.time().Sub(a.began)))
	case hold.Credentials:
		a.next(h, 15*time.Second) // its response may prolong that
	case hold.Rejections:
		a.next(h, 5*time.Second)
	}
}

// outageWait returns how long after a probe the next one is sent, in an outage of that age.
func outageWait(age time.Duration) time.Duration {
	wait := time.Second
	if age >= 15*time.Second {
		wait = 2 * time.Second
	}
	if age >= time.Minute {
		wait = 5 * time.Second
	}
	return wait
}

// checkBegin fails if a hold must not begin now.
func (h *process) checkBegin(a *seenHold) {
	v := &h.shadow.holds
	switch a.reason {
	case hold.Outage:
		if v.outage(h.now-v.noCodeSince+holdSlack(time.Second)) == "" {
			h.fail("letters", "worker %d: an outage begins with %d responses without an "+
				"ErrorCode, and %v", h.id, v.noCode, v.recent)
		}
		a.next(h, time.Second)
	case hold.Credentials:
		if v.cause != "held" && v.cause != "locked" && v.cause != "no key" {
			h.fail("letters", "worker %d: a hold for the credentials begins with: %q", h.id,
				v.cause)
		}
		a.next(h, refusedWait(v.cause))
	case hold.Rejections:
		bad := 0
		for _, end := range v.outcomes[a.lane] {
			if end != outcomeCalled {
				bad++
			}
		}
		// The outcome that began it is not yet among them, or all outcomes of its batch are.
		if !v.rejectionsRestarted[a.lane] &&
			(len(v.outcomes[a.lane]) < 499 || bad+1+v.batch < h.maxRejected*5) {
			h.fail("letters", "worker %d: lane %d is held with %d bad of the last %d outcomes",
				h.id, a.lane, bad, len(v.outcomes[a.lane]))
		}
		a.next(h, 5*time.Second)
	case hold.Membership:
		if h.proofAge() <= proofLimit {
			h.fail("liveness", "worker %d is held for its membership, with a proof that is %v old",
				h.id, time.Duration(h.proofAge()))
		}
	case hold.Throttled:
		if v.pausedTo <= h.now {
			h.fail("letters", "worker %d: a pause that no server asked for", h.id)
		}
	}
	// Evidence from before the hold no longer counts.
	v.recent, v.noCode, v.earlyProbeDue, v.lastProbed = v.recent[:0], 0, 0, -1
}

func refusedWait(cause string) time.Duration {
	if cause == "locked" {
		return time.Minute
	}
	return 15 * time.Second
}

// checkEnd fails if a hold must not end now.
func (h *process) checkEnd(a seenHold) {
	v := &h.shadow.holds
	ok := true
	switch a.reason {
	case hold.Outage:
		ok = v.cause == "probe succeeded" || v.cause == "probe failed otherwise" ||
			v.cause == "held" || v.cause == "locked"
	case hold.Credentials:
		ok = v.cause == "probe succeeded" || v.cause == "probe failed otherwise"
	case hold.Rejections:
		ok = v.cause == "probe succeeded" || v.cause == "accepts"
	case hold.Throttled:
		ok = h.now >= v.pausedTo-holdSlack(time.Minute)
	case hold.DeadLetter:
		ok = v.cause == "letter written" || v.cause == "generation ends"
	case hold.Membership:
		ok = h.proofAge() <= proofLimit
	case hold.Paused:
		ok = !v.operator
	case hold.Quota:
		ok = v.share > 0
	}
	if a.interval > 0 && v.cause != "accepts" {
		ok = ok && a.since < v.sent // a probe for another hold proves nothing
	}
	if v.cause == "nothing to probe with" {
		ok = a.interval > 0
	}
	if !ok {
		h.fail("letters", "worker %d: the hold for %s ends with: %q", h.id, a.reason, v.cause)
	}
}

// checkRetriedSoon fails if what waited for a hold is not retried soon after its end.
func (h *process) checkRetriedSoon(a seenHold) {
	v := &h.shadow.holds
	if h.gen == nil || v.cause == "generation ends" {
		return
	}
	waits := false
	for i := range h.shadow.conversations {
		waits = waits || h.shadow.conversations[i].state == retrying &&
			h.shadow.beingChecked != int32(i)+1
	}
	if soon, due := h.engine.Ready(h.time().Add(retriedWithin)); waits && !soon {
		h.fail("liveness", "worker %d: the hold for %s has ended, and the first retry is due "+
			"only at %v, now is %v", h.id, a.reason, due, h.time())
	}
}

// checkIdle fails if a worker that could call is idle: a probe is overdue, or first attempts wait
// that nothing holds.
func (h *process) checkIdle() {
	v := &h.shadow.holds
	if !h.working || len(h.calls) > 0 || h.frozenUntil > h.now || v.share == 0 {
		return
	}
	// permits cool for a second after a takeover, and the slowest pace is one per second
	const patience = int64(3500 * time.Millisecond)
	since := max(h.gen.started, h.frozenUntil, h.lastResult, v.endedAt)
	for lane := range h.shadow.fresh {
		due, waits := since, h.shadow.fresh[lane] > 0
		for _, a := range v.active {
			switch {
			case !a.holds(lane):
			case a.reason == hold.Throttled:
				due = max(due, v.pausedTo)
			case a.interval == 0:
				waits = false // only its owner ends it
			default:
				due = max(due, a.notBefore+2*holdSlack(
					time.Duration(float64(a.interval)*h.spread())))
				waits = waits || len(v.active) == 1 && a.lane == hold.All && h.shadow.inMemory > 0
			}
		}
		if v.earlyProbeDue > 0 && len(v.active) == 1 && v.active[0].reason == hold.Outage &&
			v.outageProbes < 18 {
			due = max(since, v.earlyProbeDue)
		}
		if waits && h.now > due+patience {
			h.fail("starvation", "worker %d is idle for %v: lane %d waits, held %v", h.id,
				time.Duration(h.now-due), lane, v.active)
		}
	}
}

// checkHeld fails if a call must not be made now.
func (h *process) checkHeld(r *request) {
	h.watchHolds()
	v := &h.shadow.holds
	v.earlyProbeDue = 0
	if v.operator {
		h.fail("letters", "worker %d calls while it is paused", h.id)
	}
	if v.share == 0 {
		h.fail("cap", "worker %d calls without a share", h.id)
	}
	if h.now < v.pausedTo {
		h.fail("letters", "worker %d calls %v before the end of the pause that the server asked "+
			"for", h.id, time.Duration(v.pausedTo-h.now))
	}
	if on := v.on(r.Lane); on != r.Probe {
		h.fail("letters", "worker %d: lane %d is held: %v, but the call is a probe: %v", h.id,
			r.Lane, on, r.Probe)
	}
	if r.Probe && r.conversation != v.lastProbed {
		v.lastProbed, v.repeatedProbes = r.conversation, 0
	} else if r.Probe && len(v.active) == 1 && v.active[0].lane == hold.All &&
		h.shadow.inMemory-len(h.calls) > 1 {
		// Once is correct: calls that were in flight when the hold began are retried at their own
		// time.
		if v.repeatedProbes++; v.repeatedProbes > 1 {
			h.fail("probes", "worker %d probes %s repeatedly, though others wait", h.id,
				r.Read.Report)
		}
	}
	for i := range v.active {
		a := &v.active[i]
		if !a.holds(r.Lane) {
			continue
		}
		h.stats.probes[a.reason]++
		switch a.reason {
		case hold.Outage:
			v.outageProbes++
			if h.now < a.notBefore {
				v.earlyProbes++
				if v.newConversations < v.earlyProbes ||
					v.earlyProbes > 21+int(h.now/int64(time.Minute)) {
					h.fail("probes", "worker %d probes %v too early in an outage", h.id,
						time.Duration(a.notBefore-h.now))
				}
			}
		case hold.Credentials, hold.Rejections:
			if h.now < a.notBefore {
				h.fail("probes", "worker %d probes %v too early while held for %s", h.id,
					time.Duration(a.notBefore-h.now), a.reason)
			}
		default:
			h.fail("letters", "worker %d calls while held for %s", h.id, a.reason)
		}
		a.probed(h)
	}
}

// noteCause names a response before the engine receives it.
func (v *holdView) noteCause(r *request, failure *imclient.Error) {
	h := r.process
	v.sent = r.sent
	switch {
	case failure == nil && r.Probe:
		v.cause = "probe succeeded"
	case failure != nil && failure.RetryWithNewSignature:
		v.cause = "new signature"
	case failure != nil && failure.Class == imclient.Held &&
		failure.ErrorCode == failLocked.ErrorCode:
		v.cause = "locked"
	case failure != nil && failure.Class == imclient.Held && failure.ErrorCode != 0:
		v.cause = "held"
	case failure != nil && failure.Class == imclient.Held:
		v.cause = "no key"
	case r.Probe && failure != nil && failure.ErrorCode != 0 && failure.Class != imclient.Transient:
		v.cause = "probe failed otherwise"
	default:
		v.cause = "answer"
	}
	if failure != nil && failure.RetryAfter > 0 {
		v.pausedTo = max(v.pausedTo, h.now+int64(failure.RetryAfter)-holdSlack(failure.RetryAfter))
	}
}
