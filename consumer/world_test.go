package consumer_test

import (
	"bytes"
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"markread/consumer"
	"markread/consumer/broker/brokertest"
	"markread/consumer/event"
	"markread/consumer/kafkaclient"
)

// committed returns the group's committed offset of a partition, -1: none.
func committed(w *brokertest.World, topic string, partition int) int64 {
	g := w.Cluster.GroupInfo(brokertest.Group)
	if g == nil {
		return -1
	}
	commit, ok := g.Commits[topic][int32(partition)]
	if !ok {
		return -1
	}
	return commit.Offset
}

// member is a consumer that stores delivered events, and finishes the ones that the test selects.
type member struct {
	w      *brokertest.World
	topics event.Topics
	rate   int // 0: 200
	now    func() time.Time
	pause  time.Duration // delay before each time it has capacity
	stop   context.CancelFunc
	done   chan struct{} // closed when Consume has returned
	err    error         // what it returned

	mu          sync.Mutex
	generations []*consumer.Generation
	events      []event.Event
	full        bool // has no capacity
	oneDelivery bool // has capacity until the next delivery
	behind      int  // partitions of which more is known to exist than was delivered
	autoFinish  bool // finishes each event immediately
	drain       func(ctx context.Context, g *consumer.Generation)
}

func join(w *brokertest.World, c *kafkaclient.Client, setup ...func(*member)) *member {
	ctx, stop := context.WithCancel(context.Background())
	m := &member{w: w, stop: stop, done: make(chan struct{}), autoFinish: true,
		topics: brokertest.Topics}
	for _, s := range setup {
		s(m)
	}
	go func() {
		defer close(m.done)
		m.err = consumer.Consume(ctx, c, consumer.GroupOptions{Group: brokertest.Group,
			Topics: m.topics, Rate: cmp.Or(m.rate, 200), Now: m.now}, m.serve)
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

func (s sink) WaitForCapacity(ctx context.Context, lane event.Lane) error {
	time.Sleep(s.m.pause)
	for {
		s.m.mu.Lock()
		closed := s.m.full
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

func (s sink) Deliver(events []event.Event) {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	for _, e := range events {
		// they are valid only until we return
		e.Record, e.Report, e.Peer = e.Record.Clone(), bytes.Clone(e.Report), bytes.Clone(e.Peer)
		s.m.events = append(s.m.events, e)
	}
	s.m.full = s.m.full || s.m.oneDelivery
	if s.m.autoFinish {
		for _, e := range events {
			s.g.Finish(e.Ref)
		}
	}
}

func (s sink) Behind(_ event.Lane, n int) {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	s.m.behind += n
}

func (m *member) set(change func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change()
}

// all returns all delivered events.
func (m *member) all() []event.Event {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.events)
}

// generationCount returns how many generations there have been.
func (m *member) generationCount() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.generations)
}

// delivered returns the delivered offsets of a partition, in the order of delivery.
func (m *member) delivered(topic string, partition int) []int64 {
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

func (m *member) event(topic string, offset int64) event.Event {
	m.mu.Lock()
	defer m.mu.Unlock()
	i := slices.IndexFunc(m.events,
		func(e event.Event) bool { return e.Record.Topic == topic && e.Record.Offset == offset })
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

func (m *member) ended() bool {
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
