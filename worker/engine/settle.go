package engine

import (
	"strings"
	"time"

	"markread/consumer/event"
	"markread/imclient"
	"markread/worker/backlog"
	"markread/worker/hold"
)

// Outcome is how an event ended. The texts are the contract's.
type Outcome int

const (
	Applied      Outcome = iota // its own T was sent, and succeeded
	Collapsed                   // it waited with an event of a larger or equal T whose call succeeded
	Superseded                  // an earlier success covers it: no call of its own
	DeadLettered                // a letter that stands for it is on the dead-letter topic
	outcomes
)

func (o Outcome) String() string {
	return [...]string{"applied", "collapsed", "superseded", "dead_lettered"}[o]
}

// Counts is how many events of a lane were received, and their outcomes.
type Counts struct {
	Received, Returned uint64 // returned: given up at a revoke
	Finished           [outcomes]uint64
}

// Unsettled is how many events have not ended. Those of damaged records are among them, though only one of a
// range is in memory.
func (l Counts) Unsettled() uint64 {
	n := l.Received - l.Returned
	for _, ended := range l.Finished {
		n -= ended
	}
	return n
}

// settleCall is the one place where an answer decides what becomes of a conversation; failure is nil for
// a success, and held says that its lane is held, or that a hold began or ended with this answer.
func (c *Engine) settleCall(now time.Time, done *Call, failure *imclient.Error, held bool) {
	of := done.conversation
	if failure == nil {
		c.settleSuccess(now, c.backlog.Succeeded(now, of))
		c.changed(now, c.holds.Ended(now, done.Lane, hold.Called, ""))
		return
	}
	if failure.Resigned {
		// The signature was refused and dropped: the next call has a new one. Not the event's fault.
		of.Baseline = c.answered
		c.backlog.Retry(of, now)
		return
	}
	counted := c.attemptCounts(of, failure, held)
	of.Baseline = c.answered
	of.Failures++
	if counted {
		of.Attempts++
		c.tracker.Attempted(event.Ref(of.Oldest()), int(of.Attempts))
	}
	switch {
	case failure.Class == imclient.Rejected && !c.holds.Held(hold.Rejections, done.Lane):
		c.letters.add(c.failedLetter(now, "rejected", of, failure))
		c.changed(now, c.holds.Ended(now, done.Lane, hold.Rejected, failure.Seen()))
	case counted && int(of.Attempts) >= c.options.Attempts:
		c.letters.add(c.failedLetter(now, "exhausted", of, failure))
		c.changed(now, c.holds.Ended(now, done.Lane, hold.Called, ""))
	case done.Probe && c.holds.On(done.Lane):
		c.backlog.Defer(of, now.Add(c.delay(of)))
	default:
		c.backlog.Retry(of, now.Add(c.delay(of)))
		c.observer.CallRetried(done, failure, of.Attempts, of.Failures)
	}
}

// delay is how long a conversation waits after its failure.
func (c *Engine) delay(of *backlog.Conversation) time.Duration {
	return c.options.Backoff.Delay(int(of.Failures), c.options.Jitter(of.ID(), int(of.Failures)))
}

// attemptCounts says whether a failure is held against the conversation: not while calls are held, for then
// it is the service. With an ErrorCode the server spoke about this call. Without one it may have been the
// network: it counts only when another conversation got through meanwhile.
func (c *Engine) attemptCounts(of *backlog.Conversation, failure *imclient.Error, held bool) bool {
	switch {
	case held, failure.Class == imclient.Throttled, failure.Class == imclient.Held:
		return false
	}
	return failure.ErrorCode != 0 || c.answered > of.Baseline
}

func (c *Engine) settleSuccess(now time.Time, s backlog.Settled) {
	for i, ref := range s.Refs {
		switch {
		case ref == s.Applied:
			c.settle(now, ref, Applied)
		case i < s.Sent:
			c.settle(now, ref, Collapsed)
		default:
			c.settle(now, ref, Superseded)
		}
	}
}

// settle ends one event: from here on its offset counts as finished.
func (c *Engine) settle(now time.Time, ref uint64, as Outcome) {
	lane, eventTime := c.tracker.Finish(event.Ref(ref))
	c.counts[lane].Finished[as]++
	if !eventTime.IsZero() {
		c.observer.EventFinished(lane, now.Sub(eventTime))
	}
}

// A conversation's ID is its two accounts. They are printable ASCII, so the separator is in neither.
const accountSeparator = "\n"

func conversationID(report, peer string) string { return report + accountSeparator + peer }

func accounts(id string) (report, peer string) {
	report, peer, _ = strings.Cut(id, accountSeparator)
	return report, peer
}
