package consumer

import (
	"context"
	"errors"
	"testing"
	"time"
	"unsafe"

	"markread/consumer/broker/brokertest"
	"markread/consumer/event"
)

// A leader rebalances when the partition count of a topic differs from the one it assigned. Another
// member rejoins after a delay when its counts now match the leader's. Counts of other members
// never cause a rebalance.
func TestWatch(t *testing.T) {
	// the topic has 4 partitions
	counts := func(n int) quotaTerms {
		return quotaTerms{200,
			map[string]int{brokertest.Topics.Live: n}}
	}
	for name, c := range map[string]struct {
		joined      joinResult
		rejoinDelay time.Duration
		want        error
		after       time.Duration
	}{
		"a leader with the right counts": {joinResult{leader: true, terms: counts(4),
			leaderTerms: counts(4)}, 0, nil, 0},
		"a leader of fewer": {joinResult{leader: true, terms: counts(2),
			leaderTerms: counts(2)}, 0, errPartitionCount, 2 * watchInterval},
		"a leader of more": {joinResult{leader: true, terms: counts(8),
			leaderTerms: counts(8)}, 0, errPartitionCount, 2 * watchInterval},
		"a member with the right counts": {joinResult{terms: counts(4), leaderTerms: counts(4)},
			0, nil, 0},
		"a member with a leader of fewer": {joinResult{terms: counts(4), leaderTerms: counts(2)},
			watchInterval, nil, 0},
		"a member with a leader of other topics": {joinResult{terms: counts(4),
			leaderTerms: quotaTerms{200, map[string]int{"x": 4}}}, watchInterval, nil, 0},
		"a member with old counts": {joinResult{terms: counts(2), leaderTerms: counts(4)},
			watchInterval, errCountsAgree, watchInterval},
		"a member with old counts, again": {joinResult{terms: counts(2), leaderTerms: counts(4)},
			maxRejoinDelay, errCountsAgree, maxRejoinDelay},
	} {
		t.Run(name, func(t *testing.T) {
			brokertest.Run(t, 4, func(w *brokertest.World) {
				ctx, revoke := context.WithCancelCause(w.Context())
				defer revoke(nil)
				time.AfterFunc(time.Hour, func() { revoke(nil) })
				began := time.Now()
				g := &Generation{client: w.Client()}
				g.watch(ctx, c.joined,
					GroupOptions{Topics: event.Topics{Live: brokertest.Topics.Live}, Rate: 200},
					c.rejoinDelay, revoke)
				took := time.Since(began)
				if cause := context.Cause(ctx); c.want == nil && took < time.Hour ||
					c.want != nil && (!errors.Is(cause, c.want) || took < c.after ||
						took > c.after+time.Second) {
					w.Errorf("after %v %v, want %v after %v", took, cause, c.want, c.after)
				}
			})
		})
	}
}

// The age of a proof is the larger of the ages by the two clocks: the monotonic clock stops while
// the machine is suspended, and the wall clock can be set.
func TestProofAgeByBothClocks(t *testing.T) {
	for name, c := range map[string]struct{ monotonic, wall, want time.Duration }{
		"both agree":               {2 * time.Second, 2 * time.Second, 2 * time.Second},
		"suspended for an hour":    {2 * time.Second, time.Hour, time.Hour},
		"the wall clock set back":  {20 * time.Second, -time.Hour, 20 * time.Second},
		"the wall clock set ahead": {time.Second, time.Hour, time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			g := &Generation{proof: ago(t, c.monotonic, c.wall)}
			if age := g.ProofAge(); age < c.want || age > c.want+time.Minute {
				t.Errorf("the proof is %v old, want %v", age, c.want)
			}
		})
	}
}

// ago returns a time with the given ages by the two clocks. Package time has no function for that.
func ago(t *testing.T, monotonic, wall time.Duration) time.Time {
	t.Helper()
	now := time.Now()
	at := now.Add(-wall)
	parts := (*struct {
		wall uint64
		ext  int64 // the monotonic reading
		loc  *time.Location
	})(unsafe.Pointer(&at))
	parts.ext += int64(wall - monotonic)
	if now.Sub(at) != monotonic || now.Round(0).Sub(at.Round(0)) != wall {
		t.Fatal("package time now stores its two readings differently")
	}
	return at
}
