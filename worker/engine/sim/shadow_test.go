package sim

import (
	"time"

	"markread/imclient"
	"markread/worker/backlog"
	"markread/worker/engine"
	"markread/worker/hold"
)

// shadow is a second, simple copy of what a worker's engine should know: for each conversation in
// memory whether it waits, how often it failed, and what its next call must carry. It checks calls,
// retries and dead letters.
type shadow struct {
	conversations []shadowConversation
	inMemory      int
	fresh         [backlog.Lanes]int // conversations that wait for their first attempt
	withErrorCode uint64             // calls with an ErrorCode
	expected      map[int32][]expectedLetter
	seen          map[*engine.Letter]bool
	turns         [backlog.Lanes]turns
	holds         holdView
	writtenRefs   uint64 // events that acknowledged dead letters stand for
	writing       bool   // the events that finish now are those of a dead letter
	// the attempts that the engine has reported for an event; -1: none since the last response
	attemptsReported int
	beingChecked     int32 // 1 more than the conversation whose call is being checked
}

type shadowState uint8

const (
	absent shadowState = iota
	fresh
	retrying
	calling
)

type shadowConversation struct {
	readTime     int64 // the largest T
	sent         int64
	baseline     uint64
	events       int32
	newer        int32 // events that arrived during the call in flight, which doesn't cover them
	failures     int32
	attempts     int32
	state        shadowState
	wasFresh     bool // before the call in flight
	newSignature bool
	lane         int8
	newerLane    int8
	laneAfter    int8
}

type expectedLetter struct {
	class    string
	attempts int
	events   int32
	readTime int64
}

// turns counts the order of calls: of a lane's calls while its first attempts waited, how many were
// retries; and how many calls of the other lane there were since this lane's last, while first
// attempts of both waited.
type turns struct{ all, retries, overtaken int }

func (s *shadow) begin(conversations int) {
	if len(s.conversations) != conversations {
		s.conversations = make([]shadowConversation, conversations)
	}
	clear(s.conversations)
	s.inMemory, s.fresh = 0, [backlog.Lanes]int{}
	s.expected, s.seen = map[int32][]expectedLetter{}, map[*engine.Letter]bool{}
	s.turns = [backlog.Lanes]turns{}
}

// afterReceive notes the events that were just delivered; some have already finished.
func (h *process) afterReceive(p *assignedPartition) {
	s := &h.shadow
	lane := int8(p.lane)
	for i := range h.events {
		r, attempts := h.gen.record(uint64(h.events[i].Ref)), int32(h.events[i].Attempts)
		if r.invalid {
			h.noteOutcome(int(lane), outcomeInvalid)
			continue
		}
		t := &s.conversations[r.conversation]
		t.events++ // Finish has already subtracted it, if it is finished
		if r.finishedIn == h.gen.unique {
			h.noteOutcome(int(lane), outcomeCalled)
			continue
		}
		switch t.state {
		case absent:
			*t = shadowConversation{state: fresh, lane: lane, readTime: r.readTime,
				events: t.events, attempts: attempts}
			s.inMemory++
			s.fresh[lane]++
			s.holds.newConversations++
			if s.holds.earlyProbeDue == 0 && len(h.calls) == 0 && s.holds.held(hold.Outage, 0) {
				s.holds.earlyProbeDue = h.now + int64(time.Second)
			}
		case calling:
			t.attempts = max(t.attempts, attempts)
			t.laneAfter = min(t.laneAfter, lane)
			if r.readTime > t.sent {
				if t.newer == 0 {
					t.newerLane = lane
				}
				t.newer++
				t.newerLane = min(t.newerLane, lane)
			}
		default:
			t.attempts = max(t.attempts, attempts)
			if lane < t.lane {
				if t.state == fresh {
					s.fresh[t.lane]--
					s.fresh[lane]++
				}
				t.lane = lane
			}
		}
		t.readTime = max(t.readTime, r.readTime)
	}
}

// checkCall checks a call at the moment it is made.
func (h *process) checkCall(r *request) {
	s := &h.shadow
	t := &s.conversations[r.conversation]
	name := r.Read.Report
	switch {
	case t.state == calling:
		h.fail("order", "worker %d: two calls of %s are in flight", h.id, name)
	case t.state == absent:
		h.fail("order", "worker %d: a call of %s, which has no waiting event", h.id, name)
	case r.Read.Time != t.readTime:
		h.fail("order", "worker %d: the call of %s carries %d, the largest waiting T is %d", h.id,
			name, r.Read.Time, t.readTime)
	case r.Lane != int(t.lane):
		h.fail("order", "worker %d: the call of %s is in lane %d, it waits in lane %d", h.id, name,
			r.Lane, t.lane)
	}
	if age := h.now - h.proof; age > proofLimit {
		h.fail("cap", "worker %d calls with a proof of membership that is %v old", h.id,
			time.Duration(age))
	}
	s.beingChecked = r.conversation + 1
	h.checkHeld(r)
	s.beingChecked = 0
	if !r.Probe {
		h.checkTurn(t)
	}
	t.wasFresh = t.state == fresh
	if t.wasFresh {
		s.fresh[t.lane]--
	}
	if t.failures == 0 {
		t.baseline = s.withErrorCode
	}
	t.state, t.sent, t.newer, t.laneAfter = calling, t.readTime, 0, t.lane
}

