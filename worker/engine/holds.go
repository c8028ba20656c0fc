package engine

import (
	"time"

	"markread/worker/hold"
)

// Expire ends the holds whose time is over.
func (c *Engine) Expire(now time.Time) { c.changed(now, c.holds.Expire(now)) }

// KeyChanged makes a probe due: the key that was refused is another one now.
func (c *Engine) KeyChanged(now time.Time) { c.holds.KeyChanged(now) }

// SetMembership holds all calls while lost says why none may be sent.
func (c *Engine) SetMembership(now time.Time, lost error) {
	if lost == nil {
		c.changed(now, c.holds.Clear(hold.Membership))
	} else {
		c.set(now, hold.Membership, lost.Error(), hold.Membership.Do())
	}
}

func (c *Engine) set(now time.Time, reason hold.Reason, detail, do string) {
	c.changed(now, c.holds.Set(now, reason, detail, do, time.Time{}))
}

// Pause holds all calls until resume.
func (c *Engine) Pause(now time.Time) {
	c.set(now, hold.Paused, "paused by an operator", hold.Paused.Do())
}

// Resume ends a pause; with acceptRejections also the holds for rejections: the next 10,000 events of their
// lanes that are rejected or invalid become dead letters.
func (c *Engine) Resume(now time.Time, acceptRejections bool) {
	c.changed(now, c.holds.Clear(hold.Paused))
	if acceptRejections {
		c.changed(now, c.holds.AcceptRejections())
	}
}

const noShare = "this worker's share of the rate is 0"

// SetShare sets how many permits of the rate belong to this worker.
func (c *Engine) SetShare(now time.Time, permits int) {
	c.quota.Reset(permits, now)
	switch {
	case permits > 0:
		c.changed(now, c.holds.Clear(hold.Quota))
	case c.partitions == 0:
		c.set(now, hold.Quota, noShare+", because the topics have no partitions",
			"check that --topic and --backfill-topic exist on these --brokers; markread run --create-topics makes them")
	default:
		c.set(now, hold.Quota, noShare, hold.Quota.Do())
	}
}

// SetMismatch takes in why the group's leader gives this worker neither partitions nor a share: with other
// quota terms the shares would add up to more than the rate.
func (c *Engine) SetMismatch(now time.Time, why, do string) {
	c.quota.Reset(0, now)
	c.set(now, hold.Quota, noShare+": "+why, do)
}
