package consumer_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

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

// committed returns the group's committed offset of a partition, -1: none.
func (w *world) committed(topic string, partition int) int64 {
	g := w.cluster.GroupInfo(group)
	if g == nil {
		return -1
	}
	commit, ok := g.Commits[topic][int32(partition)]
	if !ok {
		return -1
	}
	return commit.Offset
}

// member is a consumer that keeps what it gets and finishes what the test tells it to.
type member struct {
	w      *world
	topics consumer.Topics
	rate   int // 0: 200
	now    func() time.Time
	pause  time.Duration // before there is room, each time
	stop   context.CancelFunc
	done   chan struct{} // closed when Consume has returned
	err    error         // what it returned

	mu          sync.Mutex
	generations []*consumer.Generation
	events      []consumer.Event
	closed      bool // no room
	once        bool // room until something is delivered
	auto        bool // finishes what it gets
	drain       func(ctx context.Context, g *consumer.Generation)
}

func (w *world) join(c *consumer.Client, setup ...func(*member)) *member {
	ctx, stop := context.WithCancel(context.Background())
	m := &member{w: w, stop: stop, done: make(chan struct{}), auto: true, topics: topics}
	for _, s := range setup {
		s(m)
	}
	go func() {
		defer close(m.done)
		m.err = c.Consume(ctx, consumer.GroupOptions{Group: group, Topics: m.topics, Rate: cmp.Or(m.rate, 200), Now: m.now}, m.serve)
	}()
	w.Cleanup(func() { stop(); <-m.done })
	return m
}

func (m *member) serve(ctx context.Context, g *consumer.Generation) {
	m.mu.Lock()
	m.generations = append(m.generations, g)
	m.mu.Unlock()
	var fetching sync.WaitGroup
	fetching.Go(func() { g.Fetch(ctx, sink{m, g}) })
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-ticker.C:
			if err := g.Commit(ctx); err != nil && ctx.Err() == nil {
				m.w.Logf("commit: %v", err)
			}
		}
	}
	fetching.Wait()
	m.mu.Lock()
	drain := m.drain
	m.mu.Unlock()
	if drain != nil {
		drain(ctx, g)
	}
	if err := g.Commit(context.WithoutCancel(ctx)); err != nil {
		m.w.Logf("last commit: %v", err)
	}
}

type sink struct {
	m *member
	g *consumer.Generation
}

func (s sink) Room(ctx context.Context, lane consumer.Lane) error {
	time.Sleep(s.m.pause)
	for {
		s.m.mu.Lock()
		closed := s.m.closed
		s.m.mu.Unlock()
		if !closed || ctx.Err() != nil {
			return ctx.Err()
		}
		select {
		case <-ctx.Done():
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (s sink) Deliver(events []consumer.Event) {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	for _, e := range events {
		e.Record = e.Record.Clone() // it is valid until we return
		s.m.events = append(s.m.events, e)
	}
	s.m.closed = s.m.closed || s.m.once
	if s.m.auto {
		for _, e := range events {
			s.g.Finish(e.Ref)
		}
	}
}

func (m *member) set(change func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change()
}

// all returns everything that was delivered.
func (m *member) all() []consumer.Event {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.events)
}

// turns returns how many generations there have been.
func (m *member) turns() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.generations)
}

// got returns the offsets of a partition in the order of their delivery.
func (m *member) got(topic string, partition int) []int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	var offsets []int64
	for _, e := range m.events {
		if e.Record.Topic == topic && e.Record.Partition == partition {
			offsets = append(offsets, e.Record.Offset)
		}
	}
	return offsets
}

func (m *member) event(topic string, offset int64) consumer.Event {
	m.mu.Lock()
	defer m.mu.Unlock()
	i := slices.IndexFunc(m.events, func(e consumer.Event) bool { return e.Record.Topic == topic && e.Record.Offset == offset })
	if i < 0 {
		m.w.Fatalf("offset %d of %s was not delivered", offset, topic)
	}
	return m.events[i]
}

// generation returns the newest generation, nil: none yet.
func (m *member) generation() *consumer.Generation {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.generations) == 0 {
		return nil
	}
	return m.generations[len(m.generations)-1]
}

func (m *member) gone() bool {
	select {
	case <-m.done:
		return true
	default:
		return false
	}
}

func (m *member) leave() {
	m.w.Helper()
	m.stop()
	if <-m.done; m.err != nil {
		m.w.Errorf("Consume: %v", m.err)
	}
}

func offsets(from, to int64) []int64 {
	var all []int64
	for ; from < to; from++ {
		all = append(all, from)
	}
	return all
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
