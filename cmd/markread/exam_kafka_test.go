//go:build exam && unix

package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"markread/consumer/broker"
)

// examNames are the topics and the group of a row.
type examNames struct{ live, backfill, letters, group string }

// examDefaults are the names that the product uses by default: the contract.
var examDefaults = examNames{"mark-read", "mark-read-backfill", "mark-read-dead-letters", "markread"}

func (n examNames) topics() []string { return []string{n.live, n.backfill, n.letters} }

// flags are the product's flags for names that are not its own.
func (n examNames) flags() []string {
	if n == examDefaults {
		return nil
	}
	return []string{"--topic", n.live, "--backfill-topic", n.backfill, "--dead-letter-topic", n.letters, "--group", n.group}
}

// examBrokerRole runs the embedded broker until SIGTERM.
func examBrokerRole(args []string, stdout io.Writer) int {
	flags := flag.NewFlagSet("broker", flag.ExitOnError)
	partitions := flags.Int("partitions", examPartitions, "")
	topics := flags.String("topics", strings.Join(examDefaults.topics(), ","), "")
	addr := flags.String("addr", "127.0.0.1:0", "")
	dir := flags.String("data-dir", "", "")
	_ = flags.Parse(args)
	options := broker.Options{Addr: *addr, DataDir: *dir, Partitions: *partitions}
	if *topics != "" {
		options.Topics = strings.Split(*topics, ",")
	}
	b, err := broker.Start(options)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	control, err := examControlBroker(b.Cluster())
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Fprintln(stdout, "control on", control)
	fmt.Fprintln(stdout, "listening on", b.Addr())
	<-stop
	b.Close()
	return 0
}

// examKafka is what a row has of Kafka: its names, and a franz-go client. The process and its control exist only of a broker that the exam
// started by itself.
type examKafka struct {
	examNames
	*examProc
	addr    string // as --brokers takes it
	control string
	cl      *kgo.Client
}

// examStartBroker starts the embedded broker, with the contract's topics. If a real Kafka is given, it makes topics of the row's own there.
func examStartBroker(t *testing.T) *examKafka {
	t.Helper()
	return examStartBrokerOf(t, examPartitions)
}

// examStartBrokerOf is examStartBroker for a row that wants so many partitions of each topic.
func examStartBrokerOf(t *testing.T, partitions int) *examKafka {
	t.Helper()
	if brokers := os.Getenv(examBrokers); brokers != "" {
		return examOwnTopics(t, brokers, partitions)
	}
	return examStartEmbedded(t, "", "-partitions", strconv.Itoa(partitions))
}

// examStartEmbedded starts the embedded broker for a row that a real Kafka can't serve; why says what it needs.
func examStartEmbedded(t *testing.T, why string, args ...string) *examKafka {
	t.Helper()
	if os.Getenv(examBrokers) != "" {
		t.Skipf("skipped: on a real Kafka (%s) this row can't run: %s", examBrokers, why)
	}
	p := examStart(t, "broker", "broker", nil, args...)
	k := examConnect(t, p.line(t, `listening on (\S+)`, 10*time.Second)[1], examDefaults)
	k.examProc, k.control = p, "http://"+p.line(t, `control on (\S+)`, 10*time.Second)[1]
	return k
}

func examConnect(t *testing.T, addr string, names examNames) *examKafka {
	t.Helper()
	k := &examKafka{examNames: names, addr: addr}
	cl, err := kgo.NewClient(k.seeds(), kgo.ProducerLinger(0), kgo.MaxBufferedRecords(1<<20), kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.MaxVersions(kversion.V3_5_0())) // Kafka 4 has all of it; later versions name a group's topics by their ids
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	k.cl = cl
	return k
}

// seeds is where a franz-go client begins.
func (k *examKafka) seeds() kgo.Opt { return kgo.SeedBrokers(strings.Split(k.addr, ",")...) }

// run are the arguments of a worker.
func (k *examKafka) run(imURL string, extra ...string) []string {
	args := []string{"run", "--brokers", k.addr, "--im-url", imURL, "--im-app-id", examAppID, "--admin-addr", "127.0.0.1:0"}
	return slices.Concat(args, k.flags(), extra)
}

func examContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// produce publishes the records in order and waits for all acknowledgements; afterwards each record knows its partition and offset.
func (k *examKafka) produce(t *testing.T, records ...*kgo.Record) {
	t.Helper()
	if err := k.cl.ProduceSync(examContext(t), records...).FirstErr(); err != nil {
		t.Fatalf("produce: %v", err)
	}
}

