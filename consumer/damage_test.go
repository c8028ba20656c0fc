package consumer_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"markread/consumer/broker/brokertest"
	"markread/consumer/event"
	"markread/consumer/kafkaclient"
)

// rawRecord encodes a record with a value and a header count, but without headers.
func rawRecord(value []byte, delta, headers int64) []byte {
	b := []byte{0}
	for _, v := range []int64{0, delta, -1, int64(len(value))} {
		b = binary.AppendVarint(b, v)
	}
	b = binary.AppendVarint(append(b, value...), headers)
	return append(binary.AppendVarint(nil, int64(len(b))), b...)
}

// rawBatchOf encodes a batch whose header claims count records.
func rawBatchOf(codec int16, count int32, records []byte) []byte {
	now := time.Now().UnixMilli()
	k := kmsg.RecordBatch{
		PartitionLeaderEpoch: -1, Magic: 2, Attributes: codec, ProducerID: -1, ProducerEpoch: -1,
		FirstSequence:  -1,
		FirstTimestamp: now, MaxTimestamp: now, NumRecords: count, LastOffsetDelta: count - 1,
		Records: records,
	}
	return encodeBatch(k)
}

// encodeBatch encodes a batch with its length and checksum.
func encodeBatch(k kmsg.RecordBatch) []byte {
	raw := k.AppendTo(nil)
	binary.BigEndian.PutUint32(raw[8:], uint32(len(raw)-12))
	binary.BigEndian.PutUint32(raw[17:],
		crc32.Checksum(raw[21:], crc32.MakeTable(crc32.Castagnoli)))
	return raw
}

// respondToFetches makes the broker respond to fetches of the live topic with batch and end as the
// end of the log, where respond returns ok.
func respondToFetches(w *brokertest.World,
	respond func(p kmsg.FetchRequestTopicPartition) (batch []byte, end int64, ok bool)) {
	w.Cluster.ControlKey(int16(kmsg.Fetch), func(r kmsg.Request) (kmsg.Response, error, bool) {
		w.Cluster.KeepControl()
		requested := r.(*kmsg.FetchRequest).Topics[0]
		if requested.Topic != brokertest.Topics.Live {
			return nil, nil, false
		}
		batch, end, ok := respond(requested.Partitions[0])
		if !ok {
			return nil, nil, false
		}
		topic, partition := kmsg.NewFetchResponseTopic(), kmsg.NewFetchResponseTopicPartition()
		partition.Partition, partition.RecordBatches = requested.Partitions[0].Partition, batch
		partition.HighWatermark, partition.LastStableOffset = end, end
		topic.Topic, topic.Partitions = requested.Topic, append(topic.Partitions, partition)
		response := r.ResponseKind().(*kmsg.FetchResponse)
		response.Topics = append(response.Topics, topic)
		return response, nil, true
	})
}

// produceRaw produces the bytes of a batch unchecked, as a hostile producer can.
func produceRaw(w *brokertest.World, topic string, partition int32, raw []byte) {
	w.Helper()
	r := kmsg.NewPtrProduceRequest()
	r.Acks, r.TimeoutMillis = -1, 5000
	r.Topics = []kmsg.ProduceRequestTopic{{Topic: topic,
		Partitions: []kmsg.ProduceRequestTopicPartition{{Partition: partition, Records: raw}}}}
	response, err := r.RequestWith(w.Context(), w.Kgo(kgo.MaxVersions(kversion.V2_3_0())))
	if err != nil {
		w.Fatal(err)
	}
	if code := response.Topics[0].Partitions[0].ErrorCode; code != 0 {
		w.Fatal(kerr.ErrorForCode(code))
	}
}

