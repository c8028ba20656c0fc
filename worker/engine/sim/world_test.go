package sim

import (
	"fmt"
	"runtime/debug"
	"strings"
	"time"

	"markread/consumer/event"
)

// world is one run: everything that exists in it, and what happens next. Times are nanoseconds
// since its beginning.
type world struct {
	*plan
	now        int64
	queue      eventQueue
	faultsOver bool  // faults and load have ended
	drainBy    int64 // everything must have drained by then
	drainedAt  int64 // when everything had drained; 0: not yet

	active  [faults]int // active phases by kind
	current [faults]phase
	keyFile int // the key in the workers' file
	rateNow int // the rate with which processes are started

	kafka   kafka
	server  server
	letters letterTopic
	workers []*process

	trace trace
	stats *stats
}

// kind is the kind of an entry of the event queue.
type kind uint8

const (
	loadDue kind = iota
	bulkDue
	phaseBegins
	phaseEnds
	requestArrives
	callEnds
	wake
	fetched
	commitDue
	commitArrives
	commitEnds
	lettersEnd
	lettersDue
	rebalanceSeen // of a rebalance
	drainEnds
	freezes
	joins
	generationMade
	generationBegins
	sessionEnds
	beats // a heartbeat is sent
	proven
	expelled
	restarts
	rolls // a restart, with another rate
	rebalanceDue
	limitKnown
	operatorActs
	checkDue
	faultsEnd
)

// entry is a future event of the simulation. life is the worker's, so that dead processes do
// nothing.
type entry struct {
	at   int64
	seq  uint64
	call *request
	a    int
	life int32
	w    int16
	kind kind
	seen [2]int64
}

// eventQueue is a heap of entries, ordered by time and then by creation.
type eventQueue struct {
	items []entry
	seq   uint64
}

func (x *entry) before(y *entry) bool { return x.at < y.at || x.at == y.at && x.seq < y.seq }

func (g *eventQueue) push(e entry) {
	g.seq++
	e.seq = g.seq
	g.items = append(g.items, e)
	i := len(g.items) - 1
	for i > 0 {
		up := (i - 1) / 4
		if !e.before(&g.items[up]) {
			break
		}
		g.items[i] = g.items[up]
		i = up
	}
	g.items[i] = e
}

func (g *eventQueue) pop() entry {
	top := g.items[0]
	last := len(g.items) - 1
	e := g.items[last]
	g.items[last] = entry{}
	g.items = g.items[:last]
	i := 0
	for {
		first := 4*i + 1
		if first >= last {
			break
		}
		down := first
		for c := first + 1; c < min(first+4, last); c++ {
			if g.items[c].before(&g.items[down]) {
				down = c
			}
		}
		if !g.items[down].before(&e) {
			break
		}
		g.items[i] = g.items[down]
		i = down
	}
	if last > 0 {
		g.items[i] = e
	}
	return top
}

func newWorld(p *plan, t *stats) *world {
	w := &world{plan: p, stats: t, rateNow: p.rate}
	w.trace.hash, w.trace.all = uint64(p.dice), *simTrace
	w.kafka.open(w)
	t.runsByWorkers[p.workers]++
	w.server.open(w)
	w.letters.world = w
	for i := range p.workers {
		h := &process{world: w, id: i}
		w.workers = append(w.workers, h)
		h.start()
	}
	for i, ph := range p.phases {
		w.queue.push(entry{at: ph.from, kind: phaseBegins, a: i})
		w.queue.push(entry{at: ph.to, kind: phaseEnds, a: i})
	}
	w.queue.push(entry{kind: loadDue})
	if p.backfill > 0 {
		w.queue.push(entry{at: p.bulkEvery / 2, kind: bulkDue})
	}
	w.queue.push(entry{at: int64(time.Second), kind: checkDue})
	w.queue.push(entry{at: p.length, kind: faultsEnd})
	return w
}

// violation is a broken promise.
type violation struct {
	oracle, text string
}

func (w *world) fail(oracle, format string, args ...any) {
	panic(violation{oracle, fmt.Sprintf(format, args...)})
}

// simulate runs a plan to its end, and returns the trace's hash and the first failure.
func simulate(p *plan, t *stats) (hash uint64, err error) {
	w := newWorld(p, t)
	defer func() {
		hash = w.trace.hash
		t.simulated += time.Duration(w.now)
		if r := recover(); r != nil {
			v, ok := r.(violation)
			if !ok {
				v = violation{"panic", fmt.Sprintf("%v\n%s", r, debug.Stack())}
			}
			err = fmt.Errorf("%s after %v: %s\n%s", v.oracle, time.Duration(w.now), v.text,
				w.trace.text())
		}
	}()
	w.run()
	return 0, nil
}

func (w *world) run() {
	for !w.done() {
		if len(w.queue.items) == 0 {
			w.fail("liveness", "no event is scheduled")
		}
		e := w.queue.pop()
		if e.at < w.now {
			w.fail("harness", "an entry of kind %d is %v late", e.kind, time.Duration(w.now-e.at))
		}
		w.now = e.at
		w.handle(e)
	}
	w.finalChecks()
}

