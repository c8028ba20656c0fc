//go:build exam && unix

package main

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// examTakenOver is how long it may take until another worker has what one had that was killed or frozen: a session, a heartbeat, and what the
// machine makes of it.
const examTakenOver = 25 * time.Second

// TestExamWorkersTakeOver: two workers share the rate over 8 partitions of each topic and use at least 95 % of what a rate of 200 allows at
// the server's latency. Then one is stopped, killed and frozen in turn, and comes back each time. The other takes its partitions and its
// share over, and together they never call more than one may.
func TestExamWorkersTakeOver(t *testing.T) {
	before, steady, frozen, least := 3000, 20*time.Second, 30*time.Second, 0.95
	if testing.Short() {
		t.Parallel()
		before, steady, frozen, least = 1800, 5*time.Second, 17*time.Second, 0.5 // other rows take their part of the machine: both must call, how much only the full form can say
	}
	k := examStartBrokerOf(t, 8)
	im := examStartRecorder(t, "-rate", "200", "-latency", "20ms")
	c := examStartCrew(t, k, im, 200, before)
	a, b := c.start(t, "a"), c.start(t, "b")
	c.shared(t, 30*time.Second)
	<-time.After(2 * time.Second) // full flow

	// The latency that counts is the one that the workers see: on a busy machine it is longer than the server's.
	from, calls := time.Now(), c.called(t)
	<-time.After(steady)
	to, calls := time.Now(), c.called(t).less(calls)
	latency := calls.seconds / calls.n

	a.signal(t, syscall.SIGTERM)
	stopped := b.ownsAll(t, examTakenOver)
	a.exit(t, examStopLimit)
	<-time.After(2 * time.Second)
	a = c.start(t, "a")
	back := c.shared(t, 30*time.Second)

	a.signal(t, syscall.SIGKILL)
	a.exit(t, 5*time.Second)
	killed := b.ownsAll(t, examTakenOver)
	<-time.After(2 * time.Second)
	a = c.start(t, "a")
	back = max(back, c.shared(t, 30*time.Second))

	freeze := &examFreeze{m: a, other: b}
	examFreezeAll(t, frozen, freeze)
	back = max(back, c.shared(t, 30*time.Second))
	<-time.After(2 * time.Second)
	failures := a.commitFailures(t)

	c.endLoad(t)
	arrivals, repeated := c.end(t)
	late := freeze.late(arrivals)
	share := examMeasure(examBetween(arrivals, from, to)).perSecond / (200 / (1 + latency))
	examFigure(t, "workers-take-over", "two workers: %.1f %% of 200/(1 s + %.0f ms) over %.0f s; the other one has all partitions %v after SIGTERM, %v after SIGKILL, %v after SIGSTOP; both call again at most %v after one is back; frozen for %v: %d late calls, commits refused by code %v; %d answered calls repeated; %v",
		100*share, 1000*latency, steady.Seconds(), stopped, killed, freeze.took, back, frozen, late, failures, repeated, examMeasure(arrivals))
	examCheck(t, share >= least, "%.1f %% of the rate was used, at least %.0f %% required", 100*share, 100*least)
	examCheck(t, late <= 1, "%d late calls of a worker that was frozen, at most 1 allowed", late)
	examCheck(t, repeated <= 2*examUncommitted, "%d answered calls were repeated, at most %d allowed", repeated, 2*examUncommitted)
}

// examCalled is how many calls there were, and how long they took together, by the workers' metrics.
type examCalled struct{ n, seconds float64 }

func (c *examCrew) called(t *testing.T) (sum examCalled) {
	t.Helper()
	for _, m := range c.running() {
		metrics := examScrape(t, m.admin)
		sum.n += metrics.sum("markread_call_duration_seconds_count")
		sum.seconds += metrics.sum("markread_call_duration_seconds_sum")
	}
	return sum
}

func (a examCalled) less(b examCalled) examCalled {
	return examCalled{a.n - b.n, a.seconds - b.seconds}
}

