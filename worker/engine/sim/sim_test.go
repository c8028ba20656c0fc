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
		"how long the faults of a seed last, in simulated minutes; 0: 10")
	simTrace = flag.Bool("sim.trace", false, "print all that happens")
)

// TestSimulation runs one to four workers (real engines, trackers, quotas, holds) through all the
// trouble that a seed chooses, in virtual time, against models of Kafka, the IM server and the
// dead-letter topic, and then lets them drain. What must hold, by the word that a failure begins
// with:
//
//   - loss: what is committed was applied, or is on the dead-letter topic; at the end everything
//     is.
//
//   - order: a worker has one call of a conversation out at a time, and the server ends with the
//     largest T.
//
//   - cap: no second, wherever it begins, sees more calls than the rate, over all workers.
//
//   - commit: none past what has not ended, none backwards, none of a partition that is another's.
//
//   - metadata: what a commit says beside its offset, each later owner knows of every event; and
//     never more than there was to know.
//
//   - letters: the events that must become letters do, no others, and twice only for a reason; none
//     because of a hold.
//
//   - probes, retries, throttling, rejections, starvation: how often is called in a hold, who goes
//     first, what a stricter server sees.
//
//   - sums, memory, leak: the metrics add up, the bounds hold, and at the end no permit, call or
//     letter is out.
//
//   - liveness, busy loop: when the faults are over all drains in time; nobody stands still, or
//     turns for nothing.
//
//   - vacuous: over many seeds each fault fired, each hold began and ended, and calls succeeded
//     meanwhile.
//
//     go test ./worker/engine/sim -run '^TestSimulation$' -sim.seeds 300 -sim.minutes 10
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
	if n >= 300 && minutes >= 10 { // fewer or shorter ones may miss a kind
		sum.notVacuous(t)
	}
}

// regressions are seeds that found something in our own code.
var regressions = []struct {
	seed    uint64
	minutes float64
	found   string
}{
	{1, 2, "a probe without an answer was an attempt in an outage, when another conversation had " +
		"got a passing " +
		"ErrorCode"},
	{5323, 10, "what an operator accepted was forgotten at once where --max-rejected is below half"},
	{2, 2, "a call that an outage cut off was an attempt, for an answer from before it, and with " +
		"--attempts 1 a " +
		"dead letter"},
}

func TestSimulationRegressions(t *testing.T) {
	if testing.Short() {
		t.Skip("skipped: the engine has no goroutines, a short run is for those")
	}
	for _, r := range regressions {
		t.Run(r.found, func(t *testing.T) { runSeeds(t, []uint64{r.seed}, r.minutes) })
	}
}

// The same seed gives the same trace: else a failure could not be run again.
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

// runSeeds runs seeds side by side and returns what happened in all of them.
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
					t.Errorf("seed %d: %v\nagain: go test ./worker/engine/sim -run "+
						"'^TestSimulation$' -sim.seed %d "+
						"-sim.minutes %g", seeds[i], err, seeds[i], minutes)
				}
				mu.Unlock()
			}
		})
	}
	workers.Wait()
	sum.took = time.Since(began) * time.Duration(min(runtime.GOMAXPROCS(0), len(seeds)))
	return sum
}
