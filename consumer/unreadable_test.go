package consumer_test

import (
	"bytes"
	"encoding/binary"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"markread/consumer/admin"
	"markread/consumer/broker"
	"markread/consumer/broker/brokertest"
	"markread/consumer/event"
)

// damaged makes the broker respond to fetches of a partition at an offset with a batch that has a
// wrong checksum.
func damaged(w *brokertest.World, partition int32, at, end int64) {
	batch := rawBatchOf(0, 1, rawRecord(brokertest.Value(0), 0, 0))
	binary.BigEndian.PutUint64(batch, uint64(at))
	batch[20]++
	respondToFetches(w, func(p kmsg.FetchRequestTopicPartition) ([]byte, int64, bool) {
		return batch, end, p.Partition == partition && p.FetchOffset == at
	})
}

// Lag finds the partitions that can't be read, whether or not they have unread records. It returns
// the offset, the reason and the remedy for each, and nothing for the others. It ends within the
// time that a user waits.
func TestLagOfUnreadablePartitions(t *testing.T) {
	fail := func(keys kmsg.Key, err *kerr.Error, partitions ...int32) func(w *brokertest.World) {
		return func(w *brokertest.World) {
			w.Cluster.Fault(kfake.Fault{Keys: []kmsg.Key{keys}, Topic: brokertest.Topics.Live,
				Partitions: partitions, Err: err, Count: -1})
		}
	}
	for name, c := range map[string]struct {
		breaks     func(w *brokertest.World)
		unreadable map[int]int64 // partition to offset
		reason, do string
	}{
		"all can be read": {func(*brokertest.World) {}, nil, "", ""},
		"no permission": {fail(kmsg.Fetch, kerr.TopicAuthorizationFailed, 0, 2),
			map[int]int64{0: 4, 2: 0}, "[29]", "grant this worker's user Read"},
		"no leader": {fail(kmsg.Fetch, kerr.NotLeaderForPartition, 1), map[int]int64{1: 4},
			"[6]", "leader runs"},
		"no end": {fail(kmsg.ListOffsets, kerr.NotLeaderForPartition, 1),
			map[int]int64{1: 4}, "[6]", "leader runs"},
		"another error": {fail(kmsg.Fetch, kerr.UnknownServerError, 1), map[int]int64{1: 4},
			"[-1]", "leader runs"},
		"a leader that errs": {fail(kmsg.Fetch, kerr.CorruptMessage, 1), map[int]int64{1: 4}, "[2]",
			"damaged batch"},
		"only for a moment": {func(w *brokertest.World) {
			w.Cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch},
				Err: kerr.NotLeaderForPartition, Count: 3})
		}, nil, "", ""},
		"a damaged batch": {func(w *brokertest.World) { damaged(w, 1, 4, 6) }, map[int]int64{1: 4},
			"checksum", "damaged batch"},
		// retention deletes the records after ListOffsets and before the fetch
		"retention was faster": {func(w *brokertest.World) {
			w.Cluster.ControlKey(int16(kmsg.OffsetFetch),
				func(kmsg.Request) (kmsg.Response, error, bool) {
					w.Cluster.SleepControl(func() {
						if err := w.Cluster.DeleteRecords(brokertest.Topics.Live, 1,
							6); err != nil {
							w.Error(err)
						}
					})
					return nil, nil, false
				})
		}, nil, "", ""},
		"a frozen leader": {func(w *brokertest.World) {
			w.Cluster.ControlKey(int16(kmsg.Fetch),
				func(r kmsg.Request) (kmsg.Response, error, bool) {
					w.Cluster.KeepControl()
					if r.(*kmsg.FetchRequest).Topics[0].Partitions[0].Partition == 1 {
						w.Cluster.SleepControl(func() { time.Sleep(time.Minute) })
					}
					return nil, nil, false
				})
		}, map[int]int64{1: 4}, "no response from the partition's leader within 3s", "leader runs"},
	} {
		t.Run(name, func(t *testing.T) {
			brokertest.Run(t, 3, func(w *brokertest.World) {
				m := join(w, w.Client())
				w.Publish(brokertest.Topics.Live, 0, 4)
				w.Publish(brokertest.Topics.Live, 1, 4)
				time.Sleep(5 * time.Second)
				m.leave()
				w.Publish(brokertest.Topics.Live, 1, 2)
				c.breaks(w)
				began := time.Now()
				lags, err := admin.Lag(w.Context(), w.Client(), brokertest.Group,
					brokertest.Topics.Live)
				if took := time.Since(began); err != nil || took > 17*time.Second {
					w.Fatalf("after %s: %v", took, err)
				}
				for p, l := range lags {
					offset, want := c.unreadable[p]
					switch u := l.Unreadable; {
					case want != (u != nil):
						w.Errorf("partition %d: %+v", p, u)
					case want && (u.Offset != offset || !strings.Contains(u.Reason, c.reason) ||
						!strings.Contains(u.Do, c.do) || strings.Contains(u.Reason+u.Do, "\n")):
						w.Errorf("partition %d: %+v, want offset %d, %q and %q", p, u, offset,
							c.reason, c.do)
					}
				}
				time.Sleep(time.Minute) // the broker's own
			})
		})
	}
}

