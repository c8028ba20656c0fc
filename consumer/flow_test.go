package consumer_test

import (
	"context"
	"errors"
	"net"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"markread/consumer"
	"markread/consumer/broker/brokertest"
	"markread/consumer/event"
)

func TestJoinDeliverFinishCommit(t *testing.T) {
	brokertest.Run(t, 4, func(w *brokertest.World) {
		w.Publish(brokertest.Topics.Live, 1, 2000)
		w.Publish(brokertest.Topics.Backfill, 1, 5)
		m := join(w, w.Client(), func(m *member) { m.autoFinish = false })
		time.Sleep(10 * time.Second)

		g := m.generation()
		if len(g.Assigned()) != 8 || !slices.Equal(g.Assigned(), g.All()) {
			w.Fatalf("assigned %v of %v", g.Assigned(), g.All())
		}
		if got := m.delivered(brokertest.Topics.Live, 1); !slices.Equal(got, offsets(0, 2000)) {
			w.Fatalf("got %d events", len(got))
		}
		e := m.event(brokertest.Topics.Live, 17)
		if e.Invalid != nil || string(e.Report) != "r17" || string(e.Peer) != "p" ||
			e.ReadTime != brokertest.FirstSecond+18 || e.Lane != event.Live {
			w.Errorf("event %+v", e)
		}
		if e := m.event(brokertest.Topics.Backfill, 1); e.Lane != event.Backfill {
			w.Errorf("lane %v", e.Lane)
		}
		if proof := g.LastProof(); time.Since(proof) > 1100*time.Millisecond {
			w.Errorf("the last proof of membership is %v old", time.Since(proof))
		}

		if end := state(g, brokertest.Topics.Live, 1).HighWatermark; end != 2000 {
			w.Errorf("the log ends at %d, want 2000", end)
		}
		w.Publish(brokertest.Topics.Live, 1, 1)
		time.Sleep(100 * time.Millisecond)
		if end := state(g, brokertest.Topics.Live, 1).HighWatermark; end != 2001 {
			w.Errorf("the log ends at %d, want 2001", end)
		}

		// Nothing has finished: only the start offset is committed.
		if got := committed(w, brokertest.Topics.Live, 1); got != 0 {
			w.Errorf("committed %d, want 0", got)
		}
		for offset := int64(1); offset < 2001; offset++ {
			if offset != 1000 {
				g.Finish(m.event(brokertest.Topics.Live, offset).Ref)
			}
		}
		time.Sleep(2 * time.Second)
		if got := committed(w, brokertest.Topics.Live, 1); got != 0 {
			w.Errorf("committed %d past an unfinished event", got)
		}
		g.Finish(m.event(brokertest.Topics.Live, 0).Ref)
		time.Sleep(2 * time.Second)
		if got := committed(w, brokertest.Topics.Live, 1); got != 1000 {
			w.Errorf("committed %d, want 1000", got)
		}
		if s := state(g, brokertest.Topics.Live, 1); s.Committed != 1000 ||
			s.HighWatermark != 2001 || s.Lag != 1001 || s.Oldest == nil ||
			s.Oldest.Offset != 1000 || s.Oldest.Ref != m.event(brokertest.Topics.Live, 1000).Ref {
			w.Errorf("state %+v, oldest %+v", s, s.Oldest)
		}
		commits := w.Cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetCommit}, Observe: true,
			Count: -1})
		time.Sleep(10 * time.Second)
		if n := commits.Hits(); n != 0 {
			w.Errorf("%d commits although nothing advanced", n)
		}
		g.Finish(m.event(brokertest.Topics.Live, 1000).Ref)
		m.leave()
		if c := w.Cluster.GroupInfo(brokertest.Group).
			Commits[brokertest.Topics.Live][1]; c.Offset != 2001 || c.LeaderEpoch != -1 {
			w.Errorf("committed %+v at the end, want 2001 and no leader epoch", c)
		}
		g.Finish(m.event(brokertest.Topics.Backfill, 0).Ref)
		sent := commits.Hits()
		var ended *consumer.CommitError
		if err := g.Commit(w.Context()); !errors.As(err, &ended) || !ended.Fenced ||
			commits.Hits() != sent {
			w.Errorf("a commit after the end was sent, or returned %v", err)
		}
		if got := w.Cluster.GroupInfo(brokertest.Group); len(got.Members) != 0 {
			w.Error("the member has not left")
		}
	})
}

func state(g *consumer.Generation, topic string, partition int) consumer.PartitionState {
	for _, s := range g.Partitions() {
		if s.Topic == topic && s.Partition == partition {
			return s
		}
	}
	return consumer.PartitionState{}
}

