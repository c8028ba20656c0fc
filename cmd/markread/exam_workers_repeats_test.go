//go:build exam && unix

package main

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"syscall"
	"testing"
	"time"
)

// examStuck is a conversation whose every call gets a passing failure (60008): its event stays where it is, and so does the offset.
func examStuck(i int) examEvent {
	return examEvent{examConversation{fmt.Sprintf("reject-60008-stuck%d", i), "p"}, time.Now().Unix()}
}

// examPatient keeps a conversation that never succeeds from becoming a letter.
var examPatient = []string{"--attempts", "1000000", "--backoff-max", "2s"}

// attempts returns how often the event at the beginning of the live partition 0 was tried, by the worker's own account.
func (m *examMember) attempts() int {
	state := m.state()
	if state == nil {
		return 0
	}
	for _, p := range state.Partitions {
		if p.Partition == 0 && p.Oldest != nil && p.Oldest.Offset == 0 {
			return p.Oldest.Attempts
		}
	}
	return 0
}

// TestExamWorkersKill: a conversation that never succeeds holds the offset of the only partition at its beginning, and behind it many are
// called. After a kill -9 in their midst only those are called again that were not yet committed, as the text beside the offset, and the
// attempts of the one that is stuck go on where they were. With five events a conversation the text is too short for all that has
// finished; that costs calls, no events.
func TestExamWorkersKill(t *testing.T) {
	t.Parallel()
	n := 3000
	if testing.Short() {
		n = 1500
	}
	t.Run("one event each", func(t *testing.T) {
		t.Parallel()
		examKillAmid(t, examOneEach(examConversations("one", n)), n/2, examUncommitted)
	})
	if testing.Short() {
		return
	}
	t.Run("five events each", func(t *testing.T) {
		t.Parallel()
		examKillAmid(t, examMany(5, examConversations("five", n), 5*n), n/2, n)
	})
}

func examKillAmid(t *testing.T, events []examEvent, after, allowed int) {
	t.Helper()
	k := examStartBrokerOf(t, 1)
	im := examStartRecorder(t, "-rate", "200", "-latency", "20ms")
	examProduceEvents(t, k, k.live, []examEvent{examStuck(0)})
	examProduceEvents(t, k, k.live, events)
	commits := examWatchOffsets(t, k)
	c := examCrewOf(k, im, 200)
	first := c.start(t, "a", examPatient...)
	examWait(t, "calls in full flow", time.Minute, func() bool { return im.count(t) >= after })
	<-time.After(rand.N(time.Second)) // anywhere between two commits
	attempts := first.attempts()
	first.signal(t, syscall.SIGKILL)
	first.exit(t, 5*time.Second)
	killed := time.Now()
	called := im.arrivals(t)
	commits.end()
	longest := commits.at.longest(time.Unix(0, called[0].Wall), killed) // a second, but for a busy machine
	allowed = max(allowed, int(200*longest.Seconds())+examUncommitted-200)

	second := c.start(t, "a", examPatient...)
	examWait(t, "calls of the next worker", time.Minute, func() bool { return im.countOf(t, second.account) > 0 })
	paused := time.Since(killed)
	resumed := 0
	examWait(t, "the next worker tells of the attempts", 10*time.Second, func() bool { resumed = second.attempts(); return resumed > 0 })
	im.called(t, events, time.Minute)
	committed := k.committed(t)[examPartition{k.live, 0}]
	second.stop(t, syscall.SIGTERM, examStopLimit)

	arrivals := im.arrivals(t)
	repeated := examRepeated(arrivals)
	done := 0
	for _, a := range called {
		if a.Code == 0 && a.Answered {
			done++
		}
	}
	examFigure(t, "workers-kill", "%d events of %d conversations behind one that never succeeds; SIGKILL after %d successful calls: at most %.1f s between two commits, the next worker's first call after %.1f s, %d answered calls repeated; attempts of the stuck one %d before, %d after; %v",
		len(events), len(examLargest(events)), done, longest.Seconds(), paused.Seconds(), repeated, attempts, resumed, examMeasure(arrivals))
	examCheck(t, done < len(examLargest(events))*9/10, "hardly anything was left when the worker was killed: the row says nothing")
	examCheck(t, done > allowed || allowed >= len(examLargest(events)), "%d calls before the kill: a repetition of all would not be seen", done)
	examCheck(t, repeated <= allowed, "%d answered calls were repeated, at most %d allowed", repeated, allowed)
	examCheck(t, attempts > 3 && resumed > attempts/2, "%d attempts before the kill, %d after it", attempts, resumed) // some since the last commit
	examCheck(t, committed == 0, "the offset %d is committed, beyond an event that has not finished", committed)
	examCheck(t, examMeasure(arrivals).mostIn1s <= 200, "more than 200 arrivals in one second over the kill")
	k.noLetters(t, "a conversation that never succeeds")
	examComparePointers(t, examLargest(events), examPointers(arrivals))
}

// TestExamWorkersRebalance: the same with a second worker that joins, the first that leaves, and comes back, and a conversation that never
// succeeds at the beginning of each partition. Who gives partitions up has committed all that has finished, so no answered call is
// repeated.
func TestExamWorkersRebalance(t *testing.T) {
	t.Parallel()
	const partitions = 4
	n := 3000
	if testing.Short() {
		n = 1200
	}
	k := examStartBrokerOf(t, partitions)
	im := examStartRecorder(t, "-rate", "200", "-latency", "20ms")
	var stuck []examEvent
	for i := range partitions {
		stuck = append(stuck, examStuck(i))
	}
	k.produceTo(t, k.live, stuck, func(i int) int32 { return int32(i) })
	c := examStartCrew(t, k, im, 200, n)

	a := c.start(t, "a", examPatient...)
	c.more(t, 400)
	b := c.start(t, "b", examPatient...)
	joins := c.shared(t, 30*time.Second)
	c.more(t, 400)
	a.stop(t, syscall.SIGTERM, examStopLimit)
	leaves := b.ownsAll(t, 30*time.Second)
	c.more(t, 400)
	c.start(t, "a", examPatient...)
	again := c.shared(t, 30*time.Second)
	c.more(t, 400)
	events := append(c.flow.end(), c.backlog...)
	im.called(t, events, time.Minute)
	for _, m := range c.running() {
		m.stop(t, syscall.SIGTERM, examStopLimit)
	}

	arrivals := im.arrivals(t)
	repeated := examRepeated(arrivals)
	examFigure(t, "workers-rebalance", "%d events behind %d that never succeed; a second worker joins (%v until both call), the first leaves (%v) and comes back (%v): %d answered calls repeated; %v",
		len(events), partitions, joins, leaves, again, repeated, examMeasure(arrivals))
	examCheck(t, repeated == 0, "%d answered calls were repeated although nobody was killed", repeated)
	examCheck(t, examMeasure(arrivals).mostIn1s <= 200, "more than 200 arrivals in one second over the rebalances")
	for p, offset := range k.committed(t) {
		examCheck(t, p.topic != k.live || offset == 0, "%s %d is committed to %d, beyond an event that has not finished", p.topic, p.partition, offset)
	}
	k.noLetters(t, "conversations that never succeed")
	examComparePointers(t, examLargest(events), examPointers(arrivals))
}

// more waits for so many calls.
func (c *examCrew) more(t *testing.T, calls int) {
	t.Helper()
	before := c.im.count(t)
	examWait(t, "calls in full flow", time.Minute, func() bool { return c.im.count(t) >= before+calls })
}

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
