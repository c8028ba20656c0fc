package consumer

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"markread/consumer/broker"
	"markread/consumer/event"
	"markread/consumer/kafkaclient"
	"markread/consumer/offsets"
)

// nullSink accepts everything and keeps nothing.
type nullSink struct{ received int }

func (*nullSink) WaitForCapacity(context.Context, event.Lane) error { return nil }

func (s *nullSink) Deliver(events []event.Event) { s.received += len(events) }

func (*nullSink) Behind(event.Lane, int) {}

// BenchmarkDeliver measures the path from the bytes of a fetch to the sink.
func BenchmarkDeliver(b *testing.B) {
	header := kgo.RecordHeader{Key: event.HeaderEventTime, Value: []byte("1600000000999")}
	for name, options := range map[string]struct {
		codec   kgo.CompressionCodec
		headers []kgo.RecordHeader
	}{
		"plain":   {codec: kgo.NoCompression()},
		"snappy":  {codec: kgo.SnappyCompression()},
		"headers": {kgo.NoCompression(), []kgo.RecordHeader{header}},
	} {
		b.Run(name, func(b *testing.B) {
			p, f := fetched(b, options.codec, options.headers...)
			records, sink := f.Records, &nullSink{}
			d, err := p.memory.Decoder(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				f.Records, f.Next, p.tracker = records, 0, offsets.New(0, 0)
				p.lastDelivered = fingerprint{}
				if err := p.deliver(b.Context(), sink, f, d); err != nil {
					b.Fatal(err)
				}
			}
			if sink.received == 0 || int64(sink.received)%p.position() != 0 {
				b.Fatal(sink.received)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(sink.received), "ns/event")
		})
	}
}

// fetched returns a partition with events, and the result of a fetch that has some of them.
func fetched(b *testing.B, codec kgo.CompressionCodec, headers ...kgo.RecordHeader) (*partition,
	*kafkaclient.Fetched) {
	const topic = "topic"
	server, err := broker.Start(broker.Options{Partitions: 1, Topics: []string{topic}})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(server.Close)
	producer, err := kgo.NewClient(kgo.SeedBrokers(server.Addr()), kgo.DefaultProduceTopic(topic),
		kgo.ProducerBatchCompression(codec))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(producer.Close)
	records := make([]*kgo.Record, 2_000)
	for i := range records {
		report, peer := fmt.Sprintf("user-%07d", i), fmt.Sprintf("user-%07d", i+1_000_000)
		records[i] = &kgo.Record{Key: event.Key(report, peer), Headers: headers,
			Value: fmt.Appendf(nil, `{"Report_Account":"%s","Peer_Account":"%s",`+
				`"MsgReadTime":"%d"}`, report, peer, 1_600_000_000+i)}
	}
	if err := producer.ProduceSync(b.Context(), records...).FirstErr(); err != nil {
		b.Fatal(err)
	}
	client, err := kafkaclient.New(kafkaclient.Options{Brokers: []string{server.Addr()}})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(client.Close)
	client.UseTopics(topic)
	memory := kafkaclient.NewMemory(kafkaclient.FetchMemory, 0)
	p := &partition{TopicPartition: event.TopicPartition{Topic: topic}, memory: memory,
		g: &Generation{client: client, now: time.Now}}
	f, err := client.Fetch(b.Context(), memory, p.TopicPartition, func() int64 { return 0 },
		kafkaclient.Following)
	if err != nil {
		b.Fatal(err)
	}
	return p, f
}
