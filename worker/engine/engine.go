// Package engine decides which calls are made, what becomes of each event, when fetching pauses, and explains what
// an event waits for. It puts together backlog (what is called next), quota (when) and hold (whether at all).
//
// It is pure: no goroutine, no clock, no I/O, no context, no log. Time is an argument, and must not go back between
// two calls. It is not safe for concurrent use: package worker holds the lock, a simulation needs none.
//
// The rules for its user: Begin starts a generation, End drops it. In between, each Call of Next is reported once, with
// Answer or CutOff, and each batch of NextLetters with LettersWritten. An event is finished when the Tracker is told so,
// and not before.
package engine

import (
	"time"

	"markread/consumer/event"
	"markread/imclient"
	"markread/worker/backlog"
	"markread/worker/hold"
	"markread/worker/quota"
)

// Options configure an Engine. All must be set except where noted.
type Options struct {
	Topics      event.Topics // that events come from
	Attempts    int          // counted failures after which a conversation becomes a dead letter
	MaxInFlight int          // calls at the same time when there is no rate; 0: there is one, see SetShare
	MaxPending  int          // conversations in memory at which fetching pauses
	MaxEvents   int          // unsettled events at which it does; 0: 8,000,000
	MaxRejected int          // per cent of a lane's last 500 outcomes that may be rejected or invalid
	Backoff     imclient.Backoff
	Jitter      func(id string, failures int) float64 // in [0, 1)
	Observer    Observer                              // nil: none
}

// Engine is the pure decision logic: time, events and responses come in; calls and letters go out. It is not
// safe for concurrent use.
type Engine struct {
	options  Options
	observer Observer
	quota    *quota.Quota
	holds    *hold.Holds
	memory   *backlog.Memory

	// These belong to one generation; see Begin and End.
	tracker Tracker
	backlog *backlog.Backlog
	letters letterQueue

	accepted bool      // the server accepted the last signature that it said anything about
	lastCall time.Time // when the last call was sent
	calls    uint64    // sent, and answered or failed
	answered uint64    // those of them with an ErrorCode
	counts   [backlog.Lanes]Counts

	partitions int // of the group, in this generation
}

// Tracker knows the events of a generation by their Ref.
type Tracker interface {
	// Finish reports that an event is finished, and returns what it was.
	Finish(ref event.Ref) (lane event.Lane, eventTime time.Time)
	// Attempted reports how many counted attempts an event has had: its next owner continues counting.
	Attempted(ref event.Ref, attempts int)
}

// Call is one request to be made; its result must be reported with Answer or CutOff.
type Call struct {
	Read  imclient.Read
	Lane  int
	Probe bool

	sent         time.Time
	conversation *backlog.Conversation
	topics       *event.Topics
}

// Record returns the record of the event that the call is made for. It unpacks it: for log lines only.
func (c *Call) Record() event.Record { return unpack(c.conversation.Payload(), *c.topics).Record }

// New returns an Engine without a generation, and with a rate without permits.
func New(options Options) *Engine {
	c := &Engine{
		options:  options,
		observer: options.Observer,
		quota:    quota.New(),
		holds:    hold.New(options.MaxRejected),
		memory:   backlog.NewMemory(),
	}
	if c.observer == nil {
		c.observer = nobody{}
	}
	if options.MaxInFlight > 0 {
		c.quota = quota.Uncapped(options.MaxInFlight)
	}
	if options.MaxEvents == 0 {
		c.options.MaxEvents = defaultMaxEvents
	}
	return c
}

// Begin starts a generation with an empty backlog, for a worker that was assigned some of all partitions of the
// group. The intervals between probes grow by the same ratio, so that a group probes as often as one worker.
// Without any partition there is nothing to probe with: the holds that only a probe ends are dropped.
func (c *Engine) Begin(now time.Time, t Tracker, assigned, partitions int) {
	c.tracker, c.partitions = t, partitions
	c.backlog = backlog.New(c.memory, now)
	c.letters = letterQueue{}
	if assigned == 0 {
		c.dropped(now, c.holds.DropProbed())
	}
	c.holds.Spread(now, float64(partitions)/float64(max(1, assigned)))
}

// End drops everything unfinished; the next owners of the partitions will get it.
func (c *Engine) End(now time.Time) {
	// No letter is left that could show that the topic accepts letters again.
	c.dropped(now, c.holds.Clear(hold.DeadLetter))
	for lane := range c.counts {
		c.counts[lane].Returned += c.counts[lane].Unsettled()
	}
	c.tracker, c.backlog, c.letters = nil, nil, letterQueue{}
}

// Receive takes in one batch of events.
func (c *Engine) Receive(now time.Time, events []event.Event) {
	for i := range events {
		e := &events[i]
		c.counts[e.Lane].Received += uint64(standsFor(e))
		c.holds.Read(int(e.Lane), e.Invalid != nil)
		if e.Invalid != nil {
			c.admit(now, invalidLetter(now, *e))
			continue
		}
		known := c.backlog.Len()
		packed, idLen := pack(e)
		kept := c.backlog.Add(now, backlog.Event{
			Lane:     int(e.Lane),
			ReadTime: e.ReadTime,
			Ref:      uint64(e.Ref),
			Attempts: e.Attempts,
			Payload:  packed,
			IDLen:    idLen,
		})
		if !kept {
			c.settle(now, uint64(e.Ref), Superseded)
			// An earlier success covers it. After a rebalance the good events of a backlog finish like this and
			// only the bad ones are called again, which must not look as if there were no good ones.
			c.changed(now, c.holds.Ended(now, int(e.Lane), hold.Called, ""))
		} else if c.backlog.Len() > known {
			c.holds.Arrived(now)
		}
	}
}

