package sim

import (
	"time"

	"markread/imclient"
	"markread/worker/hold"
)

// evidence records what the responses say about the service while no hold is active.
func (v *holdView) evidence(r *request, failure *imclient.Error) {
	if r.Probe || v.on(r.Lane) || failure != nil && failure.RetryWithNewSignature {
		return
	}
	failed := failure != nil && failure.Class == imclient.Transient
	v.recent = append(v.recent, recentResult{r.conversation, failed})
	if len(v.recent) > 20 {
		v.recent = append(v.recent[:0], v.recent[1:]...)
	}
	switch {
	case !failed || failure.ErrorCode != 0:
		v.noCode = 0
	case v.noCode == 0:
		v.noCode, v.noCodeSince = 1, r.process.now
	default:
		v.noCode++
	}
}

// checkProbes updates when the holds may next be probed, and fails if an outage hold is missing.
func (h *process) checkProbes(r *request, failure *imclient.Error) {
	v := &h.shadow.holds
	if why := v.outage(h.now - v.noCodeSince - holdSlack(time.Second)); why != "" &&
		!v.on(r.Lane) && failure != nil &&
		failure.Class == imclient.Transient && !failure.RetryWithNewSignature {
		h.fail("letters", "worker %d continues calling in an outage: %s", h.id, why)
	}
	if !r.Probe {
		return
	}
	for i := range v.active {
		a := &v.active[i]
		switch {
		case !a.holds(r.Lane) || a.since >= r.sent: // it began after the probe was sent
		case failure != nil && failure.RetryWithNewSignature:
			a.notBefore, v.lastProbed = 0, -1 // immediately again
		case a.reason == hold.Credentials:
			a.next(h, refusedWait(v.cause))
		}
	}
}

// outage says why the last responses are an outage, or "". within is how long calls have got no
// ErrorCode, with a tolerance for what clocks may differ by.
func (v *holdView) outage(within int64) string {
	if v.noCode >= 5 && within >= int64(time.Second) {
		return "five calls in a row got no ErrorCode"
	}
	failed, conversations := 0, map[int32]bool{}
	for _, a := range v.recent {
		if a.failed {
			failed++
			conversations[a.conversation] = true
		}
	}
	if failed >= 16 && len(conversations) >= 5 && len(v.recent) == 20 {
		return "four of five calls failed"
	}
	return ""
}

// noteOutcome notes the outcome of an event of a lane, and fails if the lane should be held for it.
func (h *process) noteOutcome(lane int, as uint8) {
	v := &h.shadow.holds
	ring := &v.outcomes[lane]
	if len(*ring) < 500 {
		*ring = append(*ring, as)
	} else {
		(*ring)[v.outcomesNext[lane]] = as
		v.outcomesNext[lane] = (v.outcomesNext[lane] + 1) % 500
	}
	if as != outcomeRejected || len(*ring) < 500 || v.accepted || v.held(hold.Rejections, lane) {
		return
	}
	var count [3]int
	for _, end := range *ring {
		count[end]++
	}
	if calls := 500 - count[outcomeInvalid]; calls >= 100 &&
		(500-count[outcomeCalled]) >= 5*h.maxRejected &&
		count[outcomeRejected]*100 >= calls*h.maxRejected {
		h.fail("rejections", "worker %d: lane %d continues after 500 outcomes of which %d were "+
			"rejected and %d invalid", h.id, lane, count[outcomeRejected], count[outcomeInvalid])
	}
}
