package consumer_test

import (
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"markread/consumer"
)

// What check looks at is there in the form that it expects: Kafka 4.4 is known by what it understands, tells what the user may do with topics and
// groups, and says whether it would make a topic without making it. A min.insync.replicas above the number of replicas keeps nobody from writing.
func TestRealInspect(t *testing.T) {
	t.Parallel()
	r := onBroker(t, 2, "cleanup.policy=compact", "retention.ms=7200000", "message.timestamp.type=LogAppendTime", "min.insync.replicas=9")
	c := r.client()
	for _, v := range c.InspectBrokers(t.Context()) {
		if v.Err != nil || !v.Given || !v.Listed() || len(v.Lacks) != 0 || r.cluster == nil && !strings.HasPrefix(v.Release, "4.") {
			t.Errorf("%+v", v)
		}
	}
	named := r.topics
	named.Backfill += "-missing"
	views, err := c.InspectTopics(t.Context(), named, true)
	if err != nil || len(views) != 3 {
		t.Fatalf("%+v %v", views, err)
	}
	live := views[0]
	if s := live.Settings; len(live.Partitions) != 2 || s[consumer.CleanupPolicy] != "compact" || s[consumer.RetentionMs] != "7200000" || s[consumer.TimestampType] != "LogAppendTime" ||
		s[consumer.MinInSync] != "9" || s[consumer.MaxMessageBytes] == "" || s[consumer.RetentionBytes] != "-1" || !live.May.Has(consumer.MayRead) {
		t.Errorf("%+v", live)
	}
	r.send(&kgo.Record{Topic: live.Name, Key: []byte("a"), Value: []byte("{}")}) // with acks=all
	if !views[1].Missing || views[1].Refused != nil || r.describe(named.Backfill).ErrorCode == 0 {
		t.Errorf("%+v", views[1])
	}
	if g, err := c.DescribeGroup(t.Context(), r.group); err != nil || !g.May.Has(consumer.MayRead) {
		t.Errorf("%+v %v", g, err)
	}
}

// A group of the newer kind is absent to who asks as of the older; without members it is free.
func TestRealGroupOfAnotherKind(t *testing.T) {
	onReal(t, "the embedded broker describes such a group as if it were of the older kind")
	t.Parallel()
	r := onBroker(t, 1)
	state := func() consumer.GroupState {
		t.Helper()
		g, err := r.client().DescribeGroup(t.Context(), r.group)
		if err != nil {
			t.Fatal(err)
		}
		return g.State
	}
	beat := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	beat.Group, beat.MemberID, beat.RebalanceTimeoutMillis, beat.SubscribedTopicNames = r.group, "AAAAAAAAAAAAAAAAAAAAAQ", 5000, []string{r.topics.Live}
	beat.Topics = []kmsg.ConsumerGroupHeartbeatRequestTopic{}
	if was := state(); was != consumer.GroupAbsent {
		t.Errorf("before: %s", was)
	}
	if answer := ask(r, beat); answer.ErrorCode != 0 {
		t.Fatalf("%d %v", answer.ErrorCode, answer.ErrorMessage)
	}
	if is := state(); is != consumer.GroupForeign {
		t.Errorf("with a member: %s", is)
	}
	beat.MemberEpoch = -1 // it leaves
	ask(r, beat)
	if is := state(); is != consumer.GroupEmpty {
		t.Errorf("without: %s", is)
	}
}
