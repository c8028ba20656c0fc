package consumer_test

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"markread/consumer/broker/brokertest"
)

// While a broker does not know a topic for a moment, a member must not take the partitions of the others for all that there are: its part of
// the quota is reckoned from them.
func TestAllPartitionsAreCounted(t *testing.T) {
	for _, code := range []*kerr.Error{kerr.UnknownTopicOrPartition, kerr.LeaderNotAvailable} {
		t.Run(code.Message, func(t *testing.T) {
			brokertest.Run(t, 4, func(w *brokertest.World) {
				first := join(w, w.Client())
				time.Sleep(5 * time.Second)
				fault := w.Cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Metadata}, Topic: brokertest.Topics.Backfill, Err: code, Count: -1})
				second := join(w, w.Client())
				time.Sleep(3 * time.Second)
				fault.Remove()
				time.Sleep(30 * time.Second)
				for _, m := range []*member{first, second} {
					m.leave() // from here on its generations are ours to read
					for _, g := range m.generations {
						if n := len(g.All()); n != 8 {
							t.Errorf("generation %d: %d partitions, want 8", g.ID(), n)
						}
					}
				}
			})
		})
	}
}
