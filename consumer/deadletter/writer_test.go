package deadletter_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"markread/consumer/broker/brokertest"
	"markread/consumer/deadletter"
	"markread/consumer/event"
	"markread/consumer/kafkaclient"
)

// text lists headers as name=value, null as name.
func text(headers []kgo.RecordHeader) []string {
	var all []string
	for _, h := range headers {
		s := h.Key
		if h.Value != nil {
			s += "=" + string(h.Value)
		}
		all = append(all, s)
	}
	return all
}

// read reads n records of a topic.
func read(w *brokertest.World, topic string, n int) []*kgo.Record {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.Context(), time.Minute)
	defer cancel()
	c := w.Kgo(kgo.ConsumeTopics(topic))
	defer c.Close()
	var records []*kgo.Record
	for len(records) < n {
		fetches := c.PollFetches(ctx)
		if err := ctx.Err(); err != nil {
			w.Fatalf("%d records of %s: %v", len(records), topic, err)
		}
		records = append(records, fetches.Records()...)
	}
	return records
}

func TestLetterFormat(t *testing.T) {
	brokertest.Run(t, 12, func(w *brokertest.World) {
		watchAcks(w)
		record := event.Record{
			Topic: brokertest.Topics.Live, Partition: 3, Offset: 4711, Key: []byte("rita|paul"),
			Value: []byte{'{', 0, 0xff},
			Headers: []event.Header{
				{Key: "trace", Value: []byte("a")},
				{Key: "markread.class", Value: []byte("forged")},
				{Key: "__dlq.errors.topic", Value: []byte("forged")}, {Key: "trace"},
				{Key: "markread.anything"},
				{Key: "__dlq."}, {Key: "Markread.x", Value: []byte{}},
				{Key: "markread", Value: []byte{0xff}},
			},
		}
		if err := deadletter.NewWriter(w.Client(), brokertest.Topics.DeadLetter).
			Write(w.Context(), brokertest.DeadLetter(record)); err != nil {
			w.Fatal(err)
		}
		got := read(w, brokertest.Topics.DeadLetter, 1)[0]
		if string(got.Key) != "rita|paul" || string(got.Value) != "{\x00\xff" {
			w.Errorf("key %q, value %q", got.Key, got.Value)
		}
		want := []string{
			"trace=a", "trace", "Markread.x=", "markread=\xff",
			"__dlq.errors.topic=mark-read", "__dlq.errors.partition=3", "__dlq.errors.offset=4711",
			"__dlq.errors.group=markread",
			"__dlq.errors.delivery.count=8", "__dlq.errors.message=bad gateway",
			"markread.class=exhausted", "markread.code=http_502",
			"markread.event-time=1699999000999",
			"markread.failed-at=2026-01-02T03:05:06.007Z", "markread.collapsed=3",
			"markread.replays=2", "markread.lane=backfill",
		}
		if headers := text(got.Headers); !slices.Equal(headers, want) {
			w.Errorf("headers\n%q, want\n%q", headers, want)
		}
		partition := kgo.StickyKeyPartitioner(nil).ForTopic("").
			Partition(&kgo.Record{Key: []byte("rita|paul")}, 12)
		if int(got.Partition) != partition {
			w.Errorf("partition %d, want %d as in Java", got.Partition, partition)
		}
	})
}

// watchAcks checks that each produce request asks for the acknowledgement of all in-sync replicas.
func watchAcks(w *brokertest.World) {
	w.Cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Observe: true, Count: -1,
		When: func(r kmsg.Request) bool {
			if acks := r.(*kmsg.ProduceRequest).Acks; acks != -1 {
				w.Errorf("acks=%d", acks)
			}
			return true
		}})
}

func TestLetterOfAnInvalidRecord(t *testing.T) {
	brokertest.Run(t, 3, func(w *brokertest.World) {
		for i, r := range []event.Record{{Topic: brokertest.Topics.Live},
			{Topic: brokertest.Topics.Live, Key: []byte{}, Value: []byte{}}} {
			l := event.DeadLetter{
				Event: event.Decode(r, time.Now()), Class: "invalid",
				Message:   strings.Repeat("ä", 600) + "\xff",
				Collapsed: 1, FailedAt: time.Now(), Group: brokertest.Group,
			}
			if err := deadletter.NewWriter(w.Client(), brokertest.Topics.DeadLetter).
				Write(w.Context(), l); err != nil {
				w.Fatal(err)
			}
			got := read(w, brokertest.Topics.DeadLetter, i+1)
			at := slices.IndexFunc(got,
				func(k *kgo.Record) bool {
					return brokertest.SameBytes(k.Key, r.Key) &&
						brokertest.SameBytes(k.Value, r.Value)
				})
			if at < 0 {
				w.Fatalf("record %d: no dead letter has its key and value, null or empty", i)
			}
			headers := text(got[at].Headers)
			for _, want := range []string{"markread.code=", "markread.event-time=",
				"__dlq.errors.delivery.count=0", "markread.lane=live", "markread.replays=0"} {
				if !slices.Contains(headers, want) {
					w.Errorf("no header %s in %q", want, headers)
				}
			}
			message := headers[5]
			if len(message) > 1000+len("__dlq.errors.message=") || len(message) < 990 ||
				!utf8.ValidString(message) {
				w.Errorf("message of %d bytes: %q", len(message), message)
			}
		}
	})
}