// damagedAfter is a listener whose connections damage a text in the broker's responses while on is
// true.
type damagedAfter struct {
	net.Listener
	text []byte
	on   atomic.Bool
}

func (d *damagedAfter) Accept() (net.Conn, error) {
	c, err := d.Listener.Accept()
	return damagedConn{c, d}, err
}

type damagedConn struct {
	net.Conn
	of *damagedAfter
}

// Write is called with a whole response of the broker.
func (c damagedConn) Write(b []byte) (int, error) {
	if i := bytes.Index(b, c.of.text); i >= 0 && c.of.on.Load() {
		b = bytes.Clone(b)
		b[i] ^= 1
	}
	return c.Conn.Write(b)
}

// A damaged batch between good ones makes the partition unreadable, although the batches before it
// can still be read. The fetches are not more frequent than after any other failure.
func TestADamagedBatchBetweenGoodOnes(t *testing.T) {
	brokertest.Bubble(t, func(t *testing.T) {
		w := &brokertest.World{T: t}
		line := &damagedAfter{text: brokertest.Value(777)}
		b, err := broker.Start(broker.Options{
			Addr: "127.0.0.1:9092", Partitions: 1, Topics: []string{brokertest.Topics.Live,
				brokertest.Topics.Backfill, brokertest.Topics.DeadLetter},
			Listen: func(network, addr string) (_ net.Listener, err error) {
				line.Listener, err = w.Network.Listen(network, addr)
				return line, err
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(b.Close)
		w.Broker, w.Cluster = b, b.Cluster()
		m := join(w, w.Client())
		w.Publish(brokertest.Topics.Live, 0, 10)
		time.Sleep(5 * time.Second)
		line.on.Store(true)
		c := w.Kgo(kgo.ProducerBatchCompression(kgo.NoCompression()))
		if err := c.ProduceSync(w.Context(), &kgo.Record{Topic: brokertest.Topics.Live,
			Value: brokertest.Value(777)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
		c.Close()
		w.Publish(brokertest.Topics.Live, 0, 5)
		fetches := w.Cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch},
			Topic: brokertest.Topics.Live, Observe: true, Count: -1})
		time.Sleep(15 * time.Second)
		if s := state(m.generation(), brokertest.Topics.Live, 0); s.Unreadable == nil ||
			s.Unreadable.Offset != 10 || len(m.delivered(brokertest.Topics.Live, 0)) != 10 {
			t.Errorf("%+v, %d events", s, len(m.delivered(brokertest.Topics.Live, 0)))
		}
		if n := fetches.Hits(); n > 30 {
			t.Errorf("%d fetches in 15 s", n)
		}
		line.on.Store(false)
		time.Sleep(5 * time.Second)
		if s := state(m.generation(), brokertest.Topics.Live, 0); s.Unreadable != nil ||
			len(m.delivered(brokertest.Topics.Live, 0)) != 16 {
			t.Errorf("after the repair %+v, %d events", s.Unreadable,
				len(m.delivered(brokertest.Topics.Live, 0)))
		}
		m.leave()
	})
}

// Since when the oldest unfinished record is in the log, by the records' timestamps; of records that
// were not read yet, since all was read at least.
func TestWritten(t *testing.T) {
	brokertest.Run(t, 1, func(w *brokertest.World) {
		at := time.Now().Add(-time.Hour).Truncate(time.Second)
		publish := func(n int) {
			producer := w.Kgo(kgo.DefaultProduceTopic(brokertest.Topics.Live))
			for range n {
				at = at.Add(2 * time.Second)
				if err := producer.ProduceSync(w.Context(), &kgo.Record{Timestamp: at,
					Value: brokertest.Value(0), Headers: []kgo.RecordHeader{{
						Key: event.HeaderEventTime, Value: []byte("1600000000999")}}},
				).FirstErr(); err != nil {
					w.Fatal(err)
				}
			}
			time.Sleep(time.Minute)
		}
		m := join(w, w.Client(), func(m *member) { m.autoFinish = false })
		check := func(when string, from, to time.Time) {
			w.Helper()
			got := m.generation().Partitions()[0].Written
			if got.Before(from) || got.After(to) {
				w.Errorf("%s: written at %v, want %v to %v", when, got, from, to)
			}
		}
		finish := func(events []event.Event) {
			for _, e := range events {
				m.generation().Finish(e.Ref)
			}
			time.Sleep(time.Minute)
		}
		first := at.Add(2 * time.Second)
		publish(600)
		check("all is unfinished", first, first)
		finish(m.all()[:550])
		check("50 are unfinished", at.Add(-102*time.Second), at.Add(-98*time.Second))
		finish(m.all()[550:])
		check("nothing is unfinished", time.Now().Add(-time.Minute), time.Now())
		m.set(func() { m.full = true })
		time.Sleep(time.Minute) // a fetch is under way
		before := time.Now()
		publish(9)
		publish(9)
		check("some are not read", before.Add(-2*time.Minute), before.Add(time.Second))
		m.set(func() { m.full = false })
		time.Sleep(time.Minute)
		recreateTopic(w, nil)
		publish(3)
		check("another log", at.Add(-4*time.Second), at.Add(-4*time.Second))
		m.leave()
	})
}
