// Package engine decides which calls are made, how each event is settled and when fetching pauses,
// and explains what an event waits for. It combines backlog (which call is next), quota (when) and
// hold (whether at all). At the beginning of a generation calls wait for the reading of the backlog
// (catchUp); probes don't.
//
// It is pure: no goroutine, no clock, no I/O, no context, no log. Time is an argument, and must not
// go back between two calls. It is not safe for concurrent use: its owner holds the lock.
//
// Its user promises: Begin starts a generation, End drops it. In between, each Call of Next is
// reported exactly once, with CallDone or CallInterrupted, and each batch of NextLetters exactly
// once, with LettersWritten. What Behind gets adds up to the number of partitions that have more
// events. An event is finished when the Tracker's Finish is called, and not before.
package engine

import (
	"strings"
	"time"

	"markread/consumer/event"
	"markread/imclient"
	"markread/worker/backlog"
	"markread/worker/hold"
	"markread/worker/quota"
)

// Options configure an Engine. All must be set except where noted.
type Options struct {
	Topics      event.Topics // topics that events are read from
	Attempts    int          // counted failures after which a conversation becomes a dead letter
	MaxInFlight int          // calls in flight without a rate; 0: see SetShare
	MaxPending  int          // conversations in memory at which fetching pauses
	MaxEvents   int          // unsettled events at which fetching pauses; 0: 12,000,000
	MaxRejected int          // per cent of a lane's last 500 outcomes: rejected or invalid
	Backoff     imclient.Backoff
	Jitter      func(id string, failures int) float64 // in [0, 1)
	Observer    Observer
}

// Engine is the pure decision logic: it receives time, events and responses, and returns calls and
// dead letters.
type Engine struct {
	options Options
	quota   *quota.Quota
	holds   *hold.Holds
	applied *backlog.AppliedTimes

	// These fields belong to one generation; see Begin and End.
	packer     packer
	tracker    Tracker
	partitions int // of the group
	backlog    *backlog.Backlog
	catchUp    catchUp
	letters    letterQueue
	failures   failures

	// the server accepted the last signature that it judged
	signatureAccepted bool
	lastCall          time.Time // when the last call was sent
	calls             uint64    // sent, and responded to or failed
	withErrorCode     uint64    // of these calls, the ones with an ErrorCode
	counts            [backlog.Lanes]Counts
	rejected          []Rejected // the newest ones, the oldest of them first
}

// Tracker knows the events of a generation by their Ref.
type Tracker interface {
	// Finish reports that an event is finished, and returns its lane and event time.
	Finish(ref event.Ref) (lane event.Lane, eventTime time.Time)
	// Attempted reports how many attempts of an event counted: its next owner continues counting.
	Attempted(ref event.Ref, attempts int)
}

// Call is one request to be made; its result must be reported with CallDone or CallInterrupted.
type Call struct {
	Read  imclient.Read
	Lane  int
	Probe bool

	// for log lines and metrics
	Attempts, Failures int32             // of earlier calls: the counted and the consecutive ones
	Settled            int32             // events that a success settled, as in a dead letter
	Traceparent        event.Traceparent // of the event whose T is sent

	position     packedPosition
	sent         time.Time
	id           string // of the conversation
	conversation *backlog.Conversation
	topics       *event.Topics
}

// Position returns the record of the event whose T is sent, but only with its topic, partition and
// offset.
func (c *Call) Position() event.Record { return unpackPosition(c.position, c.topics) }

// Record unpacks the conversation's record with the largest T, which may have arrived after the
// call was sent. Only log lines use it.
func (c *Call) Record() event.Record {
	payload, readTime := c.conversation.Best()
	return unpack(payload, readTime, *c.topics).Record
}

// New returns an Engine without a generation and, with a rate, without permits.
func New(options Options) *Engine {
	if options.MaxEvents == 0 {
		options.MaxEvents = defaultMaxEvents
	}
	e := &Engine{
		options: options,
		quota:   quota.New(),
		holds:   hold.New(options.MaxRejected),
		applied: backlog.NewAppliedTimes(),
	}
	if options.MaxInFlight > 0 {
		e.quota = quota.Uncapped(options.MaxInFlight)
	}
	return e
}

