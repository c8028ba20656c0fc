package consumer_test

import (
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"markread/consumer/broker/brokertest"
	"markread/consumer/event"
)

// Neither aborted records nor markers are delivered; the committed offset advances past both.
func TestAbortedTransactions(t *testing.T) {
	brokertest.Run(t, 1, func(w *brokertest.World) {
		producer := w.Kgo(kgo.TransactionalID("tx"),
			kgo.DefaultProduceTopic(brokertest.Topics.Live))
		n, want := 0, []string(nil)
		send := func(count int, end kgo.TransactionEndTry) {
			if err := producer.BeginTransaction(); err != nil {
				w.Fatal(err)
			}
			for range count {
				if err := producer.ProduceSync(w.Context(),
					&kgo.Record{Value: brokertest.Value(n)}).FirstErr(); err != nil {
					w.Fatal(err)
				}
				if end == kgo.TryCommit {
					want = append(want, string(brokertest.Value(n)))
				}
				n++
			}
			if err := producer.EndTransaction(w.Context(), end); err != nil {
				w.Fatal(err)
			}
		}
		send(3, kgo.TryCommit)
		send(4, kgo.TryAbort)
		send(2, kgo.TryCommit)
		w.Publish(brokertest.Topics.Live, 0, 1)
		want = append(want, string(brokertest.Value(0)))
		send(1, kgo.TryAbort)
		send(700, kgo.TryCommit) // more than one response to a fetch may hold
		send(5, kgo.TryAbort)

		m := join(w, w.Client())
		time.Sleep(10 * time.Second)
		var got []string
		for _, e := range m.all() {
			got = append(got, string(e.Record.Value))
		}
		if !slices.Equal(got, want) {
			w.Errorf("got %d events, want %d", len(got), len(want))
		}
		end := w.Cluster.PartitionInfo(brokertest.Topics.Live, 0).HighWatermark
		if got := committed(w, brokertest.Topics.Live, 0); got != end {
			w.Errorf("committed %d, want %d: the last marker, too", got, end)
		}

		// While a transaction is open, later records wait. They are delivered after it ends.
		if err := producer.BeginTransaction(); err != nil {
			w.Fatal(err)
		}
		if err := producer.ProduceSync(w.Context(), &kgo.Record{Value: brokertest.Value(1)}).
			FirstErr(); err != nil {
			w.Fatal(err)
		}
		w.Publish(brokertest.Topics.Live, 0, 1)
		time.Sleep(10 * time.Second)
		if len(m.all()) != len(want) {
			w.Error("a record of an open transaction was delivered")
		}
		if err := producer.EndTransaction(w.Context(), kgo.TryAbort); err != nil {
			w.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		if len(m.all()) != len(want)+1 ||
			string(m.all()[len(want)].Record.Value) != string(brokertest.Value(0)) {
			w.Errorf("after the abort: %d events, want %d", len(m.all()), len(want)+1)
		}
		m.leave()
	})
}

// Compaction leaves holes within batches, empty batches and an empty end. The committed offset
// advances past all of them.
func TestCompactionHoles(t *testing.T) {
	brokertest.Run(t, 1, func(w *brokertest.World) {
		recreateTopic(w, map[string]string{"cleanup.policy": "compact", "segment.bytes": "1"})
		producer := w.Kgo(kgo.DefaultProduceTopic(brokertest.Topics.Live))
		key := func(i int) []byte { return []byte{byte('a' + i)} }
		batch := func(keys ...int) {
			var records []*kgo.Record
			for _, k := range keys {
				records = append(records, &kgo.Record{Key: key(k), Value: brokertest.Value(k)})
			}
			if err := producer.ProduceSync(w.Context(), records...).FirstErr(); err != nil {
				w.Fatal(err)
			}
		}
		batch(0, 1, 2, 3)    // 0 to 3: only 1 stays
		batch(0, 0, 0, 2)    // 4 to 7: nothing stays
		batch(2, 3, 0, 4, 4) // 8 to 12
		for range 5 {
			batch(5) // 13 to 17: 16 stays, because 17 is in the segment that is still written
		}
		producer.Close()
		w.Cluster.Compact()
		m := join(w, w.Client())
		time.Sleep(10 * time.Second)
		got, end := m.delivered(brokertest.Topics.Live, 0),
			w.Cluster.PartitionInfo(brokertest.Topics.Live, 0).HighWatermark
		if want := []int64{1, 8, 9, 10, 12, 16, 17}; !slices.Equal(got, want) {
			w.Errorf("got %v of %d, want %v", got, end, want)
		}
		if got := committed(w, brokertest.Topics.Live, 0); got != end {
			w.Errorf("committed %d, want %d", got, end)
		}
		m.leave()
	})
}

// The header of a batch is authoritative: whether the broker has set the time of its records, and
// where the batch ends. The embedded broker does not write these batches: it accepts
// message.timestamp.type, but ignores it, and leaves no holes at the end of a batch.
func TestBatchHeader(t *testing.T) {
	brokertest.Run(t, 1, func(w *brokertest.World) {
		const end = 1_000_000
		appended := time.Now().Add(-time.Hour).Truncate(time.Millisecond)
		batch := encodeBatch(kmsg.RecordBatch{
			Magic: 2, Attributes: 8, LastOffsetDelta: end - 1, FirstTimestamp: 1000,
			MaxTimestamp: appended.UnixMilli(),
			ProducerID:   -1, NumRecords: 1,
			Records: rawRecord([]byte(`{"Report_Account":"r","Peer_Account":"p"}`), 0, 0),
		})
		var mu sync.Mutex
		var fetchedAt []int64
		respondToFetches(w, func(p kmsg.FetchRequestTopicPartition) ([]byte, int64, bool) {
			mu.Lock()
			fetchedAt = append(fetchedAt, p.FetchOffset)
			mu.Unlock()
			if p.FetchOffset < end {
				return batch, end, true
			}
			w.Cluster.SleepControl(func() { time.Sleep(2 * time.Second) })
			return nil, end, true
		})
		m := join(w, w.Client())
		time.Sleep(5 * time.Second)
		m.leave()
		time.Sleep(3 * time.Second) // the broker's own
		if got := m.delivered(brokertest.Topics.Live, 0); !slices.Equal(got, []int64{0}) ||
			committed(w, brokertest.Topics.Live, 0) != end {
			w.Fatalf("got %v, committed %d", got, committed(w, brokertest.Topics.Live, 0))
		}
		if e := m.all()[0]; !e.Record.Time.Equal(appended) || !e.EventTime.Equal(appended) ||
			e.ReadTime != appended.Unix() || e.Invalid != nil {
			w.Errorf("appended at %v: time %v, event time %v, read time %d, %v", appended,
				e.Record.Time, e.EventTime, e.ReadTime, e.Invalid)
		}
		mu.Lock()
		defer mu.Unlock()
		if len(fetchedAt) < 2 || fetchedAt[0] != 0 || fetchedAt[1] != end {
			w.Errorf("fetched at %v", fetchedAt[:min(len(fetchedAt), 10)])
		}
	})
}

// Records that retention deletes before they are read are counted exactly; the rest is delivered.
func TestLostToRetention(t *testing.T) {
	brokertest.Run(t, 1, func(w *brokertest.World) {
		w.Publish(brokertest.Topics.Live, 0, 100)
		m := join(w, w.Client(), func(m *member) { m.full = true })
		time.Sleep(5 * time.Second)
		if err := w.Cluster.DeleteRecords(brokertest.Topics.Live, 0, 30); err != nil {
			w.Fatal(err)
		}
		m.set(func() { m.full = false })
		time.Sleep(5 * time.Second)
		if got := m.delivered(brokertest.Topics.Live, 0); !slices.Equal(got, offsets(30, 100)) {
			w.Errorf("got %v", got)
		}
		if got := m.generation().Lost(); got[brokertest.Topics.Live] != 30 || len(got) != 1 {
			w.Errorf("lost %v, want 30", got)
		}
		if got := committed(w, brokertest.Topics.Live, 0); got != 100 {
			w.Errorf("committed %d", got)
		}
		m.leave()
	})
}

// A group without a committed offset starts at the oldest record, whose offset need not be 0.
// Nothing counts as lost.
func TestStartsAtTheOldestRecord(t *testing.T) {
	brokertest.Run(t, 1, func(w *brokertest.World) {
		w.Publish(brokertest.Topics.Live, 0, 100)
		if err := w.Cluster.DeleteRecords(brokertest.Topics.Live, 0, 40); err != nil {
			w.Fatal(err)
		}
		m := join(w, w.Client())
		time.Sleep(5 * time.Second)
		m.leave()
		if got := m.delivered(brokertest.Topics.Live, 0); !slices.Equal(got, offsets(40, 100)) ||
			len(m.generation().Lost()) != 0 {
			w.Errorf("got %v, lost %v", got, m.generation().Lost())
		}
	})
}

// A recreated topic is read from its beginning, and the offsets of the new log are committed
// although they are smaller. This also holds when the new log is as long as the old one, or longer.
func TestRecreatedTopic(t *testing.T) {
	for _, length := range []int{20, 100, 101, 300} {
		t.Run(strconv.Itoa(length), func(t *testing.T) { testRecreatedTopic(t, length) })
	}
}

func testRecreatedTopic(t *testing.T, length int) {
	brokertest.Run(t, 1, func(w *brokertest.World) {
		w.Publish(brokertest.Topics.Live, 0, 100)
		m := join(w, w.Client(), func(m *member) { m.autoFinish = false })
		time.Sleep(5 * time.Second)
		old := m.all()
		g := m.generation()
		for _, e := range old[:90] {
			g.Finish(e.Ref)
		}
		time.Sleep(2 * time.Second)
		recreateTopic(w, nil)
		w.Publish(brokertest.Topics.Live, 0, length)
		time.Sleep(time.Minute)
		if g != m.generation() {
			w.Fatal("there was a rebalance")
		}
		if got := m.delivered(brokertest.Topics.Live, 0); !slices.Equal(got,
			append(offsets(0, 100), offsets(0, int64(length))...)) {
			w.Errorf("got %v", got)
		}
		for _, e := range old[90:] {
			g.Finish(e.Ref) // of the old log: no effect
		}
		time.Sleep(2 * time.Second)
		if got := committed(w, brokertest.Topics.Live, 0); got != 0 {
			w.Errorf("committed %d, want 0: nothing of the new log has finished", got)
		}
		for _, e := range m.all()[100:115] {
			g.Finish(e.Ref)
		}
		time.Sleep(2 * time.Second)
		if got := committed(w, brokertest.Topics.Live, 0); got != 15 {
			w.Errorf("committed %d, want 15", got)
		}
		m.leave()
	})
}

// After a pause or a failure the log is not read again from its beginning, not even after aborted
// records, or when compaction has removed the record that was read last.
func TestSameLogAfterAPause(t *testing.T) {
	brokertest.Run(t, 1, func(w *brokertest.World) {
		recreateTopic(w, map[string]string{"cleanup.policy": "compact", "segment.bytes": "1"})
		producer := w.Kgo(kgo.TransactionalID("tx"),
			kgo.DefaultProduceTopic(brokertest.Topics.Live))
		n, want := 0, []string(nil)
		send := func(end kgo.TransactionEndTry) {
			if err := producer.BeginTransaction(); err != nil {
				w.Fatal(err)
			}
			for range 2 {
				if err := producer.ProduceSync(w.Context(), &kgo.Record{Key: []byte{byte(n % 2)},
					Value: brokertest.Value(n)}).FirstErr(); err != nil {
					w.Fatal(err)
				}
				if end == kgo.TryCommit {
					want = append(want, string(brokertest.Value(n)))
				}
				n++
			}
			if err := producer.EndTransaction(w.Context(), end); err != nil {
				w.Fatal(err)
			}
			time.Sleep(3 * time.Second)
		}
		m := join(w, w.Client())
		for round := range 6 {
			send(kgo.TryCommit)
			send(kgo.TryAbort)
			m.set(func() { m.full = true })
			time.Sleep(3 * time.Second) // until the waiting fetch has ended
			if round%2 == 1 {
				send(kgo.TryCommit) // the same keys
				w.Cluster.Compact()
			}
			m.set(func() { m.full = false })
			time.Sleep(3 * time.Second)
			w.Cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch},
				Err: kerr.NotLeaderForPartition, Count: 3})
			time.Sleep(10 * time.Second)
		}
		var got []string
		for _, e := range m.all() {
			got = append(got, string(e.Record.Value))
		}
		if !slices.Equal(got, want) {
			w.Errorf("got %v, want %v", got, want)
		}
		m.leave()
	})
}