// TestExamWorkersRollingRestart: both workers are restarted under load, one after the other, ten times around. Nobody is killed, so no answered
// call is repeated.
func TestExamWorkersRollingRestart(t *testing.T) {
	t.Parallel()
	rounds, before := 10, 1200
	if testing.Short() {
		rounds, before = 2, 600
	}
	k := examStartBrokerOf(t, 8)
	im := examStartRecorder(t, "-rate", "200", "-latency", "20ms")
	c := examStartCrew(t, k, im, 200, before)
	members := []*examMember{c.start(t, "a"), c.start(t, "b")}
	c.shared(t, 30*time.Second)
	var slowest, back time.Duration
	for range rounds {
		for i, name := range []string{"a", "b"} {
			slowest = max(slowest, members[i].stop(t, syscall.SIGTERM, examStopLimit))
			members[i] = c.start(t, name)
			back = max(back, c.shared(t, 30*time.Second))
		}
	}
	c.endLoad(t)
	arrivals, repeated := c.end(t)
	examFigure(t, "workers-rolling-restart", "%d rolling restarts of two workers: a stop took at most %v, both called again at most %v later; %d answered calls repeated; %v",
		rounds, slowest.Round(time.Millisecond), back, repeated, examMeasure(arrivals))
	examCheck(t, repeated == 0, "%d answered calls were repeated although nobody was killed", repeated)
}

// TestExamWorkersRateChanged: another --rate is rolled out over two workers, one after the other. As long as they go by different rates, one of
// them has no share, and says why; so what they may call together is never more than the larger of both rates, and afterwards the new one.
func TestExamWorkersRateChanged(t *testing.T) {
	t.Parallel()
	const slower = 100
	mixed, steady, before := 10*time.Second, 10*time.Second, 1200
	if testing.Short() {
		mixed, steady, before = 4*time.Second, 5*time.Second, 600
	}
	k := examStartBrokerOf(t, 8)
	im := examStartRecorder(t, "-rate", "200", "-latency", "20ms")
	c := examStartCrew(t, k, im, 200, before)
	a, b := c.start(t, "a"), c.start(t, "b")
	c.shared(t, 30*time.Second)

	a.stop(t, syscall.SIGTERM, examStopLimit)
	b.ownsAll(t, 20*time.Second)
	c.rate = slower
	a = c.start(t, "a")
	hold := a.held(t, "quota", 20*time.Second)
	b.ownsAll(t, 20*time.Second)
	<-time.After(mixed)
	waited := im.countOf(t, a.account)
	still := a.isHeld(t, "quota")

	b.stop(t, syscall.SIGTERM, examStopLimit)
	last := time.Now()
	released := a.released(t, "quota", 20*time.Second).Sub(last)
	a.ownsAll(t, 20*time.Second)
	c.start(t, "b")
	back := c.shared(t, 30*time.Second)
	<-time.After(2 * time.Second)
	from, calls := time.Now(), c.called(t)
	<-time.After(steady)
	to, calls := time.Now(), c.called(t).less(calls)

	c.endLoad(t)
	arrivals, repeated := c.end(t)
	after := examMeasure(examBetween(arrivals, last, time.Now()))
	latency := calls.seconds / calls.n
	share := examMeasure(examBetween(arrivals, from, to)).perSecond / (slower / (1 + latency))
	examFigure(t, "workers-rate-changed", "--rate 200 to %d over two workers: the first to have it waits (%q) with %d calls, until %v after the last of the old ones has ended; both call %v after the last restart; then %.1f %% of the new rate, at most %d in any 1.000 s, before at most %d; %d answered calls repeated",
		slower, hold.Detail, waited, released.Round(100*time.Millisecond), back, 100*share, after.mostIn1s, examMeasure(arrivals).mostIn1s, repeated)
	examCheck(t, still && waited == 0, "held: %v, and %d calls of a worker that goes by another rate than the group's leader", still, waited)
	examCheck(t, strings.Contains(hold.Detail, "rate of 200, this worker by 100"), "the hold does not say which rates there are: %s", hold.Detail)
	examCheck(t, after.mostIn1s <= slower, "%d arrivals in one second after the last restart, at most %d allowed", after.mostIn1s, slower)
	examCheck(t, share >= 0.5, "%.1f %% of the new rate was used: do both call?", 100*share) // beside other rows
	examCheck(t, repeated == 0, "%d answered calls were repeated although nobody was killed", repeated)
}

