package consumer_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"markread/consumer/broker/brokertest"
	"markread/consumer/event"
	"markread/consumer/kafkaclient"
)

// intruder is a group member that is not a worker. As the leader it assigns arbitrary data.
type intruder struct {
	kgo         *kgo.Client
	group       string
	protocol    string // "": markread
	metadata    []byte
	assign      func() []byte // what it assigns to each member, including itself
	newProtocol bool          // it uses the newer group protocol (KIP-848)
	rejected    bool          // the coordinator refuses it

	leads   atomic.Bool
	members atomic.Int32 // of the last generation that it led
	refused atomic.Int32 // the last error code of a join
	stop    context.CancelFunc
	done    chan struct{}
}

// begin joins, and stays until leave.
func (i *intruder) begin() {
	ctx, stop := context.WithCancel(context.Background())
	i.stop, i.done = stop, make(chan struct{})
	go func() {
		defer close(i.done)
		if i.newProtocol {
			i.heartbeat848(ctx)
			return
		}
		for id := ""; kafkaclient.Sleep(ctx, 200*time.Millisecond); {
			id = i.serveGeneration(ctx, id)
		}
	}()
}

// serveGeneration runs one generation, or one attempt to join. It returns the member's id.
func (i *intruder) serveGeneration(ctx context.Context, id string) string {
	kind, name := "consumer", i.protocol
	if name == "" {
		name = "markread"
	}
	join := kmsg.NewPtrJoinGroupRequest()
	join.Group, join.MemberID, join.ProtocolType = i.group, id, kind
	join.SessionTimeoutMillis, join.RebalanceTimeoutMillis = 15000, 60000
	p := kmsg.NewJoinGroupRequestProtocol()
	p.Name, p.Metadata = name, i.metadata
	join.Protocols = append(join.Protocols, p)
	joined, err := join.RequestWith(ctx, i.kgo)
	if err != nil {
		return id
	}
	i.refused.Store(int32(joined.ErrorCode))
	switch joined.ErrorCode {
	case 0:
	case kerr.MemberIDRequired.Code:
		return joined.MemberID
	default:
		return ""
	}
	id = joined.MemberID
	i.leads.Store(joined.LeaderID == id)
	sync := kmsg.NewPtrSyncGroupRequest()
	sync.Group, sync.Generation, sync.MemberID, sync.ProtocolType, sync.Protocol = i.group,
		joined.Generation, id, &kind, &name
	if i.leads.Load() {
		i.members.Store(int32(len(joined.Members)))
		for _, m := range joined.Members {
			a := kmsg.NewSyncGroupRequestGroupAssignment()
			a.MemberID = m.MemberID
			if i.assign != nil {
				a.MemberAssignment = i.assign()
			}
			sync.GroupAssignment = append(sync.GroupAssignment, a)
		}
	}
	if synced, err := sync.RequestWith(ctx, i.kgo); err != nil || synced.ErrorCode != 0 {
		return id
	}
	for kafkaclient.Sleep(ctx, time.Second) {
		beat := kmsg.NewPtrHeartbeatRequest()
		beat.Group, beat.Generation, beat.MemberID = i.group, joined.Generation, id
		if answer, err := beat.RequestWith(ctx, i.kgo); err != nil || answer.ErrorCode != 0 {
			return id
		}
	}
	_, _ = leaveRequest(i.group, id).RequestWith(context.WithoutCancel(ctx), i.kgo)
	return id
}

// heartbeat848 tries to join as a member of the newer protocol (KIP-848).
func (i *intruder) heartbeat848(ctx context.Context) {
	beat := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	beat.Group, beat.MemberID, beat.RebalanceTimeoutMillis = i.group, "f0re1gnf0re1gnf0re1gn0",
		60000
	beat.SubscribedTopicNames = []string{"any"}
	beat.Topics = []kmsg.ConsumerGroupHeartbeatRequestTopic{}
	for kafkaclient.Sleep(ctx, time.Second) {
		answer, err := beat.RequestWith(ctx, i.kgo)
		if err != nil {
			continue
		}
		i.refused.Store(int32(answer.ErrorCode))
		if answer.ErrorCode == 0 {
			beat.MemberEpoch = answer.MemberEpoch
		}
	}
	beat.MemberEpoch = -1
	_, _ = beat.RequestWith(context.WithoutCancel(ctx), i.kgo)
}

