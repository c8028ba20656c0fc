package kafkaclient_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"markread/consumer/broker/brokertest"
	"markread/consumer/event"
	"markread/consumer/kafkaclient"
)

// scanned returns the records of a scan as "partition:offset value", sorted by partition.
func scanned(w *brokertest.World, c *kafkaclient.Client,
	offsets kafkaclient.TopicOffsets) (got []string, err error) {
	w.Helper()
	err = brokertest.ScanAll(w.Context(), c, offsets, func(r event.Record) error {
		got = append(got, fmt.Sprintf("%d:%d %s", r.Partition, r.Offset, r.Value))
		return nil
	})
	slices.SortStableFunc(got, func(a, b string) int { return strings.Compare(a[:1], b[:1]) })
	return got, err
}

// A scan returns every record that existed when it began, and no later one. It also ends where only
// markers remain.
func TestScanEndsWhereTheTopicEnded(t *testing.T) {
	brokertest.Run(t, 3, func(w *brokertest.World) {
		producer := w.Kgo(kgo.TransactionalID("tx"),
			kgo.DefaultProduceTopic(brokertest.Topics.DeadLetter),
			kgo.RecordPartitioner(kgo.ManualPartitioner()))
		begin := func(value string) {
			if err := producer.BeginTransaction(); err != nil {
				w.Fatal(err)
			}
			if err := producer.ProduceSync(w.Context(),
				&kgo.Record{Partition: 1, Value: []byte(value)}).FirstErr(); err != nil {
				w.Fatal(err)
			}
		}
		end := func(how kgo.TransactionEndTry) {
			if err := producer.EndTransaction(w.Context(), how); err != nil {
				w.Fatal(err)
			}
		}
		w.Publish(brokertest.Topics.DeadLetter, 0, 1500) // more than one fetch returns
		begin("committed")
		end(kgo.TryCommit)
		begin("aborted")
		end(kgo.TryAbort)
		begin("open")

		c := w.Client()
		offsets := w.TopicOffsets(c, brokertest.Topics.DeadLetter)
		if offsets.Size() != 1500+4 {
			w.Errorf("%d offsets: %+v", offsets.Size(), offsets)
		}
		end(kgo.TryCommit)
		w.Publish(brokertest.Topics.DeadLetter, 0, 10)
		w.Publish(brokertest.Topics.DeadLetter, 2, 10)
		var want []string
		for i := range 1500 {
			want = append(want, fmt.Sprintf("0:%d %s", i, brokertest.Value(i)))
		}
		want = append(want, "1:0 committed")
		start := time.Now()
		got, err := scanned(w, c, offsets)
		if err != nil || !slices.Equal(got, want) {
			w.Errorf("%d records, want %d; %v", len(got), len(want), err)
		}
		if took := time.Since(start); took > time.Second {
			w.Errorf("took %s: it waited beyond the end", took)
		}
		if got, err := scanned(w, c, w.TopicOffsets(c, brokertest.Topics.DeadLetter)); err != nil ||
			len(got) != 1522 {
			w.Errorf("%d records in the end; %v", len(got), err)
		}
	})
}

// Transient failures are retried, without returning a record twice.
func TestScanRetriesTransientFailures(t *testing.T) {
	brokertest.Run(t, 1, func(w *brokertest.World) {
		w.Publish(brokertest.Topics.DeadLetter, 0, 1500)
		c := w.Client()
		offsets := w.TopicOffsets(c, brokertest.Topics.DeadLetter)
		w.Cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Err: kerr.NotLeaderForPartition,
			Count: 3})
		w.Cluster.ControlKey(int16(kmsg.Fetch),
			func(kmsg.Request) (kmsg.Response, error, bool) { return nil, errors.New("cut"), true })
		if got, err := scanned(w, c, offsets); err != nil || len(got) != 1500 {
			w.Errorf("%d records, %v", len(got), err)
		}
	})
}

// A permanent failure ends the scan, with topic, partition and offset.
func TestScanGivesUp(t *testing.T) {
	for name, c := range map[string]struct {
		fault *kerr.Error
		want  string
		takes [2]time.Duration
	}{
		"no leader": {kerr.NotLeaderForPartition,
			`topic "mark-read-dead-letters", partition 0: no data at offset 0 for 20s; gave up: `,
			[2]time.Duration{20 * time.Second, 30 * time.Second}},
		"no start": {kerr.OffsetOutOfRange, `no data at offset 0 for 20s`,
			[2]time.Duration{20 * time.Second, 30 * time.Second}},
		"forbidden": {kerr.TopicAuthorizationFailed, "Read of the topic",
			[2]time.Duration{0, time.Second}},
	} {
		brokertest.Run(t, 2, func(w *brokertest.World) {
			w.Publish(brokertest.Topics.DeadLetter, 0, 3)
			client := w.Client()
			offsets := w.TopicOffsets(client, brokertest.Topics.DeadLetter)
			w.Cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Err: c.fault, Count: -1})
			start := time.Now()
			_, err := scanned(w, client, offsets)
			if took := time.Since(start); err == nil || !strings.Contains(err.Error(), c.want) ||
				took < c.takes[0] || took > c.takes[1] {
				w.Errorf("%s: after %s: %v", name, took, err)
			}
		})
	}
}