// handle processes an entry, unless its process is suspended or dead.
func (w *world) handle(e entry) {
	w.stats.entries++
	switch e.kind {
	case loadDue:
		w.produce()
	case bulkDue:
		w.produceBulk()
	case phaseBegins:
		w.begin(w.phases[e.a])
	case phaseEnds:
		w.end(w.phases[e.a])
	case requestArrives:
		w.server.arrive(e.call)
	case commitArrives:
		w.kafka.commit(w.workers[e.w], e)
	case generationMade:
		w.kafka.group.complete(w, e.a)
	case sessionEnds:
		w.kafka.group.expire(w, int(e.w), e.life)
	case rebalanceDue:
		w.kafka.group.rebalance(w)
	case limitKnown:
		w.server.acceptedCalls, w.server.refusedCalls = 0, 0
	case checkDue:
		w.check()
	case faultsEnd:
		w.endFaults()
	default:
		h := w.workers[e.w]
		switch {
		case e.life != h.life:
		case h.frozenUntil > w.now:
			// Whatever has become due meanwhile happens in random order when the process resumes.
			e.at = h.frozenUntil + int64(w.unit(dieClock, e.seq,
				uint64(h.frozenUntil))*float64(5*time.Millisecond))
			w.queue.push(e)
		default:
			h.handle(e)
			h.after(e.kind)
		}
	}
}

func (w *world) begin(p phase) {
	if w.faultsOver {
		return
	}
	w.active[p.fault]++
	w.current[p.fault] = p
	w.stats.fired[p.fault]++
	w.note("phase begins", p.worker, int64(p.fault), int64(p.strength*100), p.to-p.from)
	h := w.workers[p.worker]
	switch p.fault {
	case keyRevoked:
		w.server.key++
	case strictServer:
		w.queue.push(entry{at: w.now + int64(20*time.Second), kind: limitKnown})
	case signatureEnds:
		w.server.signedAfter = w.now
	case lettersRefused:
		if w.on[rebalance] && p.lane == 0 { // when the dead letters have begun a hold
			w.queue.push(entry{at: w.now + int64(7*time.Second), kind: rebalanceDue})
		}
	case rebalance:
		w.kafka.group.rebalance(w)
	case leave:
		h.leave()
	case kill:
		h.kill()
		w.queue.push(entry{at: p.to, kind: restarts, w: int16(p.worker), life: h.life})
	case freeze, longFreeze:
		h.frozenUntil = max(h.frozenUntil, p.to)
	case clockSteps:
		h.wall += int64((p.strength - 0.5) * float64(time.Hour))
	case pause:
		h.pause()
	case acceptsRejected:
		h.resume(true)
	case rollout:
		w.rollOut(p)
	case grows:
		lane := event.Lane(p.lane)
		if w.backfill == 0 {
			lane = event.Live
		}
		w.kafka.grow(w, lane, 1+int(3*p.strength))
		// the leader has detected it twice by then
		w.queue.push(entry{at: w.now + int64(20*time.Second), kind: rebalanceDue})
	}
}

func (w *world) end(p phase) {
	if w.active[p.fault] == 0 {
		return
	}
	if p.fault == strictServer && p.to-p.from > int64(30*time.Second) {
		w.server.checkLimit()
	}
	w.active[p.fault]--
	w.note("phase ends", p.worker, int64(p.fault), 0, 0)
	h := w.workers[p.worker]
	switch p.fault {
	case keyRevoked:
		w.keyFile = w.server.key
	case leave:
		h.rejoin()
	case pause:
		h.resume(false)
	}
}

// trace is what happened: a hash of everything, and the last lines.
type trace struct {
	hash  uint64
	lines [40]traceLine
	n     int
	all   bool
}

type traceLine struct {
	at      int64
	what    string
	w       int
	a, b, c int64
}

func (w *world) note(what string, worker int, a, b, c int64) {
	t := &w.trace
	h := t.hash ^ uint64(w.now)*31 ^ uint64(worker+1)<<48 ^ uint64(a)*0x9e37 ^ uint64(b)*0x79b97f
	t.hash = mix(h ^ uint64(c)<<7 ^ uint64(len(what))<<40)
	line := traceLine{w.now, what, worker, a, b, c}
	t.lines[t.n%len(t.lines)] = line
	t.n++
	if t.all {
		fmt.Println(line)
	}
}

func (l traceLine) String() string {
	return fmt.Sprintf("%12.6f worker %d %-16s %d %d %d", time.Duration(l.at).Seconds(), l.w,
		l.what, l.a, l.b, l.c)
}

func (t *trace) text() string {
	var s strings.Builder
	for i := max(0, t.n-len(t.lines)); i < t.n; i++ {
		fmt.Fprintln(&s, t.lines[i%len(t.lines)])
	}
	return s.String()
}