func (i *intruder) leave() {
	i.stop()
	<-i.done
}

// subscriptionOf returns the metadata that a member sends to join, with its user data.
func subscriptionOf(userData string) []byte {
	s := kmsg.NewConsumerMemberMetadata()
	s.Version, s.Topics, s.UserData = 1, []string{"mark-read"}, []byte(userData)
	return s.AppendTo(nil)
}

// termsOf returns the user data of a member that counts this many partitions in each topic.
func termsOf(t event.Topics, rate, partitions int, more string) string {
	return fmt.Sprintf(`{"rate":%d,"partitions":{%q:%d,%q:%d}%s}`, rate, t.Live, partitions,
		t.Backfill, partitions, more)
}

// intruders returns members of ten kinds that are not workers of topics with four partitions, and
// of two kinds that coordinators refuse.
func intruders(t event.Topics, huge int) map[string]*intruder {
	whole := subscriptionOf(termsOf(t, 200, 4, ""))
	return map[string]*intruder{
		"malformed": {metadata: []byte("\x00\x01\x00\x00\x00\x02\xff\xfd garbage \x80\x1b[31m")},
		"empty":     {metadata: nil},
		"truncated": {metadata: whole[:len(whole)-20]},
		"lengths of 2^31": {metadata: []byte{0, 1, 0x7f, 0xff, 0xff, 0xff, 0, 1, 'a', 0x7f, 0xff,
			0xff, 0xff}},
		"huge": {metadata: subscriptionOf(termsOf(t, 200, 4,
			`,"owned":[0`+strings.Repeat(",0", huge/2)+`]`))},
		"wrong types": {metadata: subscriptionOf(`{"rate":"200","partitions":["mark-read",4],` +
			`"owned":{"a":1}}`)},
		"other version": {metadata: subscriptionOf(`{"version":2,"quota":{"rate":200}}`)},
		// like Java's sticky assignor
		"another's": {metadata: subscriptionOf(
			"\x00\x00\x00\x01\x00\x09mark-read\x00\x00\x00\x01\x00\x00\x00\x00")},
		"numbers": {metadata: subscriptionOf(termsOf(t, 2_000_000_000, -4,
			`,"owned":[-1,2000000000],"generation":2147483647`))},
		"other counts": {metadata: subscriptionOf(termsOf(t, 200, 3, ""))},
		"another name": {metadata: whole, protocol: "range", rejected: true},
		"KIP-848":      {newProtocol: true, rejected: true},
	}
}

// shared reports whether the workers have all partitions of both topics, each once.
func shared(want int, workers ...*member) bool {
	owners := map[event.TopicPartition]int{}
	for _, m := range workers {
		g := m.generation()
		if g == nil || len(g.Assigned()) == 0 {
			return false
		}
		for _, p := range g.Assigned() {
			owners[p]++
		}
	}
	for _, n := range owners {
		if n != 1 {
			return false
		}
	}
	return len(owners) == want
}

// clientTo returns a client that writes its log to log.
func clientTo(w *brokertest.World, log *brokertest.Logs) *kafkaclient.Client {
	w.Helper()
	c, err := kafkaclient.New(kafkaclient.Options{Brokers: []string{w.Broker.Addr()},
		Dial: w.Network.DialContext, Log: zerolog.New(log)})
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(c.Close)
	return c
}

