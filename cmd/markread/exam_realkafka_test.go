//go:build exam && unix

package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// examBrokers is the variable that lets the exam run on a real Kafka instead of the embedded broker: host:port,host:port of listeners without
// TLS and authentication, where everything is allowed. deploy/kafka/kafka makes one.
const examBrokers = "MARKREAD_TEST_BROKERS"

// examPartitions is how many partitions a topic of the exam has.
const examPartitions = 12

// examOwnTopics makes topics that are the row's alone, with the cluster's replication, and deletes them when it ends.
func examOwnTopics(t *testing.T, brokers string, partitions int) *examKafka {
	t.Helper()
	k := examOwnNames(t, brokers)
	k.createTopicsOf(t, partitions, k.topics()...)
	return k
}

// examOwnNames invents a row's names; topics and a group of these names are deleted when it ends.
func examOwnNames(t *testing.T, brokers string) *examKafka {
	t.Helper()
	var id [4]byte
	_, _ = rand.Read(id[:])
	name := "-exam-" + hex.EncodeToString(id[:])
	k := examConnect(t, brokers, examNames{"mark-read" + name, "mark-read" + name + "-backfill", "mark-read" + name + "-dead-letters", "markread" + name})
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		k.deleteTopics(t, ctx, k.topics()...)
		group := kmsg.NewPtrDeleteGroupsRequest()
		group.Groups = []string{k.group}
		_, _ = group.RequestWith(ctx, k.cl) // a worker that was killed may still be a member: then Kafka forgets the offsets in its own time
	})
	return k
}

// examStartBrokerWithoutTopics is for rows that make the topics.
func examStartBrokerWithoutTopics(t *testing.T) *examKafka {
	t.Helper()
	if brokers := os.Getenv(examBrokers); brokers != "" {
		return examOwnNames(t, brokers)
	}
	return examStartEmbedded(t, "", "-topics", "other")
}

// createTopics returns when every broker knows the topics, and a leader of each partition.
func (k *examKafka) createTopics(t *testing.T, topics ...string) {
	t.Helper()
	k.createTopicsOf(t, examPartitions, topics...)
}

func (k *examKafka) createTopicsOf(t *testing.T, partitions int, topics ...string) {
	t.Helper()
	ctx := examContext(t)
	req := kmsg.NewPtrCreateTopicsRequest()
	req.TimeoutMillis = 30_000
	for _, name := range topics {
		topic := kmsg.NewCreateTopicsRequestTopic()
		topic.Topic, topic.NumPartitions, topic.ReplicationFactor = name, int32(partitions), -1
		req.Topics = append(req.Topics, topic)
	}
	answer, err := req.RequestWith(ctx, k.cl)
	if err != nil {
		t.Fatalf("create topics: %v", err)
	}
	for _, topic := range answer.Topics {
		if err := kerr.ErrorForCode(topic.ErrorCode); err != nil {
			t.Fatalf("create topic %s: %v", topic.Topic, err)
		}
	}
	k.known(t, partitions, topics...)
}

// known waits until every broker knows so many partitions of each of the topics, and their leaders.
func (k *examKafka) known(t *testing.T, partitions int, topics ...string) {
	t.Helper()
	ctx := examContext(t)
	examWait(t, "all brokers know the topics", 30*time.Second, func() bool {
		for _, seed := range k.cl.SeedBrokers() {
			found, err := examLayout(ctx, seed, topics...)
			if err != nil {
				return false
			}
			for _, topic := range found {
				if len(topic.Partitions) != partitions || slices.ContainsFunc(topic.Partitions, func(p kmsg.MetadataResponseTopicPartition) bool {
					return p.ErrorCode != 0 || p.Leader < 0
				}) {
					return false
				}
			}
		}
		return true
	})
}

// grow gives the topic more partitions, and returns when they have leaders.
func (k *examKafka) grow(t *testing.T, name string, count int32) {
	t.Helper()
	req := kmsg.NewPtrCreatePartitionsRequest()
	req.TimeoutMillis = 30_000
	topic := kmsg.NewCreatePartitionsRequestTopic()
	topic.Topic, topic.Count = name, count
	req.Topics = append(req.Topics, topic)
	answer, err := req.RequestWith(examContext(t), k.cl)
	if err != nil {
		t.Fatalf("create partitions: %v", err)
	}
	if err := kerr.ErrorForCode(answer.Topics[0].ErrorCode); err != nil {
		t.Fatalf("create partitions: %v", err)
	}
	k.known(t, int(count), name)
}

// deleteTopics deletes those of the topics that exist.
func (k *examKafka) deleteTopics(t *testing.T, ctx context.Context, topics ...string) {
	t.Helper()
	req := kmsg.NewPtrDeleteTopicsRequest()
	req.TimeoutMillis = 30_000
	req.TopicNames = topics
	for _, name := range topics {
		topic := kmsg.NewDeleteTopicsRequestTopic()
		topic.Topic = kmsg.StringPtr(name)
		req.Topics = append(req.Topics, topic)
	}
	answer, err := req.RequestWith(ctx, k.cl)
	if err != nil {
		t.Errorf("delete topics: %v", err)
		return
	}
	for _, topic := range answer.Topics {
		if err := kerr.ErrorForCode(topic.ErrorCode); err != nil && err != kerr.UnknownTopicOrPartition {
			t.Errorf("delete topic %s: %v", *topic.Topic, err)
		}
	}
}
