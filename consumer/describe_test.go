package consumer_test

import (
	"context"
	"encoding/binary"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"markread/consumer"
	"markread/consumer/admin"
	"markread/consumer/broker/brokertest"
	"markread/consumer/event"
)

func group(w *brokertest.World, name string) consumer.DescribedGroup {
	w.Helper()
	view, err := consumer.DescribeGroup(w.Context(), w.Client(), name)
	if err != nil {
		w.Fatal(err)
	}
	return view
}

// joinWithRate joins with a rate, and finishes no events.
func joinWithRate(w *brokertest.World, rate int) (leave func()) {
	c := w.Client()
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = consumer.Consume(ctx, c, consumer.GroupOptions{Group: brokertest.Group,
			Topics: brokertest.Topics, Rate: rate},
			func(ctx context.Context, _ *consumer.Generation) { <-ctx.Done() })
	}()
	leave = func() { stop(); <-done }
	w.Cleanup(leave)
	return leave
}

// DescribeGroup returns the members' assignments and terms. A member with another rate has no
// partitions, and DescribeGroup returns why.
func TestDescribeGroup(t *testing.T) {
	brokertest.Run(t, 3, func(w *brokertest.World) {
		if view := group(w, brokertest.Group); view.State != consumer.GroupAbsent ||
			len(view.Members) != 0 {
			w.Errorf("nobody has ever joined: %+v", view)
		}
		leave := joinWithRate(w, 200)
		time.Sleep(5 * time.Second)
		leave2 := joinWithRate(w, 200)
		time.Sleep(5 * time.Second)
		leave3 := joinWithRate(w, 100)
		time.Sleep(20 * time.Second)
		view := group(w, brokertest.Group)
		if view.State != consumer.GroupStable || !view.Ours() || len(view.Members) != 3 ||
			view.LeaderTerms == nil || view.LeaderTerms.Rate != 200 ||
			len(view.LeaderTerms.All) != 6 {
			w.Fatalf("%+v", view)
		}
		seen := map[event.TopicPartition]bool{}
		mismatched := 0
		for _, m := range view.Members {
			if !strings.HasPrefix(m.ID, "markread-") || m.Client != "markread" || m.Host == "" ||
				strings.HasPrefix(m.Host, "/") || m.Terms == nil {
				w.Errorf("%+v", m)
				continue
			}
			if m.Terms.Rate == 100 {
				mismatched++
				want := "it uses a rate of 100, the group's leader uses 200"
				if m.Mismatch != want || len(m.Assigned) != 0 {
					w.Errorf("%q, want %q: %+v", m.Mismatch, want, m)
				}
				continue
			}
			if m.Mismatch != "" || len(m.Terms.All) != 6 || len(m.Assigned) < 2 {
				w.Errorf("%+v", m)
			}
			for _, p := range m.Assigned {
				if seen[p] {
					w.Errorf("%v twice", p)
				}
				seen[p] = true
			}
		}
		if mismatched != 1 || len(seen) != 6 {
			w.Errorf("%d members differ, %d partitions assigned", mismatched, len(seen))
		}
		leave()
		leave2()
		leave3()
		if view := group(w, brokertest.Group); view.State != consumer.GroupEmpty ||
			len(view.Members) != 0 {
			w.Errorf("all have left: %+v", view)
		}
	})
}

// During a rebalance DescribeGroup returns only that the members exist.
func TestDescribeGroupInARebalance(t *testing.T) {
	brokertest.Run(t, 2, func(w *brokertest.World) {
		m := join(w, w.Client())
		time.Sleep(5 * time.Second)
		m.set(func() {
			m.drain = func(ctx context.Context, _ *consumer.Generation) {
				time.Sleep(10 * time.Second)
			}
		})
		joinWithRate(w, 200)
		time.Sleep(5 * time.Second)
		view := group(w, brokertest.Group)
		if view.State != consumer.GroupRebalancing || len(view.Members) == 0 ||
			view.LeaderTerms != nil {
			w.Errorf("%+v", view)
		}
		for _, m := range view.Members {
			if m.Terms != nil || m.Mismatch != "" || m.Assigned != nil {
				w.Errorf("%+v", m)
			}
		}
	})
}