// Thirty members of ten kinds that are not workers join a group of two workers. The group
// rebalances. The two workers soon have all partitions again, each once, and continue without
// further rebalances. Each intruder is logged once.
func TestIntrudersGetNothing(t *testing.T) {
	brokertest.Run(t, 4, func(w *brokertest.World) {
		var log brokertest.Logs
		one, two := join(w, clientTo(w, &log)), join(w, clientTo(w, &log))
		time.Sleep(10 * time.Second)
		if !shared(8, one, two) {
			w.Fatal("two workers alone don't share the partitions")
		}
		var all []*intruder
		for range 3 {
			for _, i := range intruders(brokertest.Topics, 1_200_000) {
				i.kgo, i.group = w.Kgo(kgo.ClientID("intruder"),
					kgo.MaxVersions(kversion.V4_0_0())), brokertest.Group
				i.begin()
				all = append(all, i)
			}
		}
		time.Sleep(30 * time.Second)
		if n := len(w.Cluster.GroupInfo(brokertest.Group).Members); n != 32 {
			w.Errorf("%d members", n)
		}
		if !shared(8, one, two) {
			w.Errorf("30 s later: assigned %v (%s) and %v (%s)", one.generation().Assigned(),
				why(one.generation()), two.generation().Assigned(), why(two.generation()))
		}
		if n := len(log.Lines("a member of the group is ignored: it gets no partitions")); n != 30 {
			w.Errorf("%d lines in the log for 30 intruders", n)
		}
		for _, i := range all {
			if i.rejected != (i.refused.Load() != 0) {
				w.Errorf("%.20q got the response %d", i.metadata, i.refused.Load())
			}
		}
		three := join(w, w.Client())
		time.Sleep(10 * time.Second)
		three.leave()
		time.Sleep(10 * time.Second)
		if n := len(log.Lines("a member of the group is ignored: it gets no partitions")); n != 30 {
			w.Errorf("%d lines in the log after more rebalances", n)
		}
		turns := one.generationCount() + two.generationCount()
		for p := range 4 {
			w.Publish(brokertest.Topics.Live, p, 10)
		}
		time.Sleep(5 * time.Minute)
		if n := one.generationCount() + two.generationCount() - turns; n != 0 {
			w.Errorf("%d more generations within 5 minutes in which nobody joined or left", n)
		}
		for p := range 4 {
			if got := committed(w, brokertest.Topics.Live, p); got != 10 {
				w.Errorf("partition %d: committed %d", p, got)
			}
		}
		for _, i := range all {
			i.leave()
		}
		time.Sleep(30 * time.Second)
		if !shared(8, one, two) {
			w.Error("not all partitions after they have left")
		}
		one.leave()
		two.leave()
	})
}

// A member that imitates a worker gets as many partition numbers as a worker or one more, however
// many it claims to have owned.
func TestForgedOwned(t *testing.T) {
	brokertest.Run(t, 4, func(w *brokertest.World) {
		one, two := join(w, w.Client()), join(w, w.Client())
		time.Sleep(10 * time.Second)
		i := &intruder{kgo: w.Kgo(kgo.MaxVersions(kversion.V2_8_0())), group: brokertest.Group}
		i.metadata = subscriptionOf(termsOf(brokertest.Topics, 200, 4,
			`,"owned":[-1,0,0,1,1,2,3,4,2000000000`+strings.Repeat(",3", 20_000)+
				`],"generation":2147483647`))
		i.begin()
		time.Sleep(30 * time.Second)
		a, b := one.generation().Assigned(), two.generation().Assigned()
		if len(a) < 2 || len(b) < 2 {
			w.Errorf("the workers have %v and %v", a, b)
		}
		i.leave()
		one.leave()
		two.leave()
	})
}

// assignmentOf returns the assignment that a leader sends to a member.
func assignmentOf(userData string, assigned ...event.TopicPartition) []byte {
	a := kmsg.NewConsumerMemberAssignment()
	a.Version, a.UserData = 1, []byte(userData)
	for _, p := range assigned {
		t := kmsg.NewConsumerMemberAssignmentTopic()
		t.Topic, t.Partitions = p.Topic, []int32{int32(p.Partition)}
		a.Topics = append(a.Topics, t)
	}
	return a.AppendTo(nil)
}

