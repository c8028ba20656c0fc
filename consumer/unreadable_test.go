package consumer_test

import (
	"hash/crc32"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// damaged answers fetches of a partition at an offset, until it is told otherwise, with a batch whose checksum is wrong.
func (w *world) damaged(partition int32, at, end int64, still func() bool) {
	batch := kmsg.RecordBatch{FirstOffset: at, Magic: 2, ProducerID: -1, NumRecords: 1}
	record := kmsg.Record{Value: []byte(`{"Report_Account":"r","Peer_Account":"p"}`)}
	record.Length = int32(len(record.AppendTo(nil)) - 1) // less the varint of the length 0
	batch.Records = record.AppendTo(nil)
	batch.Length = int32(len(batch.AppendTo(nil)) - 12)
	batch.CRC = 1 + int32(crc32.Checksum(batch.AppendTo(nil)[21:], crc32.MakeTable(crc32.Castagnoli)))
	w.cluster.ControlKey(int16(kmsg.Fetch), func(r kmsg.Request) (kmsg.Response, error, bool) {
		w.cluster.KeepControl()
		request := r.(*kmsg.FetchRequest)
		asked := request.Topics[0].Partitions[0]
		if request.Topics[0].Topic != topics.Live || asked.Partition != partition || asked.FetchOffset != at || !still() {
			return nil, nil, false
		}
		topic, answered := kmsg.NewFetchResponseTopic(), kmsg.NewFetchResponseTopicPartition()
		answered.Partition, answered.HighWatermark, answered.LastStableOffset = partition, end, end
		answered.RecordBatches = batch.AppendTo(nil)
		topic.Topic, topic.Partitions = topics.Live, append(topic.Partitions, answered)
		answer := request.ResponseKind().(*kmsg.FetchResponse)
		answer.Topics = append(answer.Topics, topic)
		return answer, nil, true
	})
}

// Lag finds the partitions that can't be read, whether or not something waits in them, and says of each where, why and
// what to do; it says nothing of the others, and takes no longer than somebody waits.
func TestLagOfUnreadablePartitions(t *testing.T) {
	fail := func(keys kmsg.Key, err *kerr.Error, partitions ...int32) func(w *world) {
		return func(w *world) {
			w.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{keys}, Topic: topics.Live, Partitions: partitions, Err: err, Count: -1})
		}
	}
	for name, c := range map[string]struct {
		breaks     func(w *world)
		unreadable map[int]int64 // partitions with the offsets
		reason, do string
	}{
		"all can be read":    {func(*world) {}, nil, "", ""},
		"no permission":      {fail(kmsg.Fetch, kerr.TopicAuthorizationFailed, 0, 2), map[int]int64{0: 4, 2: 0}, "[29]", "grant this user Read"},
		"no leader":          {fail(kmsg.Fetch, kerr.NotLeaderForPartition, 1), map[int]int64{1: 4}, "[6]", "leader runs"},
		"no end":             {fail(kmsg.ListOffsets, kerr.NotLeaderForPartition, 1), map[int]int64{1: 4}, "[6]", "leader runs"},
		"another error":      {fail(kmsg.Fetch, kerr.UnknownServerError, 1), map[int]int64{1: 4}, "[-1]", "leader runs"},
		"a leader that errs": {fail(kmsg.Fetch, kerr.CorruptMessage, 1), map[int]int64{1: 4}, "[2]", "damaged batch"},
		"only for a moment": {func(w *world) {
			w.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Err: kerr.NotLeaderForPartition, Count: 3})
		}, nil, "", ""},
		"a damaged batch": {func(w *world) { w.damaged(1, 4, 6, func() bool { return true }) }, map[int]int64{1: 4}, "checksum", "damaged batch"},
		"retention was faster": {func(w *world) { // than the fetch, after the end was asked for
			w.cluster.ControlKey(int16(kmsg.OffsetFetch), func(kmsg.Request) (kmsg.Response, error, bool) {
				w.cluster.SleepControl(func() {
					if err := w.cluster.DeleteRecords(topics.Live, 1, 6); err != nil {
						w.Error(err)
					}
				})
				return nil, nil, false
			})
		}, nil, "", ""},
		"beyond the end": {func(w *world) { w.commit(topics.Live, 0, 400, "") }, map[int]int64{0: 400}, "offset 400 is beyond the log's end, 4: [1]", "recreated or truncated"},
		"a frozen leader": {func(w *world) {
			w.cluster.ControlKey(int16(kmsg.Fetch), func(r kmsg.Request) (kmsg.Response, error, bool) {
				w.cluster.KeepControl()
				if r.(*kmsg.FetchRequest).Topics[0].Partitions[0].Partition == 1 {
					w.cluster.SleepControl(func() { time.Sleep(time.Minute) })
				}
				return nil, nil, false
			})
		}, map[int]int64{1: 4}, "no response from the partition's leader within 3s", "leader runs"},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, 3, func(w *world) {
				m := w.join(w.client())
				w.publish(topics.Live, 0, 4)
				w.publish(topics.Live, 1, 4)
				time.Sleep(5 * time.Second)
				m.leave()
				w.publish(topics.Live, 1, 2)
				c.breaks(w)
				began := time.Now()
				lags, err := w.client().Lag(w.Context(), group, topics.Live)
				if took := time.Since(began); err != nil || took > 17*time.Second {
					w.Fatalf("after %s: %v", took, err)
				}
				for p, l := range lags {
					offset, want := c.unreadable[p]
					switch u := l.Unreadable; {
					case want != (u != nil):
						w.Errorf("partition %d: %+v", p, u)
					case want && (u.Offset != offset || !strings.Contains(u.Reason, c.reason) || !strings.Contains(u.Do, c.do) || strings.Contains(u.Reason+u.Do, "\n")):
						w.Errorf("partition %d: %+v, want offset %d, %q and %q", p, u, offset, c.reason, c.do)
					}
				}
				time.Sleep(time.Minute) // the broker's own
			})
		})
	}
}
