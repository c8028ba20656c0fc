package sim

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"markread/worker/hold"
)

// stats is what happened in a run, or in many: evidence that the faults fired and that there was
// load.
type stats struct {
	entries, calls, applied, records, repeated, commits, generations, kills, left int
	commitsFailed, commitsLost                                                    int
	lostResponses, throttled, uncounted, keysChanged, retriesAmongFirst, cutCalls int
	cutLetters, lettersRefused, lettersLost, backfillAmongLive                    int
	// events whose state a commit had to contain
	known, withheld, clockWithheld, otherRate int
	// partitions added; restarts with another rate; members whose terms differed from their
	// leader's
	grown, rolled, mismatched int
	// commits with metadata; events skipped because of it, or with attempts from it; commits
	// refused
	metadata, unread, skipped, inherited, expired, stale int
	blocked                                              [2]int // fetches that waited for capacity
	letters                                              [3]int // by class
	fired, succeeded                                     [faults]int
	begun, ended, probes                                 map[hold.Reason]int
	drained, simulated, took                             time.Duration

	tightest      float64 // the largest used share of the time to drain
	unique        int32   // numbers the generations of a run's workers
	callsPerRun   []int   // calls of each run
	runsByWorkers [5]int  // runs by number of workers
}

func newStats() *stats {
	return &stats{begun: map[hold.Reason]int{}, ended: map[hold.Reason]int{},
		probes: map[hold.Reason]int{}}
}

func (t *stats) numbers() []*int {
	list := []*int{
		&t.entries, &t.calls, &t.applied, &t.records, &t.repeated, &t.commits, &t.generations,
		&t.kills, &t.left,
		&t.commitsFailed, &t.commitsLost,
		&t.lostResponses, &t.throttled, &t.uncounted, &t.keysChanged, &t.retriesAmongFirst,
		&t.cutCalls,
		&t.cutLetters, &t.lettersRefused, &t.lettersLost, &t.backfillAmongLive,
		&t.known, &t.withheld, &t.clockWithheld, &t.otherRate, &t.grown, &t.rolled, &t.mismatched,
		&t.metadata, &t.unread, &t.skipped, &t.inherited, &t.expired, &t.stale, &t.blocked[0],
		&t.blocked[1],
		&t.letters[0], &t.letters[1], &t.letters[2],
	}
	for f := range faults {
		list = append(list, &t.fired[f], &t.succeeded[f])
	}
	return list
}

// add adds the statistics of one more run.
func (t *stats) add(run *stats) {
	more := run.numbers()
	for i, n := range t.numbers() {
		*n += *more[i]
	}
	for _, reason := range hold.Reasons() {
		t.begun[reason] += run.begun[reason]
		t.ended[reason] += run.ended[reason]
		t.probes[reason] += run.probes[reason]
	}
	t.drained += run.drained
	t.simulated += run.simulated
	t.tightest = max(t.tightest, run.tightest)
	t.callsPerRun = append(t.callsPerRun, run.calls)
	for n, runs := range run.runsByWorkers {
		t.runsByWorkers[n] += runs
	}
}

