package sim

import (
	"strconv"
	"time"

	"markread/imclient"
	"markread/worker/engine"
)

// server is a model of the IM server, and of the network in front of it.
type server struct {
	*world
	readStates  []readState
	arrivals    window // in the last second: the promise is about these
	accepted    window // calls that count for the server's own limit
	key         int    // the correct key
	signedAfter int64  // earlier signatures have expired
	keepsLast   bool   // the last write must be the largest

	// since the limit became stricter, and the workers had time to detect that
	acceptedCalls, refusedCalls int
}

// readState is the state of a conversation at the server.
type readState struct {
	largest int64 // the largest T applied
	last    int64 // the T that was applied last
	lastAt  int64
	calls   int
	// for each T that no later one covers, the last time it was applied: T falls, the time grows
	applied []application
}

type application struct{ readTime, at int64 }

// rememberedAtMost is how long before the delivery of an event the success may have been that
// covers it: ten minutes by the worker's clock, plus the time of a response.
const rememberedAtMost = int64(10*time.Minute + 10*time.Second)

// covers reports whether readTime or more was applied at since or later.
func (t *readState) covers(readTime, since int64) bool {
	for i := len(t.applied) - 1; i >= 0; i-- {
		if t.applied[i].readTime >= readTime {
			return t.applied[i].at >= since
		}
	}
	return false
}

func (t *readState) apply(readTime, now int64) {
	t.largest, t.last, t.lastAt = max(t.largest, readTime), readTime, now
	for len(t.applied) > 0 && t.applied[len(t.applied)-1].readTime <= readTime {
		t.applied = t.applied[:len(t.applied)-1]
	}
	t.applied = append(t.applied, application{readTime, now})
}

// window holds the times of the last n moments.
type window struct {
	at   []int64
	next int
}

// exceeds reports whether one more now makes more than n in a second.
func (x *window) exceeds(now int64, n int) bool {
	if len(x.at) < n {
		return false
	}
	return now-x.at[(x.next-n+len(x.at))%len(x.at)] < int64(time.Second)
}

func (x *window) add(now int64, most int) {
	if len(x.at) < most {
		x.at = append(x.at, now)
		return
	}
	x.at[x.next] = now
	x.next = (x.next + 1) % len(x.at)
}

func (s *server) open(w *world) {
	s.world, s.keepsLast = w, w.lastWriteWins()
	s.readStates = make([]readState, w.conversations)
}

// request is a call in flight.
type request struct {
	*engine.Call
	process      *process
	life         int32
	conversation int32
	n            uint64 // the number of the call, with its conversation
	sent         int64
	down         int64 // how long its response takes
	cut          bool  // its connection was closed
	sig          *signature
	rate         int // the rate of its worker
	failure      *imclient.Error
	responded    bool // by the server, even if the response is lost
}

const callTimeout = int64(5 * time.Second)

// behaviour is how calls of a conversation end.
type behaviour int

const (
	healthy       behaviour = iota
	poison                  // always rejected
	alwaysFailing           // always fails with a transient code
	unanswered              // never gets a response
)

func (s *server) behaviour(conversation int32) behaviour {
	p := s.unit(dieConversation, uint64(conversation), 0)
	switch {
	case p < s.poison:
		return poison
	case s.faultsOver: // these are faults, which are over
		return healthy
	case p < s.poison+s.alwaysFailing:
		return alwaysFailing
	case p < s.poison+s.alwaysFailing+s.unanswered:
		return unanswered
	}
	return healthy
}

// send puts a request onto the network.
func (s *server) send(r *request) {
	t := &s.readStates[r.conversation]
	t.calls++
	r.n = uint64(r.conversation)<<24 | uint64(t.calls)
	up := s.delay(r.n, 0)
	r.down = s.delay(r.n, 2)
	if up < callTimeout {
		s.queue.push(entry{at: s.now + up, kind: requestArrives, call: r})
	}
	s.queue.push(entry{at: s.now + callTimeout, kind: callEnds, call: r, w: int16(r.process.id),
		life: r.life})
}

