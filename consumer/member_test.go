package consumer_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"markread/consumer"
	"markread/consumer/broker/brokertest"
)

// Before the first generation, an error that only an operator can fix ends Consume, which returns
// it.
func TestJoinRefused(t *testing.T) {
	for code, words := range map[*kerr.Error]string{
		kerr.GroupAuthorizationFailed: "Group Authorization Failed",
		kerr.InvalidSessionTimeout:    "Invalid Session Timeout",
		kerr.InvalidGroupID:           "Invalid Group ID",
	} {
		brokertest.Run(t, 1, func(w *brokertest.World) {
			w.Cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.JoinGroup}, Err: code, Count: -1})
			m := join(w, w.Client())
			time.Sleep(time.Minute)
			if !m.ended() {
				w.Errorf("%v: Consume continues", code)
			} else if m.err == nil ||
				!strings.Contains(strings.ToLower(m.err.Error()), strings.ToLower(words)) {
				w.Errorf("%v: %v", code, m.err)
			}
		})
	}
}

// The leader detects new partitions, and then the whole group knows them.
func TestPartitionsAdded(t *testing.T) {
	brokertest.Run(t, 1, func(w *brokertest.World) {
		members := []*member{join(w, w.Client()), join(w, w.Client())}
		time.Sleep(10 * time.Second)
		request := kmsg.NewPtrCreatePartitionsRequest()
		topic := kmsg.NewCreatePartitionsRequestTopic()
		topic.Topic, topic.Count = brokertest.Topics.Live, 4
		request.Topics, request.TimeoutMillis = append(request.Topics, topic), 1000
		if _, err := request.RequestWith(w.Context(), w.Kgo()); err != nil {
			w.Fatal(err)
		}
		w.Publish(brokertest.Topics.Live, 3, 5)
		time.Sleep(40 * time.Second)
		total := 0
		for _, m := range members {
			total += len(m.generation().Assigned())
			if n := len(m.generation().All()); n != 5 {
				w.Errorf("a member knows %d partitions, want 5", n)
			}
		}
		if total != 5 || committed(w, brokertest.Topics.Live, 3) != 5 {
			w.Errorf("%d partitions assigned, committed %d", total,
				committed(w, brokertest.Topics.Live, 3))
		}
		generations := members[0].generationCount()
		time.Sleep(5 * time.Minute)
		if n := members[0].generationCount(); n != generations {
			w.Errorf("%d more generations although nothing changed", n-generations)
		}
		for _, m := range members {
			m.leave()
		}
	})
}

// A missing backfill topic does not affect the assignment of the live topic.
func TestDeletedTopicDoesNotStopTheOther(t *testing.T) {
	brokertest.Run(t, 1, func(w *brokertest.World) {
		if err := w.Cluster.DeleteTopic(brokertest.Topics.Backfill); err != nil {
			w.Fatal(err)
		}
		w.Publish(brokertest.Topics.Live, 0, 5)
		m := join(w, w.Client())
		time.Sleep(10 * time.Second)
		if got := committed(w, brokertest.Topics.Live, 0); got != 5 {
			w.Errorf("committed %d", got)
		}
		if err := w.Cluster.CreateTopic(brokertest.Topics.Backfill, 1, nil); err != nil {
			w.Fatal(err)
		}
		w.Publish(brokertest.Topics.Backfill, 0, 5)
		time.Sleep(40 * time.Second)
		if got := committed(w, brokertest.Topics.Backfill, 0); got != 5 {
			w.Errorf("committed %d of the recreated backfill topic", got)
		}
		m.leave()
	})
}

// A join takes long while another member drains. A shutdown does not wait for it, and the member
// leaves the group.
func TestLeavingWithinAJoin(t *testing.T) {
	brokertest.Run(t, 1, func(w *brokertest.World) {
		release := make(chan struct{})
		slow := join(w, w.Client(), func(m *member) {
			m.drain = func(context.Context, *consumer.Generation) { <-release }
		})
		time.Sleep(5 * time.Second)
		quick := join(w, w.Client())
		time.Sleep(5 * time.Second) // its join waits for the slow one
		start := time.Now()
		quick.leave()
		if took := time.Since(start); took > 5*time.Second {
			w.Errorf("leaving took %v", took)
		}
		close(release)
		slow.set(func() { slow.drain = nil })
		time.Sleep(time.Minute)
		if n := len(w.Cluster.GroupInfo(brokertest.Group).Members); n != 1 {
			w.Errorf("%d members", n)
		}
		slow.leave()
	})
}

