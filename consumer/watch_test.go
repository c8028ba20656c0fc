package consumer

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kfake"

	"markread/consumer/admin"
	"markread/consumer/broker"
	"markread/consumer/broker/brokertest"
	"markread/consumer/event"
	"markread/consumer/kafkaclient"
)

// overBroker runs a test in a bubble with a client of a broker that has the topic "live", of 4
// partitions.
func overBroker(t *testing.T, test func(t *testing.T, c *kafkaclient.Client)) {
	t.Helper()
	brokertest.Bubble(t, func(t *testing.T) {
		var network kfake.VirtualNetwork
		b, err := broker.Start(broker.Options{Addr: "127.0.0.1:9092", Partitions: 4, Listen: network.Listen, Topics: []string{"live"}})
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		c, err := kafkaclient.New(kafkaclient.Options{Brokers: []string{b.Addr()}, Dial: network.DialContext, Log: zerolog.Nop()})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.UseTopics("live")
		test(t, c)
	})
}

// A leader rebalances when the topics have another number of partitions than it has assigned;
// another member rejoins, with patience, when it counts the leader's partitions by now. What
// anybody else claims makes nobody rebalance.
func TestWatch(t *testing.T) {
	counts := func(n int) outlook { return outlook{200, map[string]int{"live": n}} } // there are 4
	for name, c := range map[string]struct {
		joined   joined
		patience time.Duration
		want     error
		after    time.Duration
	}{
		"a leader that is right":                 {joined{leader: true, outlook: counts(4), leaders: counts(4)}, 0, nil, 0},
		"a leader of fewer":                      {joined{leader: true, outlook: counts(2), leaders: counts(2)}, 0, errPartitions, 2 * watchInterval},
		"a leader of more":                       {joined{leader: true, outlook: counts(8), leaders: counts(8)}, 0, errPartitions, 2 * watchInterval},
		"a member that is right":                 {joined{outlook: counts(4), leaders: counts(4)}, 0, nil, 0},
		"a member with a leader of fewer":        {joined{outlook: counts(4), leaders: counts(2)}, watchInterval, nil, 0},
		"a member with a leader of other topics": {joined{outlook: counts(4), leaders: outlook{200, map[string]int{"x": 4}}}, watchInterval, nil, 0},
		"a member that was behind":               {joined{outlook: counts(2), leaders: counts(4)}, watchInterval, errBehind, watchInterval},
		"a member that was behind again":         {joined{outlook: counts(2), leaders: counts(4)}, longestPatience, errBehind, longestPatience},
	} {
		t.Run(name, func(t *testing.T) {
			overBroker(t, func(t *testing.T, client *kafkaclient.Client) {
				ctx, revoke := context.WithCancelCause(t.Context())
				defer revoke(nil)
				time.AfterFunc(time.Hour, func() { revoke(nil) })
				began := time.Now()
				g := &Generation{client: client}
				g.watch(ctx, c.joined, GroupOptions{Topics: event.Topics{Live: "live"}, Rate: 200}, c.patience, revoke)
				took := time.Since(began)
				if cause := context.Cause(ctx); c.want == nil && took < time.Hour || c.want != nil && (!errors.Is(cause, c.want) || took < c.after || took > c.after+time.Second) {
					t.Errorf("after %v %v, want %v after %v", took, cause, c.want, c.after)
				}
			})
		})
	}
}

// An end that was read before the group committed is no end that the group is beyond.
func TestBeyondIsAskedAgain(t *testing.T) {
	overBroker(t, func(t *testing.T, c *kafkaclient.Client) {
		m := event.Message{Key: []byte("k"), Value: []byte("{}")}
		if err := c.Publisher("live").Publish(t.Context(), m, m); err != nil {
			t.Fatal(err)
		}
		e, err := c.TopicOffsets(t.Context(), "live")
		if err != nil {
			t.Fatal(err)
		}
		for p, b := range e.Partitions {
			for _, beyond := range []int64{0, 3} {
				l := admin.PartitionLag{TopicPartition: event.TopicPartition{Topic: "live", Partition: p}, OffsetRange: kafkaclient.OffsetRange{End: max(0, b.End-1)}, Committed: b.End + beyond}
				admin.CheckBeyond(t.Context(), c, &l)
				if l.Err != nil || l.Beyond != beyond || (l.Lag == 0) != (beyond == 0 || b.End == 0) {
					t.Errorf("%d beyond: %+v", beyond, l)
				}
			}
		}
	})
}
