package sim

import (
	"flag"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var (
	simSeeds   = flag.Int("sim.seeds", 0, "how many seeds TestSimulation runs; 0: a few")
	simSeed    = flag.Uint64("sim.seed", 0, "the first of them; with -sim.seeds 0 the only one")
	simMinutes = flag.Float64("sim.minutes", 0,
		"duration of the faults of a seed, in simulated minutes; 0: 10")
	simTrace = flag.Bool("sim.trace", false, "print everything that happens")
)

// TestSimulation runs one to four workers (real engines, trackers, quotas, holds) through all the
// faults that a seed chooses, in virtual time, against models of Kafka, the IM server and the
// dead-letter topic, and then lets them drain. These are the properties that must hold, by the word
// that a failure begins with:
//
//   - loss: everything committed was applied, or is on the dead-letter topic; at the end everything
//     is.
//
//   - order: a worker has at most one call of a conversation in flight, and the server ends with
//     the largest T.
//
//   - cap: in no second, wherever it begins, do more calls of all workers arrive than the rate.
//
//   - commit: none beyond an unfinished event, none backwards, none of a partition that another
//     worker owns.
//
//   - metadata: each later owner knows of every event what a commit contains beside its offset; and
//     never more than there was to know.
//
//   - letters: the events that must become dead letters do, no others do, and twice only for a
//     reason; none because of a hold.
//
//   - probes, retries, throttling, rejections, starvation: how often a held service is called,
//     which calls go first, how many calls a stricter server refuses.
//
//   - sums, memory, leak: the metrics add up, the bounds hold, and at the end no permit, call or
//     dead letter is in flight.
//
//   - liveness, busy loop: when the faults are over everything drains in time; no worker is idle
//     while it could call, or loops without progress.
//
//   - vacuous: over many seeds each fault fired, each hold began and ended, and calls succeeded
//     meanwhile.
//
// Run more seeds with:
//
//	go test ./worker/engine/sim -run '^TestSimulation$' -sim.seeds 300 -sim.minutes 10
func TestSimulation(t *testing.T) {
	first, n, minutes := uint64(1), 40, 10.0
	if testing.Short() {
		n = 1 // the engine has no goroutines: the race detector finds nothing here
	}
	if *simSeed > 0 {
		first, n = *simSeed, 1
	}
	if *simSeeds > 0 {
		n = *simSeeds
	}
	if *simMinutes > 0 {
		minutes = *simMinutes
	}
	seeds := make([]uint64, n)
	for i := range seeds {
		seeds[i] = first + uint64(i)
	}
	sum := runSeeds(t, seeds, minutes)
	t.Log(sum)
	if n >= 300 && minutes >= 10 { // fewer or shorter runs may miss a kind
		sum.notVacuous(t)
	}
}

// regressions are seeds that found a bug in our own code.
var regressions = []struct {
	seed    uint64
	minutes float64
	found   string
}{
	{1, 2, "a probe without a response was an attempt in an outage, when another conversation " +
		"had got a transient ErrorCode"},
	{5323, 10, "what an operator accepted was forgotten immediately where --max-rejected is " +
		"below half"},
	{2, 2, "a call that an outage interrupted was an attempt, because of an earlier response, " +
		"and with --attempts 1 a dead letter"},
}

func TestSimulationRegressions(t *testing.T) {
	if testing.Short() {
		t.Skip("skipped: the engine has no goroutines, a short run is for those")
	}
	for _, r := range regressions {
		t.Run(r.found, func(t *testing.T) { runSeeds(t, []uint64{r.seed}, r.minutes) })
	}
}

// The same seed gives the same trace: otherwise a failure could not be reproduced.
func TestSimulationIsDeterministic(t *testing.T) {
	n, minutes := uint64(8), 2.0
	if testing.Short() {
		n = 1
	}
	if *simMinutes > 0 {
		minutes = *simMinutes
	}
	for seed := range max(n, uint64(*simSeeds)) {
		first, _ := simulate(newPlan(seed+1, minutes), newStats())
		second, _ := simulate(newPlan(seed+1, minutes), newStats())
		if first != second {
			t.Errorf("seed %d: two traces", seed+1)
		}
	}
}

// runSeeds runs seeds concurrently and returns the statistics of all of them.
func runSeeds(t *testing.T, seeds []uint64, minutes float64) *stats {
	t.Helper()
	sum := newStats()
	var mu sync.Mutex
	var next, failed atomic.Int64
	var workers sync.WaitGroup
	began := time.Now()
	for range min(runtime.GOMAXPROCS(0), len(seeds)) {
		workers.Go(func() {
			for failed.Load() < 3 {
				i := int(next.Add(1)) - 1
				if i >= len(seeds) {
					return
				}
				own := newStats()
				_, err := simulate(newPlan(seeds[i], minutes), own)
				mu.Lock()
				sum.add(own)
				if err != nil {
					failed.Add(1)
					t.Errorf("seed %d: %v\nreproduce: go test ./worker/engine/sim -run "+
						"'^TestSimulation$' -sim.seed %d -sim.minutes %g", seeds[i], err, seeds[i],
						minutes)
				}
				mu.Unlock()
			}
		})
	}
	workers.Wait()
	sum.took = time.Since(began) * time.Duration(min(runtime.GOMAXPROCS(0), len(seeds)))
	return sum
}
