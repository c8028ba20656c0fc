package consumer_test

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"markread/consumer/admin"
	"markread/consumer/deadletter"
	"markread/consumer/event"
	"markread/consumer/kafkaclient"
)

// CheckTopics creates the topics. The largest record that they accept becomes a dead letter with
// its whole value.
func TestRealTopicsCreated(t *testing.T) {
	t.Parallel()
	r := onBroker(t, 0)
	for _, topic := range []string{r.topics.Live, r.topics.Backfill, r.topics.DeadLetter} {
		t.Cleanup(func() { r.delete(topic) })
	}
	c := r.client()
	// CheckTopics waits for unreachable brokers until its context ends
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var missing *kafkaclient.MissingTopicError
	if err := admin.CheckTopics(ctx, c, r.topics, false); !errors.As(err, &missing) ||
		len(missing.Topics) != 3 {
		t.Fatalf("before: %v", err)
	}
	for range 2 { // the second time they exist
		if err := admin.CheckTopics(ctx, c, r.topics, true); err != nil {
			t.Fatal(err)
		}
	}
	nodes := len(mustRequest(r, kmsg.NewPtrMetadataRequest()).Brokers)
	for _, topic := range []string{r.topics.Live, r.topics.Backfill, r.topics.DeadLetter} {
		r.waitForMetadata(topic, 11)
		d := r.describe(topic)
		if len(d.Partitions) != 12 {
			t.Errorf("%s has %d partitions", topic, len(d.Partitions))
		}
		for _, p := range d.Partitions {
			if r.cluster == nil && len(p.Replicas) != min(nodes, 3) { // what deploy/kafka sets
				t.Errorf("%s/%d has %d replicas on %d nodes", topic, p.Partition, len(p.Replicas),
					nodes)
			}
		}
	}
	want := map[string]string{"cleanup.policy": "delete", "retention.ms": "-1",
		"max.message.bytes": "1114124"}
	if got := r.settings(r.topics.DeadLetter, "cleanup.policy", "retention.ms",
		"max.message.bytes"); !maps.Equal(got, want) {
		t.Errorf("settings of the dead-letter topic: %v, want %v", got, want)
	}
	if got := r.settings(r.topics.Live, "cleanup.policy",
		"max.message.bytes"); got["max.message.bytes"] != "1048588" {
		t.Errorf("settings of the live topic: %v", got)
	}

	m := r.join(c)
	event := r.largest(m)
	letter := r.writeDeadLetter(c, r.topics.DeadLetter, event)
	if !bytes.Equal(letter.Value, event.Record.Value) ||
		header(letter, "markread.value-omitted") != "" {
		t.Errorf("the dead letter's value has %d bytes, want %d", len(letter.Value),
			len(event.Record.Value))
	}
	m.leave()
}

// When the dead-letter topic accepts smaller records than the others, the value is omitted, and the
// event still finishes.
func TestRealDeadLetterTooLarge(t *testing.T) {
	t.Parallel()
	r := onBroker(t, 1)
	small := r.topics.DeadLetter + "-small"
	r.create(small, 1, "max.message.bytes=20000")
	c := r.client()
	m := r.join(c)
	event := r.largest(m)
	letter := r.writeDeadLetter(c, small, event)
	if len(letter.Value) != 0 || letter.Value == nil ||
		header(letter, "markread.value-omitted") != "1048516" {
		t.Errorf("the dead letter has a value of %d bytes, omitted %q", len(letter.Value),
			header(letter, "markread.value-omitted"))
	}
	m.leave()
}

// largest produces the largest record that a topic accepts with Kafka's default max.message.bytes,
// and returns the event that the member received.
func (r *realTest) largest(m *member) event.Event {
	r.Helper()
	const largest = 1048588 - 61 - 11 // less the headers of the batch and of its record
	c := r.kgo(kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.ProducerBatchMaxBytes(2<<20))
	record := func(n int) *kgo.Record {
		return &kgo.Record{Topic: r.topics.Live, Value: []byte(strings.Repeat("x", n)),
			Timestamp: time.UnixMilli(time.Now().UnixMilli())}
	}
	if err := c.ProduceSync(r.Context(), record(largest+1)).
		FirstErr(); !errors.Is(err, kerr.MessageTooLarge) {
		r.Errorf("a record of %d bytes: %v", largest+1, err)
	}
	if err := c.ProduceSync(r.Context(), record(largest)).FirstErr(); err != nil {
		r.Fatalf("a record of %d bytes: %v", largest, err)
	}
	r.waitFor(m, r.topics.Live, 0, 1)
	r.waitForCommit(m, r.topics.Live, 0, 1)
	e := m.event(r.topics.Live, 0)
	if len(e.Record.Value) != largest || e.Invalid == nil {
		r.Errorf("an event with a value of %d bytes, invalid: %v", len(e.Record.Value), e.Invalid)
	}
	return e
}

// writeDeadLetter writes a dead letter for the event, and reads it with the other client.
func (r *realTest) writeDeadLetter(c *kafkaclient.Client, topic string, e event.Event) *kgo.Record {
	r.Helper()
	err := deadletter.NewWriter(c, topic).Write(r.Context(), event.DeadLetter{
		Event: e, Class: "invalid", Message: strings.Repeat("m", 2000), Collapsed: 1,
		FailedAt: time.Now(), Group: r.group,
	})
	if err != nil {
		r.Fatalf("dead letter: %v", err)
	}
	reader := r.kgo(kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchMaxBytes(8<<20))
	var found []*kgo.Record
	r.eventually(20*time.Second, "the dead letter can be read", func() bool {
		found = append(found, reader.PollFetches(r.Context()).Records()...)
		return len(found) > 0
	})
	if len(found) != 1 || header(found[0], "__dlq.errors.topic") != e.Record.Topic ||
		header(found[0], "__dlq.errors.offset") != "0" {
		r.Fatalf("%d dead letters, of %s", len(found), header(found[0], "__dlq.errors.topic"))
	}
	return found[0]
}

func header(record *kgo.Record, key string) string {
	for _, h := range record.Headers {
		if h.Key == key {
			return string(h.Value)
		}
	}
	return ""
}

// settings returns the named settings of a topic.
func (r *realTest) settings(topic string, names ...string) map[string]string {
	r.Helper()
	request := kmsg.NewPtrDescribeConfigsRequest()
	resource := kmsg.NewDescribeConfigsRequestResource()
	resource.ResourceType, resource.ResourceName, resource.ConfigNames =
		kmsg.ConfigResourceTypeTopic, topic, names
	request.Resources = append(request.Resources, resource)
	settings := map[string]string{}
	for _, c := range mustRequest(r, request).Resources[0].Configs {
		if c.Value != nil {
			settings[c.Name] = *c.Value
		}
	}
	return settings
}
