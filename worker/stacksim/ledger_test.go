package stacksim

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"markread/imclient/sandbox"
)

// ledger knows what was published and what became of it, and judges. It sees only what can be seen
// from outside: what arrived at the IM server, and what arrived at the broker and was accepted
// there.
type ledger struct {
	server *sandbox.Server
	began  time.Time
	// the plan has faults that may use up a conversation's attempts
	spends bool
	lose   func(l *link, key int16, n int) bool // whether the n-th answer of a kind gets lost

	mu       sync.Mutex
	log      map[topicPartition][]published
	proven   map[topicPartition]int64 // below it every event is known to have ended
	commits  map[topicPartition]committed
	unsure   map[topicPartition][]committed // arrived, but not answered: perhaps accepted
	owned    map[membership]map[topicPartition]bool
	letters  map[origin]*sighting
	largest  map[conversation]int64 // T that a letter has
	tries    map[conversation]int   // calls, whether or not they arrived
	answered map[int16]int
	lost     map[int16]int // answers
	// commits that arrived after a newer one, because they were on their way so long
	lateness   int
	commitsOK  int
	problems   []string
	signatures map[string]bool
	knows      map[topicPartition]knowledge // what the last commit says
	full       bool                         // one did not say all
	cuts       bool                         // the plan has faults that touch metadata
	toldOf     int                          // events of which metadata said something
	heard      map[success]int              // calls that were answered with success
	outlooks   map[string]string            // of members, as they joined last
	went       map[membership]string        // by which they were given partitions
	tenures    []*tenure
	troubles   int // faults that may repeat letters: a crash, a lost connection, an expelled member
}

type conversation struct{ report, peer string }

// published is an event in a log; its offset is its index.
type published struct {
	conversation
	readTime int64
	invalid  bool
	value    string
}

type committed struct {
	offset int64
	at     time.Time // when it was accepted, or sent
}

type membership struct {
	member     string
	generation int32
}

// origin is where a letter's record came from.
type origin struct {
	topicPartition
	offset int64
}

// sighting is all copies of one letter.
type sighting struct {
	// collapsed: events that it stands for, of all copies together: they need not be the same
	// events
	copies, collapsed int
	class, code       string
	value             string
}

func newLedger(server *sandbox.Server) *ledger {
	return &ledger{
		server: server, began: time.Now(), log: map[topicPartition][]published{},
		proven:  map[topicPartition]int64{},
		commits: map[topicPartition]committed{}, unsure: map[topicPartition][]committed{},
		owned: map[membership]map[topicPartition]bool{}, letters: map[origin]*sighting{},
		largest: map[conversation]int64{}, tries: map[conversation]int{},
		signatures: map[string]bool{},
		answered:   map[int16]int{}, lost: map[int16]int{},
		knows: map[topicPartition]knowledge{}, heard: map[success]int{},
		outlooks: map[string]string{},
		went:     map[membership]string{},
	}
}

const mostProblems = 12

// problem notes a violation. The lock is held.
func (g *ledger) problem(format string, args ...any) {
	if len(g.problems) < mostProblems {
		at := time.Since(g.began).Round(time.Millisecond)
		g.problems = append(g.problems, fmt.Sprintf("at %v: ", at)+fmt.Sprintf(format, args...))
	}
}

// Problem is problem for who does not hold the lock.
func (g *ledger) Problem(format string, args ...any) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.problem(format, args...)
}

// publish notes an event before it is published, and returns the offset that it must get.
func (g *ledger) publish(p topicPartition, e published) int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.log[p] = append(g.log[p], e)
	return int64(len(g.log[p]) - 1)
}

func (g *ledger) length(p topicPartition) int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return int64(len(g.log[p]))
}

// ended says whether an event has reached one of its ends. The lock is held.
func (g *ledger) ended(at origin, e published) bool {
	if g.letters[at] != nil {
		return true
	}
	if e.invalid {
		return false
	}
	if got, ok := g.server.ReadTime(e.report, e.peer); ok && got >= e.readTime {
		return true
	}
	// It may be one of several that a letter stands for.
	t, ok := g.largest[e.conversation]
	return ok && t >= e.readTime
}

