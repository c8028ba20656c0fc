//go:build exam && unix

package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"markread/consumer/broker"
)

// The names that the product uses by default: the contract.
const (
	examLive     = "mark-read"
	examBackfill = "mark-read-backfill"
	examLetters  = "mark-read-dead-letters"
	examGroup    = "markread"
)

// examBrokerRole runs the embedded broker until SIGTERM.
func examBrokerRole(args []string, stdout io.Writer) int {
	flags := flag.NewFlagSet("broker", flag.ExitOnError)
	partitions := flags.Int("partitions", 12, "")
	topics := flags.String("topics", strings.Join([]string{examLive, examBackfill, examLetters}, ","), "")
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

// examKafka is a broker and a franz-go client of it. The process and its control exist only of a broker that the exam started by itself.
type examKafka struct {
	*examProc
	addr    string
	control string
	cl      *kgo.Client
}

func examStartBroker(t *testing.T, args ...string) *examKafka {
	t.Helper()
	p := examStart(t, "broker", "broker", nil, args...)
	k := examConnect(t, p.line(t, `listening on (\S+)`, 10*time.Second)[1])
	k.examProc, k.control = p, "http://"+p.line(t, `control on (\S+)`, 10*time.Second)[1]
	return k
}

func examConnect(t *testing.T, addr string) *examKafka {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.ProducerLinger(0), kgo.MaxBufferedRecords(1<<20), kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.MaxVersions(kversion.V3_5_0())) // later versions name a group's topics by their ids
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return &examKafka{addr: addr, cl: cl}
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

// examPartition names one partition.
type examPartition struct {
	topic     string
	partition int32
}

// ends returns the log end of each partition of the topics.
func (k *examKafka) ends(t *testing.T, topics ...string) map[examPartition]int64 {
	t.Helper()
	ctx := examContext(t)
	meta := kmsg.NewPtrMetadataRequest()
	for _, name := range topics {
		topic := kmsg.NewMetadataRequestTopic()
		topic.Topic = kmsg.StringPtr(name)
		meta.Topics = append(meta.Topics, topic)
	}
	found, err := meta.RequestWith(ctx, k.cl)
	if err != nil {
		t.Fatalf("metadata: %v", err)
	}
	list := kmsg.NewPtrListOffsetsRequest()
	for _, topic := range found.Topics {
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
		t.Fatalf("list offsets: %v", err)
	}
	out := map[examPartition]int64{}
	for _, topic := range answer.Topics {
		for _, p := range topic.Partitions {
			if p.ErrorCode != 0 {
				t.Fatalf("list offsets of %s %d: error %d", topic.Topic, p.Partition, p.ErrorCode)
			}
			out[examPartition{topic.Topic, p.Partition}] = p.Offset
		}
	}
	return out
}

// committed returns what the group has committed; a partition without a commit is absent.
func (k *examKafka) committed(t *testing.T) map[examPartition]int64 {
	t.Helper()
	req := kmsg.NewPtrOffsetFetchRequest()
	req.Group = examGroup
	group := kmsg.NewOffsetFetchRequestGroup()
	group.Group = examGroup
	req.Groups = append(req.Groups, group)
	answer, err := req.RequestWith(examContext(t), k.cl)
	if err != nil {
		t.Fatalf("offset fetch: %v", err)
	}
	out := map[examPartition]int64{}
	for _, group := range answer.Groups {
		for _, topic := range group.Topics {
			for _, p := range topic.Partitions {
				if p.Offset >= 0 {
					out[examPartition{topic.Topic, p.Partition}] = p.Offset
				}
			}
		}
	}
	return out
}

// unsettled returns how many records of the topics lie beyond the committed offsets.
func (k *examKafka) unsettled(t *testing.T, topics ...string) int64 {
	t.Helper()
	committed := k.committed(t)
	var left int64
	for p, end := range k.ends(t, topics...) {
		left += end - committed[p]
	}
	return left
}

// settled waits until every record of the topics is committed.
func (k *examKafka) settled(t *testing.T, within time.Duration, topics ...string) {
	t.Helper()
	var left int64
	defer func() {
		if t.Failed() {
			t.Logf("records beyond the committed offsets: %d", left)
		}
	}()
	examWait(t, "all offsets committed", within, func() bool {
		left = k.unsettled(t, topics...)
		return left == 0
	})
}

// readAll reads a topic from its beginning to its present end.
func (k *examKafka) readAll(t *testing.T, topic string) []*kgo.Record {
	t.Helper()
	want := int64(0)
	for _, end := range k.ends(t, topic) {
		want += end
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(k.addr), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
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

// examMetrics is one scrape: the value of each series by its text as Prometheus writes it.
type examMetrics map[string]float64

func examScrape(t *testing.T, admin string) examMetrics {
	t.Helper()
	out := examMetrics{}
	for line := range strings.Lines(examGet(t, admin+"/metrics")) {
		line = strings.TrimSpace(line)
		cut := strings.LastIndexByte(line, ' ')
		if line == "" || line[0] == '#' || cut < 0 {
			continue
		}
		value, err := strconv.ParseFloat(line[cut+1:], 64)
		if err != nil {
			t.Fatalf("metrics: %q", line)
		}
		out[line[:cut]] = value
	}
	return out
}

// sum adds up the series of a metric that have all these labels, each given as name="value".
func (m examMetrics) sum(name string, labels ...string) float64 {
	total := 0.0
series:
	for series, value := range m {
		base, rest, _ := strings.Cut(series, "{")
		if base != name {
			continue
		}
		for _, label := range labels {
			if !strings.Contains("{"+rest, "{"+label) && !strings.Contains(rest, ","+label) {
				continue series
			}
		}
		total += value
	}
	return total
}

// balance checks that every event received has its outcome, and returns a line that says so.
func (m examMetrics) balance(t *testing.T) string {
	t.Helper()
	received, backlog, returned := m.sum("markread_events_received_total"), m.sum("markread_backlog_events"), m.sum("markread_events_returned_total")
	outcomes := m.sum("markread_events_total")
	examCheck(t, received == outcomes+backlog+returned, "received %v, but outcomes %v + backlog %v + returned %v", received, outcomes, backlog, returned)
	return fmt.Sprintf("received %v = applied %v + collapsed %v + superseded %v + dead-lettered %v + backlog %v + returned %v", received,
		m.sum("markread_events_total", `outcome="applied"`), m.sum("markread_events_total", `outcome="collapsed"`),
		m.sum("markread_events_total", `outcome="superseded"`), m.sum("markread_events_total", `outcome="dead_lettered"`), backlog, returned)
}
