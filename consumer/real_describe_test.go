package consumer_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"markread/consumer"
	"markread/consumer/admin"
	"markread/consumer/broker/brokertest"
	"markread/consumer/event"
	"markread/consumer/kafkaclient"
)

// A broker returns the data for status in the expected form: the group and its members' data, the
// committed offsets, and the last stable offsets. Kafka 4.4 returns a group's metadata and
// assignments only in the state Stable. It describes an unknown group as Dead, with no commits and
// no error.
func TestRealDescribeGroupAndLag(t *testing.T) {
	t.Parallel()
	r := onBroker(t, 2)
	c := r.client()
	view := func() consumer.DescribedGroup {
		t.Helper()
		view, err := consumer.DescribeGroup(t.Context(), c, r.group)
		if err != nil {
			t.Fatal(err)
		}
		return view
	}
	if v := view(); v.State != consumer.GroupAbsent || len(v.Members) != 0 {
		t.Errorf("nobody has joined: %+v", v)
	}

	lag := func(topic string) admin.PartitionLag {
		t.Helper()
		lags, err := admin.Lag(t.Context(), c, r.group, topic)
		if err != nil || len(lags) != 2 || lags[0].Err != nil || lags[1].Err != nil ||
			lags[1].Lag != 0 {
			t.Fatalf("%+v %v", lags, err)
		}
		return lags[0]
	}
	r.publish(r.topics.Backfill, 0, 7)
	if l := lag(r.topics.Backfill); l.Committed != -1 || l.Lag != 7 ||
		time.Since(l.Oldest) > time.Minute || l.Oldest.IsZero() {
		t.Errorf("nothing is committed: %+v", l)
	}

	hold := func(m *member) { m.autoFinish = false }
	first := r.join(r.client(), hold)
	second := r.join(r.client(), hold)
	r.eventually(60*time.Second, "two members have the partitions", func() bool {
		v := view()
		return v.State == consumer.GroupStable && len(v.Members) == 2 &&
			len(v.Members[0].Assigned) == 2 && len(v.Members[1].Assigned) == 2
	})
	v := view()
	if !v.Ours() || v.LeaderTerms == nil || v.LeaderTerms.Rate != 200 ||
		len(v.LeaderTerms.All) != 4 {
		t.Errorf("%+v", v)
	}
	var members []string
	for _, m := range v.Members {
		members = append(members, m.ID)
		if m.Terms == nil || m.Terms.Rate != 200 || m.Mismatch != "" || m.Host == "" ||
			m.Host[0] == '/' {
			t.Errorf("%+v", m)
		}
	}
	r.publish(r.topics.Live, 0, 7) // after the last rebalance
	owner := first
	r.eventually(60*time.Second, "the events are there", func() bool {
		for _, m := range []*member{first, second} {
			if g := m.generation(); g != nil && len(m.delivered(r.topics.Live, 0)) >= 7 &&
				slices.Contains(g.Assigned(),
					event.TopicPartition{Topic: r.topics.Live, Partition: 0}) {
				owner = m
				return slices.Contains(members, g.Member())
			}
		}
		return false
	})
	finished := map[int64]bool{}
	for _, e := range slices.Backward(owner.all()) { // those of the last generation
		if o := e.Record.Offset; e.Record.Topic == r.topics.Live && !finished[o] &&
			(o < 2 || o == 4) {
			finished[o] = true
			owner.generation().Finish(e.Ref)
		}
	}
	r.eventually(30*time.Second, "the commit, with what has finished beyond it", func() bool {
		l := lag(r.topics.Live)
		return l.Committed == 2 && l.Lag == 5 && l.Finished == 1
	})

	// The end is the last stable offset.
	tx := r.kgo(kgo.TransactionalID(r.group), kgo.DefaultProduceTopic(r.topics.DeadLetter),
		kgo.RecordPartitioner(kgo.ManualPartitioner()))
	for i, end := range []kgo.TransactionEndTry{kgo.TryCommit, kgo.TryAbort, kgo.TryCommit} {
		if err := tx.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		if err := tx.ProduceSync(t.Context(), &kgo.Record{Value: brokertest.Value(i)}).
			FirstErr(); err != nil {
			t.Fatal(err)
		}
		if i < 2 {
			if err := tx.EndTransaction(t.Context(), end); err != nil {
				t.Fatal(err)
			}
		}
	}
	read := func() (got []string) {
		t.Helper()
		extent, err := c.TopicOffsets(t.Context(), r.topics.DeadLetter)
		if err != nil {
			t.Fatal(err)
		}
		if err := brokertest.ScanAll(t.Context(), c, extent,
			func(r event.Record) error {
				got = append(got, string(r.Value))
				return nil
			}); err != nil {
			t.Fatal(err)
		}
		return got
	}
	r.eventually(30*time.Second, "one is committed, one aborted, one undecided",
		func() bool { return slices.Equal(read(), []string{string(brokertest.Value(0))}) })
	if err := tx.EndTransaction(t.Context(), kgo.TryCommit); err != nil {
		t.Fatal(err)
	}
	r.eventually(30*time.Second, "the last is committed, too", func() bool {
		return slices.Equal(read(),
			[]string{string(brokertest.Value(0)), string(brokertest.Value(2))})
	})

	first.leave()
	second.leave()
	if v := view(); v.State != consumer.GroupEmpty || len(v.Members) != 0 {
		t.Errorf("all have left: %+v", v)
	}
}

// A broker returns the data for check in the expected form: Kafka 4.4 is recognized by its API
// versions. It returns what the user may do with topics and groups, and whether it would create a
// topic, without creating it. A min.insync.replicas above the number of replicas does not prevent
// writes.
func TestRealDescribe(t *testing.T) {
	t.Parallel()
	r := onBroker(t, 2, "cleanup.policy=compact", "retention.ms=7200000",
		"message.timestamp.type=LogAppendTime", "min.insync.replicas=9")
	c := r.client()
	for _, v := range admin.DescribeBrokers(t.Context(), c) {
		if v.Err != nil || !v.Configured || !v.Listed() || len(v.Unsupported) != 0 ||
			r.cluster == nil && !strings.HasPrefix(v.Release, "4.") {
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
	if s := live.Settings; len(live.Partitions) != 2 || s[kafkaclient.CleanupPolicy] != "compact" ||
		s[kafkaclient.RetentionMs] != "7200000" ||
		s[kafkaclient.TimestampType] != "LogAppendTime" ||
		s[kafkaclient.MinInSync] != "9" || s[kafkaclient.MaxMessageBytes] == "" ||
		s[kafkaclient.RetentionBytes] != "-1" || !live.May.Has(kafkaclient.MayRead) {
		t.Errorf("%+v", live)
	}
	r.send(&kgo.Record{Topic: live.Name, Key: []byte("a"), Value: []byte("{}")}) // with acks=all
	if !views[1].Missing || views[1].Refused != nil || r.describe(named.Backfill).ErrorCode == 0 {
		t.Errorf("%+v", views[1])
	}
	if g, err := consumer.DescribeGroup(t.Context(), c, r.group); err != nil ||
		!g.May.Has(kafkaclient.MayRead) {
		t.Errorf("%+v %v", g, err)
	}
}
