package consumer_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"markread/consumer"
	"markread/consumer/kafkaclient"
)

// otherMember is a member of a group of another kind than workers use. Its id has the same form as
// a Java consumer's.
type otherMember struct {
	r     *realTest
	epoch atomic.Int32
	beat  func(epoch int32) (now int32, code int16)
	stop  context.CancelFunc
	done  chan struct{}
}

const otherMemberID = "AAAAAAAAAAAAAAAAAAAAAQ"

// join joins, and sends heartbeats until leave.
func (n *otherMember) join() {
	n.r.Helper()
	ctx, stop := context.WithCancel(context.Background())
	n.stop, n.done = stop, make(chan struct{})
	n.r.eventually(20*time.Second, "the other kind of member has joined", func() bool {
		now, code := n.beat(0)
		n.epoch.Store(now)
		return code == 0
	})
	go func() {
		defer close(n.done)
		for kafkaclient.Sleep(ctx, 300*time.Millisecond) {
			if now, code := n.beat(n.epoch.Load()); code == 0 {
				n.epoch.Store(now)
			}
		}
		n.beat(-1)
	}()
}

func (n *otherMember) leave() { n.stop(); <-n.done }

// newConsumerMember returns a member with group.protocol=consumer (KIP-848).
func newConsumerMember(r *realTest) *otherMember {
	r.Helper()
	request := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	request.Group, request.MemberID, request.RebalanceTimeoutMillis = r.group, otherMemberID, 5000
	request.SubscribedTopicNames = []string{r.topics.Live}
	request.Topics = []kmsg.ConsumerGroupHeartbeatRequestTopic{}
	return &otherMember{r: r, beat: func(epoch int32) (int32, int16) {
		request.MemberEpoch = epoch
		if epoch <= 0 {
			request.Topics = []kmsg.ConsumerGroupHeartbeatRequestTopic{}
		}
		answer, err := request.RequestWith(context.Background(), r.admin)
		if err != nil {
			return 0, kerr.UnknownServerError.Code
		}
		if answer.Assignment != nil {
			request.Topics = nil
			for _, t := range answer.Assignment.Topics {
				owned := kmsg.NewConsumerGroupHeartbeatRequestTopic()
				owned.TopicID, owned.Partitions = t.TopicID, t.Partitions
				request.Topics = append(request.Topics, owned)
			}
		}
		return answer.MemberEpoch, answer.ErrorCode
	}}
}

// newShareMember returns a member of a share group.
func newShareMember(r *realTest) *otherMember {
	request := kmsg.NewPtrShareGroupHeartbeatRequest()
	request.GroupID, request.MemberID, request.SubscribedTopicNames = r.group, otherMemberID,
		[]string{r.topics.Live}
	return &otherMember{r: r, beat: func(epoch int32) (int32, int16) {
		request.MemberEpoch = epoch
		answer, err := request.RequestWith(context.Background(), r.admin)
		if err != nil {
			return 0, kerr.UnknownServerError.Code
		}
		return answer.MemberEpoch, answer.ErrorCode
	}}
}

// newStreamsMember returns a member of Kafka Streams (KIP-1071). This version of kgo does not find
// the coordinator for its requests.
func newStreamsMember(r *realTest) *otherMember {
	find := kmsg.NewPtrFindCoordinatorRequest()
	find.CoordinatorKeys = []string{r.group}
	coordinator := r.admin.Broker(int(mustRequest(r, find).Coordinators[0].NodeID))
	request := kmsg.NewPtrStreamsGroupHeartbeatRequest()
	request.Group, request.MemberID, request.RebalanceTimeoutMillis = r.group, otherMemberID, 5000
	request.ProcessID = kmsg.StringPtr("process")
	request.ActiveTasks, request.StandbyTasks, request.WarmupTasks = []kmsg.TaskIDs{},
		[]kmsg.TaskIDs{}, []kmsg.TaskIDs{}
	part := kmsg.NewStreamsGroupHeartbeatRequestTopologySubtopology()
	part.SubtopologyID, part.SourceTopics = "0", []string{r.topics.Live}
	whole := kmsg.NewStreamsGroupHeartbeatRequestTopology()
	whole.Subtopologies = append(whole.Subtopologies, part)
	return &otherMember{r: r, beat: func(epoch int32) (int32, int16) {
		request.MemberEpoch, request.Topology = epoch, nil
		if epoch == 0 {
			request.Topology = &whole
		}
		answer, err := coordinator.Request(context.Background(), request)
		if err != nil {
			return 0, kerr.UnknownServerError.Code
		}
		r := answer.(*kmsg.StreamsGroupHeartbeatResponse)
		return r.MemberEpoch, r.ErrorCode
	}}
}

