package engine

import (
	"time"

	"markread/consumer/event"
	"markread/imclient"
	"markread/worker/hold"
)

// Observer is notified of what happens, for logs and metrics. It can't influence it, and must not
// call the Engine.
type Observer interface {
	// EventFinished is called for each event that has an event time; age is the time since then. c
	// is the call of an applied event, and nil for the other outcomes: no record is left then.
	EventFinished(lane event.Lane, age time.Duration, c *Call)
	// CallEnded is called for each call that was sent and not interrupted; failure is nil for a
	// success.
	CallEnded(failure *imclient.Error, took time.Duration)
	// CallRetried follows CallEnded if the call will be repeated after a backoff.
	CallRetried(c *Call, failure *imclient.Error, attempts, failures int32)
	// LetterWritten is called when the dead-letter topic has acknowledged l.
	LetterWritten(l *Letter)
	// Limit is called at each Next with the number of usable permits and this worker's share.
	Limit(now time.Time, limit, share int)
	// HoldsChanged is called with the changes and with the holds that are active after them.
	HoldsChanged(now time.Time, change hold.Change, active []hold.Hold)
}
