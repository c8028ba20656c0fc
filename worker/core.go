package worker

import (
	"context"
	"errors"
	"time"

	"github.com/rs/zerolog"

	"markread/consumer/event"
	"markread/imclient"
	"markread/worker/backlog"
	"markread/worker/hold"
	"markread/worker/quota"
)

// While the dead-letter topic refuses, one letter is tried so often; after so long that is a hold.
const (
	letterRetry    = time.Second
	letterPatience = 5 * time.Second
)

// hastenWithin is how soon after a hold's end everything that waited for it is tried again.
const hastenWithin = 2 * time.Second

// core is the engine without hands: it decides what is called and what becomes of an event, and does
// nothing itself. Time, events and answers come in; calls and letters go out. It has no goroutine and no
// clock and is not safe for concurrent use: Worker holds the lock, a simulation needs none.
type core struct {
	attempts   int // counted failures that make a dead letter
	maxReplays int // replays after which a letter is parked; 0: none is
	maxPending int // conversations in memory at which fetching pauses
	maxEvents  int // unsettled events at which it does
	backoff    imclient.Backoff
	jitter     func(id string, failures int) float64 // in [0, 1)
	topics     event.Topics
	log        zerolog.Logger
	seen       observer
	announce   announcer

	quota  *quota.Quota
	holds  *hold.Holds
	memory *backlog.Memory

	// These belong to one generation; see begin and end.
	tracker tracker
	backlog *backlog.Backlog
	letters letterQueue

	accepted bool      // the server took the last signature that it said anything about
	lastCall time.Time // when the last call was sent
	calls    uint64    // answered or failed
	answered uint64    // those of them with an ErrorCode
	counts   counts
}

// tracker knows the events of a generation by their Ref.
type tracker interface {
	// Finish says that an event has reached its end, and returns what it was.
	Finish(ref event.Ref) (lane event.Lane, eventTime time.Time)
	// Attempted says how many counted attempts an event has had: its next owner goes on counting.
	Attempted(ref event.Ref, attempts int)
}

// observer is told what happened. It can't change what happens.
type observer interface {
	eventEnded(lane event.Lane, age time.Duration)
	callEnded(err *imclient.Error, took time.Duration)
	letterWritten(class, code string)
}

// call is one request to be made, and what must be reported with its answer.
type call struct {
	read  imclient.Read
	lane  int
	probe bool
	sent  time.Time
	of    *backlog.Conversation
}

// begin starts a generation with an empty backlog.
func (c *core) begin(now time.Time, t tracker) {
	c.tracker = t
	c.backlog = backlog.New(c.memory, now)
	c.letters = letterQueue{}
}

// end gives up what has not reached its end; the partition's next owner will get it.
func (c *core) end(now time.Time) {
	// No letter is left to find out with whether the topic takes them again.
	for _, h := range c.holds.Clear(hold.DeadLetter).Ended {
		c.announce.givenUp(now, h)
	}
	for lane := range c.counts {
		c.counts[lane].returned += c.counts[lane].unsettled()
	}
	c.tracker, c.backlog, c.letters = nil, nil, letterQueue{}
}

// receive takes in one batch of events.
func (c *core) receive(now time.Time, events []event.Event) {
	for i := range events {
		e := &events[i]
		c.counts[e.Lane].received += uint64(standsFor(e))
		c.holds.Read(int(e.Lane), e.Invalid != nil)
		if e.Invalid != nil {
			c.admit(now, invalidLetter(now, *e))
			continue
		}
		known := c.backlog.Len()
		packed, named := pack(e)
		kept := c.backlog.Add(now, backlog.Event{
			Lane:     int(e.Lane),
			ReadTime: e.ReadTime,
			Ref:      uint64(e.Ref),
			Attempts: e.Attempts,
			Record:   packed,
			Named:    named,
		})
		if !kept {
			c.settle(now, uint64(e.Ref), superseded)
			// An earlier success stands for it. After a rebalance the good events of a backlog end like this and
			// only the bad ones are called again, which must not look as if there were no good ones.
			c.changed(now, c.holds.Ended(now, int(e.Lane), hold.Called, ""))
		} else if c.backlog.Len() > known {
			c.holds.Arrived(now)
		}
	}
}

// next returns the call to make now. The permit and the token come first, then the best waiting
// conversation is chosen: so priority is exact, and the collapse is as late as possible. When there is
// none it says when to ask again; a zero time means not before something comes in.
func (c *core) next(now time.Time) (todo *call, again time.Time) {
	c.changed(now, c.holds.Expire(now))
	c.announce.limit(now, c.quota.Limit(now), c.quota.Share())
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
	var of *backlog.Conversation
	if probe {
		of = c.backlog.TakeProbe(probed)
		c.holds.Probing(of.Lane())
		c.noteFilled(now, of.Lane())
	} else {
		of = c.backlog.Take(now, open, max(1, c.quota.Limit(now)/retryPart))
	}
	if of.Failures == 0 {
		of.Baseline = c.answered
	}
	c.lastCall = now
	report, peer := accounts(of.ID())
	return &call{
		read:  imclient.Read{Report: report, Peer: peer, Time: of.ReadTime()},
		lane:  of.Lane(),
		probe: probe,
		sent:  now,
		of:    of,
	}, time.Time{}
}