// A member that rejoins can leave the group during the join.
func TestLeavingWithinARejoin(t *testing.T) {
	brokertest.Run(t, 2, func(w *brokertest.World) {
		release := make(chan struct{})
		quick := join(w, w.Client())
		time.Sleep(5 * time.Second)
		slow := join(w, w.Client(), func(m *member) {
			m.drain = func(context.Context, *consumer.Generation) { <-release }
		})
		time.Sleep(5 * time.Second)
		third := join(w, w.Client())
		time.Sleep(5 * time.Second) // quick rejoins and waits for the slow one
		start := time.Now()
		quick.leave()
		if took := time.Since(start); took > 2*time.Second {
			w.Errorf("leaving took %v", took)
		}
		slow.set(func() { slow.drain = nil })
		close(release)
		time.Sleep(3 * time.Second) // much less than a session
		if g := w.Cluster.GroupInfo(brokertest.Group); len(g.Members) != 2 || g.State != "Stable" {
			w.Errorf("the group is %s with %d members", g.State, len(g.Members))
		}
		slow.leave()
		third.leave()
	})
}

// A member that the coordinator has removed detects that within a second, and rejoins.
func TestRemovedMemberRejoins(t *testing.T) {
	brokertest.Run(t, 1, func(w *brokertest.World) {
		m := join(w, w.Client())
		time.Sleep(5 * time.Second)
		removed := m.generation().Member()
		if _, err := leaveRequest(brokertest.Group, removed).
			RequestWith(w.Context(), w.Kgo()); err != nil {
			w.Fatal(err)
		}
		w.Publish(brokertest.Topics.Live, 0, 10)
		time.Sleep(2 * time.Second)
		if m.generationCount() != 2 || m.generation().Member() == removed {
			w.Errorf("%d generations, member %s", m.generationCount(), m.generation().Member())
		}
		time.Sleep(2 * time.Second)
		if got := committed(w, brokertest.Topics.Live, 0); got != 10 {
			w.Errorf("committed %d", got)
		}
		m.leave()
	})
}

// A proof of membership dates from the request, not from its response.
func TestProofIsDatedWhenSent(t *testing.T) {
	brokertest.Run(t, 1, func(w *brokertest.World) {
		m := join(w, w.Client())
		time.Sleep(5 * time.Second)
		var received time.Time
		w.Cluster.ControlKey(int16(kmsg.Heartbeat),
			func(kmsg.Request) (kmsg.Response, error, bool) {
				w.Cluster.KeepControl()
				if received.IsZero() {
					received = time.Now()
					w.Cluster.SleepControl(func() { time.Sleep(2 * time.Second) })
					return nil, nil, false
				}
				return nil, errors.New("cut"), true
			})
		time.Sleep(6 * time.Second)
		if proof := m.generation().LastProof(); received.IsZero() || !proof.Equal(received) {
			w.Errorf("the proof is of %v, the heartbeat was sent at %v", proof, received)
		}
		m.leave()
	})
}

// A removed member immediately has no proof: calls waiting for a connection must not be sent.
func TestRemovedMemberHasNoProof(t *testing.T) {
	brokertest.Run(t, 1, func(w *brokertest.World) {
		ages := make(chan time.Duration, 10)
		m := join(w, w.Client(), func(m *member) {
			m.drain = func(_ context.Context, g *consumer.Generation) { ages <- g.ProofAge() }
		})
		time.Sleep(5 * time.Second)
		w.Cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Heartbeat}, Err: kerr.UnknownMemberID,
			Count: 1})
		time.Sleep(10 * time.Second)
		if age := <-ages; age < 1000*time.Hour {
			t.Errorf("the proof is %v old", age)
		}
		if age := m.generation().ProofAge(); age > 2*time.Second {
			t.Errorf("a member again, and its proof is %v old", age)
		}
		m.leave()
	})
}

// A serve function that returns immediately does not make the group rebalance all the time.
func TestServeThatReturns(t *testing.T) {
	brokertest.Run(t, 1, func(w *brokertest.World) {
		ctx, cancel := context.WithTimeout(w.Context(), 10*time.Second)
		defer cancel()
		n := 0
		err := consumer.Consume(ctx, w.Client(), consumer.GroupOptions{Group: brokertest.Group,
			Topics: brokertest.Topics}, func(context.Context, *consumer.Generation) { n++ })
		if err != nil || n < 5 || n > 11 {
			w.Errorf("%d generations in 10 s, %v", n, err)
		}
	})
}

