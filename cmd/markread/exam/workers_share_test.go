//go:build exam && unix

package exam

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"markread/cmd/markread/exam/kit"
)

// takeOverLimit is how long another worker may take to get the partitions of a killed or frozen
// one: a session, a heartbeat, and a margin for a busy machine.
const takeOverLimit = 25 * time.Second

// TestExamWorkersTakeOver: two workers share the rate over 8 partitions of each topic, and use at
// least 95 % of what a rate of 200 allows at the server's latency. Then one is stopped, killed and
// frozen in turn, and comes back each time. The other takes over its partitions and its share, and
// together they never exceed the rate.
func TestExamWorkersTakeOver(t *testing.T) {
	before, steady, frozen, least := 3000, 20*time.Second, 30*time.Second, 0.95
	if testing.Short() {
		t.Parallel()
		// Other tests run on the machine: both must call; only the full form can say how much.
		before, steady, frozen, least = 1800, 5*time.Second, 17*time.Second, 0.5
	}
	k := kit.StartBrokerWithPartitions(t, 8)
	im := kit.StartRecorder(t, "-rate", "200", "-latency", "20ms")
	c := kit.StartLoadedGroup(t, k, im, 200, before)
	a, b := c.Start(t, "a"), c.Start(t, "b")
	c.WaitShared(t, 30*time.Second)
	<-time.After(2 * time.Second) // full load

	// The workers' own latency counts: on a busy machine it is longer than the server's.
	from, calls := time.Now(), sumCalls(c, t)
	<-time.After(steady)
	to, calls := time.Now(), sumCalls(c, t).minus(calls)
	latency := calls.seconds / calls.n

	a.Signal(t, syscall.SIGTERM)
	stopped := b.WaitOwnsAll(t, takeOverLimit)
	a.Exit(t, kit.StopLimit)
	<-time.After(2 * time.Second)
	a = c.Start(t, "a")
	back := c.WaitShared(t, 30*time.Second)

	a.Signal(t, syscall.SIGKILL)
	a.Exit(t, 5*time.Second)
	killed := b.WaitOwnsAll(t, takeOverLimit)
	<-time.After(2 * time.Second)
	a = c.Start(t, "a")
	back = max(back, c.WaitShared(t, 30*time.Second))

	freeze := &kit.Freeze{Member: a, Other: b}
	kit.FreezeAll(t, frozen, freeze)
	back = max(back, c.WaitShared(t, 30*time.Second))
	<-time.After(2 * time.Second)
	failures := a.CommitFailures(t)

	c.EndLoad(t)
	arrivals, repeated := c.End(t)
	most := kit.MeasureCalls(arrivals).MostIn1s
	kit.Check(t, most <= 200, "%d arrivals of both workers in one second, at most 200 allowed",
		most)
	late := freeze.LateCalls(arrivals)
	share := kit.MeasureCalls(kit.Between(arrivals, from, to)).PerSecond / (200 / (1 + latency))
	kit.Figure(t, "workers-take-over",
		"two workers: %.1f %% of 200/(1 s + %.0f ms) over %.0f s; the other worker has all "+
			"partitions %v after SIGTERM, %v after SIGKILL, %v after SIGSTOP; both call again at "+
			"most %v after one is back; frozen for %v: %d late calls, commits refused by code "+
			"%v; %d answered calls repeated; %v", 100*share, 1000*latency, steady.Seconds(),
		stopped, killed, freeze.Took, back, frozen, late, failures, repeated,
		kit.MeasureCalls(arrivals))
	kit.Check(t, share >= least, "%.1f %% of the rate was used, at least %.0f %% required",
		100*share, 100*least)
	kit.Check(t, late <= 1, "%d late calls of a worker that was frozen, at most 1 allowed", late)
	kit.Check(t, repeated <= 2*maxUncommitted,
		"%d answered calls were repeated, at most %d allowed", repeated, 2*maxUncommitted)
}

// callTotals is the number of calls and their total duration, from the workers' metrics.
type callTotals struct{ n, seconds float64 }

func sumCalls(c *kit.WorkerGroup, t *testing.T) (sum callTotals) {
	t.Helper()
	for _, m := range c.Running() {
		metrics := kit.Scrape(t, m.Admin)
		sum.n += metrics.Sum("markread_call_duration_seconds_count")
		sum.seconds += metrics.Sum("markread_call_duration_seconds_sum")
	}
	return sum
}

func (a callTotals) minus(b callTotals) callTotals {
	return callTotals{a.n - b.n, a.seconds - b.seconds}
}

