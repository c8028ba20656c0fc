package consumer_test

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"markread/consumer"
	"markread/consumer/broker/brokertest"
)

// describeAs makes the broker describe the test's group as Kafka describes a group of another kind,
// and list it with this kind; "": like a Kafka version that lists no kinds.
func describeAs(w *brokertest.World, kind, state string) {
	w.Helper()
	brokertest.Respond(w, kmsg.DescribeGroups,
		func(r kmsg.Request, a *kmsg.DescribeGroupsResponse) {
			g := kmsg.NewDescribeGroupsResponseGroup()
			g.Group, g.State = brokertest.Group, "Dead"
			a.Groups = append(a.Groups, g)
		})
	brokertest.Respond(w, kmsg.ListGroups, func(_ kmsg.Request, a *kmsg.ListGroupsResponse) {
		for _, name := range []string{"another", brokertest.Group} {
			g := kmsg.NewListGroupsResponseGroup()
			g.Group, g.ProtocolType, g.GroupState, g.GroupType = name, "consumer", state, kind
			a.Groups = append(a.Groups, g)
		}
	})
}

// A starting worker does not join a group of an unsupported kind, and returns why. It joins all
// others.
func TestGroupOfAnotherKindIsNotJoined(t *testing.T) {
	for _, c := range []struct {
		kind, state string
		want        []string // nil: it joins
	}{
		{"consumer", "Stable",
			[]string{`group "markread" is used by consumers of the new group protocol ` +
				`(group.protocol=consumer, KIP-848)`, "--group",
				"kafka-consumer-groups --describe --members --group markread"}},
		{"consumer", "Reconciling", []string{"KIP-848"}},
		{"consumer", "Empty", nil},
		{"share", "Stable", []string{`group "markread" is a share group (KIP-932)`, "--group",
			"kafka-share-groups --delete --group markread"}},
		{"share", "Empty", []string{"KIP-932"}},
		{"streams", "NotReady",
			[]string{"(group.protocol=streams, KIP-1071)", "--group", "kafka-streams-groups"}},
		{"streams", "Empty", nil},
		{"of the future", "Stable", []string{"another kind", "--group"}},
		{"classic", "Stable", nil}, // created between the two requests
		{"", "Stable", nil},        // perhaps the same, with an old broker
		{"consumer", "Dead", nil},
	} {
		brokertest.Run(t, 1, func(w *brokertest.World) {
			describeAs(w, c.kind, c.state)
			m := join(w, w.Client())
			time.Sleep(5 * time.Second)
			var unsupported *consumer.UnsupportedGroupError
			switch is := m.ended() && errors.As(m.err, &unsupported); {
			case is != (c.want != nil):
				w.Errorf("%s, %s: %v", c.kind, c.state, m.err)
			case is:
				for _, part := range c.want {
					if !strings.Contains(m.err.Error(), part) {
						w.Errorf("%s, %s: %v, want %q", c.kind, c.state, m.err, part)
					}
				}
			default:
				if g := m.generation(); g == nil || len(g.Assigned()) != 2 {
					w.Errorf("%s, %s: it did not join", c.kind, c.state)
				}
				m.leave()
			}
		})
	}
}

// When Kafka lets a worker join a group whose partitions the brokers assign, the group has no
// leader. The worker accepts no partitions and returns why, until a classic generation begins.
func TestBrokersThatAssign(t *testing.T) {
	brokertest.Run(t, 1, func(w *brokertest.World) {
		m := join(w, w.Client())
		time.Sleep(5 * time.Second)
		if !shared(2, m) {
			w.Fatal("the worker has not joined")
		}
		var mixed atomic.Bool
		mixed.Store(true)
		w.Cluster.ControlKey(kmsg.Heartbeat.Int16(),
			func(r kmsg.Request) (kmsg.Response, error, bool) {
				a := r.ResponseKind().(*kmsg.HeartbeatResponse) // once
				a.ErrorCode = 27
				return a, nil, true
			})
		w.Cluster.ControlKey(kmsg.JoinGroup.Int16(),
			func(r kmsg.Request) (kmsg.Response, error, bool) {
				if w.Cluster.KeepControl(); !mixed.Load() {
					return nil, nil, false
				}
				a := r.ResponseKind().(*kmsg.JoinGroupResponse)
				a.Generation, a.MemberID, a.Protocol = 7, r.(*kmsg.JoinGroupRequest).MemberID,
					kmsg.StringPtr("markread")
				return a, nil, true
			})
		w.Cluster.ControlKey(kmsg.SyncGroup.Int16(),
			func(r kmsg.Request) (kmsg.Response, error, bool) {
				if w.Cluster.KeepControl(); !mixed.Load() {
					return nil, nil, false
				}
				a := r.ResponseKind().(*kmsg.SyncGroupResponse)
				all := kmsg.NewConsumerMemberAssignment()
				all.Version = 1
				for _, topic := range []string{brokertest.Topics.Live, brokertest.Topics.Backfill} {
					all.Topics = append(all.Topics,
						kmsg.ConsumerMemberAssignmentTopic{Topic: topic, Partitions: []int32{0}})
				}
				a.MemberAssignment = all.AppendTo(nil)
				return a, nil, true
			})
		time.Sleep(3 * time.Second)
		g := m.generation()
		reason, do := g.Mismatch()
		if len(g.Assigned()) != 0 || !strings.HasPrefix(reason,
			`group "markread" is used by consumers of the new group protocol `+
				`(group.protocol=consumer, KIP-848)`) ||
			!strings.Contains(do, "--group") {
			w.Errorf("assigned %v: %s; %s", g.Assigned(), reason, do)
		}
		mixed.Store(false)
		time.Sleep(20 * time.Second)
		if !shared(2, m) {
			w.Error("the worker has not got its partitions back")
		}
		m.leave()
	})
}