// A group of another program is recognized, and its members' data is not decoded as ours.
func TestDescribeGroupOfAnotherProgram(t *testing.T) {
	brokertest.Run(t, 2, func(w *brokertest.World) {
		other := w.Kgo(kgo.ConsumerGroup(brokertest.Group),
			kgo.ConsumeTopics(brokertest.Topics.Live))
		ctx, cancel := context.WithTimeout(w.Context(), 5*time.Second)
		defer cancel()
		other.PollFetches(ctx)
		view := group(w, brokertest.Group)
		if view.State != consumer.GroupStable || view.Ours() || len(view.Members) != 1 ||
			view.Members[0].Terms != nil || view.Members[0].Assigned != nil {
			w.Errorf("%+v", view)
		}
	})
}

// Anyone who may join can publish any data, also under markread's protocol name.
func TestDescribeGroupWithMalformedData(t *testing.T) {
	subscription := func(data string) []byte {
		b := binary.BigEndian.AppendUint16([]byte{0, 1, 0, 0, 0, 1}, 1)
		b = append(b, 't')
		b = binary.BigEndian.AppendUint32(b, uint32(len(data)))
		return append(b, data...)
	}
	for name, c := range map[string]struct{ metadata, assignment []byte }{
		"nothing": {nil, nil},
		"cut":     {[]byte{0}, []byte{0, 1, 0}},
		"false lengths": {[]byte{0, 1, 0x7f, 0xff, 0xff, 0xff, 0},
			[]byte{0, 1, 0x7f, 0xff, 0xff, 0xff, 0, 1, 't', 0x7f, 0xff, 0xff, 0xff}},
		"negative lengths": {[]byte{0, 1, 0xff, 0xff, 0xff, 0xfe},
			[]byte{0, 1, 0, 0, 0, 1, 0xff, 0xfe, 0, 0, 0, 1}},
		"no JSON":             {subscription("hello"), nil},
		"too many partitions": {subscription(`{"rate":200,"partitions":{"t":2000000000}}`), nil},
		"too many in sum": {subscription(`{"rate":200,"partitions":{"a":200000,"b":200000}}`),
			nil},
		"negative":           {subscription(`{"rate":-200,"partitions":{"t":-1}}`), nil},
		"partitions missing": {subscription(`{"rate":200}`), nil},
	} {
		brokertest.Run(t, 1, func(w *brokertest.World) {
			brokertest.Respond(w, kmsg.DescribeGroups,
				func(_ kmsg.Request, a *kmsg.DescribeGroupsResponse) {
					g := kmsg.NewDescribeGroupsResponseGroup()
					g.Group, g.State, g.ProtocolType, g.Protocol = brokertest.Group, "Stable",
						"consumer", "markread"
					m := kmsg.NewDescribeGroupsResponseGroupMember()
					m.MemberID, m.ProtocolMetadata, m.MemberAssignment = "m", c.metadata,
						c.assignment
					g.Members = append(g.Members, m)
					a.Groups = append(a.Groups, g)
				})
			view := group(w, brokertest.Group)
			if len(view.Members) != 1 || view.Members[0].Terms != nil ||
				len(view.Members[0].Assigned) > 1 || view.LeaderTerms != nil {
				w.Errorf("%s: %+v", name, view)
			}
		})
	}
}

// When the coordinator moves, the request is retried. A missing permission is returned immediately.
// Other failures end after 8 s.
func TestDescribeGroupFailures(t *testing.T) {
	for name, c := range map[string]struct {
		fault *kerr.Error
		count int
		want  string
		takes time.Duration
	}{
		"moves":     {kerr.NotCoordinator, 2, "", time.Second},
		"forbidden": {kerr.GroupAuthorizationFailed, -1, "--group", time.Second},
		"gone":      {kerr.CoordinatorNotAvailable, -1, "gave up after 8s", 9 * time.Second},
	} {
		brokertest.Run(t, 1, func(w *brokertest.World) {
			w.Cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.DescribeGroups}, Err: c.fault,
				Count: c.count})
			start := time.Now()
			_, err := consumer.DescribeGroup(w.Context(), w.Client(), brokertest.Group)
			if took := time.Since(start); (err == nil) != (c.want == "") || err != nil &&
				!strings.Contains(err.Error(), c.want) || took > c.takes {
				w.Errorf("%s: after %s: %v", name, took, err)
			}
		})
	}
}

