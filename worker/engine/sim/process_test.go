package sim

import (
	"fmt"
	"slices"
	"time"

	"markread/consumer/event"
	"markread/consumer/offsets"
	"markread/imclient"
	"markread/worker/engine"
)

// process is one worker process: it does for the engine what Worker does, in simulated time.
type process struct {
	*world
	id   int
	life int32 // how often the process was started or ended; odd: it runs

	engine *engine.Engine
	signer signer
	shadow shadow
	gen    *generation // nil between generations

	ownRate       int        // the rate it was started with
	assigned      []*log     // its partitions in the next generation
	terms         quotaTerms // the terms it joined with
	working       bool       // it fetches and calls
	drained       bool       // nothing is in flight any more: only the last commit is
	leaving       bool
	rejoins       bool // it rejoins as soon as it has left
	stops         bool // it leaves permanently
	frozenUntil   int64
	offset, drift int64 // of its clock: ns, and parts per million
	wall          int64 // how far its wall clock was changed, ns
	// when the last heartbeat with a response was sent, by both clocks
	proof, proofWall  int64
	beatsSent         int
	wakeAt            int64 // when it rechecks; 0: not before something arrives
	wakes, spins      int
	calls             []*request
	writing           []*engine.Letter // dead letters in flight to the topic
	acked             []bool
	writes            int
	writeBackoff      bool // waiting before the next attempt to write
	committing        []commitment
	commits           int
	lastCommitUntil   int64
	events            []event.Event
	called, succeeded uint64
	lastResult        int64
}

// generation is what a worker owns between two rebalances: a consumer.Generation with real
// trackers.
type generation struct {
	process    *process
	number     int
	unique     int32
	partitions []assignedPartition
	started    int64
	received   uint64
	finished   uint64
	expired    bool // the coordinator has removed this member
}

type assignedPartition struct {
	*log
	tracker offsets.Tracker
	first   int // index of the record that was read first
	next    int // index of the record to fetch next
	blocked bool
	idle    bool
}

type commitment struct {
	log   *log
	index int
	offsets.Commit
	built int64
}

const arrivalBits = 48

func (h *process) running() bool { return h.life%2 == 1 }

// start starts the process, which joins the group.
func (h *process) start() {
	h.life++
	h.ownRate = h.rateNow
	id := uint64(h.id)<<32 | uint64(h.life)
	if h.chance(0.5, dieClock, id, 0) {
		h.offset = int64((h.unit(dieClock, id, 1) - 0.5) * float64(4*time.Hour))
	}
	h.drift = int64((h.unit(dieClock, id, 2) - 0.5) * 2000)
	h.engine = h.newEngine()
	h.signer, h.shadow = signer{}, shadow{}
	h.working, h.drained, h.leaving, h.rejoins, h.writeBackoff = false, false, false, false, false
	h.gen, h.calls, h.writing, h.committing = nil, nil, nil, nil
	h.wakeAt, h.called, h.succeeded, h.lastCommitUntil = 0, 0, 0, 0
	h.later(h.span(10*time.Millisecond, 2*time.Second, dieGroup, 4<<32, id), joins, 0)
}

func (h *process) later(wait int64, kind kind, a int) {
	h.queue.push(entry{at: h.now + wait, kind: kind, w: int16(h.id), life: h.life, a: a})
}

// time returns the time by the worker's clock.
func (h *process) time() time.Time {
	return epoch.Add(time.Duration(h.offset + h.now + h.now/1e6*h.drift))
}

// simTime converts a time of the worker's clock to simulated time, or a little later.
func (h *process) simTime(t time.Time) int64 {
	own := int64(t.Sub(epoch)) - h.offset
	at := own - own/1e6*h.drift
	for at+at/1e6*h.drift < own {
		at += 1 + (own-at-at/1e6*h.drift)/2
	}
	return at
}

