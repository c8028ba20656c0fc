package stacksim

import (
	"cmp"
	"maps"
	"slices"
	"strconv"

	"markread/imclient"
	"markread/imclient/sandbox"
)

const attempts = 8

// evidence is what the IM server knows of a conversation's calls.
type evidence struct{ failed, rejected, succeeded int }

func (g *ledger) evidence() map[conversation]*evidence {
	all := map[conversation]*evidence{}
	for _, a := range g.server.Arrivals() {
		c := conversation{a.Report, a.Peer}
		if all[c] == nil {
			all[c] = &evidence{}
		}
		row, _ := imclient.LookUp(a.Code)
		switch {
		case a.Code == 0:
			all[c].succeeded++
		case a.Code > 0 && row.Class == imclient.Rejected:
			all[c].rejected++
		default:
			all[c].failed++
		}
	}
	return all
}

// checkAll checks at rest the outcomes of all events.
func (g *ledger) checkAll(rate, generations, stale int) {
	seen := g.evidence()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.checkCap(g.server.Stats(), rate, stale)
	g.checkRates()
	g.checkRepeats()
	newest := map[conversation]int64{}
	count := map[conversation]int{}
	for p, log := range g.log {
		if g.proven[p] != int64(len(log)) {
			g.problem("loss: %s/%d: %d of %d are committed", p.topic, p.partition, g.proven[p],
				len(log))
		}
		for n, e := range log {
			if e.invalid {
				if g.letters[origin{p, int64(n)}] == nil {
					g.problem("letters: no dead letter of %s/%d offset %d, which is invalid",
						p.topic, p.partition, n)
				}
				continue
			}
			newest[e.conversation] = max(newest[e.conversation], e.readTime)
			count[e.conversation]++
		}
	}
	stands := map[conversation]int{}
	for at, s := range g.letters {
		g.checkLetter(at, s, seen, generations)
		if e := g.log[at.topicPartition][at.offset]; !e.invalid {
			stands[e.conversation] += s.collapsed
		}
	}
	for _, c := range slices.SortedFunc(maps.Keys(newest),
		func(a, b conversation) int { return cmp.Compare(a.report, b.report) }) {
		got, _ := g.server.ReadTime(c.report, c.peer)
		t, lettered := g.largest[c]
		switch {
		case got == newest[c]:
		case got > newest[c]:
			g.problem("order: %s is read up to %d, the largest T published is %d", c.report, got,
				newest[c])
		case !lettered || t < newest[c]:
			g.problem("loss: %s is read up to %d, want %d; calls %+v", c.report, got, newest[c],
				seen[c])
		case got == 0 && stands[c] < count[c]:
			g.problem("letters: the dead letters of %s stand for %d events of %d", c.report,
				stands[c], count[c])
		case got == 0 && stands[c] > count[c] && g.troubles == 0:
			g.problem("letters: the dead letters of %s stand for %d events of %d, and nothing "+
				"went wrong that explains it", c.report, stands[c], count[c])
		}
	}
}

func (g *ledger) checkCap(stats sandbox.Stats, rate, stale int) {
	if stale > 0 {
		g.problem("cap: %d calls without a fresh proof of membership", stale)
	}
	if stats.MaxPerSecond > rate {
		g.problem("cap: %d calls arrived within a second, the rate is %d", stats.MaxPerSecond, rate)
	}
	for encoding, n := range stats.Encodings {
		if encoding == sandbox.EncodingAbsent || encoding == sandbox.EncodingInvalid {
			g.problem("%d calls with a MsgReadTime that is %s", n, encoding)
		}
	}
}

// checkLetter checks one dead letter and its copies.
func (g *ledger) checkLetter(at origin, s *letterCopies, seen map[conversation]*evidence,
	generations int) {
	e := g.log[at.topicPartition][at.offset]
	calls := seen[e.conversation]
	if calls == nil {
		calls = &evidence{}
	}
	switch {
	case e.invalid != (s.class == "invalid"):
		g.problem("letters: a dead letter %q of %s/%d offset %d, invalid is %v", s.class, at.topic,
			at.partition, at.offset, e.invalid)
	case s.class == "rejected" && calls.rejected == 0:
		g.problem("letters: a dead letter %q (%s) of %s, which the server never rejected: %+v",
			s.class, s.code, e.report, calls)
	case s.class == "exhausted" && g.tries[e.conversation] < attempts:
		g.problem("letters: a dead letter %q (%s) of %s after %d calls", s.class, s.code, e.report,
			g.tries[e.conversation])
	case s.class == "exhausted" && (!g.usesAttempts || !transient(s.code)):
		g.problem("letters: a dead letter %q (%s) of %s, but no fault of this run is the event's",
			s.class, s.code, e.report)
	case s.value != e.value:
		g.problem("letters: the dead letter of %s/%d offset %d has another value", at.topic,
			at.partition, at.offset)
	}
	most := 1
	if g.troubles > 0 || g.full {
		// each generation after another may repeat what that one had not committed
		most += generations - 1
	}
	most += g.troubles + g.lost[0] // it is unknown which dead letters' responses were lost
	if s.copies > most {
		g.problem("letters: %d copies of the dead letter of %s/%d offset %d, at most %d can be "+
			"explained", s.copies, at.topic, at.partition, at.offset, most)
	}
}

// transient reports whether a dead letter's code belongs to a failure that counts as an attempt.
func transient(code string) bool {
	number, err := strconv.Atoi(code)
	if err != nil {
		return code != "http_429" && code != imclient.LabelKey
	}
	row, _ := imclient.LookUp(number)
	return row.Class == imclient.Transient
}