func TestRestartResumesAtCommitted(t *testing.T) {
	brokertest.Run(t, 1, func(w *brokertest.World) {
		w.Publish(brokertest.Topics.Live, 0, 10)
		m := join(w, w.Client(), func(m *member) { m.autoFinish = false })
		time.Sleep(5 * time.Second)
		for offset := int64(0); offset < 4; offset++ {
			m.generation().Finish(m.event(brokertest.Topics.Live, offset).Ref)
		}
		m.generation().Finish(m.event(brokertest.Topics.Live, 6).Ref)
		m.leave()
		again := join(w, w.Client())
		time.Sleep(5 * time.Second)
		again.leave()
		if got := again.delivered(brokertest.Topics.Live, 0); !slices.Equal(got,
			[]int64{4, 5, 7, 8, 9}) {
			w.Errorf("after the restart got %v, want what had not finished", got)
		}
		if got := committed(w, brokertest.Topics.Live, 0); got != 10 {
			w.Errorf("committed %d", got)
		}
	})
}

// The first member must hand over half of its partitions. What it finishes while draining is
// committed, and the second member starts after it.
func TestRevokeDrainsBeforeOthersBegin(t *testing.T) {
	brokertest.Run(t, 2, func(w *brokertest.World) {
		for p := range 2 {
			w.Publish(brokertest.Topics.Live, p, 100)
			w.Publish(brokertest.Topics.Backfill, p, 100)
		}
		first := join(w, w.Client(), func(m *member) {
			m.autoFinish = false
			m.drain = func(ctx context.Context, g *consumer.Generation) {
				time.Sleep(20 * time.Second) // longer than the session
				for _, e := range m.all() {
					g.Finish(e.Ref)
				}
				if age := time.Since(g.LastProof()); age > 1100*time.Millisecond {
					w.Errorf("in the drain the last proof is %v old", age)
				}
				m.set(func() { m.autoFinish, m.drain = true, nil })
			}
		})
		time.Sleep(5 * time.Second)
		second := join(w, w.Client())
		time.Sleep(15 * time.Second)
		if second.generation() != nil {
			w.Error("the second member began while the first was draining")
		}
		time.Sleep(15 * time.Second)
		for _, topic := range []string{brokertest.Topics.Live, brokertest.Topics.Backfill} {
			for p := range 2 {
				if got := committed(w, topic, p); got != 100 {
					w.Errorf("committed %s/%d: %d, want 100", topic, p, got)
				}
			}
		}
		if n := len(second.all()); n != 0 {
			w.Errorf("%d events were delivered again", n)
		}
		one, two := first.generation().Assigned(), second.generation().Assigned()
		if len(one) != 2 || len(two) != 2 || one[0].Partition != one[1].Partition ||
			two[0].Partition != two[1].Partition ||
			one[0].Partition == two[0].Partition {
			w.Errorf("assigned %v and %v", one, two)
		}
		if len(first.generation().All()) != 4 {
			w.Errorf("all: %v", first.generation().All())
		}
		first.leave()
		time.Sleep(5 * time.Second)
		if got := second.generation().Assigned(); len(got) != 4 {
			w.Errorf("after the first left, assigned %v", got)
		}
		second.leave()
	})
}

// A member whose session has expired must not overwrite the commits of the new owner.
func TestStaleCommitIsFenced(t *testing.T) {
	brokertest.Run(t, 1, func(w *brokertest.World) {
		w.Publish(brokertest.Topics.Live, 0, 10)
		line := &brokertest.CuttableDialer{Dial: w.Network.DialContext}
		stuck := make(chan struct{})
		first := join(w, w.ClientOver(line.DialContext), func(m *member) {
			m.autoFinish = false
			m.drain = func(ctx context.Context, g *consumer.Generation) { <-stuck }
		})
		time.Sleep(5 * time.Second)
		old := first.generation()
		line.Cut(true)
		second := join(w, w.Client())
		time.Sleep(time.Minute)
		if got := committed(w, brokertest.Topics.Live, 0); got != 10 {
			w.Fatalf("the second member committed %d", got)
		}
		line.Cut(false)
		old.Finish(first.event(brokertest.Topics.Live, 0).Ref)
		var refused *consumer.CommitError
		if err := old.Commit(context.Background()); !errors.As(err, &refused) || !refused.Fenced ||
			refused.Topic != brokertest.Topics.Live || refused.Partition != 0 ||
			(refused.Code != "22" && refused.Code != "25") {
			w.Errorf("stale commit: %v (%+v)", err, refused)
		}
		if got := committed(w, brokertest.Topics.Live, 0); got != 10 {
			w.Errorf("a stale commit moved the offset to %d", got)
		}
		close(stuck)
		first.set(func() { first.drain = nil })
		first.leave()
		second.leave()
		if err := old.Commit(context.Background()); !errors.As(err, &refused) || !refused.Fenced {
			w.Errorf("commit after serve has returned: %v", err)
		}
	})
}

