package brokertest

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

	"markread/consumer/broker"
	"markread/consumer/event"
	"markread/consumer/kafkaclient"
)

// Topics are the topics of a World, with the default names.
var Topics = event.Topics{Live: "mark-read", Backfill: "mark-read-backfill",
	DeadLetter: "mark-read-dead-letters"}

// Group is the default consumer group.
const Group = "markread"

// World is a test with an embedded broker in virtual time.
type World struct {
	*testing.T
	Network kfake.VirtualNetwork
	Broker  *broker.Broker
	Cluster *kfake.Cluster
}

// Run runs a test in a bubble, with a broker that has the Topics with that many partitions.
func Run(t *testing.T, partitions int, test func(w *World)) {
	t.Helper()
	Bubble(t, func(t *testing.T) {
		w := &World{T: t}
		b, err := broker.Start(broker.Options{
			Addr: "127.0.0.1:9092", Partitions: partitions, Listen: w.Network.Listen,
			Topics: []string{Topics.Live, Topics.Backfill, Topics.DeadLetter},
		})
		if err != nil {
			t.Fatal(err)
		}
		w.Broker, w.Cluster = b, b.Cluster()
		t.Cleanup(b.Close)
		test(w)
	})
}

// Client returns a client of the broker. The test closes it.
func (w *World) Client() *kafkaclient.Client { return w.ClientOver(w.Network.DialContext) }

// ClientOver is Client with another dial function.
func (w *World) ClientOver(dial func(ctx context.Context, network, addr string) (net.Conn,
	error)) *kafkaclient.Client {
	w.Helper()
	c, err := kafkaclient.New(kafkaclient.Options{Brokers: []string{w.Broker.Addr()}, Dial: dial,
		Log: zerolog.New(w.Output())})
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(c.Close)
	return c
}

// Kgo returns a client of franz-go, for requests that our client does not have.
func (w *World) Kgo(opts ...kgo.Opt) *kgo.Client {
	w.Helper()
	c, err := kgo.NewClient(append(opts, kgo.SeedBrokers(w.Broker.Addr()),
		kgo.Dialer(w.Network.DialContext))...)
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(c.Close)
	return c
}

// FirstSecond is one second before the first read time of Publish's events, in seconds since 1970.
const FirstSecond = 1_600_000_000

// Publish publishes n events of different conversations to one partition, with a MsgReadTime of
// FirstSecond + 1, + 2 ….
func (w *World) Publish(topic string, partition, n int) {
	w.Helper()
	c := w.Kgo(kgo.RecordPartitioner(kgo.ManualPartitioner()))
	var records []*kgo.Record
	for i := range n {
		records = append(records,
			&kgo.Record{Topic: topic, Partition: int32(partition), Value: Value(i)})
	}
	if err := c.ProduceSync(w.Context(), records...).FirstErr(); err != nil {
		w.Fatal(err)
	}
	c.Close()
}

// Value returns the value of the event with index i of Publish.
func Value(i int) []byte {
	return fmt.Appendf(nil, `{"Report_Account":"r%d","Peer_Account":"p","MsgReadTime":%d}`, i,
		FirstSecond+i+1)
}

// CuttableDialer dials with Dial. A test can cut its connections, and make it refuse new ones.
type CuttableDialer struct {
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	mu   sync.Mutex
	Off  bool
	live []net.Conn
}

// DialContext dials, unless the network is cut.
func (s *CuttableDialer) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	s.mu.Lock()
	off := s.Off
	s.mu.Unlock()
	if off {
		return nil, errors.New("the network is cut")
	}
	conn, err := s.Dial(ctx, network, addr)
	if err == nil {
		s.mu.Lock()
		s.live = append(s.live, conn)
		s.mu.Unlock()
	}
	return conn, err
}

// Cut closes all connections. With off, it refuses new ones until the next call.
func (s *CuttableDialer) Cut(off bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.Off = off
	for _, c := range s.live {
		c.Close()
	}
	s.live = nil
}

// Respond makes the broker respond to a kind of request with what change fills in.
func Respond[A kmsg.Response](w *World, key kmsg.Key,
	change func(request kmsg.Request, response A)) {
	w.Helper()
	w.Cluster.ControlKey(key.Int16(), func(r kmsg.Request) (kmsg.Response, error, bool) {
		w.Cluster.KeepControl()
		a := r.ResponseKind().(A)
		a.SetVersion(r.GetVersion())
		change(r, a)
		return a, nil, true
	})
}

// TopicOffsets returns the current offsets of a topic.
func (w *World) TopicOffsets(c *kafkaclient.Client, topic string) kafkaclient.TopicOffsets {
	w.Helper()
	offsets, err := c.TopicOffsets(w.Context(), topic)
	if err != nil {
		w.Fatal(err)
	}
	return offsets
}