func (s *server) delay(n, way uint64) int64 {
	d := float64(s.latency) / 2 * (0.5 + s.unit(dieLatency, n, way))
	d += float64(s.jitter) * s.unit(dieLatency, n, way+1) * s.unit(dieLatency, n,
		way+10) * s.unit(dieLatency, n, way+20)
	if s.active[slowNetwork] > 0 {
		d *= 2 + 10*s.current[slowNetwork].strength
	}
	return int64(d)
}

// arrive is the moment that the promise is about. The server's response is decided here.
func (s *server) arrive(r *request) {
	if r.cut {
		return
	}
	// Also when the rate has just changed: calls sent under the old rate had a second.
	if s.arrivals.exceeds(s.now, r.rate) {
		s.fail("cap", "more than %d calls reached the server in a second", r.rate)
	}
	s.arrivals.add(s.now, s.rate)
	failure, lost := s.respond(r)
	switch {
	case lost && failure == nil:
		s.stats.lostResponses++
	case lost:
	default:
		r.failure = failure
		r.responded = true
		s.queue.push(entry{at: s.now + r.down, kind: callEnds, call: r, w: int16(r.process.id),
			life: r.life, a: 1})
	}
}

// respond returns how the call fails, and whether the response is lost.
func (s *server) respond(r *request) (failure *imclient.Error, lost bool) {
	if s.faultsOver {
		return s.respondToCall(r), false
	}
	kind := s.behaviour(r.conversation)
	switch {
	case s.active[serverHangs] > 0:
		return nil, !s.chance(0.5, dieFate, r.n, 0) || s.apply(r)
	case s.active[serverReset] > 0:
		if s.chance(0.3, dieFate, r.n, 0) {
			s.apply(r)
		}
		return failReset, false
	case s.active[serverRefuses] > 0:
		return failConnect, false
	case s.active[serverBadGateway] > 0:
		return failGateway, false
	case kind == unanswered:
		return nil, true
	}
	if failure := s.refusal(r); failure != nil {
		return failure, false
	}
	if s.active[retryAfter] > 0 && s.chance(0.5, dieFate, r.n, 1) {
		return failRetryAfter[int(s.current[retryAfter].strength*float64(len(failRetryAfter)))],
			false
	}
	if s.accepted.exceeds(s.now, s.allowed()) {
		s.stats.throttled++
		s.refusedCalls++
		return failTooMany, false
	}
	s.acceptedCalls++
	s.accepted.add(s.now, s.rate)
	switch {
	case s.active[serverFails] > 0 || kind == alwaysFailing:
		return failInternal, false
	case s.active[rejectsAll] > 0 && s.rejectedNow(r.conversation):
		return failUnknown, false
	case s.active[brownout] > 0 && s.chance(0.1+0.5*s.current[brownout].strength, dieFate, r.n, 2):
		switch s.roll(dieFate, r.n, 3) % 7 {
		case 0:
			return failGateway, false
		case 1:
			return failReset, false
		case 2:
			return nil, true
		case 3:
			s.apply(r)
			return failReset, false
		case 4:
			s.apply(r)
			return nil, true
		case 5:
			return failAmbiguous, false
		default:
			return failInternal, false
		}
	}
	return s.respondToCall(r), false
}

// allowed returns how many calls per second the server allows.
func (s *server) allowed() int {
	if s.active[strictServer] == 0 {
		return s.rate
	}
	return max(1, int(float64(s.rate)*(0.3+0.6*s.current[strictServer].strength)))
}

// checkLimit checks how the workers follow a stricter server: after 20 seconds at most a tenth of
// the calls is refused, plus a second's calls for workers that detect it later. It requires a limit
// large enough that one permit more or less makes little difference.
func (s *server) checkLimit() {
	if s.allowed() >= 10*s.plan.workers &&
		s.refusedCalls > s.plan.rate+(s.acceptedCalls+s.refusedCalls)/10 {
		s.fail("throttling", "%d of %d calls are refused at a limit of %d instead of %d",
			s.refusedCalls, s.acceptedCalls+s.refusedCalls, s.allowed(), s.rate)
	}
}

// rejectedNow reports whether a phase that rejects affects this conversation: it affects all, or
// the odd ones.
func (s *server) rejectedNow(conversation int32) bool {
	return s.current[rejectsAll].lane == 0 || conversation%2 == 1
}

