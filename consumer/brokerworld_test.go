package consumer_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"

	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"markread/consumer"
	"markread/consumer/broker"
	"markread/consumer/broker/brokertest"
)

var topics = consumer.Topics{Live: "mark-read", Backfill: "mark-read-backfill", DeadLetter: "mark-read-dead-letters"}

const group = "markread"

// world is an embedded broker in virtual time, and what is needed to look at it from outside.
type world struct {
	*testing.T
	network kfake.VirtualNetwork
	broker  *broker.Broker
	cluster *kfake.Cluster
}

// inWorld runs a test in a bubble with a broker that has the topics, of so many partitions.
func inWorld(t *testing.T, partitions int, test func(w *world)) {
	t.Helper()
	brokertest.Bubble(t, func(t *testing.T) {
		w := &world{T: t}
		b, err := broker.Start(broker.Options{
			Addr: "127.0.0.1:9092", Partitions: partitions, Listen: w.network.Listen,
			Topics: []string{topics.Live, topics.Backfill, topics.DeadLetter},
		})
		if err != nil {
			t.Fatal(err)
		}
		w.broker, w.cluster = b, b.Cluster()
		t.Cleanup(b.Close)
		test(w)
	})
}

func (w *world) client() *consumer.Client { return w.clientOver(w.network.DialContext) }

func (w *world) clientOver(dial func(ctx context.Context, network, addr string) (net.Conn, error)) *consumer.Client {
	w.Helper()
	c, err := consumer.New(consumer.Options{Brokers: []string{w.broker.Addr()}, Dial: dial, Log: zerolog.New(w.Output())})
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(c.Close)
	return c
}

// kgo returns another Kafka client, for what ours doesn't do.
func (w *world) kgo(opts ...kgo.Opt) *kgo.Client {
	w.Helper()
	c, err := kgo.NewClient(append(opts, kgo.SeedBrokers(w.broker.Addr()), kgo.Dialer(w.network.DialContext))...)
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(c.Close)
	return c
}

// firstSecond is before all read times of the events that publish makes.
const firstSecond = 1_600_000_000

// publish publishes n events of different conversations to one partition, with MsgReadTime firstSecond + 1, + 2 ….
func (w *world) publish(topic string, partition, n int) {
	w.Helper()
	c := w.kgo(kgo.RecordPartitioner(kgo.ManualPartitioner()))
	var records []*kgo.Record
	for i := range n {
		records = append(records, &kgo.Record{Topic: topic, Partition: int32(partition), Value: value(i)})
	}
	if err := c.ProduceSync(w.Context(), records...).FirstErr(); err != nil {
		w.Fatal(err)
	}
	c.Close()
}

func value(i int) []byte {
	return fmt.Appendf(nil, `{"Report_Account":"r%d","Peer_Account":"p","MsgReadTime":%d}`, i, firstSecond+i+1)
}

// switchboard is a dial function whose connections can be cut, and refused.
type switchboard struct {
	dial func(ctx context.Context, network, addr string) (net.Conn, error)
	mu   sync.Mutex
	off  bool
	live []net.Conn
}

func (s *switchboard) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	s.mu.Lock()
	off := s.off
	s.mu.Unlock()
	if off {
		return nil, errors.New("the line is cut")
	}
	conn, err := s.dial(ctx, network, addr)
	if err == nil {
		s.mu.Lock()
		s.live = append(s.live, conn)
		s.mu.Unlock()
	}
	return conn, err
}

func (s *switchboard) cut(off bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.off = off
	for _, c := range s.live {
		c.Close()
	}
	s.live = nil
}

// answer lets the broker answer requests of a kind as change makes it of what it would say.
func answer[A kmsg.Response](w *world, key kmsg.Key, change func(request kmsg.Request, answer A)) {
	w.Helper()
	w.cluster.ControlKey(key.Int16(), func(r kmsg.Request) (kmsg.Response, error, bool) {
		w.cluster.KeepControl()
		a := r.ResponseKind().(A)
		a.SetVersion(r.GetVersion())
		change(r, a)
		return a, nil, true
	})
}

func (w *world) extent(c *consumer.Client, topic string) consumer.Extent {
	w.Helper()
	extent, err := c.Extent(w.Context(), topic)
	if err != nil {
		w.Fatal(err)
	}
	return extent
}
