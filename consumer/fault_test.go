package consumer_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"markread/consumer"
	"markread/consumer/broker/brokertest"
	"markread/consumer/kafkaclient"
)

// watchCommits checks that no commit sets a partition's offset back.
func watchCommits(w *brokertest.World) {
	last := map[string]int64{}
	w.Cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetCommit}, Observe: true, Count: -1,
		When: func(r kmsg.Request) bool {
			for _, t := range r.(*kmsg.OffsetCommitRequest).Topics {
				for _, p := range t.Partitions {
					name := fmt.Sprintf("%s/%d", t.Topic, p.Partition)
					if p.Offset < last[name] {
						w.Errorf("%s: committed %d after %d", name, p.Offset, last[name])
					}
					last[name] = p.Offset
				}
			}
			return true
		}})
}

// For a while a broker responds to one kind of request with each error. In the end all events are
// delivered and committed, in order; no commit goes backwards; and Consume continues.
func TestEveryErrorOnEveryRequest(t *testing.T) {
	codes := []*kerr.Error{
		kerr.UnknownServerError, kerr.OffsetOutOfRange, kerr.CorruptMessage,
		kerr.UnknownTopicOrPartition, kerr.LeaderNotAvailable,
		kerr.NotLeaderForPartition, kerr.RequestTimedOut, kerr.ReplicaNotAvailable,
		kerr.CoordinatorLoadInProgress,
		kerr.CoordinatorNotAvailable, kerr.NotCoordinator, kerr.IllegalGeneration,
		kerr.UnknownMemberID, kerr.RebalanceInProgress,
		kerr.TopicAuthorizationFailed, kerr.GroupAuthorizationFailed, kerr.KafkaStorageError,
		kerr.FencedLeaderEpoch,
		kerr.UnknownLeaderEpoch, kerr.OffsetNotAvailable, kerr.UnstableOffsetCommit,
		kerr.PolicyViolation, kerr.ThrottlingQuotaExceeded,
	}
	// slow with the race detector: use every third code, which covers each kind
	if testing.Short() {
		n := -1
		codes = slices.DeleteFunc(codes, func(*kerr.Error) bool { n++; return n%3 != 0 })
	}
	keys := []kmsg.Key{
		kmsg.Fetch, kmsg.ListOffsets, kmsg.Metadata, kmsg.OffsetCommit, kmsg.OffsetFetch,
		kmsg.FindCoordinator,
		kmsg.JoinGroup, kmsg.Heartbeat, kmsg.LeaveGroup, kmsg.SyncGroup,
	}
	for _, key := range keys {
		t.Run(key.Name(), func(t *testing.T) {
			brokertest.Run(t, 1, func(w *brokertest.World) {
				watchCommits(w)
				m := join(w, w.Client())
				time.Sleep(5 * time.Second)
				published := int64(0)
				var got []int64
				for _, code := range codes {
					// otherwise the waiting fetch would return the events before the fault
					m.set(func() { m.full = true })
					w.Publish(brokertest.Topics.Live, 0, 10)
					published += 10
					fault := w.Cluster.Fault(kfake.Fault{Keys: []kmsg.Key{key}, Err: code,
						Count: 5})
					m.set(func() { m.full = false })
					if key == kmsg.JoinGroup || key == kmsg.SyncGroup || key == kmsg.OffsetFetch ||
						key == kmsg.FindCoordinator || key == kmsg.LeaveGroup {
						// These requests are sent only in a rebalance: cause one.
						other := join(w, w.Client())
						time.Sleep(10 * time.Second)
						other.stop()
						<-other.done
						got = append(got, other.delivered(brokertest.Topics.Live, 0)...)
					}
					time.Sleep(20 * time.Second)
					if got := committed(w, brokertest.Topics.Live, 0); got != published {
						w.Fatalf("%v: committed %d, want %d", code, got, published)
					}
					if m.ended() {
						w.Fatalf("%v: Consume has returned %v", code, m.err)
					}
					if hits := fault.Hits(); hits == 0 && key != kmsg.ListOffsets &&
						key != kmsg.LeaveGroup {
						w.Errorf("%v was never returned", code)
					}
					fault.Remove()
				}
				m.leave()
				got = append(got, m.delivered(brokertest.Topics.Live, 0)...)
				slices.Sort(got)
				if !slices.Equal(got, offsets(0, published)) {
					w.Errorf("%d events were delivered, want %d, each once", len(got), published)
				}
				if lost := m.generation().Lost(); len(lost) != 0 {
					w.Errorf("lost %v", lost)
				}
			})
		})
	}
}

