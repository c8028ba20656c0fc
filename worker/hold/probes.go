package hold

import (
	"slices"
	"time"

	"golang.org/x/time/rate"

	"markread/imclient"
)

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
)

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

// ProbeInterrupted notes that a probe of the lane has no result: it was not sent, or a shutdown or
// a revoke interrupted it. Another one is due immediately.
func (h *Holds) ProbeInterrupted(now, sent time.Time, lane int) {
	for i := range h.active {
		if a := &h.active[i]; a.probedBy(lane, sent) {
			a.NextProbe = now
		}
	}
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

// probed ends the holds that a probe's response disproves, and updates what is known about the
// others.
func (h *Holds) probed(now, sent time.Time, lane int, err *imclient.Error) (change Change) {
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
		if a.Reason == Rejections || err == nil || err.Label == a.Code {
			continue
		}
		a.Code, a.Detail, a.Do = err.Label, "the last probe: "+err.WithoutRemedy(), err.Remedy()
		if !slices.Contains(a.causes, a.Code) && len(a.causes) < maxCauses {
			a.causes = append(a.causes, a.Code)
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