// TestExamWorkersPartitionsAdded: both topics get more partitions under load. The workers find out by themselves, and then they share the rate
// over all of them.
func TestExamWorkersPartitionsAdded(t *testing.T) {
	t.Parallel()
	const grown = 12
	after, before := 10*time.Second, 1200
	if testing.Short() {
		after, before = 0, 600
	}
	k := examStartBrokerOf(t, 8)
	im := examStartRecorder(t, "-rate", "200", "-latency", "20ms")
	c := examStartCrew(t, k, im, 200, before)
	c.start(t, "a")
	c.start(t, "b")
	c.shared(t, 30*time.Second)

	began := time.Now()
	k.grow(t, k.live, grown)
	k.grow(t, k.backfill, grown)
	added := examOneEach(examConversations("added", 60))
	k.produceTo(t, k.live, added, func(i int) int32 { return int32(8 + i%(grown-8)) })
	c.backlog = append(c.backlog, added...)
	examWait(t, "both workers go by all partitions", time.Minute, func() bool {
		for _, m := range c.running() {
			if state := m.state(); state == nil || state.Group.Partitions != 2*grown || state.Group.Assigned != grown {
				return false
			}
		}
		return true
	})
	found := time.Since(began)
	c.shared(t, 30*time.Second)
	im.called(t, added, time.Minute)
	all := time.Since(began)
	<-time.After(after)
	c.endLoad(t)
	arrivals, repeated := c.end(t)
	examFigure(t, "workers-partitions-added", "8 partitions of both topics became %d: both workers go by them %v later, their events were called %v later; %d answered calls repeated; %v",
		grown, found.Round(100*time.Millisecond), all.Round(100*time.Millisecond), repeated, examMeasure(arrivals))
	examCheck(t, repeated == 0, "%d answered calls were repeated although nobody was killed", repeated)
}

// TestExamWorkersShares: with 1 to 6 workers the shares add up to exactly the rate, also where there are more workers than calls a second. Nobody
// has partitions and no share; who has none says so.
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
				k := examStartBrokerOf(t, partitions)
				im := examStartRecorder(t, "-rate", "200")
				c := examCrewOf(k, im, rate)
				var shown []string
				for n := range most {
					c.start(t, fmt.Sprint("w", n))
					shown = append(shown, c.addUp(t, partitions))
				}
				for len(c.running()) > 1 {
					c.running()[0].stop(t, syscall.SIGTERM, examStopLimit)
					c.addUp(t, partitions)
				}
				examFigure(t, "workers-shares", "--rate %d, %d partitions of both topics, 1 to %d workers: %v", rate, partitions, most, shown)
			})
		}
	}
}

// addUp waits until the shares of those that run are what they must be, and returns them, the largest first.
func (c *examCrew) addUp(t *testing.T, partitions int) string {
	t.Helper()
	var shares []int
	wrong := "nothing seen"
	defer func() {
		if t.Failed() {
			t.Logf("at last: %s", wrong)
		}
	}()
	examWait(t, "the shares add up", 40*time.Second, func() bool {
		shares, wrong = nil, ""
		sum, assigned := 0, 0
		for _, m := range c.running() {
			state := m.state()
			if state == nil || state.Group.Generation == nil {
				wrong = m.account + " is no member"
				return false
			}
			share, owned := state.Quota.Share, state.Group.Assigned
			if held := m.isHeld(t, "quota"); held != (share == 0) || (owned == 0) != (share == 0) {
				wrong = fmt.Sprintf("%s has %d partitions and a share of %d; it says that it has none: %v", m.account, owned, share, held)
				return false
			}
			shares, sum, assigned = append(shares, share), sum+share, assigned+owned
		}
		if sum != c.rate || assigned != 2*partitions {
			wrong = fmt.Sprintf("shares %v of %d, %d partitions of %d", shares, c.rate, assigned, 2*partitions)
		}
		return wrong == ""
	})
	slices.SortFunc(shares, func(a, b int) int { return b - a })
	return fmt.Sprint(shares)
}