// produceTo writes the events to chosen partitions.
func (k *examKafka) produceTo(t *testing.T, topic string, events []examEvent, partition func(i int) int32) {
	t.Helper()
	cl, err := kgo.NewClient(k.seeds(), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.RequiredAcks(kgo.AllISRAcks()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	records := make([]*kgo.Record, len(events))
	for i, e := range events {
		records[i] = examRecordOf(topic, e)
		records[i].Partition = partition(i)
	}
	if err := cl.ProduceSync(examContext(t), records...).FirstErr(); err != nil {
		t.Fatalf("produce: %v", err)
	}
}

// examPartition names one partition.
type examPartition struct {
	topic     string
	partition int32
}

// ends returns the log end of each partition of the topics.
func (k *examKafka) ends(t *testing.T, topics ...string) map[examPartition]int64 {
	t.Helper()
	out, err := k.tryEnds(examContext(t), topics...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func (k *examKafka) tryEnds(ctx context.Context, topics ...string) (map[examPartition]int64, error) {
	found, err := k.layout(ctx, topics...)
	if err != nil {
		return nil, err
	}
	list := kmsg.NewPtrListOffsetsRequest()
	for _, topic := range found {
		want := kmsg.NewListOffsetsRequestTopic()
		want.Topic = *topic.Topic
		for _, p := range topic.Partitions {
			partition := kmsg.NewListOffsetsRequestTopicPartition()
			partition.Partition, partition.Timestamp = p.Partition, -1
			want.Partitions = append(want.Partitions, partition)
		}
		list.Topics = append(list.Topics, want)
	}
	answer, err := list.RequestWith(ctx, k.cl)
	if err != nil {
		return nil, fmt.Errorf("list offsets: %w", err)
	}
	out := map[examPartition]int64{}
	for _, topic := range answer.Topics {
		for _, p := range topic.Partitions {
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
				return nil, fmt.Errorf("list offsets of %s %d: %w", topic.Topic, p.Partition, err)
			}
			out[examPartition{topic.Topic, p.Partition}] = p.Offset
		}
	}
	return out, nil
}

// layout returns the metadata of the topics.
func (k *examKafka) layout(ctx context.Context, topics ...string) ([]kmsg.MetadataResponseTopic, error) {
	return examLayout(ctx, k.cl, topics...)
}

// examLayout asks any broker, or the one that is given.
func examLayout(ctx context.Context, of kmsg.Requestor, topics ...string) ([]kmsg.MetadataResponseTopic, error) {
	meta := kmsg.NewPtrMetadataRequest()
	for _, name := range topics {
		topic := kmsg.NewMetadataRequestTopic()
		topic.Topic = kmsg.StringPtr(name)
		meta.Topics = append(meta.Topics, topic)
	}
	found, err := meta.RequestWith(ctx, of)
	if err != nil {
		return nil, fmt.Errorf("metadata: %w", err)
	}
	return found.Topics, nil
}

// committed returns what the group has committed; a partition without a commit is absent.
func (k *examKafka) committed(t *testing.T) map[examPartition]int64 {
	t.Helper()
	out, err := k.tryCommitted(examContext(t))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func (k *examKafka) tryCommitted(ctx context.Context) (map[examPartition]int64, error) {
	commits, err := k.tryCommits(ctx)
	out := map[examPartition]int64{}
	for p, c := range commits {
		out[p] = c.offset
	}
	return out, err
}

// examCommit is an offset and the text beside it.
type examCommit struct {
	offset int64
	text   string
}

func (k *examKafka) tryCommits(ctx context.Context) (map[examPartition]examCommit, error) {
	req := kmsg.NewPtrOffsetFetchRequest()
	req.Group = k.group
	group := kmsg.NewOffsetFetchRequestGroup()
	group.Group = k.group
	req.Groups = append(req.Groups, group)
	answer, err := req.RequestWith(ctx, k.cl)
	if err != nil {
		return nil, fmt.Errorf("offset fetch: %w", err)
	}
	out := map[examPartition]examCommit{}
	for _, group := range answer.Groups {
		if err := kerr.ErrorForCode(group.ErrorCode); err != nil {
			return nil, fmt.Errorf("offset fetch: %w", err)
		}
		for _, topic := range group.Topics {
			for _, p := range topic.Partitions {
				if p.Offset >= 0 {
					c := examCommit{offset: p.Offset}
					if p.Metadata != nil {
						c.text = *p.Metadata
					}
					out[examPartition{topic.Topic, p.Partition}] = c
				}
			}
		}
	}
	return out, nil
}

// unsettled returns how many records of the topics lie beyond the committed offsets.
func (k *examKafka) unsettled(t *testing.T, topics ...string) int64 {
	t.Helper()
	left, err := k.tryUnsettled(examContext(t), topics...)
	if err != nil {
		t.Fatal(err)
	}
	return left
}

func (k *examKafka) tryUnsettled(ctx context.Context, topics ...string) (int64, error) {
	committed, err := k.tryCommitted(ctx)
	if err != nil {
		return 0, err
	}
	ends, err := k.tryEnds(ctx, topics...)
	var left int64
	for p, end := range ends {
		left += end - committed[p]
	}
	return left, err
}

// settled waits until every record of the topics is committed.
func (k *examKafka) settled(t *testing.T, within time.Duration, topics ...string) {
	t.Helper()
	var left int64
	var err error
	defer func() {
		if t.Failed() {
			t.Logf("records beyond the committed offsets: %d (%v)", left, err)
		}
	}()
	ctx, cancel := context.WithTimeout(context.Background(), within+time.Second)
	defer cancel()
	examWait(t, "all offsets committed", within, func() bool {
		left, err = k.tryUnsettled(ctx, topics...)
		return err == nil && left == 0
	})
}

// readAll reads a topic from its beginning to its present end.
func (k *examKafka) readAll(t *testing.T, topic string) []*kgo.Record {
	t.Helper()
	want := int64(0)
	for _, end := range k.ends(t, topic) {
		want += end
	}
	cl, err := kgo.NewClient(k.seeds(), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ctx := examContext(t)
	var out []*kgo.Record
	for int64(len(out)) < want {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("reading %s: %v (%d of %d records)", topic, err, len(out), want)
		}
		out = append(out, fetches.Records()...)
	}
	return out
}
