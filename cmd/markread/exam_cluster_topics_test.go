//go:build exam && unix

package main

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestExamClusterTopicsAndPartitions: under load a topic gets more partitions, another is deleted and made again, and all leaders move.
// The workers find out by themselves.
func TestExamClusterTopicsAndPartitions(t *testing.T) {
	const (
		grown  = 18
		within = time.Minute
	)
	if testing.Short() {
		t.Skip("skipped in a short run: the tests of package consumer that begin with TestReal have the same without load")
	}
	c := examDisturb(t)
	old := examOneEach(examConversations("old", 240))
	examProduceEvents(t, c.examKafka, c.backfill, old)
	l := examStartLoad(t, c, 1000)
	c.settled(t, 30*time.Second, c.backfill) // so that offsets are committed beyond what the next topic will have

	var found time.Duration
	added := examOneEach(examConversations("added", 60))
	l.phase("6 partitions added", func() {
		began := time.Now()
		c.grow(t, c.live, grown)
		c.produceTo(t, c.live, added, func(i int) int32 { return int32(examPartitions + i%(grown-examPartitions)) })
		l.im.called(t, added, within)
		found = time.Since(began)
	})

	var again time.Duration
	remade := examOneEach(examConversations("remade", 48))
	l.phase("the backfill topic deleted and made again", func() {
		c.deleteTopics(t, examContext(t), c.backfill)
		<-time.After(3 * time.Second)
		c.createTopics(t, c.backfill)
		began := time.Now()
		c.produceTo(t, c.backfill, remade, func(i int) int32 { return int32(i % examPartitions) })
		l.im.called(t, remade, within)
		again = time.Since(began)
	})
	said := 0
	for _, w := range l.workers {
		said += strings.Count(w.stderr.String(), "made again")
	}

	var moved int
	l.phase("all live leaders moved", func() {
		moved = c.moveLeaders(t, c.live)
		<-time.After(12 * time.Second)
	})
	stood, _ := examStandStill(l.im.arrivals(t), l.phases[2].from, l.phases[2].to)
	examFigure(t, "cluster-topics", "added partitions were read %v after they were asked for, the topic made again %v after its first record (%d lines in the logs), %d leaders moved: no call for %v",
		found.Round(time.Millisecond), again.Round(time.Millisecond), said, moved, stood.Round(time.Millisecond))
	examCheck(t, said >= examPartitions, "%d lines say that a partition was made again, want %d", said, examPartitions)
	examCheck(t, moved > 0, "no leader moved: the row says nothing")
	examCheck(t, stood <= 5*time.Second, "nobody called for %v after leaders moved, at most 5 s allowed", stood)
	l.end(t, "cluster-topics-and-partitions", examPlanned, slices.Concat(old, added, remade)...)
}

// moveLeaders makes another replica the preferred leader of each of the topic's partitions, has it elected, and returns how many moved.
func (c *examCluster) moveLeaders(t *testing.T, name string) int {
	t.Helper()
	ctx := examContext(t)
	before := c.leaders(t, name)
	found, err := c.layout(ctx, name)
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
		others := slices.DeleteFunc(slices.Clone(p.Replicas), func(n int32) bool { return n == p.Leader })
		partition := kmsg.NewAlterPartitionAssignmentsRequestTopicPartition()
		partition.Partition, partition.Replicas = p.Partition, append(others, p.Leader)
		topic.Partitions = append(topic.Partitions, partition)
		election.Partitions = append(election.Partitions, p.Partition)
	}
	alter.Topics = append(alter.Topics, topic)
	elect.Topics = append(elect.Topics, election)
	if answer, err := alter.RequestWith(ctx, c.cl); err != nil || answer.ErrorCode != 0 {
		t.Fatalf("another order of replicas: %v %v", err, answer)
	}
	if answer, err := elect.RequestWith(ctx, c.cl); err != nil || answer.ErrorCode != 0 {
		t.Fatalf("elect leaders: %v %v", err, answer)
	}
	moved := 0
	examWait(t, "the leaders have moved", 10*time.Second, func() bool {
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