// checkTurn limits retries to a tenth of their lane's calls while first attempts wait, and the
// backfill lane to a twentieth.
func (h *process) checkTurn(t *shadowConversation) {
	s := &h.shadow
	live, backfill := &s.turns[0], &s.turns[1]
	if s.fresh[0] == 0 || s.fresh[1] == 0 || s.holds.on(0) || s.holds.on(1) {
		live.overtaken, backfill.overtaken = 0, 17
	} else if t.lane == 0 {
		if backfill.overtaken++; backfill.overtaken > 17+20 {
			h.fail("starvation", "worker %d: the backfill lane starves", h.id)
		}
	} else {
		if backfill.overtaken < 17 {
			h.fail("starvation", "worker %d: a backfill call after %d live ones, while both "+
				"lanes waited", h.id, backfill.overtaken)
		}
		backfill.overtaken = 0
		h.stats.backfillAmongLive++
	}
	turns := &s.turns[t.lane]
	if s.fresh[t.lane] == 0 {
		turns.all, turns.retries = 0, 0
		return
	}
	turns.all++
	if t.state == retrying {
		turns.retries++
		h.stats.retriesAmongFirst++
		inFlight := 0
		for _, r := range h.calls {
			if !h.shadow.conversations[r.conversation].wasFresh {
				inFlight++
			}
		}
		if most := max(1, h.engine.State(h.time()).Limit/10); inFlight >= most {
			h.fail("retries", "worker %d: a retry while first attempts wait and %d retries are "+
				"in flight, of at most %d", h.id, inFlight, most)
		}
	}
	if turns.retries > turns.all/10+1 {
		h.fail("retries", "worker %d: of %d calls of lane %d %d were retries, while first "+
			"attempts waited", h.id, turns.all, t.lane, turns.retries)
	}
}

// expectation is what a response must cause.
type expectation struct {
	failure      *imclient.Error // as the engine treats it
	heldBefore   bool
	rejectedHeld bool
	inMemory     int // conversations in memory before the response
}

func (h *process) beforeResult(r *request, failure *imclient.Error) expectation {
	t := &h.shadow.conversations[r.conversation]
	h.shadow.attemptsReported = -1
	v := expectation{
		failure:      failure,
		heldBefore:   r.Probe || h.shadow.holds.on(r.Lane), // a probe may outlive its hold
		rejectedHeld: h.shadow.holds.held("rejections", r.Lane),
		inMemory:     h.inMemory(),
	}
	refused := failure != nil && failure.RetryWithNewSignature
	if refused && t.newSignature {
		believed := *failure
		believed.RetryWithNewSignature = false
		v.failure = &believed
	}
	t.newSignature = refused && !t.newSignature
	h.shadow.holds.noteCause(r, v.failure)
	h.shadow.holds.evidence(r, v.failure)
	return v
}

// afterResult checks what a response caused.
func (h *process) afterResult(r *request, failure *imclient.Error, v expectation) {
	s := &h.shadow
	t := &s.conversations[r.conversation]
	if failure == nil || failure.ErrorCode != 0 {
		s.withErrorCode++
	}
	h.watchHolds()
	failure = v.failure
	h.checkProbes(r, failure)
	s.holds.cause = ""
	if failure == nil {
		h.finishCall(t, true)
		h.noteOutcome(r.Lane, outcomeCalled)
		return
	}
	if failure.Class == imclient.Throttled || failure.Class == imclient.Held ||
		failure.RetryWithNewSignature {
		h.stats.uncounted++
	}
	dropped := h.inMemory() < v.inMemory
	class := ""
	if !failure.RetryWithNewSignature {
		counts := h.counts(t, failure, v.heldBefore || s.holds.on(r.Lane))
		t.failures++
		reported := -1
		if counts {
			t.attempts++
			reported = int(t.attempts)
		}
		// The response that begins a hold for rejections may or may not count.
		slack := failure.Class == imclient.Rejected && !counts &&
			s.attemptsReported == int(t.attempts)+1
		if s.attemptsReported != reported && !slack {
			h.fail("metadata", "worker %d: %s has had %d attempts, the next owner would read of %d",
				h.id, r.Read.Report, reported, s.attemptsReported)
		}
		switch {
		case failure.Class == imclient.Rejected && !v.rejectedHeld:
			class = "rejected"
		case counts && int(t.attempts) >= h.attempts:
			class = "exhausted"
		}
	}
	t.baseline = s.withErrorCode
	switch {
	case dropped && class == "":
		h.fail("letters", "worker %d dead-letters %s after %v: attempt %d of %d, held %v", h.id,
			r.Read.Report, failure.Label, t.attempts, h.attempts, v.heldBefore)
	case !dropped && class != "":
		h.fail("letters", "worker %d does not dead-letter %s after %v: attempt %d of %d, held %v",
			h.id, r.Read.Report, failure.Label, t.attempts, h.attempts, v.heldBefore)
	case dropped && class == "exhausted" && v.heldBefore:
		h.fail("letters", "worker %d dead-letters %s after %v, attempt %d, though calls are held",
			h.id, r.Read.Report, failure.Label, t.attempts)
	case dropped:
		s.expected[r.conversation] = append(s.expected[r.conversation],
			expectedLetter{class, int(t.attempts), t.events, t.readTime})
		*t = shadowConversation{}
		s.inMemory--
		s.holds.lastProbed = -1 // it may return without attempts
		if class == "rejected" {
			h.noteOutcome(r.Lane, outcomeRejected)
		} else {
			h.noteOutcome(r.Lane, outcomeCalled)
		}
	default:
		h.finishCall(t, false)
	}
}

