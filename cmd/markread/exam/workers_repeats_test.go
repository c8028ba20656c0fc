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

// failingEvent returns an event whose every call fails transiently (60008), so that it never
// finishes and holds the committed offset.
func failingEvent(i int) kit.Event {
	return kit.NewEvent(fmt.Sprintf("reject-60008-failing%d", i), "p", time.Now().Unix())
}

// keepRetrying are flags with which a conversation that always fails does not become a dead letter.
var keepRetrying = []string{"--attempts", "1000000", "--backoff-max", "2s"}

// oldestAttempts returns, from the worker's state, how often the event at the beginning of the live
// partition 0 was tried.
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

// TestExamWorkersKill: a conversation that always fails holds the committed offset at the beginning
// of the only partition, while many calls behind it succeed. After SIGKILL only the calls are
// repeated that were not yet in the commit metadata, and the attempts of the failing event continue
// where they were. With five events per conversation the metadata is too small for all finished
// offsets; that costs calls, not events.
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
	kit.Wait(t, "calls under load", time.Minute, func() bool { return im.Count(t) >= after })
	<-time.After(rand.N(time.Second)) // a random point between two commits
	attempts := oldestAttempts(first)
	first.Signal(t, syscall.SIGKILL)
	first.Exit(t, 5*time.Second)
	killed := time.Now()
	called := im.Arrivals(t)
	commits.Stop()
	// a second, longer on a busy machine
	longest, _ := commits.ChangedAt.LongestGap(time.Unix(0, called[0].Wall), killed)
	allowed = max(allowed, int(200*longest.Seconds())+maxUncommitted-200)

	second := c.Start(t, "a", keepRetrying...)
	kit.Wait(t, "calls of the next worker", time.Minute,
		func() bool { return im.CountBy(t, second.Account) > 0 })
	paused := time.Since(killed)
	resumed := 0
	kit.Wait(t, "the next worker reports the attempts", 10*time.Second,
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
	kit.Figure(t, "workers-kill", "%d events of %d conversations behind one that always fails; "+
		"SIGKILL after %d successful calls: at most %.1f s between two commits, the next "+
		"worker's first call after %.1f s, %d answered calls repeated; attempts of the failing "+
		"one %d before, %d after; %v", len(events), len(kit.Largest(events)), done,
		longest.Seconds(), paused.Seconds(), repeated, attempts, resumed,
		kit.MeasureCalls(arrivals))
	kit.Check(t, done < len(kit.Largest(events))*9/10,
		"hardly anything was left when the worker was killed: the test proves nothing")
	kit.Check(t, done > allowed || allowed >= len(kit.Largest(events)),
		"%d calls before the kill: repeating all of them would not be detected", done)
	kit.Check(t, repeated <= allowed, "%d answered calls were repeated, at most %d allowed",
		repeated, allowed)
	// without those since the last commit
	kit.Check(t, attempts > 3 && resumed > attempts/2, "%d attempts before the kill, %d after it",
		attempts, resumed)
	kit.Check(t, committed == 0,
		"the offset %d is committed, beyond an event that has not finished", committed)
	kit.Check(t, kit.MeasureCalls(arrivals).MostIn1s <= 200,
		"more than 200 arrivals in one second over the kill")
	k.CheckNoDeadLetters(t, "a conversation that always fails")
	kit.CompareReadTimes(t, kit.Largest(events), kit.ReadTimes(arrivals))
}

// TestExamWorkersRebalance: the same, with a conversation that always fails at the beginning of
// each partition: a second worker joins, the first leaves, and comes back. A worker commits all
// finished events before it releases partitions, so no answered call is repeated.
func TestExamWorkersRebalance(t *testing.T) {
	t.Parallel()
	const partitions = 4
	n := 3000
	if testing.Short() {
		n = 1200
	}
	k := kit.StartBrokerWithPartitions(t, partitions)
	im := kit.StartRecorder(t, "-rate", "200", "-latency", "20ms")
	var failing []kit.Event
	for i := range partitions {
		failing = append(failing, failingEvent(i))
	}
	k.ProduceTo(t, k.Live, failing, func(i int) int32 { return int32(i) })
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
		"%d events behind %d that always fail; a second worker joins (%v until both call), the "+
			"first leaves (%v) and comes back (%v): %d answered calls repeated; %v", len(events),
		partitions, joins, leaves, again, repeated, kit.MeasureCalls(arrivals))
	kit.Check(t, repeated == 0, "%d answered calls were repeated although nobody was killed",
		repeated)
	kit.Check(t, kit.MeasureCalls(arrivals).MostIn1s <= 200,
		"more than 200 arrivals in one second over the rebalances")
	for p, offset := range k.Committed(t) {
		kit.Check(t, p.Topic != k.Live || offset == 0,
			"%s %d is committed to %d, beyond an event that has not finished", p.Topic, p.Partition,
			offset)
	}
	k.CheckNoDeadLetters(t, "conversations that always fail")
	kit.CompareReadTimes(t, kit.Largest(events), kit.ReadTimes(arrivals))
}

// waitForCalls waits for that many more calls.
func waitForCalls(c *kit.WorkerGroup, t *testing.T, calls int) {
	t.Helper()
	before := c.IM.Count(t)
	kit.Wait(t, "calls under load", time.Minute,
		func() bool { return c.IM.Count(t) >= before+calls })
}

var (
	frozenGroups = flag.Int("exam.frozen-groups", 12, "")
	frozenRounds = flag.Int("exam.frozen-rounds", 9, "")
)

// TestExamWorkersFrozen: workers under full load are frozen until their session has expired and
// another worker has their partitions and their share of the rate, and then continued; a hundred
// times, over groups that run in parallel; six times in a short run. A continued worker sends at
// most the one call that it was about to send, and its next commits are refused: no committed
// offset decreases.
func TestExamWorkersFrozen(t *testing.T) {
	t.Parallel()
	const (
		rate = 40
		// a session of 15 s, a heartbeat, and the rebalance
		lasts   = 16500 * time.Millisecond
		repeats = rate * maxUncommitted / 200 * 2 // of one freeze, on a busy machine
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
	refused := map[string]int{} // commits by error code
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
			"%d answered calls were repeated after %d freezes, at most %d allowed", again, rounds,
			rounds*repeats)
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
		"%d freezes past the session over %d groups of two workers at %d/s: the other worker had "+
			"all partitions %v to %v later; a late call in %d of them, at most %d in one; %d "+
			"calls cut off; commits refused by code %v; %d of %d calls repeated an answered one",
		len(took), groups, rate, took[0], took[len(took)-1], late, most, cut, refused, repeated,
		calls)
	kit.Check(t, late <= len(took)/10+1,
		"a late call in %d of %d freezes: more than fell between the lease check and the socket",
		late, len(took))
	for _, code := range slices.Sorted(maps.Keys(refused)) {
		kit.Check(t, slices.Contains([]string{"22", "25", "27", "network"}, code),
			"a commit failed with %s", code)
	}
}
