package consumer_test

import (
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"markread/consumer"
	"markread/consumer/admin"
	"markread/consumer/kafkaclient"
)

// What check looks at is there in the form that it expects: Kafka 4.4 is known by what it understands, tells what the user may do with topics and
// groups, and says whether it would make a topic without making it. A min.insync.replicas above the number of replicas keeps nobody from writing.
func TestRealInspect(t *testing.T) {
	t.Parallel()
	r := onBroker(t, 2, "cleanup.policy=compact", "retention.ms=7200000", "message.timestamp.type=LogAppendTime", "min.insync.replicas=9")
	c := r.client()
	for _, v := range admin.DescribeBrokers(t.Context(), c) {
		if v.Err != nil || !v.Given || !v.Listed() || len(v.Lacks) != 0 || r.cluster == nil && !strings.HasPrefix(v.Release, "4.") {
			t.Errorf("%+v", v)
		}
	}
	named := r.topics
	named.Backfill += "-missing"
	views, err := admin.DescribeTopics(t.Context(), c, named, true)
	if err != nil || len(views) != 3 {
		t.Fatalf("%+v %v", views, err)
	}
	live := views[0]
	if s := live.Settings; len(live.Partitions) != 2 || s[kafkaclient.CleanupPolicy] != "compact" || s[kafkaclient.RetentionMs] != "7200000" || s[kafkaclient.TimestampType] != "LogAppendTime" ||
		s[kafkaclient.MinInSync] != "9" || s[kafkaclient.MaxMessageBytes] == "" || s[kafkaclient.RetentionBytes] != "-1" || !live.May.Has(kafkaclient.MayRead) {
		t.Errorf("%+v", live)
	}
	r.send(&kgo.Record{Topic: live.Name, Key: []byte("a"), Value: []byte("{}")}) // with acks=all
	if !views[1].Missing || views[1].Refused != nil || r.describe(named.Backfill).ErrorCode == 0 {
		t.Errorf("%+v", views[1])
	}
	if g, err := consumer.DescribeGroup(t.Context(), c, r.group); err != nil || !g.May.Has(kafkaclient.MayRead) {
		t.Errorf("%+v %v", g, err)
	}
}
