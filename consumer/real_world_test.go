package consumer_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"markread/consumer"
	"markread/consumer/broker"
	"markread/consumer/broker/brokertest"
	"markread/consumer/event"
	"markread/consumer/kafkaclient"
)

// The tests in real_*_test.go run in real time, over TCP: on an embedded broker of their own, or on
// the cluster whose addresses (plaintext, superuser) are in MARKREAD_TEST_BROKERS, for instance
//
//	deploy/kafka/kafka start --nodes 3 --config log.cleaner.backoff.ms=500
//	export MARKREAD_TEST_BROKERS=127.0.0.1:9092,127.0.0.1:9102,127.0.0.1:9112
//	go test -run TestReal ./consumer
//
// Their comments document what they found about Apache Kafka: version 4.4, with one node and with
// three.
const testBrokers = "MARKREAD_TEST_BROKERS"

// TestMain runs more of these tests in parallel than there are processors: they mostly wait.
func TestMain(m *testing.M) {
	flag.Parse()
	if parallel := flag.Lookup("test.parallel").
		Value; parallel.String() == strconv.Itoa(runtime.GOMAXPROCS(0)) {
		parallel.Set("16")
	}
	os.Exit(m.Run())
}

// realTest is a broker, and the topics and the group of one test on it.
type realTest struct {
	*testing.T
	brokers []string
	cluster *kfake.Cluster // nil: Apache Kafka
	topics  event.Topics
	group   string
	admin   *kgo.Client // another Kafka client, for requests that ours doesn't have
	log     brokertest.Logs
}