// A commit that was applied without a response is sent again, which is harmless.
func TestLostCommitResponses(t *testing.T) {
	brokertest.Run(t, 1, func(w *brokertest.World) {
		watchCommits(w)
		// the broker applies the commit all the same
		w.Cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetCommit}, Err: kerr.RequestTimedOut,
			Count: 20})
		m := join(w, w.Client())
		for i := range 20 {
			w.Publish(brokertest.Topics.Live, 0, 10)
			time.Sleep(time.Second)
			if i == 10 {
				w.Cluster.ControlKey(int16(kmsg.OffsetCommit),
					func(kmsg.Request) (kmsg.Response, error, bool) {
						return nil, errors.New("cut"), true
					})
			}
		}
		time.Sleep(20 * time.Second)
		if got := m.delivered(brokertest.Topics.Live, 0); !slices.Equal(got, offsets(0, 200)) ||
			committed(w, brokertest.Topics.Live, 0) != 200 {
			w.Errorf("got %d, committed %d", len(got), committed(w, brokertest.Topics.Live, 0))
		}
		m.leave()
	})
}

// Commit returns an error for the refused partitions, and the rest of the commit is valid.
func TestCommitErrors(t *testing.T) {
	brokertest.Run(t, 2, func(w *brokertest.World) {
		for p := range 2 {
			w.Publish(brokertest.Topics.Live, p, 10)
		}
		var result error
		m := join(w, w.Client(), func(m *member) {
			m.drain = func(ctx context.Context, g *consumer.Generation) {
				w.Cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetCommit},
					Topic: brokertest.Topics.Live, Partitions: []int32{1},
					Err: kerr.TopicAuthorizationFailed})
				result = g.Commit(context.WithoutCancel(ctx))
			}
		})
		// No commit before the one under test.
		w.Cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetCommit},
			Err: kerr.InvalidCommitOffsetSize, Count: 3})
		time.Sleep(3500 * time.Millisecond)
		m.leave()
		var e *consumer.CommitError
		if !errors.As(result, &e) || e.Topic != brokertest.Topics.Live || e.Partition != 1 ||
			e.Code != "29" || e.Fenced {
			w.Errorf("got %v", result)
		}
	})
}

// Commit retries temporary failures itself, because at the end of a drain there is no later Commit.
// So does leaving the group.
func TestLastCommitAndLeaveAreRetried(t *testing.T) {
	brokertest.Run(t, 1, func(w *brokertest.World) {
		m := join(w, w.Client(), func(m *member) {
			m.autoFinish = false
			m.drain = func(ctx context.Context, g *consumer.Generation) {
				g.Finish(m.event(brokertest.Topics.Live, 0).Ref)
				w.Cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetCommit, kmsg.LeaveGroup},
					Err: kerr.NotCoordinator, Count: 3})
			}
		})
		w.Publish(brokertest.Topics.Live, 0, 1)
		time.Sleep(5 * time.Second)
		m.leave()
		if got := committed(w, brokertest.Topics.Live, 0); got != 1 {
			w.Errorf("committed %d", got)
		}
		w.Cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.LeaveGroup}, Err: kerr.NotCoordinator,
			Count: 3})
		m = join(w, w.Client())
		time.Sleep(5 * time.Second)
		m.leave()
		if n := len(w.Cluster.GroupInfo(brokertest.Group).Members); n != 0 {
			w.Errorf("%d members have not left", n)
		}
	})
}

