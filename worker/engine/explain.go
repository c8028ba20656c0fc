package engine

import (
	"iter"
	"strings"
	"time"

	"markread/consumer/event"
)

// Explanation says what an unfinished event waits for.
type Explanation struct {
	Attempts int    // 0 also if the event was not found: see Explain
	WaitsFor string // a word of the contract: quota call retry hold dead-letter
	// of the last call that failed, if it is known
	Code, Message string
	RetryAt       time.Time // zero: no retry is scheduled
	Report, Peer  string    // the accounts; "": not known. They are not for logs or metrics
}

// Explain returns what unfinished events wait for. lanes has the lane in which each event arrived.
// It takes a bounded time, about a millisecond, however many conversations wait: it may not find an
// event among more than 10,000 conversations. Then it says what is most probable. In practice that
// is right: calls in flight, and almost always retries, are among those that it checks first.
func (e *Engine) Explain(lanes map[event.Ref]event.Lane) map[event.Ref]Explanation {
	explained := make(map[event.Ref]Explanation, len(lanes))
	if len(lanes) == 0 {
		return explained // maybe there is no generation
	}
	wanted := make(map[uint64]bool, len(lanes))
	for ref := range lanes {
		wanted[uint64(ref)] = true
	}
	found, calledOnes := e.backlog.Find(wanted)
	letters := e.letters.find(wanted)
	for ref, lane := range lanes {
		conv, letter, lane := found[uint64(ref)], letters[uint64(ref)], int(lane)
		x := Explanation{WaitsFor: "quota"}
		switch {
		case conv != nil:
			lane = conv.Lane() // a live event may have moved it to the live lane
			failure := e.lastFailure(conv)
			x.Attempts, x.Code, x.Message = conv.Attempts(), failure.Code, failure.Message
			x.RetryAt = e.backlog.RetryDue(conv)
			x.Report, x.Peer, _ = strings.Cut(conv.ID(), string(accountSeparator))
		case letter != nil:
			x.Attempts, x.Code, x.Message = letter.Attempts, letter.Code, letter.Reason
		}
		switch {
		case conv != nil && conv.InFlight():
			x.WaitsFor = "call"
		case letter != nil:
			x.WaitsFor = "dead-letter"
		case e.holds.LaneHeld(lane):
			x.WaitsFor = "hold"
		// With so many retries, a partition's oldest event is one of them: an event that was never
		// called has arrived later.
		case conv != nil && conv.Retrying(), conv == nil && !calledOnes:
			x.WaitsFor = "retry"
		}
		explained[ref] = x
	}
	return explained
}

// findLettersAtMost bounds how many events of dead letters find checks. While more wait, the topic
// refuses them, and that is a hold.
const findLettersAtMost = 10_000

// find returns the dead letters of the wanted events that wait to be written or are being written.
func (q *letterQueue) find(wanted map[uint64]bool) map[uint64]*Letter {
	found, checked := map[uint64]*Letter{}, 0
	for _, list := range [2][]*Letter{q.writing, q.waiting} {
		for _, l := range list {
			for _, ref := range l.Refs {
				if checked++; checked > findLettersAtMost {
					return found
				}
				if wanted[ref] {
					found[ref] = l
				}
			}
		}
	}
	return found
}

// Records unpacks what the conversations of waiting events keep: the record with the largest T,
// which may be another event's. Like Explain, it may not find some.
func (e *Engine) Records(refs iter.Seq[event.Ref]) map[event.Ref]event.Record {
	wanted, records := map[uint64]bool{}, map[event.Ref]event.Record{}
	for ref := range refs {
		wanted[uint64(ref)] = true
	}
	if len(wanted) == 0 {
		return records // maybe there is no generation
	}
	found, _ := e.backlog.Find(wanted)
	for ref, conv := range found {
		payload, readTime := conv.Best()
		records[event.Ref(ref)] = unpack(payload, readTime, e.options.Topics).Record
	}
	return records
}

// Conversation is what is known about a conversation.
type Conversation struct {
	Waiting *Waiting     // nil: no event of it waits for a call or its response
	Applied *AppliedTime // nil: nothing was applied in the last ten minutes
}

// Waiting is a conversation that waits for a call or its response.
type Waiting struct {
	Lane     event.Lane
	Events   int
	ReadTime int64 // the largest T
	InFlight bool
	Attempts int       // that count
	RetryAt  time.Time // zero: no retry is scheduled
	Failed   Failure   // the last one; zero: none, or not known
	Since    time.Time // the event time of its only event; zero: it has several, or no time
}

// AppliedTime is the read time that this worker applied last.
type AppliedTime struct {
	ReadTime int64
	At       time.Time
}

// Conversation returns what is known about the conversation of two accounts, in constant time.
func (e *Engine) Conversation(now time.Time, report, peer string) (c Conversation) {
	id := append(append([]byte(report), accountSeparator), peer...)
	if readTime, at, ok := e.applied.Last(now, id); ok {
		c.Applied = &AppliedTime{readTime, at}
	}
	if e.backlog == nil {
		return c
	}
	conv := e.backlog.Lookup(id)
	if conv == nil {
		return c
	}
	payload, readTime := conv.Best()
	c.Waiting = &Waiting{
		Lane: event.Lane(conv.Lane()), Events: conv.Events(), ReadTime: readTime,
		InFlight: conv.InFlight(), Attempts: conv.Attempts(), RetryAt: e.backlog.RetryDue(conv),
		Failed: e.lastFailure(conv),
	}
	if c.Waiting.Events == 1 {
		c.Waiting.Since = unpack(payload, readTime, e.options.Topics).EventTime
	}
	return c
}