func recreateTopic(w *brokertest.World, configs map[string]string) {
	w.Helper()
	if err := w.Cluster.DeleteTopic(brokertest.Topics.Live); err != nil {
		w.Fatal(err)
	}
	if err := w.Cluster.CreateTopic(brokertest.Topics.Live, 1, configs); err != nil {
		w.Fatal(err)
	}
}

// Null and empty keys and values are distinct. Headers keep their order and their duplicates.
func TestRecordsAreUnchanged(t *testing.T) {
	brokertest.Run(t, 1, func(w *brokertest.World) {
		at := time.UnixMilli(time.Now().UnixMilli() - 5000)
		sent := []*kgo.Record{
			{Topic: brokertest.Topics.Live, Timestamp: at},
			{Topic: brokertest.Topics.Live, Timestamp: at, Key: []byte{}, Value: []byte{}},
			{Topic: brokertest.Topics.Live, Timestamp: at, Key: []byte("k"), Value: []byte{0, 0xff},
				Headers: []kgo.RecordHeader{
					{Key: "b", Value: []byte("1")}, {Key: "a", Value: nil},
					{Key: "b", Value: []byte{}}}},
		}
		if err := w.Kgo().ProduceSync(w.Context(), sent...).FirstErr(); err != nil {
			w.Fatal(err)
		}
		m := join(w, w.Client())
		time.Sleep(5 * time.Second)
		m.leave()
		if len(m.all()) != len(sent) {
			w.Fatalf("got %d records", len(m.all()))
		}
		for i, e := range m.all() {
			r, s := e.Record, sent[i]
			if !brokertest.SameBytes(r.Key, s.Key) || !brokertest.SameBytes(r.Value, s.Value) ||
				!r.Time.Equal(at) || r.Offset != int64(i) || r.Topic != brokertest.Topics.Live {
				w.Errorf("record %d: %+v", i, r)
			}
		}
		want := []event.Header{{Key: "b", Value: []byte("1")}, {Key: "a"},
			{Key: "b", Value: []byte{}}}
		if !slices.EqualFunc(m.all()[2].Record.Headers, want,
			func(a, b event.Header) bool {
				return a.Key == b.Key &&
					brokertest.SameBytes(a.Value, b.Value)
			}) {
			w.Errorf("headers %q", m.all()[2].Record.Headers)
		}
	})
}
