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

// Names are the topics and the group of a test.
type Names struct{ Live, Backfill, DeadLetters, Group string }

// Defaults are the product's default names, fixed by the contract.
var Defaults = Names{"mark-read", "mark-read-backfill", "mark-read-dead-letters", "markread"}

// Topics returns the three topics.
func (n Names) Topics() []string { return []string{n.Live, n.Backfill, n.DeadLetters} }

// flags returns the product's flags for names that are not the defaults.
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

// Kafka gives a test its names and a franz-go client. Proc and control are set only if the test
// started the broker.
type Kafka struct {
	Names
	*Proc
	Addr    string // the value of --brokers
	control string
	Client  *kgo.Client
}

// StartBroker starts the embedded broker with the default topics, or, if BrokersVariable names a
// real Kafka, creates topics there for this test only.
func StartBroker(t *testing.T) *Kafka {
	t.Helper()
	return StartBrokerWithPartitions(t, Partitions)
}

// StartBrokerWithPartitions is StartBroker with a given number of partitions for each topic.
func StartBrokerWithPartitions(t *testing.T, partitions int) *Kafka {
	t.Helper()
	if brokers := os.Getenv(BrokersVariable); brokers != "" {
		return CreateOwnTopics(t, brokers, partitions)
	}
	return StartEmbedded(t, "", "-partitions", strconv.Itoa(partitions))
}

// StartEmbedded starts the embedded broker for a test that can't run on a real Kafka, because of
// why.
func StartEmbedded(t *testing.T, why string, args ...string) *Kafka {
	t.Helper()
	if os.Getenv(BrokersVariable) != "" {
		t.Skipf("skipped: on a real Kafka (%s) this test can't run: %s", BrokersVariable, why)
	}
	p := Start(t, "broker", "broker", nil, args...)
	k := Connect(t, p.Line(t, `listening on (\S+)`, 10*time.Second)[1], Defaults)
	k.Proc, k.control = p, "http://"+p.Line(t, `control on (\S+)`, 10*time.Second)[1]
	return k
}

// Connect returns a Kafka for brokers that run already.
func Connect(t *testing.T, addr string, names Names) *Kafka {
	t.Helper()
	k := &Kafka{Names: names, Addr: addr}
	// Kafka 4 supports all of it; later versions name a group's topics by id
	k.Client = k.NewClient(t, kgo.ProducerLinger(0), kgo.MaxBufferedRecords(1<<20),
		kgo.MaxVersions(kversion.V3_5_0()))
	return k
}

// NewClient returns another franz-go client, which is closed when the test ends.
func (k *Kafka) NewClient(t *testing.T, options ...kgo.Opt) *kgo.Client {
	t.Helper()
	cl, err := kgo.NewClient(append(options, kgo.SeedBrokers(strings.Split(k.Addr, ",")...))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

// RunArgs returns the arguments of `markread run`.
func (k *Kafka) RunArgs(imURL string, extra ...string) []string {
	args := []string{"run", "--brokers", k.Addr, "--im-url", imURL, "--im-app-id", AppID,
		"--admin-addr", "127.0.0.1:0"}
	return slices.Concat(args, k.flags(), extra)
}

// Context returns a context that ends after a minute, or with the test.
func Context(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// Produce produces the records in order and waits for all acknowledgements. Afterwards each record
// has its partition and offset.
func (k *Kafka) Produce(t *testing.T, records ...*kgo.Record) {
	t.Helper()
	ProduceWith(t, k.Client, records...)
}

// ProduceWith is Kafka.Produce with another client.
func ProduceWith(t *testing.T, cl *kgo.Client, records ...*kgo.Record) {
	t.Helper()
	if err := cl.ProduceSync(Context(t), records...).FirstErr(); err != nil {
		t.Fatalf("produce: %v", err)
	}
}

// ProduceTo produces the events to the partitions that partition returns.
func (k *Kafka) ProduceTo(t *testing.T, topic string, events []Event, partition func(i int) int32) {
	t.Helper()
	cl := k.NewClient(t, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	defer cl.Close()
	records := RecordsOf(topic, events)
	for i, r := range records {
		r.Partition = partition(i)
	}
	ProduceWith(t, cl, records...)
}

// Partition identifies one partition.
type Partition struct {
	Topic     string
	Partition int32
}

// EndOffsets returns the end offset of each partition of the topics.
func (k *Kafka) EndOffsets(t *testing.T, topics ...string) map[Partition]int64 {
	t.Helper()
	out, err := k.TryEndOffsets(Context(t), topics...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TryEndOffsets is EndOffsets for a caller that handles the error.
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
	response, err := list.RequestWith(ctx, k.Client)
	if err != nil {
		return nil, fmt.Errorf("list offsets: %w", err)
	}
	out := map[Partition]int64{}
	for _, topic := range response.Topics {
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

// metadata sends a metadata request to any broker, or to the given one.
func metadata(ctx context.Context, of kmsg.Requestor,
	topics ...string) ([]kmsg.MetadataResponseTopic, error) {
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

// Committed returns the committed offsets of the group. A partition without a commit is absent.
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

// commit is a committed offset and its metadata.
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
	response, err := req.RequestWith(ctx, k.Client)
	if err != nil {
		return nil, fmt.Errorf("offset fetch: %w", err)
	}
	out := map[Partition]commit{}
	for _, group := range response.Groups {
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
			t.Logf("lag: %d (%v)", left, err)
		}
	}()
	ctx, cancel := context.WithTimeout(context.Background(), within+time.Second)
	defer cancel()
	Wait(t, "all offsets committed", within, func() bool {
		left, err = k.tryLag(ctx, topics...)
		return err == nil && left == 0
	})
}

// Records returns the number of records of a topic. It waits while a partition has no leader.
func (k *Kafka) Records(t *testing.T, topic string) (n int64) {
	t.Helper()
	var ends map[Partition]int64
	var err error
	Wait(t, "the leaders of "+topic+" return its end offsets", 30*time.Second, func() bool {
		ends, err = k.TryEndOffsets(Context(t), topic)
		return err == nil
	})
	for _, end := range ends {
		n += end
	}
	return n
}

// ReadEach reads a topic from its beginning to its current end. It fails if no record arrives for a
// minute.
func (k *Kafka) ReadEach(t *testing.T, topic string, each func(*kgo.Record)) {
	t.Helper()
	left := k.Records(t, topic)
	cl := k.NewClient(t, kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	defer cl.Close()
	for left > 0 {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		fetches := cl.PollFetches(ctx)
		cancel()
		if err := fetches.Err(); err != nil {
			t.Fatalf("reading %s: %v, %d records left", topic, err, left)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			left--
			each(r)
		})
	}
}

// ReadAll reads a topic from its beginning to its current end.
func (k *Kafka) ReadAll(t *testing.T, topic string) (out []*kgo.Record) {
	t.Helper()
	k.ReadEach(t, topic, func(r *kgo.Record) { out = append(out, r) })
	return out
}