// Begin starts a generation with an empty backlog. The worker owns assigned of the group's
// partitions. The intervals between probes grow by the same ratio, so that a group probes as often
// as a single worker. A worker without partitions has nothing to probe with: the holds that only a
// probe ends are dropped.
func (e *Engine) Begin(now time.Time, t Tracker, assigned, partitions int) {
	e.tracker, e.partitions = t, partitions
	e.backlog, e.letters, e.catchUp = backlog.New(e.applied, now), letterQueue{}, catchUp{}
	e.failures = failures{}
	if assigned == 0 {
		e.holdsChanged(now, e.holds.DropProbed())
	}
	e.holds.Spread(now, float64(partitions)/float64(max(1, assigned)))
}

// End drops everything unfinished; the next owners of the partitions read it again.
func (e *Engine) End(now time.Time) {
	for lane := range e.counts {
		e.counts[lane].Returned += e.counts[lane].Unsettled()
	}
	e.tracker, e.backlog, e.letters, e.failures = nil, nil, letterQueue{}, nil
	// No dead letter is left whose write could show that the topic accepts records again.
	e.holdsChanged(now, hold.Change{Dropped: e.holds.Clear(hold.DeadLetter).Ended})
}

// Receive adds one batch of events.
func (e *Engine) Receive(now time.Time, events []event.Event) {
	for i := range events {
		ev := &events[i]
		e.counts[ev.Lane].Received += uint64(standsFor(ev))
		e.holds.NoteRecord(int(ev.Lane), ev.Invalid != nil)
		if ev.Invalid != nil {
			e.noteInvalid(now, ev)
			e.admit(now, invalidLetter(now, *ev))
			continue
		}
		known := e.backlog.Len()
		packed, idLen := e.packer.pack(ev)
		kept := e.backlog.Add(now, backlog.Event{
			Lane:     int(ev.Lane),
			ReadTime: ev.ReadTime,
			Ref:      uint64(ev.Ref),
			Attempts: ev.Attempts,
			Payload:  packed,
			IDLen:    idLen,
		})
		if !kept {
			e.settle(now, uint64(ev.Ref), Superseded, nil)
			// An earlier success covers the event. After a rebalance the good events of a backlog
			// finish like this and only the bad ones are called: without this outcome all events
			// would look bad.
			e.holdsChanged(now, e.holds.NoteOutcome(now, int(ev.Lane), hold.Called, "", ""))
		} else if e.backlog.Len() > known {
			e.holds.ConversationArrived(now)
		}
	}
}

// Until the server has accepted the signature, only unacceptedCalls may be in flight, plus one more
// per unacceptedPace. A server that is slow to refuse a wrong signature must not get hundreds of
// calls, because after too many it refuses correct signatures, too (70050); but calls that hang
// must not stop all others.
const (
	unacceptedCalls = 4
	unacceptedPace  = 250 * time.Millisecond
)

// retryDivisor bounds retries: they may hold a tenth of the permits while first attempts wait.
const retryDivisor = 10

