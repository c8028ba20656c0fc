//go:build exam && unix

package kit

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

// Names are the topics and the group of a row.
type Names struct{ Live, Backfill, DeadLetters, Group string }

// Defaults are the names that the product uses by default: the contract.
var Defaults = Names{"mark-read", "mark-read-backfill", "mark-read-dead-letters", "markread"}

func (n Names) Topics() []string { return []string{n.Live, n.Backfill, n.DeadLetters} }

// flags are the product's flags for names that are not its own.
func (n Names) flags() []string {
	if n == Defaults {
		return nil
	}
	return []string{"--topic", n.Live, "--backfill-topic", n.Backfill, "--dead-letter-topic",
		n.DeadLetters, "--group", n.Group}
}

// runBroker runs the embedded broker until SIGTERM.
func runBroker(args []string, stdout io.Writer) int {
	flags := flag.NewFlagSet("broker", flag.ExitOnError)
	partitions := flags.Int("partitions", Partitions, "")
	topics := flags.String("topics", strings.Join(Defaults.Topics(), ","), "")
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
	control, err := serveBrokerControl(b.Cluster())
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

// Kafka is what a row has of Kafka: its names, and a franz-go client. The process and its control
// exist only of a broker that the exam started by itself.
type Kafka struct {
	Names
	*Proc
	Addr    string // as --brokers takes it
	control string
	Client  *kgo.Client
}

// StartBroker starts the embedded broker, with the contract's topics. If a real Kafka is given, it
// makes topics of the row's own there.
func StartBroker(t *testing.T) *Kafka {
	t.Helper()
	return StartBrokerWithPartitions(t, Partitions)
}

// StartBrokerWithPartitions is StartBroker for a row that wants so many partitions of each topic.
func StartBrokerWithPartitions(t *testing.T, partitions int) *Kafka {
	t.Helper()
	if brokers := os.Getenv(BrokersVariable); brokers != "" {
		return CreateOwnTopics(t, brokers, partitions)
	}
	return StartEmbedded(t, "", "-partitions", strconv.Itoa(partitions))
}

// StartEmbedded starts the embedded broker for a row that a real Kafka can't serve; why says what
// it needs.
func StartEmbedded(t *testing.T, why string, args ...string) *Kafka {
	t.Helper()
	if os.Getenv(BrokersVariable) != "" {
		t.Skipf("skipped: on a real Kafka (%s) this row can't run: %s", BrokersVariable, why)
	}
	p := Start(t, "broker", "broker", nil, args...)
	k := Connect(t, p.Line(t, `listening on (\S+)`, 10*time.Second)[1], Defaults)
	k.Proc, k.control = p, "http://"+p.Line(t, `control on (\S+)`, 10*time.Second)[1]
	return k
}

func Connect(t *testing.T, addr string, names Names) *Kafka {
	t.Helper()
	k := &Kafka{Names: names, Addr: addr}
	cl, err := kgo.NewClient(k.Seeds(), kgo.ProducerLinger(0), kgo.MaxBufferedRecords(1<<20),
		kgo.RequiredAcks(kgo.AllISRAcks()),
		// Kafka 4 has all of it; later versions name a group's topics by their ids
		kgo.MaxVersions(kversion.V3_5_0()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	k.Client = cl
	return k
}

// Seeds is where a franz-go client begins.
func (k *Kafka) Seeds() kgo.Opt { return kgo.SeedBrokers(strings.Split(k.Addr, ",")...) }

// RunArgs are the arguments of a worker.
func (k *Kafka) RunArgs(imURL string, extra ...string) []string {
	args := []string{"run", "--brokers", k.Addr, "--im-url", imURL, "--im-app-id", AppID,
		"--admin-addr", "127.0.0.1:0"}
	return slices.Concat(args, k.flags(), extra)
}

func Context(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// Produce publishes the records in order and waits for all acknowledgements; afterwards each record
// knows its partition and offset.
func (k *Kafka) Produce(t *testing.T, records ...*kgo.Record) {
	t.Helper()
	if err := k.Client.ProduceSync(Context(t), records...).FirstErr(); err != nil {
		t.Fatalf("produce: %v", err)
	}
}

// ProduceTo writes the events to chosen partitions.
func (k *Kafka) ProduceTo(t *testing.T, topic string, events []Event, partition func(i int) int32) {
	t.Helper()
	cl, err := kgo.NewClient(k.Seeds(), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.RequiredAcks(kgo.AllISRAcks()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	records := make([]*kgo.Record, len(events))
	for i, e := range events {
		records[i] = RecordOf(topic, e)
		records[i].Partition = partition(i)
	}
	if err := cl.ProduceSync(Context(t), records...).FirstErr(); err != nil {
		t.Fatalf("produce: %v", err)
	}
}

// Partition names one partition.
type Partition struct {
	Topic     string
	Partition int32
}

// EndOffsets returns the log end of each partition of the topics.
func (k *Kafka) EndOffsets(t *testing.T, topics ...string) map[Partition]int64 {
	t.Helper()
	out, err := k.TryEndOffsets(Context(t), topics...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func (k *Kafka) TryEndOffsets(ctx context.Context, topics ...string) (map[Partition]int64, error) {
	found, err := k.Metadata(ctx, topics...)
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
	answer, err := list.RequestWith(ctx, k.Client)
	if err != nil {
		return nil, fmt.Errorf("list offsets: %w", err)
	}
	out := map[Partition]int64{}
	for _, topic := range answer.Topics {
		for _, p := range topic.Partitions {
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
				return nil, fmt.Errorf("list offsets of %s %d: %w", topic.Topic, p.Partition, err)
			}
			out[Partition{topic.Topic, p.Partition}] = p.Offset
		}
	}
	return out, nil
}

// Metadata returns the metadata of the topics.
func (k *Kafka) Metadata(ctx context.Context, topics ...string) ([]kmsg.MetadataResponseTopic,
	error) {
	return metadata(ctx, k.Client, topics...)
}

// metadata asks any broker, or the one that is given.
func metadata(ctx context.Context, of kmsg.Requestor,
	topics ...string) ([]kmsg.MetadataResponseTopic,
	error) {
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

// Committed returns what the group has committed; a partition without a commit is absent.
func (k *Kafka) Committed(t *testing.T) map[Partition]int64 {
	t.Helper()
	out, err := k.tryCommitted(Context(t))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func (k *Kafka) tryCommitted(ctx context.Context) (map[Partition]int64, error) {
	commits, err := k.tryCommits(ctx)
	out := map[Partition]int64{}
	for p, c := range commits {
		out[p] = c.offset
	}
	return out, err
}

// commit is an offset and the text beside it.
type commit struct {
	offset   int64
	metadata string
}

func (k *Kafka) tryCommits(ctx context.Context) (map[Partition]commit, error) {
	req := kmsg.NewPtrOffsetFetchRequest()
	req.Group = k.Group
	group := kmsg.NewOffsetFetchRequestGroup()
	group.Group = k.Group
	req.Groups = append(req.Groups, group)
	answer, err := req.RequestWith(ctx, k.Client)
	if err != nil {
		return nil, fmt.Errorf("offset fetch: %w", err)
	}
	out := map[Partition]commit{}
	for _, group := range answer.Groups {
		if err := kerr.ErrorForCode(group.ErrorCode); err != nil {
			return nil, fmt.Errorf("offset fetch: %w", err)
		}
		for _, topic := range group.Topics {
			for _, p := range topic.Partitions {
				if p.Offset >= 0 {
					c := commit{offset: p.Offset}
					if p.Metadata != nil {
						c.metadata = *p.Metadata
					}
					out[Partition{topic.Topic, p.Partition}] = c
				}
			}
		}
	}
	return out, nil
}

// Lag returns how many records of the topics lie beyond the committed offsets.
func (k *Kafka) Lag(t *testing.T, topics ...string) int64 {
	t.Helper()
	left, err := k.tryLag(Context(t), topics...)
	if err != nil {
		t.Fatal(err)
	}
	return left
}

func (k *Kafka) tryLag(ctx context.Context, topics ...string) (int64, error) {
	committed, err := k.tryCommitted(ctx)
	if err != nil {
		return 0, err
	}
	ends, err := k.TryEndOffsets(ctx, topics...)
	var left int64
	for p, end := range ends {
		left += end - committed[p]
	}
	return left, err
}

// WaitCommitted waits until every record of the topics is committed.
func (k *Kafka) WaitCommitted(t *testing.T, within time.Duration, topics ...string) {
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
	Wait(t, "all offsets committed", within, func() bool {
		left, err = k.tryLag(ctx, topics...)
		return err == nil && left == 0
	})
}

// ReadAll reads a topic from its beginning to its present end.
func (k *Kafka) ReadAll(t *testing.T, topic string) []*kgo.Record {
	t.Helper()
	want := int64(0)
	for _, end := range k.EndOffsets(t, topic) {
		want += end
	}
	cl, err := kgo.NewClient(k.Seeds(), kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ctx := Context(t)
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