// A record that fits is written whole; otherwise it loses as little as possible.
func TestLettersThatAreTooLarge(t *testing.T) {
	const limit = 4000
	for name, c := range map[string]struct {
		key, value, header int
		omitted            []string // names of headers
	}{
		"fits":    {100, 2000, 500, nil},
		"value":   {100, 5000, 500, []string{"markread.value-omitted=5000"}},
		"headers": {100, 10, 5000, []string{"markread.headers-omitted=1"}},
		"either":  {100, 2500, 2500, []string{"markread.value-omitted=2500"}},
		"both": {100, 5000, 5000,
			[]string{"markread.value-omitted=5000", "markread.headers-omitted=1"}},
		"key": {5000, 10, 10, []string{"markread.value-omitted=10",
			"markread.headers-omitted=1", "markread.key-omitted=5000"}},
		"everything": {5000, 5000, 5000, []string{"markread.value-omitted=5000",
			"markread.headers-omitted=1", "markread.key-omitted=5000"}},
	} {
		t.Run(name, func(t *testing.T) {
			brokertest.Run(t, 1, func(w *brokertest.World) {
				if err := w.Cluster.CreateTopic("small", 3,
					map[string]string{"max.message.bytes": strconv.Itoa(limit)}); err != nil {
					w.Fatal(err)
				}
				big := func(n int) []byte { return []byte(strings.Repeat("x", n)) }
				record := event.Record{Topic: brokertest.Topics.Live, Key: big(c.key),
					Value:   big(c.value),
					Headers: []event.Header{{Key: "own", Value: big(c.header)}}}
				if err := deadletter.NewWriter(w.Client(), "small").
					Write(w.Context(), brokertest.DeadLetter(record)); err != nil {
					w.Fatal(err)
				}
				got := read(w, "small", 1)[0]
				var omitted []string
				own := false
				for _, h := range text(got.Headers) {
					if strings.Contains(h, "-omitted=") {
						omitted = append(omitted, h)
					}
					own = own || strings.HasPrefix(h, "own=")
				}
				if !slices.Equal(omitted, c.omitted) {
					w.Fatalf("omitted %q, want %q", omitted, c.omitted)
				}
				out := func(part string) bool {
					return strings.Contains(strings.Join(omitted, " "), part)
				}
				if (len(got.Value) == c.value) == out("value") || got.Value == nil {
					w.Errorf("value of %d bytes, null %v", len(got.Value), got.Value == nil)
				}
				if own == out("headers") || (got.Key == nil) != out("key") {
					w.Errorf("own header %v, key of %d bytes", own, len(got.Key))
				}
				if !slices.Contains(text(got.Headers), "markread.lane=backfill") {
					w.Error("the dead letter's own headers are missing")
				}
			})
		})
	}
}

// A topic that accepts nothing rejects the dead letter, once for each form.
func TestLetterThatFitsNowhere(t *testing.T) {
	brokertest.Run(t, 1, func(w *brokertest.World) {
		if err := w.Cluster.CreateTopic("tiny", 1,
			map[string]string{"max.message.bytes": "100"}); err != nil {
			w.Fatal(err)
		}
		err := deadletter.NewWriter(w.Client(), "tiny").
			Write(w.Context(),
				brokertest.DeadLetter(event.Record{Topic: brokertest.Topics.Live,
					Key: []byte("k")}))
		if err == nil || !strings.Contains(err.Error(), "[10]") {
			w.Errorf("got %v", err)
		}
	})
}

// One attempt: the caller gets the broker's response, and a lost response does not by itself cause
// a second dead letter.
func TestLetterIsTriedOnce(t *testing.T) {
	brokertest.Run(t, 1, func(w *brokertest.World) {
		c := w.Client()
		fault := w.Cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce},
			Err: kerr.NotEnoughReplicas, Count: -1})
		err := deadletter.NewWriter(c, brokertest.Topics.DeadLetter).
			Write(w.Context(), brokertest.DeadLetter(event.Record{Topic: brokertest.Topics.Live}))
		if err == nil || !strings.Contains(err.Error(), "[19]") || fault.Hits() != 1 {
			w.Errorf("%d tries, %v", fault.Hits(), err)
		}
		fault.Remove()
		w.Cluster.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
			return nil, errors.New("cut"), true
		})
		if err := deadletter.NewWriter(c, brokertest.Topics.DeadLetter).
			Write(w.Context(),
				brokertest.DeadLetter(event.Record{Topic: brokertest.Topics.Live})); err == nil {
			w.Error("no error although the connection was cut")
		}
		if err := deadletter.NewWriter(c, brokertest.Topics.DeadLetter).
			Write(w.Context(),
				brokertest.DeadLetter(event.Record{Topic: brokertest.Topics.Live})); err != nil {
			w.Error(err)
		}
		var missing *kafkaclient.MissingTopicError
		if err := deadletter.NewWriter(c, "nowhere").
			Write(w.Context(), brokertest.DeadLetter(event.Record{})); !errors.As(err, &missing) ||
			!slices.Equal(missing.Topics, []string{"nowhere"}) {
			w.Errorf("missing topic: %v", err)
		}
		if got := w.Cluster.PartitionInfo(brokertest.Topics.DeadLetter, 0).HighWatermark; got != 1 {
			w.Errorf("%d dead letters, want 1", got)
		}
	})
}

