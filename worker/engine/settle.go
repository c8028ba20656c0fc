package engine

import (
	"time"

	"markread/consumer/event"
	"markread/imclient"
	"markread/worker/backlog"
	"markread/worker/hold"
)

// Outcome is how an event finished. The texts are part of the contract.
type Outcome int

// The outcomes.
const (
	Applied      Outcome = iota // its own T was sent, and succeeded
	Collapsed                   // waited with an event of a larger or equal T whose call succeeded
	Superseded                  // an earlier success covers it: no call of its own
	DeadLettered                // a dead letter on the topic stands for it
	outcomes
)

func (o Outcome) String() string {
	return [...]string{"applied", "collapsed", "superseded", "dead_lettered"}[o]
}

// Counts is how many events of a lane were received, and how they finished.
type Counts struct {
	Received, Returned uint64 // returned: dropped unfinished at a revoke
	Finished           [outcomes]uint64
}

// Unsettled returns how many events are not finished. It includes all events of damaged records,
// though only one of a range is in memory.
func (c Counts) Unsettled() uint64 {
	n := c.Received - c.Returned
	for _, finished := range c.Finished {
		n -= finished
	}
	return n
}

// settleCall is the only place where a response decides what happens to a conversation. failure is
// nil for a success; held reports whether its lane was held when it was sent or before the
// response, or is now.
func (e *Engine) settleCall(now time.Time, done *Call, failure *imclient.Error, held bool) {
	conv := done.conversation
	if failure == nil {
		if done.Failures > 0 {
			delete(e.failures, done.id)
		}
		e.settleSuccess(now, done, e.backlog.Succeeded(now, conv))
		e.holdsChanged(now, e.holds.NoteOutcome(now, done.Lane, hold.Called, "", ""))
		return
	}
	calls := conv.Calls()
	counted := e.attemptCounts(calls, failure, held)
	calls.Baseline = e.withErrorCode
	if failure.RetryWithNewSignature {
		// Not the event's fault: the signature was refused; the next call has a new one.
		e.backlog.Retry(conv, now)
		return
	}
	calls.Failures++
	e.failures.note(now, done.id, failure)
	if counted {
		calls.Attempts++
		e.tracker.Attempted(event.Ref(conv.Oldest()), int(calls.Attempts))
	}
	failures := int(calls.Failures)
	due := now.Add(e.options.Backoff.Delay(failures, e.options.Jitter(done.id, failures)))
	switch {
	case failure.Class == imclient.Rejected && !e.holds.Held(hold.Rejections, done.Lane):
		delete(e.failures, done.id)
		e.letters.add(e.failedLetter(now, "rejected", conv, failure))
		e.holdsChanged(now,
			e.holds.NoteOutcome(now, done.Lane, hold.Rejected, failure.WithoutRemedy(),
				failure.Label))
	case counted && int(calls.Attempts) >= e.options.Attempts:
		delete(e.failures, done.id)
		e.letters.add(e.failedLetter(now, "exhausted", conv, failure))
		e.holdsChanged(now, e.holds.NoteOutcome(now, done.Lane, hold.Called, "", ""))
	case done.Probe && e.holds.LaneHeld(done.Lane):
		e.backlog.Defer(conv, due)
	default:
		e.backlog.Retry(conv, due)
		e.options.Observer.CallRetried(done, failure, calls.Attempts, calls.Failures)
	}
}

// attemptCounts reports whether a failure counts as an attempt. It does not while calls are held,
// because then the service is to blame. A failure with an ErrorCode counts: the server judged this
// call. A failure without one may be the network's fault: it counts only if another conversation
// got an ErrorCode since.
func (e *Engine) attemptCounts(calls *backlog.Calls, failure *imclient.Error, held bool) bool {
	if held || failure.Class == imclient.Throttled || failure.Class == imclient.Held {
		return false
	}
	return failure.ErrorCode != 0 || e.withErrorCode > calls.Baseline
}

func (e *Engine) settleSuccess(now time.Time, done *Call, s backlog.Settled) {
	done.Settled = int32(s.Sent)
	i := 0
	for ref := range s.Refs.All() {
		switch {
		case ref == s.Applied:
			e.settle(now, ref, Applied, done)
		case i < s.Sent:
			e.settle(now, ref, Collapsed, nil)
		default:
			e.settle(now, ref, Superseded, nil)
		}
		i++
	}
}

// settle finishes one event: from now on its offset counts as finished. c is the call of an applied
// event.
func (e *Engine) settle(now time.Time, ref uint64, as Outcome, c *Call) {
	lane, eventTime := e.tracker.Finish(event.Ref(ref))
	e.counts[lane].Finished[as]++
	if !eventTime.IsZero() {
		e.options.Observer.EventFinished(lane, now.Sub(eventTime), c)
	}
}