// notVacuous checks that each fault fired, each hold began and ended, dead letters of each class
// were written, and calls succeeded during the faults that allow any to succeed.
func (t *stats) notVacuous(test *testing.T) {
	test.Helper()
	for f := range faults {
		if t.fired[f] == 0 {
			test.Errorf("vacuous: no %v", f)
		}
		if !f.stopsAll() && t.succeeded[f] < 100 {
			test.Errorf("vacuous: %d calls succeeded during: %v", t.succeeded[f], f)
		}
	}
	for _, reason := range hold.Reasons() {
		if t.begun[reason] == 0 || t.ended[reason] == 0 {
			test.Errorf("vacuous: the hold for %s began %d times and ended %d times", reason,
				t.begun[reason], t.ended[reason])
		}
	}
	for i, n := range t.numbers() {
		if *n == 0 && i < 39 { // the others are about faults, checked above
			test.Errorf("vacuous: count %d is 0", i)
		}
	}
	runs := len(t.callsPerRun)
	for n, few := range t.runsByWorkers {
		if n > 0 && few < runs/10 {
			test.Errorf("vacuous: %d of %d runs have %d workers", few, runs, n)
		}
	}
	// each at least as often as there are runs, or in that share of them
	for what, n := range map[string]int{
		"members removed from the group": 5 * t.expired, "commits of removed members": 5 * t.stale,
		"calls withheld without a proof":           t.withheld,
		"of those for the wall clock":              5 * t.clockWithheld,
		"events that were skipped":                 t.skipped / 100,
		"events with attempts":                     t.inherited,
		"events of which all is known":             t.known / 100,
		"commits whose metadata could not be read": t.unread,
		"restarts with another rate":               t.rolled,
		"calls with another rate":                  t.otherRate,
		"members with other terms":                 2 * t.mismatched,
		"new partitions":                           t.grown,
	} {
		if n < runs {
			test.Errorf("vacuous: %d in %d runs: %s", n, runs, what)
		}
	}
	if slices.Sort(t.callsPerRun); t.callsPerRun[len(t.callsPerRun)/2] < 1000 {
		test.Errorf("vacuous: the median run has %d calls", t.callsPerRun[len(t.callsPerRun)/2])
	}
}

// stopsAll reports whether no call succeeds during the fault, or it ends when it begins.
func (f fault) stopsAll() bool {
	switch f {
	case serverBadGateway, serverRefuses, serverFails, notAdmin, locked, signatureEnds, rebalance,
		acceptsRejected:
		return true
	}
	return false
}

func (t *stats) String() string {
	slices.Sort(t.callsPerRun)
	var s strings.Builder
	fmt.Fprintf(&s, "%d runs, %v simulated, %.0f simulated hours an hour and core; calls: %d "+
		"(median run %d), applied %d; events %d, redelivered %d; commits %d (failed %d, response "+
		"lost %d); generations %d, kills %d, leaves %d", len(t.callsPerRun),
		t.simulated.Round(time.Second), float64(t.simulated)/float64(max(1, t.took)), t.calls,
		t.callsPerRun[len(t.callsPerRun)/2], t.applied, t.records, t.repeated, t.commits,
		t.commitsFailed, t.commitsLost, t.generations, t.kills, t.left)
	fmt.Fprintf(&s, "; dead letters: invalid %d, rejected %d, exhausted %d (refused %d, "+
		"acknowledgement lost %d, interrupted %d)", t.letters[0], t.letters[1], t.letters[2],
		t.lettersRefused, t.lettersLost, t.cutLetters)
	fmt.Fprintf(&s, "; responses lost %d, 60007 %d, not counted %d, interrupted %d, keys changed "+
		"%d, no capacity %v, retries among first attempts %d, backfill among live %d, drained "+
		"after %v on average, at most %.0f %% of the bound", t.lostResponses, t.throttled,
		t.uncounted, t.cutCalls, t.keysChanged, t.blocked, t.retriesAmongFirst, t.backfillAmongLive,
		(t.drained / time.Duration(max(1, len(t.callsPerRun)))).Round(time.Second), 100*t.tightest)
	fmt.Fprintf(&s, "; runs by workers %v, calls withheld without a proof %d, of those for the "+
		"wall clock %d; restarts with another rate %d, calls with it %d, members with other "+
		"terms than their leader %d, partitions added %d", t.runsByWorkers[1:], t.withheld,
		t.clockWithheld, t.rolled, t.otherRate, t.mismatched, t.grown)
	fmt.Fprintf(&s, "; commits with metadata %d, not readable %d; events skipped by it %d, with "+
		"attempts %d, known by a commit %d; members expired %d, their commits refused %d",
		t.metadata, t.unread, t.skipped, t.inherited, t.known, t.expired, t.stale)
	s.WriteString("; faults (calls that succeeded meanwhile):")
	for f := range faults {
		fmt.Fprintf(&s, " %v %d (%d)", f, t.fired[f], t.succeeded[f])
	}
	s.WriteString("; holds (probes):")
	for _, reason := range slices.Sorted(maps.Keys(t.begun)) {
		fmt.Fprintf(&s, " %s %d (%d)", reason, t.begun[reason], t.probes[reason])
	}
	return s.String()
}