// A member with other topics would calculate another share of the rate. It gets no partitions while
// a member with different topics leads.
func TestMembersOfDifferentTopics(t *testing.T) {
	brokertest.Run(t, 4, func(w *brokertest.World) {
		one := join(w, w.Client(), func(m *member) { m.topics.Backfill = "" })
		time.Sleep(5 * time.Second)
		two := join(w, w.Client())
		time.Sleep(5 * time.Second)
		if a, b := one.generation(), two.generation(); len(a.Assigned()) != 4 ||
			len(b.Assigned()) != 0 || why(a) != "" || why(b) == "" {
			w.Errorf("assigned %v (%s) and %v (%s)", a.Assigned(), why(a), b.Assigned(), why(b))
		}
		one.leave()
		time.Sleep(5 * time.Second)
		if g := two.generation(); len(g.Assigned()) != 8 || why(g) != "" {
			w.Errorf("after the leader has left: assigned %v (%s)", g.Assigned(), why(g))
		}
		two.leave()
	})
}

// why returns why a member gets no partitions; "": it agrees with the leader.
func why(g *consumer.Generation) string {
	why, _ := g.Mismatch()
	return why
}

// A partition stays with its owner unless the owner has more than the others.
func TestAssignmentSticks(t *testing.T) {
	brokertest.Run(t, 12, func(w *brokertest.World) {
		var members []*member
		had := map[*member][]int{}
		settle := func(change string) {
			time.Sleep(5 * time.Second)
			for _, m := range members {
				var numbers []int
				for _, tp := range m.generation().Assigned() {
					if tp.Topic == brokertest.Topics.Live {
						numbers = append(numbers, tp.Partition)
					}
				}
				if len(numbers) != 12/len(members) {
					w.Errorf("%s: a member has %v", change, numbers)
				}
				kept := 0
				for _, n := range numbers {
					if slices.Contains(had[m], n) {
						kept++
					}
				}
				if kept != min(len(had[m]), len(numbers)) {
					w.Errorf("%s: a member that had %v has %v", change, had[m], numbers)
				}
				had[m] = numbers
			}
		}
		for n := range 4 {
			members = append(members, join(w, w.Client()))
			settle(fmt.Sprint("member ", n+1, " has joined"))
		}
		members[1].leave()
		members = slices.Delete(members, 1, 2)
		settle("the second has left")
		for _, m := range members {
			m.leave()
		}
	})
}

// A member with another rate than the leader's gets no partitions, not even the ones that it had.
func TestMembersOfDifferentRates(t *testing.T) {
	brokertest.Run(t, 4, func(w *brokertest.World) {
		one := join(w, w.Client())
		two := join(w, w.Client())
		time.Sleep(5 * time.Second)
		two.leave()
		leader, other := one, join(w, w.Client(), func(m *member) { m.rate = 100 })
		time.Sleep(5 * time.Second)
		if why(leader.generation()) != "" { // the first to join in a rebalance leads the group
			leader, other = other, leader
		}
		if a, b := leader.generation(), other.generation(); len(a.Assigned()) != 8 ||
			len(b.Assigned()) != 0 || why(a) != "" || why(b) == "" {
			w.Errorf("assigned %v (%s) and %v (%s)", a.Assigned(), why(a), b.Assigned(), why(b))
		}
		leader.leave()
		time.Sleep(5 * time.Second)
		if g := other.generation(); len(g.Assigned()) != 8 || why(g) != "" {
			w.Errorf("after the leader has left: assigned %v (%s)", g.Assigned(), why(g))
		}
		other.leave()
	})
}

// While a broker does not know a topic for a moment, a member must not take the partitions of the
// other topics for all partitions: it calculates its share of the quota from them.
func TestAllPartitionsAreCounted(t *testing.T) {
	for _, code := range []*kerr.Error{kerr.UnknownTopicOrPartition, kerr.LeaderNotAvailable} {
		t.Run(code.Message, func(t *testing.T) {
			brokertest.Run(t, 4, func(w *brokertest.World) {
				first := join(w, w.Client())
				time.Sleep(5 * time.Second)
				fault := w.Cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Metadata},
					Topic: brokertest.Topics.Backfill, Err: code, Count: -1})
				second := join(w, w.Client())
				time.Sleep(3 * time.Second)
				fault.Remove()
				time.Sleep(30 * time.Second)
				for _, m := range []*member{first, second} {
					m.leave() // after this, reading m.generations needs no lock
					for _, g := range m.generations {
						if n := len(g.All()); n != 8 {
							t.Errorf("generation %d: %d partitions, want 8", g.ID(), n)
						}
					}
				}
			})
		})
	}
}
