//go:build exam && unix

package exam

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"syscall"
	"testing"
	"time"

	"markread/cmd/markread/exam/kit"
)

// failingEvent is a conversation whose every call gets a passing failure (60008): its event stays
// where it is, and so does the offset.
func failingEvent(i int) kit.Event {
	return kit.Event{Conversation: kit.Conversation{Report: fmt.Sprintf("reject-60008-stuck%d", i),
		Peer: "p"},
		ReadTime: time.Now().Unix()}
}

// keepRetrying keeps a conversation that never succeeds from becoming a letter.
var keepRetrying = []string{"--attempts", "1000000", "--backoff-max", "2s"}

// oldestAttempts returns how often the event at the beginning of the live partition 0 was tried, by the
// worker's own account.
func oldestAttempts(m *kit.Member) int {
	state := m.State()
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

// TestExamWorkersKill: a conversation that never succeeds holds the offset of the only partition at
// its beginning, and behind it many are called. After a kill -9 in their midst only those are
// called again that were not yet committed, as the text beside the offset, and the attempts of the
// one that is stuck go on where they were. With five events a conversation the text is too short
// for all that has finished; that costs calls, no events.
func TestExamWorkersKill(t *testing.T) {
	t.Parallel()
	n := 3000
	if testing.Short() {
		n = 1500
	}
	t.Run("one event each", func(t *testing.T) {
		t.Parallel()
		killUnderLoad(t, kit.OneEventEach(kit.Conversations("one", n)), n/2, maxUncommitted)
	})
	if testing.Short() {
		return
	}
	t.Run("five events each", func(t *testing.T) {
		t.Parallel()
		killUnderLoad(t, kit.RandomEvents(5, kit.Conversations("five", n), 5*n), n/2, n)
	})
}

func killUnderLoad(t *testing.T, events []kit.Event, after, allowed int) {
	t.Helper()
	k := kit.StartBrokerWithPartitions(t, 1)
	im := kit.StartRecorder(t, "-rate", "200", "-latency", "20ms")
	kit.ProduceEvents(t, k, k.Live, []kit.Event{failingEvent(0)})
	kit.ProduceEvents(t, k, k.Live, events)
	commits := kit.WatchCommits(t, k)
	c := kit.NewWorkerGroup(k, im, 200)
	first := c.Start(t, "a", keepRetrying...)
	kit.Wait(t, "calls in full flow", time.Minute, func() bool { return im.Count(t) >= after })
	<-time.After(rand.N(time.Second)) // anywhere between two commits
	attempts := oldestAttempts(first)
	first.Signal(t, syscall.SIGKILL)
	first.Exit(t, 5*time.Second)
	killed := time.Now()
	called := im.Arrivals(t)
	commits.Stop()
	// a second, but for a busy machine
	longest := commits.ChangedAt.LongestGap(time.Unix(0, called[0].Wall), killed)
	allowed = max(allowed, int(200*longest.Seconds())+maxUncommitted-200)

	second := c.Start(t, "a", keepRetrying...)
	kit.Wait(t, "calls of the next worker", time.Minute,
		func() bool { return im.CountBy(t, second.Account) > 0 })
	paused := time.Since(killed)
	resumed := 0
	kit.Wait(t, "the next worker tells of the attempts", 10*time.Second,
		func() bool { resumed = oldestAttempts(second); return resumed > 0 })
	im.WaitApplied(t, events, time.Minute)
	committed := k.Committed(t)[kit.Partition{Topic: k.Live, Partition: 0}]
	second.Stop(t, syscall.SIGTERM, kit.StopLimit)

	arrivals := im.Arrivals(t)
	repeated := kit.CountRepeated(arrivals)
	done := 0
	for _, a := range called {
		if a.Code == 0 && a.Answered {
			done++
		}
	}
	kit.Figure(t, "workers-kill", "%d events of %d conversations behind one that never succeeds; "+
		"SIGKILL after %d "+
		"successful calls: at most %.1f s between two commits, the next worker's first call "+
		"after %.1f s, %d "+
		"answered calls repeated; attempts of the stuck one %d before, %d after; %v",
		len(events), len(kit.Largest(events)), done, longest.Seconds(), paused.Seconds(), repeated,
		attempts, resumed,
		kit.MeasureCalls(arrivals))
	kit.Check(t, done < len(kit.Largest(events))*9/10,
		"hardly anything was left when the worker was killed: the row says nothing")
	kit.Check(t, done > allowed || allowed >= len(kit.Largest(events)),
		"%d calls before the kill: a repetition of all would not be seen", done)
	kit.Check(t, repeated <= allowed, "%d answered calls were repeated, at most %d allowed",
		repeated, allowed)
	// some since the last commit
	kit.Check(t, attempts > 3 && resumed > attempts/2, "%d attempts before the kill, %d after it",
		attempts, resumed)
	kit.Check(t, committed == 0,
		"the offset %d is committed, beyond an event that has not finished", committed)
	kit.Check(t, kit.MeasureCalls(arrivals).MostIn1s <= 200,
		"more than 200 arrivals in one second over the kill")
	k.CheckNoDeadLetters(t, "a conversation that never succeeds")
	kit.CompareReadTimes(t, kit.Largest(events), kit.ReadTimes(arrivals))
}

// TestExamWorkersRebalance: the same with a second worker that joins, the first that leaves, and
// comes back, and a conversation that never succeeds at the beginning of each partition. Who gives
// partitions up has committed all that has finished, so no answered call is repeated.
func TestExamWorkersRebalance(t *testing.T) {
	t.Parallel()
	const partitions = 4
	n := 3000
	if testing.Short() {
		n = 1200
	}
	k := kit.StartBrokerWithPartitions(t, partitions)
	im := kit.StartRecorder(t, "-rate", "200", "-latency", "20ms")
	var stuck []kit.Event
	for i := range partitions {
		stuck = append(stuck, failingEvent(i))
	}
	k.ProduceTo(t, k.Live, stuck, func(i int) int32 { return int32(i) })
	c := kit.StartLoadedGroup(t, k, im, 200, n)

	a := c.Start(t, "a", keepRetrying...)
	waitForCalls(c, t, 400)
	b := c.Start(t, "b", keepRetrying...)
	joins := c.WaitShared(t, 30*time.Second)
	waitForCalls(c, t, 400)
	a.Stop(t, syscall.SIGTERM, kit.StopLimit)
	leaves := b.WaitOwnsAll(t, 30*time.Second)
	waitForCalls(c, t, 400)
	c.Start(t, "a", keepRetrying...)
	again := c.WaitShared(t, 30*time.Second)
	waitForCalls(c, t, 400)
	events := append(c.Traffic.End(), c.Backlog...)
	im.WaitApplied(t, events, time.Minute)
	for _, m := range c.Running() {
		m.Stop(t, syscall.SIGTERM, kit.StopLimit)
	}

	arrivals := im.Arrivals(t)
	repeated := kit.CountRepeated(arrivals)
	kit.Figure(t, "workers-rebalance",
		"%d events behind %d that never succeed; a second worker joins (%v until both call), the "+
			"first leaves (%v) "+
			"and comes back (%v): %d answered calls repeated; %v",
		len(events), partitions, joins, leaves, again, repeated, kit.MeasureCalls(arrivals))
	kit.Check(t, repeated == 0, "%d answered calls were repeated although nobody was killed",
		repeated)
	kit.Check(t, kit.MeasureCalls(arrivals).MostIn1s <= 200,
		"more than 200 arrivals in one second over the rebalances")
	for p, offset := range k.Committed(t) {
		kit.Check(t, p.Topic != k.Live || offset == 0,
			"%s %d is committed to %d, beyond an event that has not finished", p.Topic, p.Partition,
			offset)
	}
	k.CheckNoDeadLetters(t, "conversations that never succeed")
	kit.CompareReadTimes(t, kit.Largest(events), kit.ReadTimes(arrivals))
}

// waitForCalls waits for so many calls.
func waitForCalls(c *kit.WorkerGroup, t *testing.T, calls int) {
	t.Helper()
	before := c.IM.Count(t)
	kit.Wait(t, "calls in full flow", time.Minute,
		func() bool { return c.IM.Count(t) >= before+calls })
}

var (
	frozenGroups = flag.Int("exam.frozen-groups", 12, "")
	frozenRounds = flag.Int("exam.frozen-rounds", 9, "")
)

// TestExamWorkersFrozen: workers are frozen amid full load until their session is over and another
// one has their partitions and their share of the rate, and thawed, a hundred times over groups
// that run side by side; in a short run six times. A worker that is thawed sends at most the one
// call that it was about to send, and what it then commits is refused: no offset goes back.
func TestExamWorkersFrozen(t *testing.T) {
	t.Parallel()
	const (
		rate = 40
		// a session of 15 s, the heartbeat, and what that takes
		lasts   = 16500 * time.Millisecond
		repeats = rate * maxUncommitted / 200 * 2 // of one freeze; the machine is busy
	)
	groups, rounds, behind := *frozenGroups, *frozenRounds, 500
	if testing.Short() {
		groups, rounds, behind = 6, 1, 250
	}
	k := kit.StartBroker(t)
	var crews []*kit.WorkerGroup
	for range groups {
		im := kit.StartRecorder(t, "-rate", fmt.Sprint(rate), "-latency", "50ms")
		c := kit.StartLoadedGroup(t, kit.CreateOwnTopics(t, k.Addr, 4), im, rate, behind)
		c.Start(t, "a")
		c.Start(t, "b")
		crews = append(crews, c)
	}
	shared := func() {
		for _, c := range crews {
			c.WaitShared(t, 40*time.Second)
		}
	}
	freezes := map[*kit.WorkerGroup][]*kit.Freeze{}
	for round := range rounds {
		shared()
		var now []*kit.Freeze
		for _, c := range crews {
			f := &kit.Freeze{Member: c.All[round%2], Other: c.All[1-round%2]}
			now, freezes[c] = append(now, f), append(freezes[c], f)
		}
		kit.FreezeAll(t, lasts, now...)
	}
	shared()
	refused := map[string]int{} // commits
	for _, c := range crews {
		c.EndLoad(t)
		for _, m := range c.All {
			for code, n := range m.CommitFailures(t) {
				refused[code] += n
			}
		}
	}

	var took []time.Duration
	late, most, cut, repeated, calls := 0, 0, 0, 0, 0
	for _, c := range crews {
		arrivals, again := c.End(t)
		repeated, calls = repeated+again, calls+len(arrivals)
		kit.Check(t, again <= rounds*repeats,
			"%d answered calls were repeated after %d freezes, at most %d allowed",
			again, rounds, rounds*repeats)
		for _, a := range arrivals {
			if a.Truncated {
				cut++
			}
		}
		for _, f := range freezes[c] {
			n := f.LateCalls(arrivals)
			kit.Check(t, n <= 1, "%d late calls of %s after it was frozen, at most 1 allowed", n,
				f.Member.Account)
			late, most, took = late+min(n, 1), max(most, n), append(took, f.Took)
		}
	}
	slices.Sort(took)
	kit.Figure(t, "workers-frozen",
		"%d freezes past the session over %d groups of two workers at %d/s: the other one had "+
			"all partitions %v to "+
			"%v later; a late call in %d of them, at most %d in one; %d calls cut off; commits "+
			"refused by code %v; "+
			"%d of %d calls repeated an answered one",
		len(took), groups, rate, took[0], took[len(took)-1], late, most, cut, refused, repeated,
		calls)
	kit.Check(t, late <= len(took)/10+1,
		"a late call in %d of %d freezes: more than were between the look at the lease and the "+
			"socket", late, len(took))
	for _, code := range slices.Sorted(maps.Keys(refused)) {
		kit.Check(t, slices.Contains([]string{"22", "25", "27", "network"}, code),
			"a commit failed with %s", code)
	}
}