// An error instead of a committed offset does not mean that nothing is committed.
func TestOffsetsThatCannotBeFetched(t *testing.T) {
	brokertest.Run(t, 1, func(w *brokertest.World) {
		w.Publish(brokertest.Topics.Live, 0, 10)
		m := join(w, w.Client())
		time.Sleep(5 * time.Second)
		m.leave()
		w.Cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetFetch},
			Topic: brokertest.Topics.Live, Err: kerr.UnstableOffsetCommit, Count: 5})
		m = join(w, w.Client())
		time.Sleep(10 * time.Second)
		if got := m.delivered(brokertest.Topics.Live, 0); len(got) != 0 || m.generation() == nil {
			w.Errorf("%d events were delivered again", len(got))
		}
		m.leave()
	})
}

// With three brokers, a member's connections are cut every second, and leaders and the coordinator
// move.
func TestNothingIsLostWhileEverythingMoves(t *testing.T) {
	brokertest.Bubble(t, func(t *testing.T) {
		w := &brokertest.World{T: t}
		cluster, err := kfake.NewCluster(kfake.Ports(9092, 9093, 9094),
			kfake.ListenFn(w.Network.Listen),
			kfake.SeedTopics(6, brokertest.Topics.Live, brokertest.Topics.Backfill,
				brokertest.Topics.DeadLetter))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(cluster.Close)
		w.Cluster = cluster
		watchCommits(w)
		brokers := []string{"localhost:9092", "localhost:9093", "localhost:9094"}
		lines := []*brokertest.CuttableDialer{{Dial: w.Network.DialContext},
			{Dial: w.Network.DialContext}}
		var members []*member
		for _, line := range lines {
			c, err := kafkaclient.New(kafkaclient.Options{Brokers: brokers, Dial: line.DialContext,
				Log: zerolog.New(t.Output())})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(c.Close)
			members = append(members, join(w, c))
		}
		producer, err := kgo.NewClient(kgo.SeedBrokers(brokers...),
			kgo.Dialer(w.Network.DialContext), kgo.DefaultProduceTopic(brokertest.Topics.Live))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(producer.Close)
		r := rand.New(rand.NewPCG(1, 1))
		published := 0
		for second := range 120 {
			for range 50 {
				producer.Produce(w.Context(), &kgo.Record{Key: []byte(fmt.Sprint(published)),
					Value: brokertest.Value(published)}, nil)
				published++
			}
			if err := producer.Flush(w.Context()); err != nil {
				t.Fatal(err)
			}
			lines[r.IntN(2)].Cut(false)
			if second%5 == 0 {
				cluster.ShufflePartitionLeaders()
			}
			if second%20 == 10 {
				cluster.RehashCoordinators()
			}
			time.Sleep(time.Second)
		}
		time.Sleep(30 * time.Second)
		seen := map[int64]int{}
		repeats := 0
		for _, m := range members {
			for _, e := range m.all() {
				if seen[e.ReadTime]++; seen[e.ReadTime] > 1 {
					repeats++
				}
			}
		}
		var done, end int64
		for p := range 6 {
			done += committed(w, brokertest.Topics.Live, p)
			end += cluster.PartitionInfo(brokertest.Topics.Live, int32(p)).HighWatermark
		}
		if len(seen) != published || done != end || end != int64(published) {
			t.Errorf("%d published, %d seen, %d done of %d", published, len(seen), done, end)
		}
		t.Logf("%d generations, %d repeats of %d",
			members[0].generationCount()+members[1].generationCount(), repeats, published)
		if repeats > published/4 {
			t.Errorf("%d of %d events were delivered again", repeats, published)
		}
		for _, m := range members {
			m.leave()
		}
	})
}