// A group that is described as absent but listed is of another kind. Without members it counts as
// empty. When groups can't be listed, the description counts.
func TestDescribeGroupOfAnotherKind(t *testing.T) {
	for state, want := range map[string]consumer.GroupState{
		"Stable": consumer.GroupUnsupported, "Assigning": consumer.GroupUnsupported,
		"Empty": consumer.GroupEmpty, "Dead": consumer.GroupAbsent, "": consumer.GroupAbsent,
	} {
		brokertest.Run(t, 1, func(w *brokertest.World) {
			brokertest.Respond(w, kmsg.ListGroups,
				func(_ kmsg.Request, a *kmsg.ListGroupsResponse) {
					for _, name := range []string{"other", brokertest.Group} {
						g := kmsg.NewListGroupsResponseGroup()
						g.Group, g.ProtocolType, g.GroupState = name, "consumer", state
						if state == "" {
							g.Group, a.ErrorCode = "other", kerr.ClusterAuthorizationFailed.Code
						}
						a.Groups = append(a.Groups, g)
					}
				})
			if g := group(w, brokertest.Group); g.State != want {
				w.Errorf("listed as %q: %s, want %s", state, g.State, want)
			}
		})
	}
}

// The lag is counted from the committed offset, or else the oldest record, to the end. Finished
// events beyond the offset are returned separately.
func TestLag(t *testing.T) {
	brokertest.Run(t, 3, func(w *brokertest.World) {
		lag := func() []admin.PartitionLag {
			w.Helper()
			lags, err := admin.Lag(w.Context(), w.Client(), brokertest.Group,
				brokertest.Topics.Live)
			if err != nil || len(lags) != 3 {
				w.Fatal(lags, err)
			}
			return lags
		}
		w.Publish(brokertest.Topics.Live, 0, 10)
		first := time.Now()
		time.Sleep(time.Minute)
		w.Publish(brokertest.Topics.Live, 0, 10)
		w.Publish(brokertest.Topics.Live, 1, 5)
		for p, l := range lag() { // nobody has ever committed
			want := []int64{20, 5, 0}[p]
			if l.Err != nil || l.Partition != p || l.Topic != brokertest.Topics.Live ||
				l.Committed != -1 || l.Lag != want || l.Finished != 0 || l.Lost != 0 ||
				l.Oldest.IsZero() != (want == 0) {
				w.Errorf("%+v", l)
			}
		}
		if l := lag()[0]; l.Oldest.Sub(first).Abs() > time.Second {
			w.Errorf("oldest of %s, want %s", l.Oldest, first)
		}

		m := join(w, w.Client(), func(m *member) { m.autoFinish = false })
		time.Sleep(5 * time.Second)
		finish := func(offsets ...int64) {
			g := m.generation()
			for _, e := range m.all() {
				for _, o := range offsets {
					if e.Record.Partition == 0 && e.Record.Topic == brokertest.Topics.Live &&
						e.Record.Offset == o {
						g.Finish(e.Ref)
					}
				}
			}
			time.Sleep(3 * time.Second) // until it is committed
		}
		finish(0, 1, 2, 3, 5, 7, 8, 15)
		if l := lag()[0]; l.Committed != 4 || l.Lag != 16 || l.Finished != 4 || l.Oldest.Sub(first).
			Abs() > time.Second {
			w.Errorf("%+v", l)
		}
		finish(4, 6, 9)
		if l := lag()[0]; l.Committed != 10 || l.Lag != 10 || l.Finished != 1 ||
			l.Oldest.Sub(first) < time.Minute {
			w.Errorf("%+v", l)
		}
	})
}

