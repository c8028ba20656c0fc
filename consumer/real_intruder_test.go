package consumer_test

import (
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kversion"
)

// begin makes an intruder join the test's group.
func (r *realTest) begin(i *intruder) {
	i.kgo, i.group = r.kgo(kgo.ClientID("intruder"), kgo.MaxVersions(kversion.V4_0_0()),
		kgo.RequestTimeoutOverhead(90*time.Second)), r.group
	i.begin()
	r.Cleanup(i.leave)
}

// Thirty members that are not workers, and six that are refused, join a group of two workers.
func TestRealIntruders(t *testing.T) {
	needCluster(t, "virtual time has it (TestIntrudersGetNothing)")
	if testing.Short() {
		t.Skip("skipped: beside other tests the intruders are too slow to stay members, and each " +
			"that rejoins is a rebalance; TestExamWorkersIntruders is the short form")
	}
	t.Parallel()
	r := onBroker(t, 4)
	one, two := r.join(r.client()), r.join(r.client())
	r.eventually(30*time.Second, "the workers share the partitions",
		func() bool { return shared(8, one, two) })
	began := time.Now()
	for range 3 {
		// with three larger ones, Kafka can't store the group (maxGroupBytes)
		for _, i := range intruders(r.topics, 100_000) {
			r.begin(i)
		}
	}
	r.eventually(20*time.Second, "the intruders are members",
		func() bool { _, n := r.state(); return n == 32 })
	joined := time.Now()
	r.eventually(30*time.Second, "the workers share the partitions", func() bool {
		state, _ := r.state()
		return state == "Stable" && shared(8, one, two)
	})
	r.Logf("30 intruders have joined within %v; the workers share the partitions %v later",
		joined.Sub(began).Round(10*time.Millisecond), time.Since(joined).Round(10*time.Millisecond))
	for p := range 4 {
		r.publish(r.topics.Live, p, 10)
	}
	for p := range 4 {
		r.eventually(30*time.Second, "all is committed",
			func() bool { return r.committed(r.topics.Live, p) == 10 })
	}
	one.leave()
	two.leave()
}

// Leaders that are not workers: the workers wait while one of them leads, and have all partitions
// when it has left.
func TestRealIntruderLeads(t *testing.T) {
	needCluster(t, "virtual time has it (TestIntruderLeads)")
	t.Parallel()
	r := onBroker(t, 4)
	cases := leaders(r.topics)
	delete(cases, "huge") // Kafka can't store the group, and nobody can join
	for _, kind := range slices.Sorted(maps.Keys(cases)) {
		i := &intruder{metadata: []byte("not ours"), assign: cases[kind]}
		r.begin(i)
		r.eventually(20*time.Second, kind+" leads", i.leads.Load)
		one, two := r.join(r.client()), r.join(r.client())
		r.eventually(30*time.Second, "the workers wait for "+kind, func() bool {
			a, b := one.generation(), two.generation()
			return i.members.Load() == 3 && a != nil && b != nil && why(a) != "" && why(b) != ""
		})
		if a, b := one.generation(), two.generation(); len(a.Assigned())+len(b.Assigned()) != 0 {
			r.Errorf("%s: assigned %v and %v", kind, a.Assigned(), b.Assigned())
		}
		r.Logf("%s: %s", kind, why(one.generation()))
		began := time.Now()
		i.leave()
		r.eventually(30*time.Second, "the workers share the partitions",
			func() bool { return shared(8, one, two) })
		r.Logf("%s has left: shared after %v", kind, time.Since(began).Round(10*time.Millisecond))
		one.leave()
		two.leave()
	}
}
