package stacksim

import (
	"cmp"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"markread/imclient/sandbox"
)

// knowledge is what a commit contains about the events beyond its offset. It is read here by the
// format's description, not by the product's code.
type knowledge struct {
	finished map[int64]bool
	attempts map[int64]int
	full     bool // there may have been more to write than there is space for
}

var errNotOurs = errors.New("not ours")

func readMetadata(text string, offset int64) (knowledge, error) {
	k := knowledge{finished: map[int64]bool{}, attempts: map[int64]int{}, full: len(text) > 3900}
	if text == "" {
		return k, nil
	}
	b, err := base64.RawStdEncoding.DecodeString(text)
	if err != nil || len(b) < 6 || b[0] != 1 {
		return k, errNotOurs
	}
	b = b[5:]
	next := func() int64 {
		v, n := binary.Uvarint(b)
		b = b[max(n, 0):]
		if n <= 0 {
			err, b = errNotOurs, nil
		}
		return int64(v)
	}
	_, _ = next(), next() // the fingerprint
	for at := offset; len(b) > 0; {
		gap, value := next(), next()
		at += gap >> 1
		if gap&1 == 1 {
			k.attempts[at] = int(value)
			at++
			continue
		}
		for range value {
			k.finished[at] = true
			at++
		}
	}
	return k, err
}

// checkMetadata compares what a commit contains beside its offset with the facts, and with the
// previous commit: an owner must not forget what another one knew. stale: the commit may have been
// overtaken. The caller holds the lock.
func (g *ledger) checkMetadata(p topicPartition, offset int64, text string, stale bool) {
	now, err := readMetadata(text, offset)
	if err != nil {
		if !g.cutsMetadata {
			g.problem("metadata: %s/%d: %q beside offset %d", p.topic, p.partition, text, offset)
		}
		now.full = true
	}
	now.full = now.full || g.cutsMetadata // what is stored may differ from what was sent
	log := g.log[p]
	for n := range now.finished {
		if n < 0 || n >= int64(len(log)) || !g.finished(origin{p, n}, log[n]) {
			g.problem("metadata: %s/%d: offset %d is finished according to the commit of %d; "+
				"that is wrong", p.topic, p.partition, n, offset)
			return
		}
	}
	for n, attempts := range now.attempts {
		if n < 0 || n >= int64(len(log)) || attempts > g.tries[log[n].conversation] {
			g.problem("metadata: %s/%d: offset %d has had %d attempts according to the commit of "+
				"%d; there were %d", p.topic, p.partition, n, attempts, offset,
				g.tries[log[n].conversation])
			return
		}
	}
	g.metadataEvents += len(now.finished) + len(now.attempts)
	before, ok := g.known[p]
	g.known[p] = now
	g.full = g.full || now.full
	if !ok || stale || now.full || before.full {
		return
	}
	for n := range before.finished {
		if n >= offset && !now.finished[n] {
			g.problem("metadata: %s/%d: offset %d was finished, the commit of %d does not "+
				"contain that any more", p.topic, p.partition, n, offset)
			return
		}
	}
	for n, attempts := range before.attempts {
		if n >= offset && !now.finished[n] && now.attempts[n] < attempts {
			g.problem("metadata: %s/%d: offset %d has had %d attempts, the commit of %d contains "+
				"%d", p.topic, p.partition, n, attempts, offset, now.attempts[n])
			return
		}
	}
}

// joins notes a member's quota terms.
func (g *ledger) joins(member string, r *kmsg.JoinGroupRequest) {
	if member == "" || len(r.Protocols) == 0 {
		return
	}
	var metadata kmsg.ConsumerMemberMetadata
	var data struct {
		Rate       int
		Partitions map[string]int
	}
	if metadata.ReadFrom(r.Protocols[0].Metadata) != nil ||
		json.Unmarshal(metadata.UserData, &data) != nil {
		return
	}
	b, _ := json.Marshal(data)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.terms[member] = string(b)
}

// success is a call whose response was a success.
type success struct {
	conversation
	readTime int64
}

// succeeded notes a success whose response the worker has read.
func (g *ledger) succeeded(s success) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.successes[s]++
}

// checkRepeats checks that a call whose success the worker has read is repeated only for another
// event of the same T, unless a fault explains it. The caller holds the lock.
func (g *ledger) checkRepeats() {
	if g.troubles > 0 || g.full {
		return
	}
	events := map[success]int{}
	for _, log := range g.log {
		for _, e := range log {
			if !e.invalid {
				events[success{e.conversation, e.readTime}]++
			}
		}
	}
	for s, n := range g.successes {
		if n > events[s] {
			g.problem("repeats: %d calls of %s at %d succeeded, there are %d events, and nothing "+
				"went wrong that explains it", n, s.report, s.readTime, events[s])
		}
	}
}

// runPeriod is when a worker ran, and its rate.
type runPeriod struct {
	from, to time.Time // to is zero while it runs
	rate     int
}

// checkRates checks that in no second more calls arrived than the largest rate of a worker running
// then. The caller holds the lock.
func (g *ledger) checkRates() {
	if len(g.runPeriods) == 0 {
		return
	}
	arrivals := g.server.Arrivals()
	slices.SortFunc(arrivals, func(a, b sandbox.Arrival) int { return a.At.Compare(b.At) })
	first := 0
	for i, a := range arrivals {
		for a.At.Sub(arrivals[first].At) >= time.Second {
			first++
		}
		most := 0
		for _, t := range g.runPeriods {
			if !t.from.After(a.At) && (t.to.IsZero() || a.At.Sub(t.to) < 2*time.Second) {
				most = max(most, t.rate)
			}
		}
		if i-first+1 > most {
			g.problem("cap: %d calls arrived within a second up to %v, the largest rate was %d",
				i-first+1, a.At.Sub(g.began).Round(time.Millisecond), most)
			return
		}
	}
}

// mismatched returns a member that has partitions in the same generation but different terms.
func (g *ledger) mismatched(m membership) string {
	for _, other := range slices.SortedFunc(maps.Keys(g.owned),
		func(a, b membership) int { return cmp.Compare(a.member, b.member) }) {
		if other.generation == m.generation && len(g.owned[other]) > 0 && len(g.owned[m]) > 0 &&
			g.assignedTerms[other] != g.assignedTerms[m] {
			return other.member
		}
	}
	return ""
}
