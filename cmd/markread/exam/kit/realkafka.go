//go:build exam && unix

package kit

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

// BrokersVariable is the environment variable that makes the exam run on a real Kafka instead of
// the embedded broker: host:port,host:port of listeners without TLS and authentication, where
// everything is allowed. deploy/kafka/kafka starts one.
const BrokersVariable = "MARKREAD_TEST_BROKERS"

// Partitions is the number of partitions of a topic of the exam.
const Partitions = 12

// CreateOwnTopics creates topics for this test only, with the cluster's default replication, and
// deletes them when the test ends.
func CreateOwnTopics(t *testing.T, brokers string, partitions int) *Kafka {
	t.Helper()
	k := UniqueNames(t, brokers)
	k.CreateTopics(t, NewTopics(partitions, k.Topics()...)...)
	return k
}

// UniqueNames generates names for a test. Topics and a group of these names are deleted when the
// test ends.
func UniqueNames(t *testing.T, brokers string) *Kafka {
	t.Helper()
	var id [4]byte
	_, _ = rand.Read(id[:])
	name := "-exam-" + hex.EncodeToString(id[:])
	k := Connect(t, brokers, Names{"mark-read" + name, "mark-read" + name + "-backfill",
		"mark-read" + name + "-dead-letters", "markread" + name})
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		k.DeleteTopics(t, ctx, k.Topics()...)
		group := kmsg.NewPtrDeleteGroupsRequest()
		group.Groups = []string{k.Group}
		// a killed worker may still be a member: then Kafka deletes the offsets when they expire
		_, _ = group.RequestWith(ctx, k.Client)
	})
	return k
}

// StartBrokerWithoutTopics is for tests that create the topics.
func StartBrokerWithoutTopics(t *testing.T) *Kafka {
	t.Helper()
	if brokers := os.Getenv(BrokersVariable); brokers != "" {
		return UniqueNames(t, brokers)
	}
	return StartEmbedded(t, "", "-topics", "other")
}

// CreateTopics creates the topics, and returns when every broker knows them, and a leader of each
// partition.
func (k *Kafka) CreateTopics(t *testing.T, topics ...kmsg.CreateTopicsRequestTopic) {
	t.Helper()
	req := kmsg.NewPtrCreateTopicsRequest()
	req.TimeoutMillis, req.Topics = 30_000, topics
	response, err := req.RequestWith(Context(t), k.Client)
	if err != nil {
		t.Fatalf("create topics: %v", err)
	}
	for _, topic := range response.Topics {
		if err := kerr.ErrorForCode(topic.ErrorCode); err != nil {
			t.Fatalf("create topic %s: %v", topic.Topic, err)
		}
	}
	for _, topic := range topics {
		k.waitForTopic(t, topic.Topic, int(topic.NumPartitions))
	}
}

// NewTopics are topics of the exam, with the cluster's default replication.
func NewTopics(partitions int, names ...string) (topics []kmsg.CreateTopicsRequestTopic) {
	for _, name := range names {
		topics = append(topics, kmsg.CreateTopicsRequestTopic{Topic: name,
			NumPartitions: int32(partitions), ReplicationFactor: -1})
	}
	return topics
}

// waitForTopic waits until every broker knows the number of partitions of the topic, and their
// leaders.
func (k *Kafka) waitForTopic(t *testing.T, topic string, partitions int) {
	t.Helper()
	ctx := Context(t)
	Wait(t, "all brokers know the topic "+topic, 30*time.Second, func() bool {
		for _, seed := range k.Client.SeedBrokers() {
			found, err := metadata(ctx, seed, topic)
			if err != nil || len(found[0].Partitions) != partitions ||
				slices.ContainsFunc(found[0].Partitions,
					func(p kmsg.MetadataResponseTopicPartition) bool {
						return p.ErrorCode != 0 || p.Leader < 0
					}) {
				return false
			}
		}
		return true
	})
}

// AddPartitions increases the number of partitions of the topic to count, and returns when all have
// leaders.
func (k *Kafka) AddPartitions(t *testing.T, name string, count int32) {
	t.Helper()
	req := kmsg.NewPtrCreatePartitionsRequest()
	req.TimeoutMillis = 30_000
	topic := kmsg.NewCreatePartitionsRequestTopic()
	topic.Topic, topic.Count = name, count
	req.Topics = append(req.Topics, topic)
	response, err := req.RequestWith(Context(t), k.Client)
	if err != nil {
		t.Fatalf("create partitions: %v", err)
	}
	if err := kerr.ErrorForCode(response.Topics[0].ErrorCode); err != nil {
		t.Fatalf("create partitions: %v", err)
	}
	k.waitForTopic(t, name, int(count))
}

// DeleteTopics deletes the topics; one that does not exist is no error.
func (k *Kafka) DeleteTopics(t *testing.T, ctx context.Context, topics ...string) {
	t.Helper()
	req := kmsg.NewPtrDeleteTopicsRequest()
	req.TimeoutMillis = 30_000
	req.TopicNames = topics
	for _, name := range topics {
		topic := kmsg.NewDeleteTopicsRequestTopic()
		topic.Topic = kmsg.StringPtr(name)
		req.Topics = append(req.Topics, topic)
	}
	response, err := req.RequestWith(ctx, k.Client)
	if err != nil {
		t.Errorf("delete topics: %v", err)
		return
	}
	for _, topic := range response.Topics {
		if err := kerr.ErrorForCode(topic.ErrorCode); err != nil &&
			err != kerr.UnknownTopicOrPartition {
			t.Errorf("delete topic %s: %v", *topic.Topic, err)
		}
	}
}

// WaitGone waits until no broker serves a partition of the deleted topic. A real Kafka answers a
// deletion before its brokers follow it: for half a second they still accept records, which are
// lost.
func (k *Kafka) WaitGone(t *testing.T, topic string, partitions int) {
	t.Helper()
	ctx := Context(t)
	req := kmsg.NewPtrListOffsetsRequest()
	asked := kmsg.NewListOffsetsRequestTopic()
	asked.Topic = topic
	for partition := range partitions {
		p := kmsg.NewListOffsetsRequestTopicPartition()
		p.Partition, p.Timestamp = int32(partition), -1
		asked.Partitions = append(asked.Partitions, p)
	}
	req.Topics = append(req.Topics, asked)
	Wait(t, "no broker serves the topic "+topic, 30*time.Second, func() bool {
		for _, seed := range k.Client.SeedBrokers() {
			response, err := seed.Request(ctx, req)
			if err != nil {
				return false
			}
			for _, found := range response.(*kmsg.ListOffsetsResponse).Topics {
				if slices.ContainsFunc(found.Partitions,
					func(p kmsg.ListOffsetsResponseTopicPartition) bool {
						return p.ErrorCode == 0
					}) {
					return false
				}
			}
		}
		return true
	})
}