func (h *process) handle(e entry) {
	switch e.kind {
	case callEnds:
		h.callEnded(e.call, e.a == 1)
	case wake:
		if e.a == h.wakes {
			h.wakeAt = 0
		}
	case fetched:
		h.fetch(e.a)
	case commitDue:
		h.commitDue(e.a)
	case commitEnds:
		h.commitEnded(e.a)
	case lettersEnd:
		h.lettersEnded(e.a, false)
	case lettersDue:
		h.writeBackoff = false
	case rebalanceSeen:
		h.onRebalance(e.a)
	case drainEnds:
		if h.gen != nil && h.gen.number == e.a && !h.working && !h.drained {
			h.interruptAll()
		}
	case freezes:
		if h.gen != nil && h.gen.number == e.a {
			h.frozenUntil = max(h.frozenUntil, h.now+int64(3*time.Second))
		}
	case joins:
		h.kafka.group.join(h.world, h)
	case generationBegins:
		h.beginGeneration(e.a)
	case beats:
		h.beat(e.a)
	case proven:
		h.proven(e)
	case expelled:
		if h.gen != nil && h.gen.number == e.a && h.gen.expired && h.working {
			h.revoke()
		}
	case restarts:
		h.start()
	case rolls:
		h.roll()
	default:
		panic(fmt.Sprint("unknown entry ", e.kind))
	}
}

// after does what may have become possible: fetch, write, call, end. The dispatcher continues
// sleeping unless something woke it that would wake it in Worker.
func (h *process) after(k kind) {
	if h.gen == nil {
		return
	}
	h.resumeFetching()
	h.writeLetters()
	switch {
	case h.working:
		if k == wake || k == callEnds || k == fetched || k == lettersEnd || k == generationBegins ||
			k == operatorActs {
			h.dispatch()
		}
	case !h.drained && h.engine.Idle():
		h.endDrain()
	}
	h.watchHolds()
}

// dispatch makes the calls that are due.
func (h *process) dispatch() {
	for {
		now := h.time()
		lost := h.membershipLost()
		if lost != nil && h.shadow.inMemory > 0 {
			h.stats.withheld++
			if h.now-h.proof <= proofLimit {
				h.stats.clockWithheld++
			}
		}
		h.engine.SetMembership(now, lost)
		h.watchHolds()
		todo, again := h.engine.Next(now)
		if todo != nil {
			h.spins = 0
			h.send(todo)
			continue
		}
		at := h.now + int64(recheckEvery)
		if !again.IsZero() {
			at = min(at, h.simTime(again))
		}
		if at <= h.now {
			h.spins++
			if h.spins > 100 {
				h.fail("busy loop", "worker %d rechecks without end: %v at %v", h.id,
					again.Sub(now), time.Duration(h.now))
			}
			at = h.now + int64(time.Microsecond)
		}
		if at != h.wakeAt {
			h.wakeAt = at
			h.wakes++
			h.queue.push(entry{at: at, kind: wake, w: int16(h.id), life: h.life, a: h.wakes})
		}
		return
	}
}

func (h *process) send(todo *engine.Call) {
	r := &request{Call: todo, process: h, life: h.life,
		conversation: conversationOf(todo.Read.Report), sent: h.now,
		sig: h.signer.get(h.world), rate: h.ownRate}
	h.checkCall(r)
	h.called++
	h.stats.calls++
	if h.ownRate != h.rate {
		h.stats.otherRate++
	}
	h.note("call", h.id, int64(r.conversation), r.Read.Time,
		int64(h.server.readStates[r.conversation].calls))
	h.calls = append(h.calls, r)
	if r.sig == nil {
		r.failure = failKey
		h.queue.push(entry{at: h.now, kind: callEnds, call: r, w: int16(h.id), life: h.life, a: 1})
		return
	}
	h.server.send(r)
}

// callEnded is the end of a call: its response, or its timeout.
func (h *process) callEnded(r *request, answered bool) {
	if !h.forget(r) {
		return
	}
	failure := failTimeout
	if answered {
		failure = r.failure
		if r.sig != nil {
			failure = h.signer.classify(r.sig, failure)
		}
	}
	r.cut = true
	h.deliver(r, failure)
}

func (h *process) deliver(r *request, failure *imclient.Error) {
	code := int64(0)
	if failure != nil {
		code = int64(failure.ErrorCode)
		if code == 0 {
			code = -1
		}
	} else {
		h.succeeded++
	}
	h.note("answer", h.id, int64(r.conversation), r.Read.Time, code)
	h.lastResult = h.now
	expect := h.beforeResult(r, failure)
	h.engine.CallDone(h.time(), r.Call, failure)
	h.afterResult(r, failure, expect)
}

func (h *process) forget(r *request) bool {
	i := slices.Index(h.calls, r)
	if i < 0 {
		return false
	}
	last := len(h.calls) - 1
	h.calls[i] = h.calls[last]
	h.calls[last] = nil
	h.calls = h.calls[:last]
	return true
}