// Retention may delete the next records: the scan continues after them.
func TestScanWhileRetentionDeletes(t *testing.T) {
	brokertest.Run(t, 1, func(w *brokertest.World) {
		w.Publish(brokertest.Topics.DeadLetter, 0, 100)
		c := w.Client()
		offsets := w.TopicOffsets(c, brokertest.Topics.DeadLetter)
		request := kmsg.NewPtrDeleteRecordsRequest()
		topic, partition := kmsg.NewDeleteRecordsRequestTopic(),
			kmsg.NewDeleteRecordsRequestTopicPartition()
		topic.Topic, partition.Offset = brokertest.Topics.DeadLetter, 60
		topic.Partitions = append(topic.Partitions, partition)
		request.Topics = append(request.Topics, topic)
		if _, err := request.RequestWith(w.Context(), w.Kgo()); err != nil {
			w.Fatal(err)
		}
		if got, err := scanned(w, c, offsets); err != nil || len(got) != 40 ||
			!strings.HasPrefix(got[0], "0:60 ") {
			w.Errorf("%d records, %v", len(got), err)
		}
	})
}

// An error of onRecord ends the scan, and so does a cancelled context.
func TestScanIsStopped(t *testing.T) {
	brokertest.Run(t, 2, func(w *brokertest.World) {
		w.Publish(brokertest.Topics.DeadLetter, 0, 100)
		w.Publish(brokertest.Topics.DeadLetter, 1, 100)
		c := w.Client()
		offsets := w.TopicOffsets(c, brokertest.Topics.DeadLetter)
		enough := errors.New("enough")
		n := 0
		err := brokertest.ScanAll(w.Context(), c, offsets, func(event.Record) error {
			if n++; n == 5 {
				return enough
			}
			return nil
		})
		if !errors.Is(err, enough) || n != 5 {
			w.Errorf("after %d: %v", n, err)
		}
		ctx, stop := context.WithCancel(w.Context())
		n = 0
		err = brokertest.ScanAll(ctx, c, offsets,
			func(event.Record) error { n++; stop(); return nil })
		if !errors.Is(err, context.Canceled) || n != 1 {
			w.Errorf("after %d: %v", n, err)
		}
	})
}

func TestTopicOffsetsOfAMissingTopic(t *testing.T) {
	brokertest.Run(t, 1, func(w *brokertest.World) {
		var missing *kafkaclient.MissingTopicError
		if _, err := w.Client().TopicOffsets(w.Context(), "none"); !errors.As(err, &missing) ||
			missing.Topics[0] != "none" {
			w.Error(err)
		}
	})
}

// A partition without a leader does not hide the others.
func TestTopicOffsetsWithoutALeader(t *testing.T) {
	brokertest.Run(t, 12, func(w *brokertest.World) {
		for p := range 12 {
			w.Publish(brokertest.Topics.Live, p, p+1)
		}
		w.Cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.ListOffsets},
			Topic: brokertest.Topics.Live, Partitions: []int32{3}, Err: kerr.NotLeaderForPartition,
			Count: -1})
		c := w.Client()
		start := time.Now()
		offsets := w.TopicOffsets(c, brokertest.Topics.Live)
		if took := time.Since(start); took < 7*time.Second || took > 9*time.Second {
			w.Errorf("took %s", took)
		}
		for p, b := range offsets.Partitions {
			if (b.Err != nil) != (p == 3) || b.Err == nil && b.End != int64(p+1) {
				w.Errorf("partition %d: %+v", p, b)
			}
		}
		if err := brokertest.ScanAll(w.Context(), c, offsets,
			func(event.Record) error { return nil }); err == nil ||
			!strings.Contains(err.Error(), "partition 3") {
			w.Error(err)
		}
	})
}

// frozenListOffsets drops the ListOffsets requests of the first partitions.
type frozenListOffsets struct {
	net.Conn
	partitions uint32
}

func (c frozenListOffsets) Write(b []byte) (int, error) {
	const listOffsets = 2
	if len(b) > 14 && binary.BigEndian.Uint16(b[4:]) == listOffsets {
		at := 4 + 2 + 2 + 4                                // size, key, version, correlation
		at += 2 + int(binary.BigEndian.Uint16(b[at:]))     // client
		at += 4 + 1 + 4                                    // replica, isolation, number of topics
		at += 2 + int(binary.BigEndian.Uint16(b[at:])) + 4 // topic, number of partitions
		if binary.BigEndian.Uint32(b[at:]) < c.partitions {
			return len(b), nil
		}
	}
	return c.Conn.Write(b)
}

// Many partitions with a frozen leader don't use up the time of the others.
func TestTopicOffsetsWithAFrozenLeader(t *testing.T) {
	brokertest.Run(t, 60, func(w *brokertest.World) {
		const frozen = 40
		c := w.ClientOver(func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := w.Network.DialContext(ctx, network, addr)
			return frozenListOffsets{conn, frozen}, err
		})
		start := time.Now()
		offsets := w.TopicOffsets(c, brokertest.Topics.Live)
		if took := time.Since(start); took < 7*time.Second || took > 11*time.Second {
			w.Errorf("took %s", took)
		}
		for p, b := range offsets.Partitions {
			if (b.Err != nil) != (p < frozen) {
				w.Errorf("partition %d: %+v", p, b)
			}
		}
	})
}