// Malformed records are delivered as damage. Records before and after them are delivered as usual,
// and the committed offset reaches the end.
func TestDamagedRecords(t *testing.T) {
	brokertest.Run(t, 1, func(w *brokertest.World) {
		bad := [][]byte{
			rawBatchOf(0, 1, rawRecord(brokertest.Value(7), 0, 1<<31)), // 10
			// 21-23: the middle one is bad
			rawBatchOf(0, 3, slices.Concat(rawRecord(brokertest.Value(8), 0, 0),
				rawRecord(brokertest.Value(8), 100, 0), rawRecord(brokertest.Value(9), 2, 0))),
			rawBatchOf(4, 5, []byte("this is no zstd at all")), // 34-38
			rawBatchOf(3, 2, []byte("whatever")),               // 49-50
			// 61-20000060: only the first is good
			rawBatchOf(0, 20_000_000, rawRecord(brokertest.Value(9), 0, 0)),
			rawBatchOf(0, 1, rawRecord(bytes.Repeat([]byte(" "), 1<<20), 0, 0)), // 20000071
		}
		recreateTopic(w, map[string]string{"max.message.bytes": "10000000"})
		for _, raw := range bad {
			w.Publish(brokertest.Topics.Live, 0, 10)
			produceRaw(w, brokertest.Topics.Live, 0, raw)
		}
		w.Publish(brokertest.Topics.Live, 0, 10)
		m := join(w, w.Client())
		time.Sleep(10 * time.Second)
		m.leave()
		var damage []string
		good := 0
		for _, e := range m.all() {
			if d := e.Record.Damage; d != nil {
				damage = append(damage, fmt.Sprintf("%d-%d:%d", e.Record.Offset, d.Last, d.Count))
			} else if e.Invalid == nil {
				good++
			}
		}
		want := []string{"10-10:1", "22-22:1", "34-38:5", "49-50:2", "62-20000060:19999999",
			"20000071-20000071:1"}
		if !slices.Equal(damage, want) || good != 73 {
			w.Errorf("%d good events, want 73; damage %v, want %v", good, damage, want)
		}
		if got := committed(w, brokertest.Topics.Live, 0); got != 20000082 {
			w.Errorf("committed %d, want 20000082", got)
		}
	})
}

// A partition that can't be read is reported within 15 s, while the others continue. Soon after the
// repair it is no longer reported.
func TestUnreadable(t *testing.T) {
	code := func(err *kerr.Error) func(w *brokertest.World) func() {
		return func(w *brokertest.World) func() {
			return w.Cluster.Fault(kfake.Fault{Topic: brokertest.Topics.Live,
				Partitions: []int32{1}, Keys: []kmsg.Key{kmsg.Fetch}, Err: err, Count: -1}).Remove
		}
	}
	for name, test := range map[string]struct {
		begin      func(w *brokertest.World) (repair func())
		reason, do string
	}{
		"no permission": {code(kerr.TopicAuthorizationFailed), "Topic Authorization Failed",
			"grant this worker's user Read"},
		"not leader": {code(kerr.NotLeaderForPartition), "Not Leader",
			"check that the partition's leader runs"},
		"storage error": {code(kerr.KafkaStorageError), "Storage Error",
			"check that the partition's leader runs"},
		"wrong checksum": {func(w *brokertest.World) func() {
			raw := rawBatchOf(0, 1, rawRecord(brokertest.Value(7), 0, 0))
			raw[20]++
			var repaired atomic.Bool
			respondToFetches(w, func(p kmsg.FetchRequestTopicPartition) ([]byte, int64, bool) {
				return raw, 15, p.Partition == 1 && !repaired.Load()
			})
			return func() { repaired.Store(true) }
		}, "checksum is wrong", "restore the partition from a good replica"},
	} {
		t.Run(name, func(t *testing.T) {
			brokertest.Run(t, 3, func(w *brokertest.World) {
				var log brokertest.Logs
				for p := range 3 {
					w.Publish(brokertest.Topics.Live, p, 10)
				}
				m := join(w, clientTo(w, &log))
				time.Sleep(5 * time.Second)
				repair := test.begin(w)
				began := time.Now()
				for p := range 3 {
					w.Publish(brokertest.Topics.Live, p, 5)
				}
				time.Sleep(15 * time.Second)
				got := state(m.generation(), brokertest.Topics.Live, 1)
				if u := got.Unreadable; u == nil || u.Offset != 10 ||
					!strings.Contains(u.Reason, test.reason) || !strings.Contains(u.Do, test.do) ||
					u.Since.Sub(began).Abs() > 3*time.Second {
					w.Errorf("unreadable: %+v", u)
				}
				if got.HighWatermark != 15 || got.Lag != 5 {
					w.Errorf("high watermark %d, lag %d; want 15 and 5", got.HighWatermark, got.Lag)
				}
				time.Sleep(time.Minute)
				for p, want := range []int{15, 10, 15} {
					s := state(m.generation(), brokertest.Topics.Live, p)
					if n := len(m.delivered(brokertest.Topics.Live, p)); n != want ||
						(s.Unreadable != nil) != (p == 1) {
						w.Errorf("partition %d: %d events, unreadable %+v", p, n, s.Unreadable)
					}
				}
				repair()
				time.Sleep(15 * time.Second)
				if s := state(m.generation(), brokertest.Topics.Live, 1); s.Unreadable != nil ||
					len(m.delivered(brokertest.Topics.Live, 1)) != 15 {
					w.Errorf("after the repair: %+v, %d events", s.Unreadable,
						len(m.delivered(brokertest.Topics.Live, 1)))
				}
				lines := log.Lines("partition can't be read; retrying")
				if len(lines) != 1 || lines[0]["topic"] != brokertest.Topics.Live ||
					lines[0]["partition"] != 1.0 || lines[0]["offset"] != 10.0 ||
					!strings.Contains(fmt.Sprint(lines[0]["do"]), test.do) {
					w.Errorf("logged %v", lines)
				}
				if lines := log.Lines("partition can be read again"); len(lines) != 1 ||
					lines[0]["partition"] != 1.0 {
					w.Errorf("logged %v", lines)
				}
				m.leave()
			})
		})
	}
}

