//go:build exam && unix

package main

import (
	"flag"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"
)

var (
	examFrozenGroups = flag.Int("exam.frozen-groups", 12, "")
	examFrozenRounds = flag.Int("exam.frozen-rounds", 9, "")
)

// TestExamWorkersFrozen: workers are frozen amid full load until their session is over and another one has their partitions and their share of
// the rate, and thawed, a hundred times over groups that run side by side; in a short run six times. A worker that is thawed sends at most
// the one call that it was about to send, and what it then commits is refused: no offset goes back.
func TestExamWorkersFrozen(t *testing.T) {
	t.Parallel()
	const (
		rate    = 40
		lasts   = 16500 * time.Millisecond         // a session of 15 s, the heartbeat, and what that takes
		repeats = rate * examUncommitted / 200 * 2 // of one freeze; the machine is busy
	)
	groups, rounds, behind := *examFrozenGroups, *examFrozenRounds, 500
	if testing.Short() {
		groups, rounds, behind = 6, 1, 250
	}
	k := examStartBroker(t)
	var crews []*examCrew
	for range groups {
		im := examStartRecorder(t, "-rate", fmt.Sprint(rate), "-latency", "50ms")
		c := examStartCrew(t, examOwnTopics(t, k.addr, 4), im, rate, behind)
		c.start(t, "a")
		c.start(t, "b")
		crews = append(crews, c)
	}
	shared := func() {
		for _, c := range crews {
			c.shared(t, 40*time.Second)
		}
	}
	freezes := map[*examCrew][]*examFreeze{}
	for round := range rounds {
		shared()
		var now []*examFreeze
		for _, c := range crews {
			f := &examFreeze{m: c.all[round%2], other: c.all[1-round%2]}
			now, freezes[c] = append(now, f), append(freezes[c], f)
		}
		examFreezeAll(t, lasts, now...)
	}
	shared()
	refused := map[string]int{} // commits
	for _, c := range crews {
		c.endLoad(t)
		for _, m := range c.all {
			for code, n := range m.commitFailures(t) {
				refused[code] += n
			}
		}
	}

	var took []time.Duration
	late, most, cut, repeated, calls := 0, 0, 0, 0, 0
	for _, c := range crews {
		arrivals, again := c.end(t)
		repeated, calls = repeated+again, calls+len(arrivals)
		examCheck(t, again <= rounds*repeats, "%d answered calls were repeated after %d freezes, at most %d allowed", again, rounds, rounds*repeats)
		for _, a := range arrivals {
			if a.Cut {
				cut++
			}
		}
		for _, f := range freezes[c] {
			n := f.late(arrivals)
			examCheck(t, n <= 1, "%d late calls of %s after it was frozen, at most 1 allowed", n, f.m.account)
			late, most, took = late+min(n, 1), max(most, n), append(took, f.took)
		}
	}
	slices.Sort(took)
	examFigure(t, "workers-frozen", "%d freezes past the session over %d groups of two workers at %d/s: the other one had all partitions %v to %v later; a late call in %d of them, at most %d in one; %d calls cut off; commits refused by code %v; %d of %d calls repeated an answered one",
		len(took), groups, rate, took[0], took[len(took)-1], late, most, cut, refused, repeated, calls)
	examCheck(t, late <= len(took)/10+1, "a late call in %d of %d freezes: more than were between the look at the lease and the socket", late, len(took))
	for _, code := range slices.Sorted(maps.Keys(refused)) {
		examCheck(t, slices.Contains([]string{"22", "25", "27", "network"}, code), "a commit failed with %s", code)
	}
}
