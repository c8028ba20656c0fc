package admin

import (
	"testing"

	"markread/consumer/broker/brokertest"
	"markread/consumer/event"
	"markread/consumer/kafkaclient"
)

// A commit beyond an end that was read before it is not beyond the current end.
func TestEndIsReadAgainBeforeBeyond(t *testing.T) {
	brokertest.Run(t, 4, func(w *brokertest.World) {
		c := w.Client()
		m := event.Message{Key: []byte("k"), Value: []byte("{}")}
		if err := c.Publisher(brokertest.Topics.Live).Publish(w.Context(), m, m); err != nil {
			t.Fatal(err)
		}
		e, err := c.TopicOffsets(w.Context(), brokertest.Topics.Live)
		if err != nil {
			t.Fatal(err)
		}
		for p, b := range e.Partitions {
			for _, beyond := range []int64{0, 3} {
				l := PartitionLag{TopicPartition: event.TopicPartition{
					Topic: brokertest.Topics.Live, Partition: p},
					OffsetRange: kafkaclient.OffsetRange{End: max(0, b.End-1)},
					Committed:   b.End + beyond}
				checkBeyond(w.Context(), c, &l)
				if l.Err != nil || l.Beyond != beyond ||
					(l.Lag == 0) != (beyond == 0 || b.End == 0) {
					t.Errorf("%d beyond: %+v", beyond, l)
				}
			}
		}
	})
}