// refusal is the server's response to the signature and the caller.
func (s *server) refusal(r *request) *imclient.Error {
	switch {
	case s.active[locked] > 0:
		return failLocked
	case s.active[notAdmin] > 0:
		return failNotAdmin
	case r.sig.key != s.key:
		return failWrongKey
	case r.sig.issued < s.signedAfter:
		return failExpired
	}
	return nil
}

func (s *server) respondToCall(r *request) *imclient.Error {
	if s.faultsOver {
		if failure := s.refusal(r); failure != nil {
			return failure
		}
	}
	if s.behaviour(r.conversation) == poison {
		return failUnknown
	}
	s.apply(r)
	return nil
}

// apply notes that the call had its effect. It returns true.
func (s *server) apply(r *request) bool {
	t := &s.readStates[r.conversation]
	if s.keepsLast && r.Read.Time < t.last && t.lastAt > max(s.kafka.group.generationAt,
		s.now-int64(10*time.Minute-10*time.Second)) {
		s.fail("order", "%s goes back from %d to %d", s.kafka.names[r.conversation], t.last,
			r.Read.Time)
	}
	t.apply(r.Read.Time, s.now)
	s.stats.applied++
	for f, n := range s.active {
		if n > 0 {
			s.stats.succeeded[f]++
		}
	}
	return true
}

// signature is what a call is signed with.
type signature struct {
	key          int
	issued       int64
	afterRefusal bool
}

// signer is a model of imclient's signer: it keeps a signature until one is refused, and reports
// once that the next one may succeed.
type signer struct {
	current    *signature
	refused    bool
	used       int  // the key of the last signature
	unreadable bool // the key could not be read for the last signature
	keyChanged bool // the key has changed since
}

func (g *signer) get(w *world) *signature {
	if g.current != nil {
		return g.current
	}
	g.keyChanged = false
	if g.unreadable = w.active[keyUnreadable] > 0; g.unreadable {
		return nil
	}
	g.current = &signature{key: w.keyFile, issued: w.now, afterRefusal: g.refused}
	g.used, g.refused = w.keyFile, false
	return g.current
}

// keyFixed reports whether the key differs from the one that was used, or is readable again.
func (g *signer) keyFixed(w *world) bool {
	return w.active[keyUnreadable] == 0 && (g.unreadable || g.used != w.keyFile) && !g.keyChanged
}

// classify returns what the client makes of the server's response.
func (g *signer) classify(sig *signature, failure *imclient.Error) *imclient.Error {
	if failure == nil {
		sig.afterRefusal = false
		return nil
	}
	if row, _ := imclient.LookUp(failure.ErrorCode); !row.NewSignatureHelps {
		return failure
	}
	if g.current == sig {
		g.current, g.refused = nil, true
	}
	if (!sig.afterRefusal || g.current != nil || g.keyChanged) &&
		failure.ErrorCode != failLocked.ErrorCode {
		retry := *failure
		retry.RetryWithNewSignature = true
		return &retry
	}
	return failure
}

func failWith(code int) *imclient.Error {
	row, _ := imclient.LookUp(code)
	return &imclient.Error{Class: row.Class, Label: strconv.Itoa(code), ErrorCode: code,
		Status: 200}
}

var (
	failReset      = &imclient.Error{Class: imclient.Transient, Label: imclient.LabelReset}
	failConnect    = &imclient.Error{Class: imclient.Transient, Label: imclient.LabelConnect}
	failTimeout    = &imclient.Error{Class: imclient.Transient, Label: imclient.LabelTimeout}
	failGateway    = &imclient.Error{Class: imclient.Transient, Label: "http_502", Status: 502}
	failKey        = &imclient.Error{Class: imclient.Held, Label: imclient.LabelKey}
	failInternal   = failWith(91000)
	failUnknown    = failWith(90012)
	failTooMany    = failWith(60007)
	failAmbiguous  = failWith(60004)
	failWrongKey   = failWith(70009)
	failExpired    = failWith(70001)
	failNotAdmin   = failWith(60010)
	failLocked     = failWith(70050)
	failRetryAfter = func() (list []*imclient.Error) {
		for _, wait := range []time.Duration{0, time.Second, 3 * time.Second, 10 * time.Second,
			30 * time.Second} {
			list = append(list,
				&imclient.Error{Class: imclient.Throttled, Label: "http_429", Status: 429,
					RetryAfter: wait})
		}
		return list
	}()
)
