//go:build exam && unix

package cluster

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"markread/cmd/markread/exam/kit"
)

// TestExamClusterTopicsAndPartitions: under load partitions are added to a topic, another topic is
// deleted and recreated, and all leaders move. The workers detect all of it.
func TestExamClusterTopicsAndPartitions(t *testing.T) {
	const (
		grown  = 18
		within = time.Minute
	)
	if testing.Short() {
		t.Skip("skipped in a short run: the tests of package consumer that begin with TestReal " +
			"have the same without load")
	}
	c := newCluster(t)
	old := kit.OneEventEach(kit.Conversations("old", 240))
	kit.ProduceEvents(t, c.Kafka, c.Backfill, old)
	l := startLoad(t, c, 1000)
	// offsets are committed beyond the end of the recreated topic
	c.WaitCommitted(t, 30*time.Second, c.Backfill)

	var found time.Duration
	added := kit.OneEventEach(kit.Conversations("added", 60))
	l.phase("6 partitions added", func() {
		began := time.Now()
		c.AddPartitions(t, c.Live, grown)
		c.ProduceTo(t, c.Live, added,
			func(i int) int32 { return int32(kit.Partitions + i%(grown-kit.Partitions)) })
		l.im.WaitApplied(t, added, within)
		found = time.Since(began)
	})

	var again time.Duration
	remade := kit.OneEventEach(kit.Conversations("remade", 48))
	l.phase("the backfill topic deleted and recreated", func() {
		c.DeleteTopics(t, kit.Context(t), c.Backfill)
		<-time.After(3 * time.Second)
		c.CreateTopics(t, kit.NewTopics(kit.Partitions, c.Backfill)...)
		began := time.Now()
		c.ProduceTo(t, c.Backfill, remade, func(i int) int32 { return int32(i % kit.Partitions) })
		l.im.WaitApplied(t, remade, within)
		again = time.Since(began)
	})
	logged := 0
	for _, w := range l.workers {
		logged += strings.Count(w.Stderr.String(), "topic recreated or truncated")
	}

	var moved int
	l.phase("all live leaders moved", func() {
		moved = c.moveLeaders(t, c.Live)
		<-time.After(12 * time.Second)
	})
	stood, _ := kit.ArrivalTimes(l.im.Arrivals(t)).LongestGap(l.phases[2].from, l.phases[2].to)
	kit.Figure(t, "cluster-topics",
		"added partitions were read %v after the request, the recreated topic %v after its first "+
			"record (%d lines in the logs), %d leaders moved: no call for %v",
		found.Round(time.Millisecond), again.Round(time.Millisecond), logged, moved,
		stood.Round(time.Millisecond))
	kit.Check(t, logged >= kit.Partitions, "%d lines report a recreated partition, want %d", logged,
		kit.Partitions)
	kit.Check(t, moved > 0, "no leader moved: the test proves nothing")
	kit.Check(t, stood <= 5*time.Second,
		"nobody called for %v after leaders moved, at most 5 s allowed", stood)
	l.end(t, "cluster-topics-and-partitions", plannedLimit, slices.Concat(old, added, remade)...)
}

// moveLeaders makes another replica the preferred leader of each of the topic's partitions,
// triggers the election, and returns how many leaders moved.
func (c *cluster) moveLeaders(t *testing.T, name string) int {
	t.Helper()
	ctx := kit.Context(t)
	before := c.leaders(t, name)
	found, err := c.Metadata(ctx, name)
	if err != nil {
		t.Fatal(err)
	}
	alter := kmsg.NewPtrAlterPartitionAssignmentsRequest()
	alter.TimeoutMillis = 30_000
	topic := kmsg.NewAlterPartitionAssignmentsRequestTopic()
	topic.Topic = name
	elect := kmsg.NewPtrElectLeadersRequest()
	elect.ElectionType, elect.TimeoutMillis = 0, 30_000
	election := kmsg.NewElectLeadersRequestTopic()
	election.Topic = name
	for _, p := range found[0].Partitions {
		others := slices.DeleteFunc(slices.Clone(p.Replicas),
			func(n int32) bool { return n == p.Leader })
		partition := kmsg.NewAlterPartitionAssignmentsRequestTopicPartition()
		partition.Partition, partition.Replicas = p.Partition, append(others, p.Leader)
		topic.Partitions = append(topic.Partitions, partition)
		election.Partitions = append(election.Partitions, p.Partition)
	}
	alter.Topics = append(alter.Topics, topic)
	elect.Topics = append(elect.Topics, election)
	if response, err := alter.RequestWith(ctx, c.Client); err != nil || response.ErrorCode != 0 {
		t.Fatalf("reassign replicas: %v %v", err, response)
	}
	if response, err := elect.RequestWith(ctx, c.Client); err != nil || response.ErrorCode != 0 {
		t.Fatalf("elect leaders: %v %v", err, response)
	}
	moved := 0
	kit.Wait(t, "the leaders have moved", 10*time.Second, func() bool {
		moved = 0
		after := c.leaders(t, name)
		for p, leader := range after {
			if leader != before[p] {
				moved++
			}
		}
		return moved == len(after)
	})
	return moved
}
