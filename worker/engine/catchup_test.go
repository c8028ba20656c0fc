package engine

import (
	"testing"
	"time"

	"markread/consumer/event"
	"markread/imclient"
	"markread/worker/hold"
	"markread/worker/quota"
)

// catchUpRig is a rig with a rate whose permits have cooled: events are called unless the lane
// catches up.
func catchUpRig(t *testing.T, behind ...event.Lane) (r *rig, now time.Time) {
	r = newRig(t)
	r.quota = quota.New()
	r.SetShare(start, 100)
	for _, lane := range behind {
		r.Behind(lane, 2)
	}
	return r, start.Add(quota.Window)
}

func (r *rig) receiveIn(lane event.Lane, report string) {
	r.Receive(start, []event.Event{r.event(report, 10, lane)})
}

// While more of a backlog is read, a call would be superseded by the next event of its
// conversation.
func TestCallsWaitForTheBacklog(t *testing.T) {
	r, now := catchUpRig(t, event.Live)
	r.receiveIn(event.Live, "a")
	if c, again := r.Next(now); c != nil || !again.Equal(now.Add(catchUpAtMost)) {
		t.Fatalf("a call for %+v, again at %v", c, again)
	}
	r.Behind(event.Live, -1)
	if c, _ := r.Next(now.Add(time.Second)); c != nil {
		t.Fatal("a call while one of two partitions is behind")
	}
	r.Behind(event.Live, -1)
	r.mustCall(now.Add(2*time.Second), "a")
	// A later burst does not delay calls: only the beginning of a generation does.
	r.Behind(event.Live, 1)
	r.receiveIn(event.Live, "b")
	r.mustCall(now.Add(3*time.Second), "b")
}

func TestCallsWaitForTheBacklogOnlySoLong(t *testing.T) {
	r, now := catchUpRig(t, event.Live)
	r.receiveIn(event.Live, "a")
	if c, _ := r.Next(now.Add(catchUpAtMost - 1)); c != nil {
		t.Fatal("too early")
	}
	r.mustCall(now.Add(catchUpAtMost), "a")
}

func TestCallsWaitNoLongerWhenMemoryIsFull(t *testing.T) {
	r, now := catchUpRig(t, event.Live)
	r.options.MaxPending = 2
	r.receiveIn(event.Live, "a")
	if c, _ := r.Next(now); c != nil {
		t.Fatal("memory is not full yet")
	}
	r.receiveIn(event.Live, "b")
	r.mustCall(now, "a")
	r.receiveIn(event.Live, "c")
	r.mustCall(now.Add(time.Second), "b")
}

// Live events don't wait for the reading of a backfill.
func TestEachLaneWaitsForItsOwnBacklog(t *testing.T) {
	r, now := catchUpRig(t, event.Backfill)
	r.receiveIn(event.Backfill, "fill")
	r.receiveIn(event.Live, "live")
	r.mustCall(now, "live")
	if c, _ := r.Next(now.Add(time.Second)); c != nil {
		t.Fatal("backfill is called while more of it is read")
	}
}

// Without a rate calls are not scarce. A worker that knows of no backlog does not wait.
func TestCallsDoNotWaitWithoutABacklog(t *testing.T) {
	uncapped := newRig(t)
	uncapped.Behind(event.Live, 1)
	uncapped.receiveIn(event.Live, "a")
	uncapped.mustCall(start, "a")
	r, now := catchUpRig(t)
	r.receiveIn(event.Live, "a")
	r.mustCall(now, "a")
}

// A probe is not delayed: it decides when the service is used again.
func TestProbesDoNotWaitForTheBacklog(t *testing.T) {
	r, now := catchUpRig(t, event.Live)
	r.receiveIn(event.Live, "a")
	now = now.Add(catchUpAtMost)
	c := r.mustCall(now, "a")
	r.CallDone(now, c, &imclient.Error{Class: imclient.Held, ErrorCode: 70009})
	if !r.holds.Held(hold.Credentials, 0) {
		t.Fatal("not held")
	}
	r.Begin(now, r.tracker, 12, 12)
	r.SetShare(now, 100)
	r.Behind(event.Live, 1)
	r.receiveIn(event.Live, "a")
	now = now.Add(15 * time.Second) // the probe is due
	if c, _ := r.Next(now); c == nil || !c.Probe {
		t.Fatalf("%+v instead of a probe", c)
	}
	r.Begin(now, r.tracker, 12, 12)
	if waits, _ := r.catchingUp(now, 0); waits {
		t.Fatal("the next generation waits before it knows its share")
	}
}