// A partition that waits for capacity is not unreadable, however long it waits.
func TestWaitingIsNotUnreadable(t *testing.T) {
	brokertest.Run(t, 1, func(w *brokertest.World) {
		w.Publish(brokertest.Topics.Live, 0, 10)
		m := join(w, w.Client(), func(m *member) { m.full = true })
		time.Sleep(time.Hour)
		m.set(func() { m.full = false })
		fault := w.Cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch},
			Err: kerr.NotLeaderForPartition, Count: -1})
		time.Sleep(3 * time.Second)
		if u := state(m.generation(), brokertest.Topics.Live, 0).Unreadable; u != nil {
			w.Errorf("after 3 s: %+v", u)
		}
		time.Sleep(10 * time.Second)
		if u := state(m.generation(), brokertest.Topics.Live, 0).Unreadable; u == nil ||
			time.Since(u.Since) > 14*time.Second {
			w.Errorf("after 13 s: %+v", u)
		}
		fault.Remove()
		m.leave()
	})
}

// A scan reads what it can, and returns the rest.
func TestScanOfDamagedTopic(t *testing.T) {
	brokertest.Run(t, 3, func(w *brokertest.World) {
		for p := range 3 {
			w.Publish(brokertest.Topics.DeadLetter, p, 10)
		}
		produceRaw(w, brokertest.Topics.DeadLetter, 0, rawBatchOf(1, 2, []byte("whatever")))
		w.Cluster.Fault(kfake.Fault{Topic: brokertest.Topics.DeadLetter, Partitions: []int32{1},
			Keys: []kmsg.Key{kmsg.Fetch}, Err: kerr.TopicAuthorizationFailed, Count: -1})
		c := w.Client()
		extent, err := c.TopicOffsets(w.Context(), brokertest.Topics.DeadLetter)
		if err != nil {
			w.Fatal(err)
		}
		good, damaged := 0, 0
		unread, err := c.Scan(w.Context(), extent, func(r event.Record) error {
			if r.Damage != nil {
				damaged++
			} else {
				good++
			}
			return nil
		})
		if err != nil || good != 20 || damaged != 1 {
			w.Errorf("%d good, %d damaged, %v", good, damaged, err)
		}
		if len(unread) != 1 || unread[0].Partition != 1 || unread[0].From != 0 ||
			unread[0].To != 10 || !kafkaclient.Denied(unread[0].Err) {
			w.Errorf("unread: %+v", unread)
		}
		ctx, cancel := context.WithCancel(w.Context())
		cancel()
		if _, err := c.Scan(ctx, extent, func(event.Record) error { return nil }); err == nil {
			w.Error("an interrupted scan returned no error")
		}
	})
}