// So many calls may be out before the server has taken the signature, and one more now and then: while a
// server is slow to refuse a wrong one it must not get hundreds, for after too many it refuses right ones, too
// (70050); but calls that hang must not stop the others.
const (
	unacceptedCalls = 4
	unacceptedPace  = 250 * time.Millisecond
)

// retryPart is which part of the permits retries may hold while first tries wait.
const retryPart = 10

// earlier returns the earlier of two times of which zero means never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// answer takes in what a call brought, and decides what becomes of its conversation.
func (c *core) answer(now time.Time, done *call, err error) {
	c.quota.Return(now)
	var failure *imclient.Error
	if err != nil && !errors.As(err, &failure) {
		// Stopping is not failing: this call was cut off, and says nothing about the conversation.
		if !errors.Is(err, context.Canceled) && !errors.Is(err, errNoProof) {
			r := unpack(done.of.Record(), c.topics).Record
			c.log.Error().Err(err).Str("topic", r.Topic).Int("partition", r.Partition).Int64("offset", r.Offset).Msg("a call ended without an answer or a reason")
		}
		if done.probe {
			c.holds.Abandoned(done.lane)
		}
		c.backlog.Retry(done.of, now)
		return
	}
	if failure == nil || failure.Sent() {
		c.calls++
		c.seen.callEnded(failure, now.Sub(done.sent))
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
	refused := failure != nil && failure.Resigned
	if refused && done.of.Resigned {
		// It had its second try, with a new signature: now its class is believed, whatever that signature
		// did for others.
		believed := *failure
		believed.Resigned = false
		failure = &believed
	}
	done.of.Resigned = refused && !done.of.Resigned
	held := c.holds.On(done.lane)
	c.changed(now, c.holds.Answer(now, done.of.ID(), done.lane, failure, done.probe))
	c.settleCall(now, done, failure, held || c.holds.On(done.lane))
}

// changed makes known which holds began and ended, and lets what waited for one that ended go on.
func (c *core) changed(now time.Time, change hold.Change) {
	for _, h := range change.Begun {
		c.announce.begun(now, h)
	}
	for _, h := range change.Shifted {
		c.announce.shifted(h)
	}
	for _, h := range change.Ended {
		c.announce.ended(now, h, c.holds.Active())
		if h.Reason == hold.Rejections {
			for _, l := range c.letters.release(h.Lane) { // the count begins anew, with them
				c.admit(now, l)
			}
		}
	}
	if len(change.Ended) > 0 && c.backlog != nil {
		c.backlog.Hasten(now, now.Add(hastenWithin), func(id string) float64 { return c.jitter(id, 0) })
	}
}

// probeless ends the holds that only a probe would end, for a worker that owns no partition to probe with.
func (c *core) probeless(now time.Time) {
	for _, h := range c.holds.Forget().Ended {
		c.announce.givenUp(now, h)
	}
}

// lease holds all calls while lost says why none may be sent.
func (c *core) lease(now time.Time, lost error) {
	if lost == nil {
		c.changed(now, c.holds.Clear(hold.Membership))
	} else {
		c.changed(now, c.holds.Set(now, hold.Membership, lost.Error(), hold.Membership.Do(), time.Time{}))
	}
}

// pause holds all calls until resume.
func (c *core) pause(now time.Time) {
	c.changed(now, c.holds.Set(now, hold.Paused, "paused by an operator", hold.Paused.Do(), time.Time{}))
}

// resume ends a pause; with acceptRejections also the holds for rejections: the next 10,000 events of their
// lanes that are rejected or invalid go to the dead letters.
func (c *core) resume(now time.Time, acceptRejections bool) {
	c.changed(now, c.holds.Clear(hold.Paused))
	if acceptRejections {
		c.changed(now, c.holds.AcceptRejections())
	}
}

// share sets how many permits of the rate are this worker's.
// partitions is how many the group's topics have.
func (c *core) share(now time.Time, permits, partitions int) {
	c.quota.Reset(permits, now)
	switch {
	case permits > 0:
		c.changed(now, c.holds.Clear(hold.Quota))
	case partitions == 0:
		c.changed(now, c.holds.Set(now, hold.Quota, "this worker's share of the rate is 0, because the topics have no partitions",
			"check that --topic and --backfill-topic exist on these --brokers; markread run --create-topics makes them", time.Time{}))
	default:
		c.changed(now, c.holds.Set(now, hold.Quota, "this worker's share of the rate is 0", hold.Quota.Do(), time.Time{}))
	}
}

// apart takes in why the group's leader gives this worker neither partitions nor a share: another outlook would add up to more than the rate.
func (c *core) apart(now time.Time, why, do string) {
	c.quota.Reset(0, now)
	c.changed(now, c.holds.Set(now, hold.Quota, "this worker's share of the rate is 0: "+why, do, time.Time{}))
}

// idle says that nothing is out: no call, and no letter that could be written now.
func (c *core) idle() bool {
	return c.quota.InFlight() == 0 && c.letters.writing == 0 && (len(c.letters.waiting) == 0 || c.letters.refusing())
}
