package engine

import (
	"time"

	"markread/worker/hold"
	"markread/worker/quota"
)

// retryWithin is how soon after the end of a hold all conversations that waited for it are retried.
const retryWithin = 2 * time.Second

// holdsChanged reports changes of the holds. When a hold has ended, it releases what waited for it.
func (e *Engine) holdsChanged(now time.Time, change hold.Change) {
	if change.None() {
		return
	}
	e.options.Observer.HoldsChanged(now, change, e.holds.Active())
	for _, h := range change.Ended {
		if h.Reason == hold.Rejections {
			// the evidence restarts, and includes these
			for _, l := range e.letters.release(h.Lane) {
				e.admit(now, l)
			}
		}
	}
	if len(change.Ended) > 0 && e.backlog != nil {
		spread := func(id string) float64 { return e.options.Jitter(id, 0) }
		e.backlog.RetryBefore(now, now.Add(retryWithin), spread)
	}
}

// Holds returns the active holds, in the order of their beginning.
func (e *Engine) Holds() []hold.Hold { return e.holds.Active() }

// Expire ends the holds whose time is over.
func (e *Engine) Expire(now time.Time) { e.holdsChanged(now, e.holds.Expire(now)) }

// KeyChanged makes a probe due: the key differs from the refused one.
func (e *Engine) KeyChanged(now time.Time) { e.holds.KeyChanged(now) }

func (e *Engine) setHold(now time.Time, reason hold.Reason, detail, do string, next time.Time) {
	e.holdsChanged(now, e.holds.Set(now, reason, detail, do, next))
}

// SetMembership holds all calls while lost is not nil; lost says why no call may be sent.
func (e *Engine) SetMembership(now time.Time, lost error) {
	if lost == nil {
		e.holdsChanged(now, e.holds.Clear(hold.Membership))
	} else {
		e.setHold(now, hold.Membership, lost.Error(), hold.Membership.Do(), time.Time{})
	}
}

// Pause holds all calls until Resume. by is who paused, and why the reason that they gave; both may
// be empty. Another Pause updates them.
func (e *Engine) Pause(now time.Time, by, why string) {
	e.holdsChanged(now, e.holds.Pause(now, by, why))
}

// Resume ends a pause, and with acceptRejections also the holds for rejections: the next 10,000
// events of their lanes that are rejected or invalid become dead letters. by is who resumes it.
func (e *Engine) Resume(now time.Time, by string, acceptRejections bool) {
	e.holdsChanged(now, e.holds.Resume(by))
	if acceptRejections {
		e.holdsChanged(now, e.holds.AcceptRejections(by))
	}
}

const noShare = "this worker's share of the rate is 0"

// SetShare sets this worker's share of the rate, in permits.
func (e *Engine) SetShare(now time.Time, permits int) {
	e.quota.Reset(permits, now)
	e.catchUp.from = now.Add(quota.Window)
	switch {
	case permits > 0:
		e.holdsChanged(now, e.holds.Clear(hold.Quota))
	case e.partitions == 0:
		e.setHold(now, hold.Quota, noShare+", because the topics have no partitions",
			"check that --topic and --backfill-topic exist on these --brokers; "+
				"markread run --create-topics creates them", time.Time{})
	default:
		e.setHold(now, hold.Quota, noShare, hold.Quota.Do(), time.Time{})
	}
}

// SetMismatch gives this worker no share, because its quota terms differ from the group leader's:
// together the shares would exceed the rate.
func (e *Engine) SetMismatch(now time.Time, why, do string) {
	e.quota.Reset(0, now)
	e.setHold(now, hold.Quota, noShare+": "+why, do, time.Time{})
}