// TestExamWorkersRollingRestart: both workers are restarted under load, one after the other, ten
// times. None is killed, so no answered call is repeated.
func TestExamWorkersRollingRestart(t *testing.T) {
	t.Parallel()
	rounds, before := 10, 1200
	if testing.Short() {
		rounds, before = 2, 600
	}
	k := kit.StartBrokerWithPartitions(t, 8)
	im := kit.StartRecorder(t, "-rate", "200", "-latency", "20ms")
	c := kit.StartLoadedGroup(t, k, im, 200, before)
	members := []*kit.Member{c.Start(t, "a"), c.Start(t, "b")}
	c.WaitShared(t, 30*time.Second)
	var slowest, back time.Duration
	for range rounds {
		for i, name := range []string{"a", "b"} {
			slowest = max(slowest, members[i].Stop(t, syscall.SIGTERM, kit.StopLimit))
			members[i] = c.Start(t, name)
			back = max(back, c.WaitShared(t, 30*time.Second))
		}
	}
	c.EndLoad(t)
	arrivals, repeated := c.End(t)
	kit.Figure(t, "workers-rolling-restart",
		"%d rolling restarts of two workers: a shutdown took at most %v, both called again at "+
			"most %v later; %d answered calls repeated; %v", rounds,
		slowest.Round(time.Millisecond), back, repeated, kit.MeasureCalls(arrivals))
	kit.Check(t, repeated == 0, "%d answered calls were repeated although nobody was killed",
		repeated)
}

// TestExamWorkersRateChanged: another --rate is rolled out over two workers, one after the other.
// While they use different rates, one of them has no share, and reports why. So together they may
// never call more than the larger rate, and afterwards the new one.
func TestExamWorkersRateChanged(t *testing.T) {
	t.Parallel()
	const slower = 100
	mixed, steady, before := 10*time.Second, 10*time.Second, 1200
	if testing.Short() {
		mixed, steady, before = 4*time.Second, 5*time.Second, 600
	}
	k := kit.StartBrokerWithPartitions(t, 8)
	im := kit.StartRecorder(t, "-rate", "200", "-latency", "20ms")
	c := kit.StartLoadedGroup(t, k, im, 200, before)
	a, b := c.Start(t, "a"), c.Start(t, "b")
	c.WaitShared(t, 30*time.Second)

	a.Stop(t, syscall.SIGTERM, kit.StopLimit)
	b.WaitOwnsAll(t, 20*time.Second)
	c.Rate = slower
	a = c.Start(t, "a")
	hold := a.WaitHeld(t, "quota", 20*time.Second)
	b.WaitOwnsAll(t, 20*time.Second)
	<-time.After(mixed)
	waited := im.CountBy(t, a.Account)
	still := a.IsHeld(t, "quota")

	b.Stop(t, syscall.SIGTERM, kit.StopLimit)
	last := time.Now()
	released := a.WaitReleased(t, "quota", 20*time.Second).Sub(last)
	a.WaitOwnsAll(t, 20*time.Second)
	c.Start(t, "b")
	back := c.WaitShared(t, 30*time.Second)
	<-time.After(2 * time.Second)
	from, calls := time.Now(), sumCalls(c, t)
	<-time.After(steady)
	to, calls := time.Now(), sumCalls(c, t).minus(calls)

	c.EndLoad(t)
	arrivals, repeated := c.End(t)
	after := kit.MeasureCalls(kit.Between(arrivals, last, time.Now()))
	latency := calls.seconds / calls.n
	share := kit.MeasureCalls(kit.Between(arrivals, from, to)).PerSecond / (slower / (1 + latency))
	kit.Figure(t, "workers-rate-changed",
		"--rate 200 to %d over two workers: the first to have it waits (%q) with %d calls, until "+
			"%v after the last of the old ones has ended; both call %v after the last restart; "+
			"then %.1f %% of the new rate, at most %d in any 1.000 s, before at most %d; %d "+
			"answered calls repeated", slower, hold.Detail, waited,
		released.Round(100*time.Millisecond), back, 100*share, after.MostIn1s,
		kit.MeasureCalls(arrivals).MostIn1s, repeated)
	kit.Check(t, still && waited == 0,
		"held: %v, and %d calls of a worker that uses another rate than the group's leader", still,
		waited)
	kit.Check(t, strings.Contains(hold.Detail, "rate of 200, this worker uses 100"),
		"the hold does not name both rates: %s", hold.Detail)
	kit.Check(t, after.MostIn1s <= slower,
		"%d arrivals in one second after the last restart, at most %d allowed", after.MostIn1s,
		slower)
	// other tests run on the machine
	kit.Check(t, share >= 0.5, "%.1f %% of the new rate was used: do both call?", 100*share)
	kit.Check(t, repeated == 0, "%d answered calls were repeated although nobody was killed",
		repeated)
}

