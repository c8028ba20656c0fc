package consumer_test

import (
	"context"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"markread/consumer"
	"markread/consumer/broker/brokertest"
)

// Brokers that take no metadata get plain offsets, with the next try of the same commit, however many partitions were refused.
func TestBrokersThatTakeNoMetadata(t *testing.T) {
	brokertest.Run(t, 3, func(w *brokertest.World) {
		for p := range 3 {
			w.Publish(brokertest.Topics.Live, p, 100)
		}
		refused := w.Cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetCommit}, Err: kerr.OffsetMetadataTooLarge, Count: -1, When: func(r kmsg.Request) bool {
			for _, t := range r.(*kmsg.OffsetCommitRequest).Topics {
				for _, p := range t.Partitions {
					if p.Metadata != nil && *p.Metadata != "" {
						return true
					}
				}
			}
			return false
		}})
		var m *member
		m = join(w, w.Client(), func(started *member) {
			started.auto = false
			started.drain = func(_ context.Context, g *consumer.Generation) {
				for _, e := range m.all() {
					if e.Record.Offset != 50 {
						g.Finish(e.Ref)
					}
				}
				if err := g.Commit(context.Background()); err != nil {
					w.Errorf("commit: %v", err)
				}
			}
		})
		time.Sleep(5 * time.Second)
		m.leave()
		for p := range 3 {
			if got := committed(w, brokertest.Topics.Live, p); got != 50 {
				w.Errorf("partition %d: committed %d", p, got)
			}
		}
		if n := refused.Hits(); n == 0 || n > 3 {
			w.Errorf("%d commits were refused", n)
		}
	})
}
