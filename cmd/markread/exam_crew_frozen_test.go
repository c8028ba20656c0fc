//go:build exam && unix

package main

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

var (
	examFrozenGroups = flag.Int("exam.frozen-groups", 12, "")
	examFrozenRounds = flag.Int("exam.frozen-rounds", 9, "")
)

// TestExamCrewFrozen: workers are frozen amid full load until their session is over and another one has their partitions and their share of
// the rate, and thawed, a hundred times over groups that run side by side; in a short run six times. A worker that is thawed sends at most
// the one call that it was about to send, and what it then commits is refused: no offset goes back.
func TestExamCrewFrozen(t *testing.T) {
	t.Parallel()
	groups, rounds := *examFrozenGroups, *examFrozenRounds
	if testing.Short() {
		groups, rounds = 6, 1
	}
	k := examStartBroker(t)
	results := make(chan examFrozen, groups)
	t.Run("groups", func(t *testing.T) {
		for i := range groups {
			t.Run(fmt.Sprint(i), func(t *testing.T) { // not one after the other, but not as rows of their own either
				t.Parallel()
				results <- examFreezeGroup(t, examOwnTopics(t, k.addr, 4), rounds)
			})
		}
	})
	close(results)
	sum := examFrozen{refused: map[string]int{}}
	for r := range results {
		sum.freezes += r.freezes
		sum.late = append(sum.late, r.late...)
		sum.repeated += r.repeated
		sum.calls += r.calls
		sum.took = append(sum.took, r.took...)
		for code, n := range r.refused {
			sum.refused[code] += n
		}
	}
	slices.Sort(sum.took)
	examCheck(t, sum.freezes == groups*rounds, "%d freezes, want %d", sum.freezes, groups*rounds)
	if sum.freezes == 0 {
		return
	}
	with := 0
	for _, n := range sum.late {
		if n > 0 {
			with++
		}
	}
	examFigure(t, "crew-frozen", "%d freezes past the session over %d groups of two workers: the other one had all partitions after %v to %v; a late call in %d of them, at most %d in one; commits refused by code %v; %d of %d calls repeated an answered one",
		sum.freezes, groups, sum.took[0], sum.took[len(sum.took)-1], with, slices.Max(sum.late), sum.refused, sum.repeated, sum.calls)
	for _, code := range slices.Sorted(maps.Keys(sum.refused)) {
		examCheck(t, slices.Contains([]string{"22", "25", "27", "network"}, code), "a commit failed with %s", code)
	}
}

// examFrozen is what freezes showed.
type examFrozen struct {
	freezes  int
	late     []int // calls, of each freeze
	took     []time.Duration
	refused  map[string]int // commits by code
	repeated int
	calls    int
}

func examFreezeGroup(t *testing.T, k *examKafka, rounds int) examFrozen {
	t.Helper()
	const (
		rate   = 40
		lasts  = 16500 * time.Millisecond // a session of 15 s, the heartbeat, and what that takes
		behind = 500
	)
	im := examStartRecorder(t, "-rate", fmt.Sprint(rate), "-latency", "50ms")
	c := examStartCrew(t, k, im, rate, behind)
	members := []*examMember{c.start(t, "a"), c.start(t, "b")}
	type freeze struct {
		m      *examMember
		thawed time.Time
	}
	var freezes []freeze
	out := examFrozen{refused: map[string]int{}}
	for i := range rounds {
		c.shared(t, 40*time.Second)
		<-time.After(rand.N(time.Second)) // anywhere between two commits
		m := members[i%2]
		took, thawed := m.freeze(t, members[1-i%2], lasts)
		out.took = append(out.took, took)
		freezes = append(freezes, freeze{m, thawed})
	}
	c.shared(t, 40*time.Second)
	for _, m := range members {
		for code, n := range m.commitFailures(t) {
			out.refused[code] += n
		}
	}
	arrivals, repeated := c.end(t)
	out.freezes, out.calls, out.repeated = len(freezes), len(arrivals), repeated
	for i, f := range freezes {
		late := f.m.late(arrivals, f.thawed)
		out.late = append(out.late, late)
		examCheck(t, late <= 1, "freeze %d of %s: %d late calls, at most 1 allowed", i, f.m.account, late)
	}
	allowed := rounds * (rate + examUncommitted - 200)
	examCheck(t, repeated <= allowed, "%d answered calls were repeated, at most %d allowed", repeated, allowed)
	return out
}
