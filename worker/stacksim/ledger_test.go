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

// ledger records what was published and what happened to it, and checks it. It sees only what is
// visible from outside: what arrived at the IM server, and what arrived at the broker and was
// accepted there.
type ledger struct {
	server *sandbox.Server
	began  time.Time
	// the plan has faults that may use up a conversation's attempts
	usesAttempts bool
	lose         func(l *link, key int16, n int) bool // whether the n-th response of a kind is lost

	mu      sync.Mutex
	log     map[topicPartition][]published
	proven  map[topicPartition]int64 // below it every event is known to be finished
	commits map[topicPartition]committed
	// arrived, but without a response: perhaps accepted
	pendingCommits map[topicPartition][]committed
	owned          map[membership]map[topicPartition]bool
	letters        map[origin]*letterCopies
	largest        map[conversation]int64 // the largest T of a dead letter
	tries          map[conversation]int   // calls, including calls that did not arrive
	responses      map[int16]int
	lost           map[int16]int // responses
	// commits that arrived after a newer one, because they were in flight for long
	lateCommits    int
	commitsOK      int
	problems       []string
	signatures     map[string]bool
	known          map[topicPartition]knowledge // what the last commit contains
	full           bool                         // a commit did not contain everything
	cutsMetadata   bool                         // the plan has faults that modify metadata
	metadataEvents int                          // events that metadata contained
	successes      map[success]int              // calls whose response was a success
	terms          map[string]string            // of members, at their last join
	assignedTerms  map[membership]string        // their terms when they were assigned partitions
	runPeriods     []*runPeriod
	// faults that may repeat dead letters: a crash, a lost connection, an expelled member
	troubles int
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

// origin is the slot of a dead letter's record.
type origin struct {
	topicPartition
	offset int64
}

// letterCopies is all copies of one dead letter.
type letterCopies struct {
	// collapsed: the events that all copies together stand for, which may differ per copy
	copies, collapsed int
	class, code       string
	value             string
}

func newLedger(server *sandbox.Server) *ledger {
	return &ledger{
		server: server, began: time.Now(), log: map[topicPartition][]published{},
		proven:  map[topicPartition]int64{},
		commits: map[topicPartition]committed{}, pendingCommits: map[topicPartition][]committed{},
		owned: map[membership]map[topicPartition]bool{}, letters: map[origin]*letterCopies{},
		largest: map[conversation]int64{}, tries: map[conversation]int{},
		signatures: map[string]bool{},
		responses:  map[int16]int{}, lost: map[int16]int{},
		known: map[topicPartition]knowledge{}, successes: map[success]int{},
		terms:         map[string]string{},
		assignedTerms: map[membership]string{},
	}
}

const mostProblems = 12

// problem notes a violation. The caller holds the lock.
func (g *ledger) problem(format string, args ...any) {
	if len(g.problems) < mostProblems {
		at := time.Since(g.began).Round(time.Millisecond)
		g.problems = append(g.problems, fmt.Sprintf("at %v: ", at)+fmt.Sprintf(format, args...))
	}
}

// Problem is problem for callers without the lock.
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

// finished reports whether an event has an outcome. The caller holds the lock.
func (g *ledger) finished(at origin, e published) bool {
	if g.letters[at] != nil {
		return true
	}
	if e.invalid {
		return false
	}
	if got, ok := g.server.ReadTime(e.report, e.peer); ok && got >= e.readTime {
		return true
	}
	// It may be one of several events that a dead letter stands for.
	t, ok := g.largest[e.conversation]
	return ok && t >= e.readTime
}

func (g *ledger) commitReceived(member string, generation int32, topic string, partition int32,
	offset int64, sent time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	p := topicPartition{topic, partition}
	g.pendingCommits[p] = append(g.pendingCommits[p], committed{offset, sent})
	if !g.owned[membership{member, generation}][p] {
		g.problem("commit: %s commits %s/%d in generation %d, which does not belong to it", member,
			topic, partition, generation)
	}
	log := g.log[p]
	if offset > int64(len(log)) {
		g.problem("commit: %s/%d: commit of %d, the log has %d", topic, partition, offset, len(log))
		return
	}
	for n := g.proven[p]; n < offset; n++ {
		if e := log[n]; !g.finished(origin{p, n}, e) {
			got, _ := g.server.ReadTime(e.report, e.peer)
			g.problem("commit: %s/%d: commit of %d, but offset %d (%s, T %d, invalid %v) is "+
				"unfinished: the server has T %d", topic, partition, offset, n, e.report,
				e.readTime, e.invalid, got)
			return
		}
		g.proven[p] = n + 1
	}
}

func (g *ledger) commitAccepted(topic string, partition int32, offset int64, metadata string,
	sent time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.commitsOK++
	p := topicPartition{topic, partition}
	last := g.commits[p]
	// A commit that was in flight for long, and sent before the last one, moves the offset back:
	// the network caused that. Its own response may be lost, so that only the commit of the next
	// owner shows it.
	late := sent.Before(last.at) || slices.ContainsFunc(g.pendingCommits[p],
		func(c committed) bool { return c.offset <= offset && c.at.Before(last.at) })
	g.checkMetadata(p, offset, metadata, late)
	g.pendingCommits[p] = slices.DeleteFunc(g.pendingCommits[p],
		func(c committed) bool { return c.offset == offset })
	switch {
	case offset >= last.offset:
	case late:
		g.lateCommits++
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
	g.owned[m], g.assignedTerms[m] = set, g.terms[member]
	if other := g.mismatched(m); other != "" {
		g.problem("cap: in generation %d %s has partitions with the terms %s, and %s with %s",
			generation, member, g.assignedTerms[m], other,
			g.assignedTerms[membership{other, generation}])
	}
}

func (g *ledger) letterWritten(r kmsg.Record) {
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
	g.checkLeak("a dead letter", string(r.Key)+string(r.Value)+fmt.Sprint(headers))
	log := g.log[at.topicPartition]
	if err != nil || offset < 0 || offset >= int64(len(log)) {
		g.problem("letters: a dead letter of %q, partition %q, offset %q",
			headers["__dlq.errors.topic"], headers["__dlq.errors.partition"],
			headers["__dlq.errors.offset"])
		return
	}
	s := g.letters[at]
	if s == nil {
		s = &letterCopies{}
		g.letters[at] = s
	}
	s.copies++
	s.collapsed += collapsed
	s.class, s.code, s.value = headers["markread.class"], headers["markread.code"], string(r.Value)
	if e := log[offset]; !e.invalid {
		g.largest[e.conversation] = max(g.largest[e.conversation], e.readTime)
	}
}

func (g *ledger) deliverResponse(l *link, key int16) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := g.responses[key]
	g.responses[key]++
	if g.lose == nil || !g.lose(l, key, n) {
		return true
	}
	g.lost[key]++
	return false
}

// Every secret of a simulation contains CANARY.
const (
	rightKey = "CANARY-right-5d1f0c4e8a"
	wrongKey = "CANARY-wrong-90b7e2116d"
)

// checkLeak searches what others may see for secrets. The caller holds the lock.
func (g *ledger) checkLeak(where, text string) {
	if i := strings.Index(text, "CANARY-"); i >= 0 {
		g.problem("secret: a key in %s: …%.80s", where, text[max(0, i-40):])
	}
	if i := strings.Index(text, "usersig="); i >= 0 &&
		!strings.HasPrefix(text[i:], "usersig=[secret]") {
		g.problem("secret: perhaps a signature in %s: …%.80s", where, text[max(0, i-40):])
	}
}