// leaders returns assignments that leaders which are not workers send to each member of a group
// whose topics have four partitions.
func leaders(t event.Topics) map[string]func() []byte {
	ours := termsOf(t, 200, 4, "")
	first := event.TopicPartition{Topic: t.Live}
	var calls atomic.Int32
	return map[string]func() []byte{
		"nothing": nil,
		"garbage": func() []byte { return []byte("\x00\x01\x1b[31m garbage") },
		"lengths of 2^31": func() []byte {
			return []byte{0, 1, 0x7f, 0xff, 0xff, 0xff, 0, 1, 'a',
				0x7f, 0xff, 0xff, 0xff}
		},
		"huge": func() []byte {
			return assignmentOf(ours+strings.Repeat(" ", 1<<20), first)
		},
		"no user data": func() []byte { return assignmentOf("", first) },
		"twice":        func() []byte { return assignmentOf(ours, first, first) },
		"not there": func() []byte {
			return assignmentOf(ours, event.TopicPartition{Topic: t.Live, Partition: 4})
		},
		"negative": func() []byte {
			return assignmentOf(ours, event.TopicPartition{Topic: t.Live, Partition: -1})
		},
		"another topic": func() []byte {
			return assignmentOf(ours, event.TopicPartition{Topic: t.DeadLetter})
		},
		"another rate": func() []byte { return assignmentOf(termsOf(t, 300, 4, ""), first) },
		"all to all": func() []byte {
			return assignmentOf(ours, first, event.TopicPartition{Topic: t.Live, Partition: 1},
				event.TopicPartition{Topic: t.Backfill, Partition: 3})
		},
		"different rates": func() []byte { // a different one for each member
			n := int(calls.Add(1))
			return assignmentOf(termsOf(t, 200+100*(n%3), 4, ""),
				event.TopicPartition{Topic: t.Live, Partition: n % 4})
		},
	}
}

// A leader that is not a worker can keep the partitions from the workers while it leads. It can't
// make workers read other partitions, or make several workers use the same share of the rate. The
// workers return why they wait, and have all partitions soon after it has left.
func TestIntruderLeads(t *testing.T) {
	for name, assign := range leaders(brokertest.Topics) {
		t.Run(name, func(t *testing.T) {
			brokertest.Run(t, 4, func(w *brokertest.World) {
				i := &intruder{kgo: w.Kgo(kgo.MaxVersions(kversion.V2_8_0())),
					group: brokertest.Group, metadata: []byte("not ours"), assign: assign}
				i.begin()
				time.Sleep(2 * time.Second)
				one, two := join(w, w.Client()), join(w, w.Client())
				for p := range 4 {
					w.Publish(brokertest.Topics.Live, p, 10)
				}
				for range 120 {
					time.Sleep(time.Second)
					if a, b := one.generation(), two.generation(); a != nil && b != nil &&
						a.ID() == b.ID() && len(a.Assigned()) > 0 && len(b.Assigned()) > 0 {
						w.Errorf("both have partitions: %v and %v", a.Assigned(), b.Assigned())
					}
				}
				if !i.leads.Load() || i.members.Load() != 3 {
					w.Fatalf("the intruder leads: %v, a group of %d", i.leads.Load(),
						i.members.Load())
				}
				for _, m := range []*member{one, two} {
					g := m.generation()
					if why, do := g.Mismatch(); why == "" || do == "" || len(g.Assigned()) != 0 {
						w.Errorf("assigned %v: %q, do %q", g.Assigned(), why, do)
					}
					if age := g.ProofAge(); age > 2*time.Second || m.generationCount() > 4 {
						w.Errorf("%d generations, the proof of membership is %v old",
							m.generationCount(), age)
					}
				}
				turns := one.generationCount() + two.generationCount()
				time.Sleep(5 * time.Minute)
				if n := one.generationCount() + two.generationCount() - turns; n != 0 {
					w.Errorf("%d more generations within 5 minutes in which nobody joined or left",
						n)
				}
				i.leave()
				time.Sleep(30 * time.Second)
				if !shared(8, one, two) {
					w.Errorf("30 s after it has left: %v (%s) and %v (%s)", one.generation().
						Assigned(), why(one.generation()), two.generation().Assigned(),
						why(two.generation()))
				}
				for p := range 4 {
					if got := committed(w, brokertest.Topics.Live, p); got != 10 {
						w.Errorf("partition %d: committed %d", p, got)
					}
				}
				one.leave()
				two.leave()
			})
		})
	}
}