// For a moment after a change of leaders, the new leader may report a log end that is too low. That
// does not mean that the log was replaced.
func TestTemporarilyShortLog(t *testing.T) {
	brokertest.Run(t, 1, func(w *brokertest.World) {
		w.Publish(brokertest.Topics.Live, 0, 100)
		m := join(w, w.Client())
		time.Sleep(5 * time.Second)
		short := time.Now().Add(3 * time.Second)
		w.Cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Topic: brokertest.Topics.Live,
			Err: kerr.OffsetOutOfRange, Count: -1, When: func(kmsg.Request) bool {
				return time.Now().Before(short)
			}})
		w.Cluster.ControlKey(int16(kmsg.ListOffsets),
			func(r kmsg.Request) (kmsg.Response, error, bool) {
				w.Cluster.KeepControl()
				request := r.(*kmsg.ListOffsetsRequest)
				if !time.Now().Before(short) || request.Topics[0].Topic != brokertest.Topics.Live {
					return nil, nil, false
				}
				response := request.ResponseKind().(*kmsg.ListOffsetsResponse)
				t, p := kmsg.NewListOffsetsResponseTopic(),
					kmsg.NewListOffsetsResponseTopicPartition()
				p.Offset, t.Topic = 50, brokertest.Topics.Live
				if request.Topics[0].Partitions[0].Timestamp == -2 {
					p.Offset = 0
				}
				t.Partitions = append(t.Partitions, p)
				response.Topics = append(response.Topics, t)
				return response, nil, true
			})
		time.Sleep(10 * time.Second)
		w.Publish(brokertest.Topics.Live, 0, 10)
		time.Sleep(10 * time.Second)
		if got := m.delivered(brokertest.Topics.Live, 0); !slices.Equal(got, offsets(0, 110)) {
			w.Errorf("%d events were delivered", len(got))
		}
		m.leave()
	})
}

// Fetching recovers within half a second after a leader has moved. After a long failure has ended,
// a short one delays fetching no more than a first failure.
func TestFetchingRecoversSoon(t *testing.T) {
	brokertest.Bubble(t, func(t *testing.T) {
		w := &brokertest.World{T: t}
		cluster, err := kfake.NewCluster(kfake.Ports(9092, 9093), kfake.ListenFn(w.Network.Listen),
			kfake.SeedTopics(1, brokertest.Topics.Live, brokertest.Topics.Backfill))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(cluster.Close)
		w.Cluster = cluster
		c, err := kafkaclient.New(kafkaclient.Options{Brokers: []string{"localhost:9092"},
			Dial: w.Network.DialContext})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		m := join(w, c)
		time.Sleep(5 * time.Second)
		producer, err := kgo.NewClient(kgo.SeedBrokers("localhost:9092"),
			kgo.Dialer(w.Network.DialContext), kgo.DefaultProduceTopic(brokertest.Topics.Live),
			kgo.MetadataMinAge(10*time.Millisecond))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(producer.Close)
		deliver := func(n int) {
			t.Helper()
			if err := producer.ProduceSync(w.Context(), &kgo.Record{Value: brokertest.Value(n)}).
				FirstErr(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(500 * time.Millisecond)
			if got := len(m.delivered(brokertest.Topics.Live, 0)); got != n+1 {
				t.Fatalf("event %d: %d were delivered after half a second", n, got)
			}
		}
		n := 0
		for ; n < 20; n++ {
			if err := cluster.MoveTopicPartition(brokertest.Topics.Live, 0,
				int32(n%2)); err != nil {
				t.Fatal(err)
			}
			deliver(n)
			time.Sleep(time.Second)
		}
		long := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Err: kerr.KafkaStorageError,
			Count: -1})
		time.Sleep(20 * time.Second)
		long.Remove()
		time.Sleep(5 * time.Second)
		deliver(n)
		cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Topic: brokertest.Topics.Live,
			Err: kerr.KafkaStorageError, Count: 1})
		deliver(n + 1)
		deliver(n + 2)
		m.leave()
	})
}