// TestExamWorkersPartitionsAdded: partitions are added to both topics under load. The workers
// detect them, and share the rate over all of them.
func TestExamWorkersPartitionsAdded(t *testing.T) {
	t.Parallel()
	const grown = 12
	after, before := 10*time.Second, 1200
	if testing.Short() {
		after, before = 0, 600
	}
	k := kit.StartBrokerWithPartitions(t, 8)
	im := kit.StartRecorder(t, "-rate", "200", "-latency", "20ms")
	c := kit.StartLoadedGroup(t, k, im, 200, before)
	c.Start(t, "a")
	c.Start(t, "b")
	c.WaitShared(t, 30*time.Second)

	began := time.Now()
	k.AddPartitions(t, k.Live, grown)
	k.AddPartitions(t, k.Backfill, grown)
	added := kit.OneEventEach(kit.Conversations("added", 60))
	k.ProduceTo(t, k.Live, added, func(i int) int32 { return int32(8 + i%(grown-8)) })
	c.Backlog = append(c.Backlog, added...)
	kit.Wait(t, "both workers use all partitions", time.Minute, func() bool {
		for _, m := range c.Running() {
			if state := m.State(); state == nil || state.Group.Partitions != 2*grown ||
				state.Group.Assigned != grown {
				return false
			}
		}
		return true
	})
	found := time.Since(began)
	c.WaitShared(t, 30*time.Second)
	im.WaitApplied(t, added, time.Minute)
	all := time.Since(began)
	<-time.After(after)
	c.EndLoad(t)
	arrivals, repeated := c.End(t)
	kit.Figure(t, "workers-partitions-added",
		"8 partitions of both topics became %d: both workers use them %v later, their events "+
			"were called %v later; %d answered calls repeated; %v", grown,
		found.Round(100*time.Millisecond), all.Round(100*time.Millisecond), repeated,
		kit.MeasureCalls(arrivals))
	kit.Check(t, repeated == 0, "%d answered calls were repeated although nobody was killed",
		repeated)
}

// TestExamWorkersShares: with 1 to 6 workers the shares add up to exactly the rate, even with more
// workers than calls a second. No worker has partitions but no share; one without a share reports
// that.
func TestExamWorkersShares(t *testing.T) {
	t.Parallel()
	rates, most := []int{1, 2, 7}, 6
	if testing.Short() {
		rates, most = []int{7}, 3
	}
	for _, partitions := range []int{8, 12} {
		for _, rate := range rates {
			t.Run(fmt.Sprintf("rate %d, %d partitions", rate, partitions), func(t *testing.T) {
				t.Parallel()
				k := kit.StartBrokerWithPartitions(t, partitions)
				im := kit.StartRecorder(t, "-rate", "200")
				c := kit.NewWorkerGroup(k, im, rate)
				var shown []string
				for n := range most {
					c.Start(t, fmt.Sprint("w", n))
					shown = append(shown, waitSharesAddUp(c, t, partitions))
				}
				for len(c.Running()) > 1 {
					c.Running()[0].Stop(t, syscall.SIGTERM, kit.StopLimit)
					waitSharesAddUp(c, t, partitions)
				}
				kit.Figure(t, "workers-shares",
					"--rate %d, %d partitions of both topics, 1 to %d workers: %v", rate,
					partitions, most, shown)
			})
		}
	}
}

// waitSharesAddUp waits until the shares of the running workers are correct, and returns them, the
// largest first.
func waitSharesAddUp(c *kit.WorkerGroup, t *testing.T, partitions int) string {
	t.Helper()
	var shares []int
	wrong := "no state yet"
	defer func() {
		if t.Failed() {
			t.Logf("last state: %s", wrong)
		}
	}()
	kit.Wait(t, "the shares add up", 40*time.Second, func() bool {
		shares, wrong = nil, ""
		sum, assigned := 0, 0
		for _, m := range c.Running() {
			state := m.State()
			if state == nil || state.Group.Generation == nil {
				wrong = m.Account + " is not a member"
				return false
			}
			share, owned := state.Quota.Share, state.Group.Assigned
			if held := m.IsHeld(t, "quota"); held != (share == 0) || (owned == 0) != (share == 0) {
				wrong = fmt.Sprintf("%s has %d partitions and a share of %d; held for quota: %v",
					m.Account, owned, share, held)
				return false
			}
			shares, sum, assigned = append(shares, share), sum+share, assigned+owned
		}
		if sum != c.Rate || assigned != 2*partitions {
			wrong = fmt.Sprintf("shares %v of %d, %d partitions of %d", shares, c.Rate, assigned,
				2*partitions)
		}
		return wrong == ""
	})
	slices.SortFunc(shares, func(a, b int) int { return b - a })
	return fmt.Sprint(shares)
}