// A replayed event is older than its record, and retention uses the record's time. An event time
// that can't be read is replaced by the record's.
func TestLagOfReplays(t *testing.T) {
	brokertest.Run(t, 2, func(w *brokertest.World) {
		written := time.Now().Add(-time.Hour).Truncate(time.Millisecond)
		happened := written.Add(-1000 * time.Hour)
		header := func(value string) []kgo.RecordHeader {
			return []kgo.RecordHeader{{Key: "markread.event-time", Value: []byte(value)}}
		}
		for _, r := range []*kgo.Record{
			{Partition: 0, Timestamp: written,
				Headers: header(strconv.FormatInt(happened.UnixMilli(), 10))},
			{Partition: 1, Timestamp: written, Headers: header("yesterday")},
		} {
			r.Topic, r.Value = brokertest.Topics.Live, []byte("{}")
			c := w.Kgo(kgo.RecordPartitioner(kgo.ManualPartitioner()))
			if err := c.ProduceSync(w.Context(), r).FirstErr(); err != nil {
				w.Fatal(err)
			}
			c.Close()
		}
		lags, err := admin.Lag(w.Context(), w.Client(), brokertest.Group, brokertest.Topics.Live)
		if err != nil || !lags[0].Oldest.Equal(happened) || !lags[0].Written.Equal(written) ||
			!lags[1].Oldest.Equal(written) || !lags[1].Written.Equal(written) {
			w.Errorf("%+v %v", lags, err)
		}
	})
}

// Unread records that retention has deleted count as lost, not as lag. Finished ones count as
// neither.
func TestLagBehindRetention(t *testing.T) {
	brokertest.Run(t, 1, func(w *brokertest.World) {
		m := join(w, w.Client(), func(m *member) { m.autoFinish = false })
		w.Publish(brokertest.Topics.Live, 0, 30)
		time.Sleep(5 * time.Second)
		for _, e := range m.all() {
			if offset := e.Record.Offset; offset < 10 || offset >= 20 && offset < 27 {
				m.generation().Finish(e.Ref)
			}
		}
		m.leave()
		if err := w.Cluster.DeleteRecords(brokertest.Topics.Live, 0, 25); err != nil {
			w.Fatal(err)
		}
		lags, err := admin.Lag(w.Context(), w.Client(), brokertest.Group, brokertest.Topics.Live)
		if err != nil || lags[0].Committed != 10 || lags[0].Lag != 5 || lags[0].Finished != 2 ||
			lags[0].Lost != 10 {
			w.Errorf("%+v %v", lags, err)
		}
	})
}

// A partition without a leader has an error. The other partitions and their committed offsets are
// returned all the same.
func TestLagWithoutALeader(t *testing.T) {
	brokertest.Run(t, 3, func(w *brokertest.World) {
		m := join(w, w.Client())
		w.Publish(brokertest.Topics.Live, 1, 4)
		time.Sleep(5 * time.Second)
		m.leave()
		w.Publish(brokertest.Topics.Live, 1, 3)
		w.Cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.ListOffsets},
			Topic: brokertest.Topics.Live, Partitions: []int32{0}, Err: kerr.NotLeaderForPartition,
			Count: -1})
		lags, err := admin.Lag(w.Context(), w.Client(), brokertest.Group, brokertest.Topics.Live)
		if err != nil || lags[0].Err == nil || lags[0].Lag != 0 || lags[1].Err != nil ||
			lags[1].Lag != 3 || lags[1].Committed != 4 {
			w.Errorf("%+v %v", lags, err)
		}
	})
}

// A committed offset beyond the end of the log is reported, not treated as a lag of 0.
func TestLagBeyondTheEnd(t *testing.T) {
	brokertest.Run(t, 2, func(w *brokertest.World) {
		w.Publish(brokertest.Topics.Live, 0, 20)
		w.Publish(brokertest.Topics.Live, 1, 20)
		commit(w, brokertest.Topics.Live, 0, 500, "")
		commit(w, brokertest.Topics.Live, 1, 20, "")
		lags, err := admin.Lag(w.Context(), w.Client(), brokertest.Group, brokertest.Topics.Live)
		if err != nil {
			w.Fatal(err)
		}
		if l := lags[0]; l.Err != nil || l.Committed != 500 || l.Beyond != 480 || l.Lag != 20 ||
			l.Finished != 0 || l.Lost != 0 || l.Unreadable == nil {
			w.Errorf("%+v", l)
		}
		if l := lags[1]; l.Err != nil || l.Unreadable != nil || l.Beyond != 0 || l.Lag != 0 {
			w.Errorf("%+v", l)
		}
	})
}