func (g *ledger) commitAsked(member string, generation int32, topic string, partition int32,
	offset int64,
	sent time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	p := topicPartition{topic, partition}
	g.unsure[p] = append(g.unsure[p], committed{offset, sent})
	if !g.owned[membership{member, generation}][p] {
		g.problem("commit: %s commits %s/%d in generation %d, which does not belong to it", member,
			topic, partition,
			generation)
	}
	log := g.log[p]
	if offset > int64(len(log)) {
		g.problem("commit: %s/%d: commit of %d, the log has %d", topic, partition, offset, len(log))
		return
	}
	for n := g.proven[p]; n < offset; n++ {
		if e := log[n]; !g.ended(origin{p, n}, e) {
			got, _ := g.server.ReadTime(e.report, e.peer)
			g.problem("commit: %s/%d: commit of %d, but offset %d (%s, T %d, invalid %v) has not "+
				"ended: the server "+
				"has T %d", topic, partition, offset, n,
				e.report, e.readTime, e.invalid, got)
			return
		}
		g.proven[p] = n + 1
	}
}

func (g *ledger) commitDone(topic string, partition int32, offset int64, metadata string,
	sent time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.commitsOK++
	p := topicPartition{topic, partition}
	last := g.commits[p]
	// One that was on its way for long, and sent before the last, sets the offset back: that is the
	// network's doing. Its own answer may be lost, so that only the commit of the next owner shows
	// it.
	late := sent.Before(last.at) || slices.ContainsFunc(g.unsure[p],
		func(c committed) bool { return c.offset <= offset && c.at.Before(last.at) })
	g.judgeMetadata(p, offset, metadata, late)
	g.unsure[p] = slices.DeleteFunc(g.unsure[p],
		func(c committed) bool { return c.offset == offset })
	switch {
	case offset >= last.offset:
	case late:
		g.lateness++
	default:
		g.problem("commit: %s/%d: commit of %d was accepted after one of %d", topic, partition,
			offset, last.offset)
	}
	g.commits[p] = committed{offset, time.Now()}
}

func (g *ledger) assigned(member string, generation int32, partitions []topicPartition) {
	g.mu.Lock()
	defer g.mu.Unlock()
	set := map[topicPartition]bool{}
	for _, p := range partitions {
		set[p] = true
		for m, others := range g.owned {
			if m.generation == generation && m.member != member && others[p] {
				g.problem("%s/%d belongs to two members in generation %d", p.topic, p.partition,
					generation)
			}
		}
	}
	m := membership{member, generation}
	g.owned[m], g.went[m] = set, g.outlooks[member]
	if other := g.unlike(m); other != "" {
		g.problem("cap: in generation %d %s has partitions and goes by %s, and so has %s, by %s",
			generation, member,
			g.went[m], other, g.went[membership{other, generation}])
	}
}

func (g *ledger) lettered(r kmsg.Record) {
	headers := map[string]string{}
	for _, h := range r.Headers {
		headers[h.Key] = string(h.Value)
	}
	partition, _ := strconv.Atoi(headers["__dlq.errors.partition"])
	offset, err := strconv.ParseInt(headers["__dlq.errors.offset"], 10, 64)
	at := origin{topicPartition{headers["__dlq.errors.topic"], int32(partition)}, offset}
	collapsed, _ := strconv.Atoi(headers["markread.collapsed"])

	g.mu.Lock()
	defer g.mu.Unlock()
	g.leaks("a letter", string(r.Key)+string(r.Value)+fmt.Sprint(headers))
	log := g.log[at.topicPartition]
	if err != nil || offset < 0 || offset >= int64(len(log)) {
		g.problem("letters: a letter of %q, partition %q, offset %q", headers["__dlq.errors.topic"],
			headers["__dlq.errors.partition"], headers["__dlq.errors.offset"])
		return
	}
	s := g.letters[at]
	if s == nil {
		s = &sighting{}
		g.letters[at] = s
	}
	s.copies++
	s.collapsed += collapsed
	s.class, s.code, s.value = headers["markread.class"], headers["markread.code"], string(r.Value)
	if e := log[offset]; !e.invalid {
		g.largest[e.conversation] = max(g.largest[e.conversation], e.readTime)
	}
}

func (g *ledger) answers(l *link, key int16) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := g.answered[key]
	g.answered[key]++
	if g.lose == nil || !g.lose(l, key, n) {
		return true
	}
	g.lost[key]++
	return false
}

// canaries are in every secret of a simulation.
const (
	rightKey = "CANARY-right-5d1f0c4e8a"
	wrongKey = "CANARY-wrong-90b7e2116d"
)

// leaks looks for secrets in what others may see. The lock is held.
func (g *ledger) leaks(where, text string) {
	if i := strings.Index(text, "CANARY-"); i >= 0 {
		g.problem("secret: a key in %s: …%.80s", where, text[max(0, i-40):])
	}
	if i := strings.Index(text, "usersig="); i >= 0 &&
		!strings.HasPrefix(text[i:], "usersig=[secret]") {
		g.problem("secret: perhaps a signature in %s: …%.80s", where, text[max(0, i-40):])
	}
}
