package transcripts

import (
	"net"
	"strconv"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// scriptBrokerSays makes the script's broker return other metadata; see TestTranscripts.
func scriptBrokerSays(ts *testscript.TestScript, neg bool, args []string) {
	cluster := ts.Value(breakableKey{}).(*breakableNetwork).cluster
	switch {
	case !neg && cluster != nil && len(args) == 2 && args[0] == "address":
		host, port, err := net.SplitHostPort(args[1])
		ts.Check(err)
		n, err := strconv.ParseInt(port, 10, 32)
		ts.Check(err)
		fakeMetadata(cluster, host, int32(n), 0)
	case !neg && cluster != nil && len(args) == 1 && args[0] == "no-leader":
		host, port, err := net.SplitHostPort(cluster.ListenAddrs()[0])
		ts.Check(err)
		n, err := strconv.ParseInt(port, 10, 32)
		ts.Check(err)
		fakeMetadata(cluster, host, int32(n), -1)
	case !neg && cluster != nil && len(args) == 3 && args[0] == "group":
		fakeGroup(cluster, args[1], args[2])
	default:
		ts.Fatalf("usage: broker-says address HOST:PORT | no-leader | group KIND STATE")
	}
}

// fakeMetadata returns one broker, and topics of four partitions with this leader; -1 means none.
func fakeMetadata(cluster *kfake.Cluster, host string, port, leader int32) {
	control(cluster, kmsg.Metadata, func(r kmsg.Request, a *kmsg.MetadataResponse) {
		b := kmsg.NewMetadataResponseBroker()
		b.Host, b.Port = host, port
		if leader < 0 {
			b.NodeID = 1 // if there is a node 0, kafka-go uses it as the missing leader
		}
		a.Brokers = append(a.Brokers, b)
		for _, asked := range r.(*kmsg.MetadataRequest).Topics {
			topic := kmsg.NewMetadataResponseTopic()
			topic.Topic = asked.Topic
			for n := range int32(4) {
				p := kmsg.NewMetadataResponseTopicPartition()
				p.Partition, p.Leader, p.Replicas, p.ISR = n, leader, []int32{0}, []int32{0}
				if leader < 0 {
					p.ErrorCode = kerr.LeaderNotAvailable.Code
				}
				topic.Partitions = append(topic.Partitions, p)
			}
			a.Topics = append(a.Topics, topic)
		}
	})
	control(cluster, kmsg.FindCoordinator, func(_ kmsg.Request, a *kmsg.FindCoordinatorResponse) {
		a.Host, a.Port = host, port
		if leader < 0 {
			a.NodeID = 1
		}
	})
}

// fakeGroup responds as Kafka does if the group markread is of that kind.
func fakeGroup(cluster *kfake.Cluster, kind, state string) {
	control(cluster, kmsg.DescribeGroups, func(r kmsg.Request, a *kmsg.DescribeGroupsResponse) {
		g := kmsg.NewDescribeGroupsResponseGroup()
		g.Group, g.State, g.AuthorizedOperations = "markread", "Dead", 1<<3
		a.Groups = append(a.Groups, g)
	})
	control(cluster, kmsg.ListGroups, func(_ kmsg.Request, a *kmsg.ListGroupsResponse) {
		g := kmsg.NewListGroupsResponseGroup()
		g.Group, g.ProtocolType, g.GroupState, g.GroupType = "markread", kind, state, kind
		a.Groups = append(a.Groups, g)
	})
}

func control[A kmsg.Response](cluster *kfake.Cluster, key kmsg.Key, fill func(kmsg.Request, A)) {
	cluster.ControlKey(key.Int16(), func(r kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		a := r.ResponseKind().(A)
		a.SetVersion(r.GetVersion())
		fill(r, a)
		return a, nil, true
	})
}
