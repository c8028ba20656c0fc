package consumer_test

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"markread/consumer/broker/brokertest"
)

// padded returns a value of size bytes.
func padded(i, size int) []byte {
	v := brokertest.Value(i)
	return append(v, bytes.Repeat([]byte(" "), size-len(v))...)
}

// produce writes each value as a batch of its own.
func produce(w *brokertest.World, topic string, partition int32, values ...[]byte) {
	w.Helper()
	c := w.Kgo(kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchCompression(kgo.NoCompression()))
	for _, v := range values {
		if err := c.ProduceSync(w.Context(),
			&kgo.Record{Topic: topic, Partition: partition, Value: v}).FirstErr(); err != nil {
			w.Fatal(err)
		}
	}
	c.Close()
}

// Fetching makes progress even if the fingerprint's batch fills the response, and each delivery
// takes so long that the next fetch starts at the fingerprint again.
func TestSlowDeliveryOfLargeBatches(t *testing.T) {
	brokertest.Run(t, 1, func(w *brokertest.World) {
		for i := range 5 {
			produce(w, brokertest.Topics.Live, 0, padded(i, 300_000+i*50_000))
		}
		m := join(w, w.Client(), func(m *member) {
			m.now = func() time.Time { time.Sleep(1500 * time.Millisecond); return time.Now() }
		})
		time.Sleep(2 * time.Minute)
		m.leave()
		if got := m.delivered(brokertest.Topics.Live, 0); !slices.Equal(got, offsets(0, 5)) {
			w.Errorf("got %v", got)
		}
	})
}

// A damaged batch is detected even if capacity is so scarce that there is a pause before each
// fetch.
func TestUnreadableWhileCapacityIsScarce(t *testing.T) {
	brokertest.Run(t, 1, func(w *brokertest.World) {
		damaged(w, 0, 0, 5)
		m := join(w, w.Client(), func(m *member) { m.pause = 100 * time.Millisecond })
		time.Sleep(30 * time.Second)
		if s := state(m.generation(), brokertest.Topics.Live, 0); s.Unreadable == nil {
			w.Errorf("after 30 s: %+v", s)
		}
		m.leave()
	})
}

// A topic that is recreated while a fetch waits for memory is read from its beginning.
func TestTopicRecreatedWhileAFetchWaitsForMemory(t *testing.T) {
	brokertest.Run(t, 2, func(w *brokertest.World) {
		if err := w.Cluster.DeleteTopic(brokertest.Topics.Live); err != nil {
			w.Fatal(err)
		}
		create := func() {
			if err := w.Cluster.CreateTopic(brokertest.Topics.Live, 2,
				map[string]string{"max.message.bytes": "30000000"}); err != nil {
				w.Fatal(err)
			}
		}
		create()
		w.Publish(brokertest.Topics.Live, 0, 100)
		m := join(w, w.Client())
		time.Sleep(5 * time.Second)
		m.set(func() { m.oneDelivery = true }) // capacity for one delivery
		var large []byte
		for i := range int64(20) { // as large as the lane's memory, and of many chunks
			large = append(large, rawRecord(padded(int(i), 900_000), i, 0)...)
		}
		produceRaw(w, brokertest.Topics.Live, 1, rawBatchOf(0, 20, large))
		time.Sleep(10 * time.Millisecond)
		// a fetch waited for it; now there is no memory for it
		w.Publish(brokertest.Topics.Live, 0, 1)
		time.Sleep(5 * time.Second)
		if n := len(m.delivered(brokertest.Topics.Live, 1)); n == 0 || n == 20 ||
			len(m.delivered(brokertest.Topics.Live, 0)) != 100 {
			w.Fatalf("%d large events, %d others", n, len(m.delivered(brokertest.Topics.Live, 0)))
		}
		if err := w.Cluster.DeleteTopic(brokertest.Topics.Live); err != nil {
			w.Fatal(err)
		}
		create()
		w.Publish(brokertest.Topics.Live, 0, 300)
		m.set(func() { m.oneDelivery, m.full = false, false })
		time.Sleep(time.Minute)
		m.leave()
		if got := m.delivered(brokertest.Topics.Live, 0); !slices.Equal(got,
			slices.Concat(offsets(0, 100), offsets(0, 300))) {
			w.Errorf("got %d events, %v", len(got), got[min(100, len(got)):])
		}
	})
}

// Fetches reuse each other's memory, but never before all of a fetch's records are delivered: while
// each partition waits between its deliveries, the others fetch.
func TestReusedMemory(t *testing.T) {
	const partitions, perFetch, fetches = 4, 3_000, 3
	brokertest.Run(t, partitions, func(w *brokertest.World) {
		c := w.Kgo(kgo.RecordPartitioner(kgo.ManualPartitioner()),
			kgo.ProducerBatchCompression(kgo.NoCompression()))
		for fetch := range fetches {
			var records []*kgo.Record
			for i := range partitions * perFetch {
				records = append(records, &kgo.Record{Topic: brokertest.Topics.Live,
					Partition: int32(i % partitions),
					Value:     brokertest.Value(fetch*partitions*perFetch + i)})
			}
			if err := c.ProduceSync(w.Context(), records...).FirstErr(); err != nil {
				w.Fatal(err)
			}
		}
		m := join(w, w.Client(), func(m *member) { m.pause = time.Millisecond })
		time.Sleep(time.Minute)
		m.leave()
		all := m.all()
		if len(all) != partitions*perFetch*fetches {
			w.Errorf("got %d events", len(all))
		}
		for _, e := range all {
			i := int(e.Record.Offset)*partitions + e.Record.Partition
			if want := brokertest.Value(i); !bytes.Equal(e.Record.Value, want) {
				w.Fatalf("partition %d, offset %d: %q, want %q", e.Record.Partition,
					e.Record.Offset, e.Record.Value, want)
			}
		}
	})
}

// The sink knows of how many partitions it did not get the whole backlog.
func TestBehind(t *testing.T) {
	brokertest.Run(t, 3, func(w *brokertest.World) {
		for partition := range int32(2) {
			for i := range 5 {
				produce(w, brokertest.Topics.Live, partition, padded(i, 300_000))
			}
		}
		m := join(w, w.Client(), func(m *member) { m.oneDelivery = true })
		behind := func() (n int) { m.set(func() { n = m.behind }); return n }
		time.Sleep(10 * time.Second)
		if got := behind(); got < 1 || got > 2 {
			w.Errorf("%d partitions are behind after a delivery, want 1 or 2", got)
		}
		m.set(func() { m.oneDelivery, m.full = false, false })
		time.Sleep(10 * time.Second)
		if got := behind(); got != 0 {
			w.Errorf("%d partitions are behind after everything was read", got)
		}
		// What is written later is no backlog, even if it is not read immediately.
		m.set(func() { m.full = true })
		for i := range 5 {
			produce(w, brokertest.Topics.Live, 0, padded(9+i, 300_000))
		}
		time.Sleep(10 * time.Second) // only the fetch that waited has returned
		m.set(func() { m.oneDelivery, m.full = true, false })
		time.Sleep(10 * time.Second)
		if got := behind(); got != 0 {
			w.Errorf("%d partitions are behind with new records", got)
		}
		m.leave()
	})
}