// Next returns the call to make now. It takes the permit and the token first, then chooses the best
// waiting conversation: so the priority is exact, and events collapse as late as possible. Without
// a call it returns when to ask again; a zero time means not before something arrives.
func (e *Engine) Next(now time.Time) (todo *Call, again time.Time) {
	e.Expire(now)
	e.options.Observer.Limit(now, e.quota.Limit(now), e.quota.Share())
	var open, probed backlog.LaneSet
	for lane := range open {
		ok, probe, at := e.holds.May(now, lane)
		if ok && !probe {
			var waits bool
			if waits, at = e.catchingUp(now, lane); waits {
				ok = false
			}
		}
		open[lane], probed[lane] = ok && !probe, ok && probe
		if !ok {
			again = earlier(again, at)
		}
	}
	probe := e.backlog.Waiting(probed)
	if !probe {
		if ok, due := e.backlog.Ready(now, open); !ok {
			return nil, earlier(again, due)
		}
	}
	nextUnaccepted := e.lastCall.Add(unacceptedPace)
	if !e.signatureAccepted && e.quota.InFlight() >= unacceptedCalls && now.Before(nextUnaccepted) {
		return nil, earlier(again, nextUnaccepted)
	}
	if ok, at := e.quota.Take(now); !ok {
		return nil, earlier(again, at)
	}
	var chosen *backlog.Conversation
	if probe {
		chosen = e.backlog.TakeProbe(probed)
		e.holds.ProbeSent(now, chosen.Lane())
		e.noteMemoryFull(now, chosen.Lane())
	} else {
		chosen = e.backlog.Take(now, open, max(1, e.quota.Limit(now)/retryDivisor))
	}
	calls := chosen.Calls()
	if calls.Failures == 0 {
		calls.Baseline = e.withErrorCode
	}
	e.lastCall = now
	id := chosen.ID()
	separator := strings.IndexByte(id, accountSeparator)
	c := &Call{
		Read: imclient.Read{
			Report: id[:separator], Peer: id[separator+1:], Time: chosen.ReadTime(),
		},
		Lane:         chosen.Lane(),
		Probe:        probe,
		Attempts:     calls.Attempts,
		Failures:     calls.Failures,
		sent:         now,
		id:           id,
		conversation: chosen,
		topics:       &e.options.Topics,
	}
	packed, _ := chosen.Best()
	packed = packed[len(id)+1:]
	copy(c.position[:], packed)
	c.Traceparent = unpackTraceparent(packed)
	return c, time.Time{}
}

// Slack returns how much later than the time that Next returned it may be asked again, if nothing
// has arrived, without costing calls.
func (e *Engine) Slack(now time.Time) time.Duration { return e.quota.Slack(now) }

// earlier returns the earlier of two times; zero means never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// CallInterrupted reports that a shutdown or a revoke interrupted a call, or that a call was not
// sent because the membership was not proven. Stopping is not failing: it says nothing about the
// conversation.
func (e *Engine) CallInterrupted(now time.Time, done *Call) {
	e.quota.Return(now)
	if done.Probe {
		e.holds.ProbeInterrupted(now, done.sent, done.Lane)
	}
	e.backlog.Retry(done.conversation, now)
}

// CallDone reports the result of a call, nil for a success, and settles or retries its
// conversation.
func (e *Engine) CallDone(now time.Time, done *Call, failure *imclient.Error) {
	e.quota.Return(now)
	if failure == nil || failure.Sent() {
		e.calls++
		e.options.Observer.CallEnded(failure, now.Sub(done.sent))
	}
	if failure != nil && failure.Class == imclient.Rejected {
		e.noteRejection(now, done, failure)
	}
	throttled := failure != nil && failure.Class == imclient.Throttled
	refused := failure != nil && failure.RetryWithNewSignature
	if failure == nil || failure.ErrorCode != 0 {
		e.withErrorCode++
		if !throttled { // throttling says nothing about the signature
			e.signatureAccepted = !refused && (failure == nil || failure.Class != imclient.Held)
		}
	}
	if throttled {
		e.quota.Shrink(now, done.sent)
	}
	calls := done.conversation.Calls()
	if refused && calls.NewSignature {
		// The second attempt had a new signature: now the class counts, whatever other calls got.
		believed := *failure
		believed.RetryWithNewSignature = false
		failure = &believed
	}
	calls.NewSignature = refused && !calls.NewSignature
	held := done.Probe || e.holds.LaneHeld(done.Lane) // a probe may outlive its hold
	var probeSent time.Time
	if done.Probe {
		probeSent = done.sent
	}
	e.holdsChanged(now, e.holds.CallDone(now, done.id, done.Lane, failure, probeSent))
	e.settleCall(now, done, failure, held || e.holds.LaneHeld(done.Lane))
}