// refusedKind returns the kind of group in the error of a worker that tries to join.
func refusedKind(r *realTest) string {
	r.Helper()
	m := r.join(r.client())
	r.eventually(10*time.Second, "a worker is refused", func() bool { return m.ended() })
	var unsupported *consumer.UnsupportedGroupError
	if !errors.As(m.err, &unsupported) {
		r.Fatal(m.err)
	}
	return unsupported.Kind
}

// A starting worker does not join a group of an unsupported kind, and does not disturb it. In Kafka
// 4.4, a worker can join the group once it has no members, and its committed offsets are kept. A
// share group remains a share group.
func TestRealGroupOfAnotherKind(t *testing.T) {
	needCluster(t, "the embedded broker describes such a group as if it were of the older kind")
	for kind, c := range map[string]struct {
		member func(*realTest) *otherMember
		empty  consumer.GroupState
		// the kind for which a worker is refused after the members have left; "": not refused
		after string
		from  int64 // if it is not refused, it starts at this offset
	}{
		"consumer": {newConsumerMember, consumer.GroupEmpty, "", 3},
		"share":    {newShareMember, consumer.GroupUnsupported, "share", 0},
		"streams":  {newStreamsMember, consumer.GroupEmpty, "", 0},
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			r := onBroker(t, 1)
			view := func() consumer.DescribedGroup {
				t.Helper()
				g, err := consumer.DescribeGroup(t.Context(), r.client(), r.group)
				if err != nil {
					t.Fatal(err)
				}
				return g
			}
			if was := view(); was.State != consumer.GroupAbsent || was.Unsupported != nil {
				t.Errorf("before: %+v", was)
			}
			r.publish(r.topics.Live, 0, 5)
			n := c.member(r)
			n.join()
			if is := view(); is.State != consumer.GroupUnsupported || is.Unsupported == nil ||
				is.Unsupported.Kind != kind {
				t.Errorf("with a member: %+v", is)
			}
			if got := refusedKind(r); got != kind {
				t.Errorf("a worker is refused for kind %q", got)
			}
			if kind == "consumer" {
				commitAs(r, n, 3)
			}
			n.leave()
			if is := view(); is.State != c.empty {
				t.Errorf("without members: %+v", is)
			}
			if c.after != "" {
				if got := refusedKind(r); got != c.after {
					t.Errorf("without members: a worker is refused for kind %q", got)
				}
				return
			}
			m := r.join(r.client())
			r.waitForOffsets(m, r.topics.Live, 0, offsets(c.from, 5))
			m.leave()
		})
	}
}

// commitAs commits with the member's id and epoch.
func commitAs(r *realTest, n *otherMember, offset int64) {
	r.Helper()
	if code := r.tryCommit(commitOf{topic: r.topics.Live, offset: offset,
		generation: n.epoch.Load(), member: otherMemberID}); code != 0 {
		r.Fatal(kerr.ErrorForCode(code))
	}
}

// Consumers of the newer protocol can't join a group while workers are its members: Kafka 4.4 does
// not convert a group whose members use a custom assignor. Between two generations they can join.
// Then the brokers assign, and the worker has no partitions and returns why, until they have left.
func TestRealConsumersOfTheNewProtocolJoin(t *testing.T) {
	needCluster(t, "the embedded broker has no groups with members of both protocols")
	t.Parallel()
	r := onBroker(t, 2)
	m := r.join(r.client())
	r.eventually(30*time.Second, "the worker has all partitions",
		func() bool { return shared(4, m) })
	n := newConsumerMember(r)
	if _, code := n.beat(0); code != kerr.GroupIDNotFound.Code {
		t.Errorf("beside a worker the response was %v", kerr.ErrorForCode(code))
	}
	mustRequest(r, leaveRequest(r.group, m.generation().Member())) // like an administrator
	n.join()
	r.eventually(30*time.Second, "the worker has nothing", func() bool {
		g := m.generation()
		return len(g.Assigned()) == 0 && strings.Contains(why(g), "group.protocol=consumer")
	})
	if _, do := m.generation().Mismatch(); !strings.Contains(do, "--group") {
		t.Error(do)
	}
	r.publish(r.topics.Live, 0, 3)
	if got := refusedKind(r); got != "consumer" {
		t.Errorf("another worker is refused for kind %q", got)
	}
	n.leave()
	r.eventually(30*time.Second, "the worker has all partitions again",
		func() bool { return shared(4, m) })
	r.waitFor(m, r.topics.Live, 0, 3)
	m.leave()
}
