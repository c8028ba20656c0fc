package engine

import (
	"time"

	"markread/consumer/event"
	"markread/imclient"
	"markread/worker/hold"
)

// Observer learns what happens, for logs and metrics. It can't change what happens, and must not call the Engine.
type Observer interface {
	// EventFinished is called for each event with a valid event time; age is the time since then.
	EventFinished(lane event.Lane, age time.Duration)
	// CallEnded is called for each call that was sent, unless it was cut off; failure is nil for a success.
	CallEnded(failure *imclient.Error, took time.Duration)
	// CallRetried follows when the call is repeated after a backoff.
	CallRetried(c *Call, failure *imclient.Error, attempts, failures int32)
	// LetterWritten is called when the dead-letter topic has acknowledged l.
	LetterWritten(l *Letter)
	// Limit is called before each decision with the permits that may be used, and this worker's share.
	Limit(now time.Time, limit, share int)

	HoldBegun(now time.Time, h hold.Hold)
	// HoldChanged is called when a hold continues for a new cause.
	HoldChanged(h hold.Hold)
	// HoldEnded is called with the holds that are still active.
	HoldEnded(now time.Time, h hold.Hold, active []hold.Hold)
	// HoldDropped is called when a hold ends because what would have ended it is gone.
	HoldDropped(now time.Time, h hold.Hold)
}

// nobody observes nothing.
type nobody struct{}

func (nobody) EventFinished(event.Lane, time.Duration)          {}
func (nobody) CallEnded(*imclient.Error, time.Duration)         {}
func (nobody) CallRetried(*Call, *imclient.Error, int32, int32) {}
func (nobody) LetterWritten(*Letter)                            {}
func (nobody) Limit(time.Time, int, int)                        {}
func (nobody) HoldBegun(time.Time, hold.Hold)                   {}
func (nobody) HoldChanged(hold.Hold)                            {}
func (nobody) HoldEnded(time.Time, hold.Hold, []hold.Hold)      {}
func (nobody) HoldDropped(time.Time, hold.Hold)                 {}