// Next returns the call to make now. The permit and the token come first, then the best waiting
// conversation is chosen: so priority is exact, and events collapse as late as possible. Without a call it
// returns when to ask again; a zero time means not before something comes in.
func (c *Engine) Next(now time.Time) (todo *Call, again time.Time) {
	c.changed(now, c.holds.Expire(now))
	c.observer.Limit(now, c.quota.Limit(now), c.quota.Share())
	var open, probed backlog.LaneSet
	for lane := range open {
		ok, probe, at := c.holds.May(now, lane)
		open[lane], probed[lane] = ok && !probe, ok && probe
		if !ok {
			again = earlier(again, at)
		}
	}
	probe := c.backlog.Waiting(probed)
	if !probe {
		ok, due := c.backlog.Ready(now, open)
		if !ok {
			return nil, earlier(again, due)
		}
	}
	if trickle := c.lastCall.Add(unacceptedPace); !c.accepted && c.quota.InFlight() >= unacceptedCalls && now.Before(trickle) {
		return nil, earlier(again, trickle)
	}
	if ok, at := c.quota.Take(now); !ok {
		return nil, earlier(again, at)
	}
	var chosen *backlog.Conversation
	if probe {
		chosen = c.backlog.TakeProbe(probed)
		c.holds.Probing(chosen.Lane())
		c.noteMemoryFull(now, chosen.Lane())
	} else {
		chosen = c.backlog.Take(now, open, max(1, c.quota.Limit(now)/retryPart))
	}
	if chosen.Failures == 0 {
		chosen.Baseline = c.answered
	}
	c.lastCall = now
	report, peer := accounts(chosen.ID())
	return &Call{
		Read:         imclient.Read{Report: report, Peer: peer, Time: chosen.ReadTime()},
		Lane:         chosen.Lane(),
		Probe:        probe,
		sent:         now,
		conversation: chosen,
		topics:       &c.options.Topics,
	}, time.Time{}
}

// Until the server has accepted the signature, so many calls may be in flight, and one more now and then:
// while a server is slow to refuse a wrong signature it must not get hundreds, because after too many it
// refuses correct ones, too (70050); but calls that hang must not stop the others.
const (
	unacceptedCalls = 4
	unacceptedPace  = 250 * time.Millisecond
)

// retryPart: retries may hold a tenth of the permits while first attempts wait.
const retryPart = 10

// earlier returns the earlier of two times; zero means never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// CutOff takes in that a call was interrupted by a stop, or was not sent because the membership was not
// proven. Stopping is not failing: it says nothing about the conversation.
func (c *Engine) CutOff(now time.Time, done *Call) {
	c.quota.Return(now)
	if done.Probe {
		c.holds.Abandoned(done.Lane)
	}
	c.backlog.Retry(done.conversation, now)
}

// Answer takes in the response to a call, nil for a success, and decides what becomes of its conversation.
func (c *Engine) Answer(now time.Time, done *Call, failure *imclient.Error) {
	c.quota.Return(now)
	if failure == nil || failure.Sent() {
		c.calls++
		c.observer.CallEnded(failure, now.Sub(done.sent))
	}
	if failure == nil || failure.ErrorCode != 0 {
		c.answered++
		if failure == nil || failure.Class != imclient.Throttled { // that says nothing about the signature
			c.accepted = failure == nil || failure.Class != imclient.Held && !failure.Resigned
		}
	}
	if failure != nil && failure.Class == imclient.Throttled {
		c.quota.Shrink(now, done.sent)
	}
	of := done.conversation
	refused := failure != nil && failure.Resigned
	if refused && of.Resigned {
		// It had its second attempt, with a new signature: now its class is believed, whatever that signature
		// did for others.
		believed := *failure
		believed.Resigned = false
		failure = &believed
	}
	of.Resigned = refused && !of.Resigned
	held := c.holds.On(done.Lane)
	c.changed(now, c.holds.Answer(now, of.ID(), done.Lane, failure, done.Probe))
	c.settleCall(now, done, failure, held || c.holds.On(done.Lane))
}

// changed reports which holds began and ended, and lets what waited for one that ended continue.
func (c *Engine) changed(now time.Time, change hold.Change) {
	for _, h := range change.Begun {
		c.observer.HoldBegun(now, h)
	}
	for _, h := range change.CauseChanged {
		c.observer.HoldChanged(h)
	}
	for _, h := range change.Ended {
		c.observer.HoldEnded(now, h, c.holds.Active())
		if h.Reason == hold.Rejections {
			for _, l := range c.letters.release(h.Lane) { // the count restarts, with them
				c.admit(now, l)
			}
		}
	}
	if len(change.Ended) > 0 && c.backlog != nil {
		c.backlog.Hasten(now, now.Add(hastenWithin), func(id string) float64 { return c.options.Jitter(id, 0) })
	}
}

// hastenWithin is how soon after the end of a hold everything that waited for it is retried.
const hastenWithin = 2 * time.Second

// dropped reports holds that were dropped.
func (c *Engine) dropped(now time.Time, change hold.Change) {
	for _, h := range change.Ended {
		c.observer.HoldDropped(now, h)
	}
}