// counts reports whether a failure counts as an attempt.
func (h *process) counts(t *shadowConversation, failure *imclient.Error, held bool) bool {
	switch {
	case held || failure.Class == imclient.Throttled || failure.Class == imclient.Held:
		return false
	case failure.ErrorCode != 0:
		return true
	}
	return h.shadow.withErrorCode > t.baseline
}

// finishCall ends a call: covered events are gone, the others wait.
func (h *process) finishCall(t *shadowConversation, succeeded bool) {
	s := &h.shadow
	switch {
	case !succeeded:
		t.state, t.lane = retrying, t.laneAfter
	case t.newer > 0:
		if t.events != t.newer {
			h.fail("loss", "worker %d: %d events wait after a success, which left %d uncovered",
				h.id, t.events, t.newer)
		}
		*t = shadowConversation{state: fresh, lane: t.newerLane, readTime: t.readTime,
			events: t.newer}
		s.fresh[t.lane]++
	default:
		if t.events != 0 {
			h.fail("loss", "worker %d: %d events of a conversation are not finished by its success",
				h.id, t.events)
		}
		*t = shadowConversation{}
		s.inMemory--
	}
}

// cutOff notes that a call was interrupted: a probe may be repeated immediately.
func (s *shadow) cutOff(r *request) {
	for i := range s.holds.active {
		if a := &s.holds.active[i]; r.Probe && a.holds(r.Lane) && a.since < r.sent {
			a.notBefore = 0
		}
	}
	t := &s.conversations[r.conversation]
	t.state, t.lane = retrying, t.laneAfter
}

// checkLetter checks a dead letter that reaches the dead-letter topic. One that is retried was
// checked before.
func (h *process) checkLetter(l *engine.Letter) {
	s := &h.shadow
	if s.seen[l] {
		return
	}
	s.seen[l] = true
	first := h.gen.record(l.Refs[0])
	if l.Class == "invalid" {
		if !first.invalid || len(l.Refs) != 1 || l.Attempts != 0 || l.Collapsed != 1 {
			h.fail("letters", "a dead letter says that offset %d is invalid: %+v", first.offset,
				l.DeadLetter)
		}
		return
	}
	largest := int64(0)
	for _, ref := range l.Refs {
		r := h.gen.record(ref)
		if r.conversation != first.conversation || r.invalid || r.finishedIn == h.gen.unique {
			h.fail("letters", "a dead letter of %s stands for offset %d of %s", l.Event.Report,
				r.offset, h.kafka.names[r.conversation])
		}
		largest = max(largest, r.readTime)
	}
	queue := s.expected[first.conversation]
	if len(queue) == 0 {
		h.fail("letters", "worker %d writes a dead letter of %s (%s), which must not have one",
			h.id, l.Event.Report, l.Class)
	}
	want := queue[0]
	s.expected[first.conversation] = queue[1:]
	// The response that begins a hold for rejections may or may not count.
	slack := l.Class == "rejected" && l.Attempts == want.attempts+1
	if l.Class != want.class || l.Attempts != want.attempts && !slack ||
		l.Collapsed != len(l.Refs) || int32(len(l.Refs)) != want.events ||
		l.Event.ReadTime != want.readTime || largest != want.readTime {
		h.fail("letters", "dead letter of %s: %s, %d attempts, %d events (%d) up to %d (%d); "+
			"want %+v", l.Event.Report, l.Class, l.Attempts, l.Collapsed, len(l.Refs),
			l.Event.ReadTime, largest, want)
	}
}

// Evidence for a hold for rejections: the last outcomes of a lane.
const (
	outcomeCalled uint8 = iota
	outcomeRejected
	outcomeInvalid
)

// holdSlack is what clocks may differ by over an interval.
func holdSlack(d time.Duration) int64 { return int64(d)/300 + int64(5*time.Millisecond) }