// onBroker creates a test's topics with the given number of partitions (0: no topics), and with
// settings like "cleanup.policy=compact" for the live topic.
func onBroker(t *testing.T, partitions int, settings ...string) *realTest {
	t.Helper()
	name := fmt.Sprintf("%s-%08x", strings.NewReplacer("/", "-", "_", "-").Replace(t.Name()),
		rand.Uint32())
	r := &realTest{
		T: t, group: name,
		topics: event.Topics{Live: name, Backfill: name + "-backfill",
			DeadLetter: name + "-dead-letters"},
	}
	if addresses := os.Getenv(testBrokers); addresses != "" {
		r.brokers = strings.Split(addresses, ",")
	} else {
		b, err := broker.Start(broker.Options{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(b.Close)
		r.brokers, r.cluster = []string{b.Addr()}, b.Cluster()
	}
	r.admin = r.kgo()
	t.Cleanup(func() {
		request := kmsg.NewPtrDeleteGroupsRequest()
		request.Groups = []string{r.group}
		mustRequest(r, request)
	})
	if partitions > 0 {
		r.create(r.topics.Live, partitions, settings...)
		r.create(r.topics.Backfill, partitions)
		r.create(r.topics.DeadLetter, partitions)
	}
	return r
}

// needCluster skips a test without a cluster, because it would take long on the embedded broker and
// another test does the same in virtual time, or because the embedded broker can't do it.
func needCluster(t *testing.T, why string) {
	t.Helper()
	if os.Getenv(testBrokers) == "" {
		t.Skipf("skipped: %s; set %s to a cluster", why, testBrokers)
	}
}

func (r *realTest) kgo(opts ...kgo.Opt) *kgo.Client {
	r.Helper()
	c, err := kgo.NewClient(append(opts, kgo.SeedBrokers(r.brokers...),
		kgo.MetadataMinAge(50*time.Millisecond),
		kgo.UnknownTopicRetries(-1))...) // each broker learns of a new topic at its own time
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(c.Close)
	return c
}

// mustRequest sends a request that must get a response; the response may contain error codes.
func mustRequest[A any](r *realTest, request interface {
	RequestWith(context.Context, kmsg.Requestor) (A, error)
}) A {
	r.Helper()
	var answer A
	var err error
	r.eventually(30*time.Second, fmt.Sprintf("%T gets a response", request), func() bool {
		answer, err = request.RequestWith(context.Background(), r.admin)
		// the first group causes the creation of the offsets topic
		return !errors.Is(err, kerr.CoordinatorNotAvailable)
	})
	if err != nil {
		r.Fatalf("%T: %v", request, err)
	}
	return answer
}

// eventually polls until true returns true: a real broker does not signal when it has finished.
func (r *realTest) eventually(within time.Duration, what string, true func() bool) {
	r.Helper()
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	late := time.After(within)
	for !true() {
		select {
		case <-poll.C:
		case <-late:
			r.Fatalf("not within %v: %s", within, what)
		}
	}
}

// create creates a topic, waits until it is usable, and deletes it at the end of the test.
func (r *realTest) create(topic string, partitions int, settings ...string) {
	r.Helper()
	request := kmsg.NewPtrCreateTopicsRequest()
	t := kmsg.NewCreateTopicsRequestTopic()
	t.Topic, t.NumPartitions, t.ReplicationFactor = topic, int32(partitions), -1
	for _, s := range settings {
		c := kmsg.NewCreateTopicsRequestTopicConfig()
		name, value, _ := strings.Cut(s, "=")
		c.Name, c.Value = name, &value
		t.Configs = append(t.Configs, c)
	}
	request.Topics, request.TimeoutMillis = append(request.Topics, t), 10000
	var id [16]byte
	r.eventually(20*time.Second, "topic "+topic+" is created", func() bool {
		answer := mustRequest(r, request).Topics[0]
		id = answer.TopicID
		err := kerr.ErrorForCode(answer.ErrorCode)
		if err != nil && err != kerr.TopicAlreadyExists { // the old one may not be gone yet
			r.Fatal(err)
		}
		return err == nil
	})
	r.Cleanup(func() { r.delete(topic) })
	r.eventually(20*time.Second, "topic "+topic+" has leaders", func() bool {
		leaders, found := 0, r.describe(topic)
		// a broker may still know the old topic of this name; writes to that one would be lost
		if found.TopicID != id {
			return false
		}
		for _, p := range found.Partitions {
			if p.ErrorCode == 0 && p.Leader >= 0 {
				leaders++
			}
		}
		return leaders == partitions
	})
	r.waitForMetadata(topic, partitions-1)
}

func (r *realTest) delete(topic string) {
	r.Helper()
	request := kmsg.NewPtrDeleteTopicsRequest()
	t := kmsg.NewDeleteTopicsRequestTopic()
	t.Topic = &topic
	request.Topics, request.TopicNames, request.TimeoutMillis = append(request.Topics, t),
		[]string{topic}, 10000
	mustRequest(r, request)
}

func (r *realTest) describe(topic string) kmsg.MetadataResponseTopic {
	r.Helper()
	request := kmsg.NewPtrMetadataRequest()
	t := kmsg.NewMetadataRequestTopic()
	t.Topic = &topic
	request.Topics = append(request.Topics, t)
	return mustRequest(r, request).Topics[0]
}

// publish publishes n events of different conversations to one partition, in one batch.
func (r *realTest) publish(topic string, partition, n int) {
	r.Helper()
	var records []*kgo.Record
	for i := range n {
		records = append(records,
			&kgo.Record{Topic: topic, Partition: int32(partition), Value: brokertest.Value(i)})
	}
	r.send(records...)
}

func (r *realTest) send(records ...*kgo.Record) {
	r.Helper()
	seen := map[string]int32{}
	for _, record := range records {
		seen[record.Topic] = max(seen[record.Topic], record.Partition)
	}
	for topic, partition := range seen {
		r.waitForMetadata(topic, int(partition))
	}
	c := r.kgo(kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerLinger(5*time.Millisecond))
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := c.ProduceSync(ctx, records...).FirstErr(); err != nil {
		r.Fatal(err)
	}
	c.Close()
}

// waitForMetadata waits until all brokers know the same topic id, and the partition: each broker
// learns of changes at its own time.
func (r *realTest) waitForMetadata(topic string, partition int) {
	r.Helper()
	c := r.kgo()
	defer c.Close()
	r.eventually(30*time.Second, "all brokers know the topic", func() bool {
		ids := map[[16]byte]bool{}
		for _, broker := range c.SeedBrokers() {
			request := kmsg.NewPtrMetadataRequest()
			t := kmsg.NewMetadataRequestTopic()
			t.Topic = &topic
			request.Topics = append(request.Topics, t)
			answer, err := request.RequestWith(context.Background(), broker)
			if err != nil || answer.Topics[0].ErrorCode != 0 ||
				len(answer.Topics[0].Partitions) <= partition {
				return false
			}
			ids[answer.Topics[0].TopicID] = true
		}
		return len(ids) == 1
	})
}

// logRange returns the log's start offset, and the offset after its last record.
func (r *realTest) logRange(topic string, partition int) (first, end int64) {
	r.Helper()
	for at, to := range map[int64]*int64{-2: &first, -1: &end} {
		request := kmsg.NewPtrListOffsetsRequest()
		request.ReplicaID = -1
		t := kmsg.NewListOffsetsRequestTopic()
		p := kmsg.NewListOffsetsRequestTopicPartition()
		p.Partition, p.Timestamp = int32(partition), at
		t.Topic, t.Partitions = topic, append(t.Partitions, p)
		request.Topics = append(request.Topics, t)
		r.eventually(20*time.Second, "a leader returns the log's range", func() bool {
			answer := mustRequest(r, request).Topics[0].Partitions[0]
			*to = answer.Offset
			return answer.ErrorCode == 0
		})
	}
	return first, end
}

// deleteRecords makes the log begin at offset, like retention.
func (r *realTest) deleteRecords(topic string, partition int, offset int64) {
	r.Helper()
	request := kmsg.NewPtrDeleteRecordsRequest()
	t := kmsg.NewDeleteRecordsRequestTopic()
	p := kmsg.NewDeleteRecordsRequestTopicPartition()
	p.Partition, p.Offset = int32(partition), offset
	t.Topic, t.Partitions = topic, append(t.Partitions, p)
	request.Topics, request.TimeoutMillis = append(request.Topics, t), 10000
	r.eventually(20*time.Second, "a leader deletes records", func() bool {
		err := kerr.ErrorForCode(mustRequest(r, request).Topics[0].Partitions[0].ErrorCode)
		if err != nil && !kerr.IsRetriable(err) {
			r.Fatal(err)
		}
		return err == nil
	})
}

// moveLeader makes the first of the nodes the leader of the live topic's partition 0.
func (r *realTest) moveLeader(nodes []int32) {
	r.Helper()
	if r.cluster != nil {
		if err := r.cluster.MoveTopicPartition(r.topics.Live, 0, nodes[0]); err != nil {
			r.Fatal(err)
		}
		return
	}
	move := kmsg.NewPtrAlterPartitionAssignmentsRequest()
	topic := kmsg.NewAlterPartitionAssignmentsRequestTopic()
	partition := kmsg.NewAlterPartitionAssignmentsRequestTopicPartition()
	partition.Replicas = nodes // the first is the preferred leader
	topic.Topic, topic.Partitions = r.topics.Live, append(topic.Partitions, partition)
	move.Topics, move.TimeoutMillis = append(move.Topics, topic), 10000
	mustRequest(r, move)
	r.eventually(20*time.Second, "another broker leads", func() bool {
		elect := kmsg.NewPtrElectLeadersRequest()
		topic := kmsg.NewElectLeadersRequestTopic()
		topic.Topic, topic.Partitions = r.topics.Live, []int32{0}
		elect.Topics, elect.TimeoutMillis = append(elect.Topics, topic), 10000
		mustRequest(r, elect)
		return r.describe(r.topics.Live).Partitions[0].Leader == nodes[0]
	})
}

// committed returns the group's committed offset of a partition, -1: none.
func (r *realTest) committed(topic string, partition int) int64 {
	r.Helper()
	offset, _ := r.commit(topic, partition)
	return offset
}

func (r *realTest) commit(topic string, partition int) (offset int64, metadata string) {
	r.Helper()
	request := kmsg.NewPtrOffsetFetchRequest()
	g := kmsg.NewOffsetFetchRequestGroup()
	g.Group = r.group
	request.Groups, request.Group = append(request.Groups, g), r.group
	answer := mustRequest(r, request)
	for _, g := range answer.Groups {
		for _, t := range g.Topics {
			for _, p := range t.Partitions {
				if (t.Topic == topic || t.TopicID == r.topicID(topic)) &&
					int(p.Partition) == partition && p.ErrorCode == 0 {
					if p.Metadata != nil {
						metadata = *p.Metadata
					}
					return p.Offset, metadata
				}
			}
		}
	}
	for _, t := range answer.Topics {
		for _, p := range t.Partitions {
			if t.Topic == topic && int(p.Partition) == partition {
				return p.Offset, ""
			}
		}
	}
	return -1, ""
}

func (r *realTest) topicID(topic string) [16]byte { return r.describe(topic).TopicID }

// state returns the group's state and how many members it has.
func (r *realTest) state() (string, int) {
	r.Helper()
	request := kmsg.NewPtrDescribeGroupsRequest()
	request.Groups = []string{r.group}
	g := mustRequest(r, request).Groups[0]
	return g.State, len(g.Members)
}

// client returns one of our clients, with the given dial function or the default.
func (r *realTest) client(dial ...func(ctx context.Context, network, addr string) (net.Conn,
	error)) *kafkaclient.Client {
	r.Helper()
	options := kafkaclient.Options{Brokers: r.brokers,
		Log: zerolog.New(io.MultiWriter(r.Output(), &r.log))}
	if len(dial) > 0 {
		options.Dial = dial[0]
	}
	c, err := kafkaclient.New(options)
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(c.Close)
	return c
}

// join starts a member of the test's group.
func (r *realTest) join(c *kafkaclient.Client, setup ...func(*member)) *member {
	ctx, stop := context.WithCancel(context.Background())
	m := &member{w: &brokertest.World{T: r.T}, stop: stop, done: make(chan struct{}),
		autoFinish: true,
		topics:     r.topics}
	for _, s := range setup {
		s(m)
	}
	go func() {
		defer close(m.done)
		m.err = consumer.Consume(ctx, c,
			consumer.GroupOptions{Group: r.group, Topics: m.topics, Rate: 200}, m.serve)
	}()
	r.Cleanup(func() { stop(); <-m.done })
	return m
}

// waitForOffsets waits until exactly these offsets of a partition were delivered.
func (r *realTest) waitForOffsets(m *member, topic string, partition int, want []int64) {
	r.Helper()
	r.waitFor(m, topic, partition, len(want))
	if got := m.delivered(topic, partition); !slices.Equal(got, want) {
		r.Fatalf("%d events of %s/%d, want %d: %v", len(got), topic, partition, len(want), got)
	}
}

func (r *realTest) waitFor(m *member, topic string, partition, n int) {
	r.Helper()
	r.eventually(30*time.Second,
		fmt.Sprintf("%d events of %s/%d are delivered", n, topic, partition),
		func() bool {
			return len(m.delivered(topic, partition)) >= n
		})
}

// waitForCommit waits until the group has committed offset, and the member sees no lag.
func (r *realTest) waitForCommit(m *member, topic string, partition int, offset int64) {
	r.Helper()
	r.eventually(20*time.Second, fmt.Sprintf("%d is committed of %s/%d", offset, topic, partition),
		func() bool {
			return r.committed(topic, partition) == offset
		})
	r.eventually(10*time.Second, "the lag is 0", func() bool {
		s := state(m.generation(), topic, partition)
		return s.HighWatermark == offset && s.Lag == 0
	})
}