// A delayed commit is applied after a later one, and sets the offset back. The offset is corrected,
// even if nothing advances any more.
func TestLateCommit(t *testing.T) {
	brokertest.Run(t, 1, func(w *brokertest.World) {
		w.Publish(brokertest.Topics.Live, 0, 10)
		m := join(w, w.Client())
		time.Sleep(5 * time.Second)
		g := m.generation()
		late := commitOf{topic: brokertest.Topics.Live, offset: 4, generation: g.ID(),
			member: g.Member()}.request(brokertest.Group)
		if answer, err := late.RequestWith(w.Context(),
			w.Kgo(kgo.MaxVersions(kversion.V2_8_0()))); err != nil ||
			answer.Topics[0].Partitions[0].ErrorCode != 0 {
			w.Fatalf("the late commit: %v, %+v", err, answer)
		}
		if got := committed(w, brokertest.Topics.Live, 0); got != 4 {
			w.Fatalf("the late commit set the offset to %d", got)
		}
		time.Sleep(31 * time.Second)
		if got := committed(w, brokertest.Topics.Live, 0); got != 10 {
			w.Errorf("31 s later the offset is still %d", got)
		}
		m.leave()
	})
}

// The next commit does not overtake a commit that is cancelled while it is in flight.
func TestCancelledCommit(t *testing.T) {
	brokertest.Run(t, 1, func(w *brokertest.World) {
		var slow atomic.Bool // the next commit takes a second to arrive
		dial := func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := w.Network.DialContext(ctx, network, addr)
			return &slowCommit{conn, &slow}, err
		}
		w.Publish(brokertest.Topics.Live, 0, 10)
		m := join(w, w.ClientOver(dial), func(m *member) { m.autoFinish = false })
		time.Sleep(5 * time.Second)
		m.set(func() {
			m.drain = func(_ context.Context, g *consumer.Generation) {
				events := m.all()
				g.Finish(events[0].Ref)
				slow.Store(true)
				ctx, cancel := context.WithCancel(context.Background())
				time.AfterFunc(100*time.Millisecond, cancel)
				if err := g.Commit(ctx); err != nil && !errors.Is(err, context.Canceled) {
					w.Error(err)
				}
				for _, e := range events[1:] {
					g.Finish(e.Ref)
				}
				if err := g.Commit(context.Background()); err != nil {
					w.Error(err)
				}
				time.Sleep(3 * time.Second)
				if got := committed(w, brokertest.Topics.Live, 0); slow.Load() || got != 10 {
					w.Errorf("committed %d, want 10", got)
				}
			}
		})
		m.leave()
	})
}

// Commit returns at its deadline, even if the response takes longer.
func TestCommitKeepsItsDeadline(t *testing.T) {
	brokertest.Run(t, 1, func(w *brokertest.World) {
		w.Publish(brokertest.Topics.Live, 0, 10)
		m := join(w, w.Client(), func(m *member) { m.autoFinish = false })
		time.Sleep(5 * time.Second)
		m.set(func() {
			m.drain = func(_ context.Context, g *consumer.Generation) {
				g.Finish(m.all()[0].Ref)
				w.Cluster.ControlKey(int16(kmsg.OffsetCommit),
					func(kmsg.Request) (kmsg.Response, error, bool) {
						w.Cluster.SleepControl(func() { time.Sleep(time.Second) })
						return nil, nil, false
					})
				ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
				defer cancel()
				began := time.Now()
				err := g.Commit(ctx)
				if took := time.Since(began); err == nil || took > 300*time.Millisecond {
					w.Errorf("%v after %v", err, took)
				}
				time.Sleep(3 * time.Second)
			}
		})
		m.leave()
	})
}

// slowCommit is a connection that delays the next commit by a second.
type slowCommit struct {
	net.Conn
	next *atomic.Bool
}

func (c *slowCommit) Write(b []byte) (int, error) {
	if len(b) > 5 && kmsg.Key(b[5]) == kmsg.OffsetCommit && c.next.CompareAndSwap(true, false) {
		time.Sleep(time.Second)
	}
	return c.Conn.Write(b)
}

// Without capacity nothing is fetched, but the end of the log is known.
func TestNoFetchWithoutCapacity(t *testing.T) {
	brokertest.Run(t, 1, func(w *brokertest.World) {
		m := join(w, w.Client(), func(m *member) { m.full = true })
		time.Sleep(5 * time.Second)
		w.Publish(brokertest.Topics.Live, 0, 5000)
		time.Sleep(time.Minute)
		if n := len(m.delivered(brokertest.Topics.Live, 0)); n != 0 {
			w.Errorf("%d events without capacity", n)
		}
		for _, s := range m.generation().Partitions() {
			if s.Topic == brokertest.Topics.Live && (s.HighWatermark != 5000 || s.Lag != 5000) {
				w.Errorf("state %+v", s)
			}
		}
		m.set(func() { m.full, m.oneDelivery = false, true }) // capacity for one delivery
		time.Sleep(5 * time.Second)
		if n := len(m.delivered(brokertest.Topics.Live, 0)); n == 0 || n > 512 {
			w.Errorf("%d events with capacity for one delivery", n)
		}
		m.set(func() { m.full, m.oneDelivery = false, false })
		time.Sleep(5 * time.Second)
		if got := m.delivered(brokertest.Topics.Live, 0); !slices.Equal(got, offsets(0, 5000)) {
			w.Errorf("got %d events", len(got))
		}
		m.leave()
	})
}