func TestPublish(t *testing.T) {
	brokertest.Run(t, 12, func(w *brokertest.World) {
		var messages []event.Message
		at := time.UnixMilli(1_600_000_000_123)
		for i := range 5000 {
			messages = append(messages, event.Message{
				Key: event.Key(fmt.Sprint("r", i%100), "p"), Value: brokertest.Value(i), Time: at,
				Headers: []event.Header{{Key: "n", Value: []byte(strconv.Itoa(i))}},
			})
		}
		watchAcks(w)
		start := time.Now()
		if err := w.Client().Publisher(brokertest.Topics.Live).
			Publish(w.Context(), messages...); err != nil {
			w.Fatal(err)
		}
		if took := time.Since(start); took > 10*time.Millisecond {
			w.Errorf("publishing waited for %v", took)
		}
		last := map[string]int{}
		java := kgo.StickyKeyPartitioner(nil).ForTopic("")
		for _, r := range read(w, brokertest.Topics.Live, 5000) {
			n, _ := strconv.Atoi(string(r.Headers[0].Value))
			if string(r.Value) != string(brokertest.Value(n)) || !r.Timestamp.Equal(at) ||
				int(r.Partition) != java.Partition(r, 12) {
				w.Fatalf("record %+v", r)
			}
			if before, seen := last[string(r.Key)]; seen && n != before+100 {
				w.Fatalf("key %s: %d after %d", r.Key, n, before)
			}
			last[string(r.Key)] = n
		}
		before := time.Now()
		if err := w.Client().Publisher(brokertest.Topics.Backfill).
			Publish(w.Context(), event.Message{}); err != nil {
			w.Fatal(err)
		}
		if r := read(w, brokertest.Topics.Backfill, 1)[0]; r.Key != nil || r.Value != nil ||
			r.Timestamp.Before(before.Truncate(time.Millisecond)) {
			w.Errorf("record %+v", r)
		}
	})
}

// Transient failures are retried; others are returned by index, and the other messages are
// published.
func TestPublishErrors(t *testing.T) {
	brokertest.Run(t, 1, func(w *brokertest.World) {
		p := w.Client().Publisher(brokertest.Topics.Live)
		w.Cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.NotLeaderForPartition,
			Count: 3})
		big := make([]byte, 1<<20)
		messages := []event.Message{{Value: []byte("0")}, {Value: big}, {Value: []byte("2")},
			{Value: append(big, big...)}, {Value: []byte("4")}}
		err := p.Publish(w.Context(), messages...)
		var failed kafkaclient.PublishErrors
		if !errors.As(err, &failed) || len(failed) != 2 || failed[1] == nil || failed[3] == nil {
			w.Fatalf("got %v", err)
		}
		if !strings.Contains(err.Error(),
			"2 messages not published; the first, number 1: produce to mark-read/0: [10]") {
			w.Error(err)
		}
		if got := w.Cluster.PartitionInfo(brokertest.Topics.Live, 0).HighWatermark; got != 3 {
			w.Errorf("%d records, want 3", got)
		}
		if err := w.Cluster.CreateTopic("small", 1,
			map[string]string{"max.message.bytes": "4000"}); err != nil {
			w.Fatal(err)
		}
		many := slices.Repeat([]event.Message{{Value: make([]byte, 100)}}, 500)
		if err := w.Client().Publisher("small").Publish(w.Context(), many...); err != nil {
			w.Errorf("a batch that is too large although no message is: %v", err)
		}
		fault := w.Cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce},
			Err: kerr.TopicAuthorizationFailed, Count: -1})
		if err := p.Publish(w.Context(), messages[0]); err == nil || fault.Hits() != 1 {
			w.Errorf("%d tries of what is forbidden: %v", fault.Hits(), err)
		}
		fault.Remove()
		var missing *kafkaclient.MissingTopicError
		if err := w.Client().Publisher("nowhere").
			Publish(w.Context(), messages...); !errors.As(err, &missing) {
			w.Errorf("missing topic: %v", err)
		}
		ctx, cancel := context.WithTimeout(w.Context(), time.Second)
		defer cancel()
		w.Cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.NotLeaderForPartition,
			Count: -1})
		start := time.Now()
		if err := p.Publish(ctx, messages[0]); !errors.As(err, &failed) ||
			time.Since(start) > 1100*time.Millisecond {
			w.Errorf("after %v: %v", time.Since(start), err)
		}
	})
}
