package deadletter_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"markread/consumer/batch"
	"markread/consumer/broker/brokertest"
	"markread/consumer/deadletter"
	"markread/consumer/event"
)

// producedSizes records the size of the batch of each produce request.
func producedSizes(w *brokertest.World) *[]int {
	var sizes []int
	w.Cluster.ControlKey(int16(kmsg.Produce), func(r kmsg.Request) (kmsg.Response, error, bool) {
		w.Cluster.KeepControl()
		sizes = append(sizes, len(r.(*kmsg.ProduceRequest).Topics[0].Partitions[0].Records))
		return nil, nil, false
	})
	return &sizes
}

// disconnect closes the connection of requests with that key, the first times times (-1: always),
// except of produce requests whose batch has at most larger bytes. It returns the count of closed
// ones.
func disconnect(w *brokertest.World, key kmsg.Key, larger, times int) *int {
	disconnects := new(int)
	w.Cluster.ControlKey(int16(key), func(r kmsg.Request) (kmsg.Response, error, bool) {
		w.Cluster.KeepControl()
		if p, ok := r.(*kmsg.ProduceRequest); ok &&
			len(p.Topics[0].Partitions[0].Records) <= larger || *disconnects == times {
			return nil, nil, false
		}
		*disconnects++
		return nil, errors.New("disconnected"), true
	})
	return disconnects
}

func createTopicWithLimit(w *brokertest.World, topic string, limit int) {
	w.Helper()
	if err := w.Cluster.CreateTopic(topic, 1,
		map[string]string{"max.message.bytes": strconv.Itoa(limit)}); err != nil {
		w.Fatal(err)
	}
}

func record(value int, headers ...event.Header) event.Record {
	return event.Record{Topic: brokertest.Topics.Live, Key: []byte("k"),
		Value: bytes.Repeat([]byte("x"), value), Headers: headers}
}

func omitted(r *kgo.Record) (names []string) {
	for _, h := range text(r.Headers) {
		if strings.Contains(h, "-omitted=") {
			names = append(names, h)
		}
	}
	return names
}

// A dead letter of exactly the topic's limit is written whole. With one byte more it loses its
// value before anything is sent.
func TestSizeIsCheckedBeforeSending(t *testing.T) {
	for name, r := range map[string]event.Record{
		"short": record(100), "long": record(100_000),
		"headers": record(10, event.Header{Key: strings.Repeat("n", 200),
			Value: make([]byte, 300)}, event.Header{Key: "null"}, event.Header{}),
		"no value": {Topic: brokertest.Topics.Live},
	} {
		t.Run(name, func(t *testing.T) {
			brokertest.Run(t, 1, func(w *brokertest.World) {
				sizes := producedSizes(w)
				if err := deadletter.NewWriter(w.Client(), brokertest.Topics.DeadLetter).
					Write(w.Context(), brokertest.DeadLetter(r)); err != nil {
					w.Fatal(err)
				}
				whole := (*sizes)[0]
				createTopicWithLimit(w, "fits", whole)
				createTopicWithLimit(w, "small", whole-1)
				for i, topic := range []string{"fits", "small"} {
					if err := deadletter.NewWriter(w.Client(), topic).
						Write(w.Context(), brokertest.DeadLetter(r)); name != "no value" &&
						err != nil {
						w.Fatal(err)
					}
					if i == 0 && !slices.Equal(*sizes, []int{whole, whole}) {
						w.Errorf("%v: the same dead letter was sent with another size", *sizes)
					}
				}
				if name == "no value" {
					return // nothing can be omitted
				}
				if got := omitted(read(w, "small", 1)[0]); len(*sizes) != 3 || len(got) != 1 {
					w.Errorf("sent %v, omitted %q", *sizes, got)
				}
			})
		})
	}
}

// The limit is queried once a minute, and again when it was wrong. A worker that may not query it
// relies on the topic's rejections.
func TestTheTopicsLimitIsKeptForAMinute(t *testing.T) {
	brokertest.Run(t, 1, func(w *brokertest.World) {
		createTopicWithLimit(w, "small", 4000)
		asked := 0
		w.Cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.DescribeConfigs}, Observe: true,
			Count: -1, When: func(kmsg.Request) bool { asked++; return true }})
		letters := deadletter.NewWriter(w.Client(), "small")
		write := func(value int, want string) {
			w.Helper()
			if err := letters.Write(w.Context(), brokertest.DeadLetter(record(value))); err != nil {
				w.Fatal(err)
			}
			end := int(w.Cluster.PartitionInfo("small", 0).HighWatermark)
			if got := fmt.Sprint(omitted(read(w, "small", end)[end-1])); got != want {
				w.Errorf("omitted %s, want %s", got, want)
			}
		}
		write(5000, "[markread.value-omitted=5000]")
		write(10, "[]")
		time.Sleep(59 * time.Second)
		if write(5000, "[markread.value-omitted=5000]"); asked != 1 {
			w.Errorf("queried %d times within a minute", asked)
		}
		time.Sleep(2 * time.Second)
		if write(10, "[]"); asked != 2 {
			w.Errorf("queried %d times after a minute", asked)
		}
		w.Cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.MessageTooLarge,
			Count: 1})
		write(1000, "[markread.value-omitted=1000]")
		if write(1000, "[]"); asked != 3 {
			w.Errorf("queried %d times after the limit was wrong", asked)
		}
		w.Cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.DescribeConfigs},
			Err: kerr.TopicAuthorizationFailed, Count: -1})
		letters = deadletter.NewWriter(w.Client(), "small")
		sizes := producedSizes(w)
		if write(5000, "[markread.value-omitted=5000]"); len(*sizes) != 2 {
			w.Errorf("sent %v, want one that is rejected", *sizes)
		}
		if write(1_100_000, "[markread.value-omitted=1100000]"); len(*sizes) != 3 {
			w.Errorf("sent %v, but Kafka's default is known", *sizes)
		}
	})
}

// A broker or proxy that closes the connection of a large request can't stop calls forever: the
// dead letter is written in a smaller form, and the next one immediately, until 10 minutes have
// passed.
func TestDisconnectsAtLargeLetters(t *testing.T) {
	brokertest.Run(t, 1, func(w *brokertest.World) {
		const large = 200_000
		disconnects := disconnect(w, kmsg.Produce, large, -1)
		letters := deadletter.NewWriter(w.Client(), brokertest.Topics.DeadLetter)
		write := func(r event.Record) {
			w.Helper()
			start := time.Now()
			if err := letters.Write(w.Context(), brokertest.DeadLetter(r)); err != nil {
				w.Fatal(err)
			}
			if took := time.Since(start); took > 2*time.Second {
				w.Errorf("took %v", took)
			}
		}
		header := event.Header{Key: "own", Value: make([]byte, large)}
		write(record(large))
		if *disconnects != 3 {
			w.Errorf("%d requests were disconnected, want 3", *disconnects)
		}
		write(record(large))
		write(record(10, header))
		write(record(large/2 + 10))
		if *disconnects != 3 {
			w.Errorf("%d requests were disconnected, want 3: it is known", *disconnects)
		}
		time.Sleep(10 * time.Minute)
		write(record(large, header))
		if *disconnects != 3+3*3 {
			w.Errorf("%d requests were disconnected, want 12: each form three times, but the last",
				*disconnects)
		}
		var got []string
		for _, r := range read(w, brokertest.Topics.DeadLetter, 5) {
			got = append(got, strings.Join(omitted(r), " "))
		}
		want := []string{
			"markread.value-omitted=200000", "markread.value-omitted=200000",
			"markread.headers-omitted=1", "",
			"markread.value-omitted=200000 markread.headers-omitted=1",
		}
		if !slices.Equal(got, want) {
			w.Errorf("omitted %q, want %q", got, want)
		}
	})
}

// After an outage, or a few disconnects by chance, the dead letter is written whole.
func TestOutagesOmitNothing(t *testing.T) {
	for name, c := range map[string]struct {
		value, disconnects int
		leader             bool // small requests are disconnected, too
		tries              int  // of Write
	}{
		"outage":                  {500_000, 20, true, 21},
		"twice by chance":         {500_000, 2, false, 1},
		"an ordinary dead letter": {1000, 20, false, 21},
		"one of just under 64 KB": {65_000, 20, false, 21},
	} {
		t.Run(name, func(t *testing.T) {
			brokertest.Run(t, 1, func(w *brokertest.World) {
				disconnect(w, kmsg.Produce, 0, c.disconnects)
				small := new(int)
				if c.leader {
					small = disconnect(w, kmsg.ListOffsets, 0, -1)
				}
				letters := deadletter.NewWriter(w.Client(), brokertest.Topics.DeadLetter)
				tries := 1
				for ; letters.Write(w.Context(), brokertest.DeadLetter(record(c.value))) != nil &&
					tries < 100; tries++ {
					time.Sleep(time.Second)
				}
				*small = -1 // so that the reader is not disconnected
				if got := read(w, brokertest.Topics.DeadLetter, 1)[0]; tries != c.tries ||
					len(omitted(got)) > 0 || len(got.Value) != c.value {
					w.Errorf("%d tries, omitted %q", tries, omitted(got))
				}
			})
		})
	}
}

// A topic that rejects everything for a while gets the whole dead letter afterwards.
func TestTemporaryRefusalsOmitNothing(t *testing.T) {
	for _, code := range []*kerr.Error{kerr.PolicyViolation, kerr.TopicAuthorizationFailed,
		kerr.NotEnoughReplicas, kerr.UnknownServerError} {
		brokertest.Run(t, 1, func(w *brokertest.World) {
			w.Cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: code, Count: 1})
			letters := deadletter.NewWriter(w.Client(), brokertest.Topics.DeadLetter)
			first, second := letters.Write(w.Context(), brokertest.DeadLetter(record(1000))),
				letters.Write(w.Context(), brokertest.DeadLetter(record(1000)))
			if got := read(w, brokertest.Topics.DeadLetter, 1)[0]; first == nil || second != nil ||
				len(omitted(got)) > 0 || len(got.Value) != 1000 {
				w.Errorf("%s: %v, %v; omitted %q", code.Message, first, second, omitted(got))
			}
		})
	}
}

// A shutdown is not a rejection, not even during the check whether size closes the connection.
func TestShutdownWhileALetterIsRetried(t *testing.T) {
	brokertest.Run(t, 1, func(w *brokertest.World) {
		disconnect(w, kmsg.Produce, 0, -1)
		ctx, cancel := context.WithCancel(w.Context())
		time.AfterFunc(150*time.Millisecond, cancel)
		if err := deadletter.NewWriter(w.Client(), brokertest.Topics.DeadLetter).
			Write(ctx, brokertest.DeadLetter(record(500_000))); !errors.Is(err, context.Canceled) {
			w.Errorf("got %v", err)
		}
	})
}

// A dead letter loses the parts that the topic rejects. If the topic rejects every form, Write
// fails after a bounded number of attempts.
func TestLettersThatAreRefused(t *testing.T) {
	for _, code := range []*kerr.Error{kerr.InvalidRecord, kerr.InvalidTimestamp} {
		t.Run(code.Message, func(t *testing.T) {
			brokertest.Run(t, 1, func(w *brokertest.World) {
				sizes := producedSizes(w)
				var unwanted string // records that contain this are rejected
				w.Cluster.ControlKey(int16(kmsg.Produce),
					func(r kmsg.Request) (kmsg.Response, error, bool) {
						w.Cluster.KeepControl()
						q := r.(*kmsg.ProduceRequest)
						if !bytes.Contains(q.Topics[0].Partitions[0].Records, []byte(unwanted)) {
							return nil, nil, false
						}
						response := q.ResponseKind().(*kmsg.ProduceResponse)
						topic, partition := kmsg.NewProduceResponseTopic(),
							kmsg.NewProduceResponseTopicPartition()
						partition.ErrorCode, topic.Topic = code.Code, q.Topics[0].Topic
						topic.Partitions = append(topic.Partitions, partition)
						response.Topics = append(response.Topics, topic)
						return response, nil, true
					})
				r := record(0, event.Header{Key: "bad header", Value: make([]byte, 100)})
				r.Key, r.Value = []byte("a bad key"),
					[]byte("a bad value, longer than the header that says that it is omitted")
				letters := deadletter.NewWriter(w.Client(), brokertest.Topics.DeadLetter)
				for _, c := range []struct {
					unwanted, want string
					tries          int
				}{
					{"bad value", "[markread.value-omitted=64]", 2},
					{"bad header", "[markread.headers-omitted=1]", 3},
					{"bad key", "[markread.value-omitted=64 markread.headers-omitted=1 " +
						"markread.key-omitted=9]", 5},
					{"markread.class", "", 5},
				} {
					unwanted, *sizes = c.unwanted, nil
					before := int(w.Cluster.PartitionInfo(brokertest.Topics.DeadLetter, 0).
						HighWatermark)
					err := letters.Write(w.Context(), brokertest.DeadLetter(r))
					if c.want == "" {
						if err == nil || !strings.Contains(err.Error(),
							fmt.Sprintf("[%d]", code.Code)) || len(*sizes) > c.tries {
							w.Errorf("%s: %v after %d tries", c.unwanted, err, len(*sizes))
						}
						continue
					}
					if err != nil {
						w.Fatalf("%s: %v", c.unwanted, err)
					}
					if got := fmt.Sprint(omitted(read(w, brokertest.Topics.DeadLetter,
						before+1)[before])); got != c.want || len(*sizes) > c.tries {
						w.Errorf("%s: omitted %s after %d tries, want %s", c.unwanted, got,
							len(*sizes), c.want)
					}
				}
			})
		})
	}
}

// Damaged records have one dead letter: it has their number, offsets, reason and size.
func TestLetterOfDamagedRecords(t *testing.T) {
	brokertest.Run(t, 1, func(w *brokertest.World) {
		r := event.Record{Topic: brokertest.Topics.Live, Partition: 1, Offset: 5,
			Damage: &event.Damage{
				Last: 1<<31 + 4, Count: 1 << 31, Size: 93,
				Err: errors.New("bad \x1b[2Jlength\n\xff"),
			}}
		e := event.Decode(r, time.Now())
		l := event.DeadLetter{Event: e, Class: "invalid", Message: e.Invalid.Error(),
			Collapsed: 1 << 31, FailedAt: time.Now(), Group: brokertest.Group}
		if err := deadletter.NewWriter(w.Client(), brokertest.Topics.DeadLetter).
			Write(w.Context(), l); err != nil {
			w.Fatal(err)
		}
		got := read(w, brokertest.Topics.DeadLetter, 1)[0]
		if got.Key != nil || got.Value == nil || len(got.Value) > 0 {
			w.Errorf("key %q, value %q", got.Key, got.Value)
		}
		headers := text(got.Headers)
		for _, want := range []string{
			"__dlq.errors.offset=5", "__dlq.errors.delivery.count=0", "markread.class=invalid",
			"markread.code=", "markread.event-time=",
			"markread.collapsed=2147483648", "markread.value-omitted=93",
			"__dlq.errors.message=the 2147483648 records at offsets 5 to 2147483652 can't be " +
				"decoded: bad ?[2Jlength \uFFFD",
		} {
			if !slices.Contains(headers, want) {
				w.Errorf("no header %s in %q", want, headers)
			}
		}
	})
}

func TestDecodeDamage(t *testing.T) {
	at := time.UnixMilli(1_700_000_000_000)
	for want, d := range map[string]event.Damage{
		"the record at offset 5 can't be decoded: bad length": {Last: 5, Count: 1,
			Err: errors.New("bad length")},
		"the record at one of the offsets 5 to 7 can't be decoded: bad length": {Last: 7, Count: 1,
			Err: errors.New("bad length")},
		"the 3 records at offsets 5 to 7 can't be decoded: bad length": {Last: 7, Count: 3,
			Err: errors.New("bad length")},
	} {
		e := event.Decode(event.Record{Offset: 5, Time: at, Damage: &d}, at)
		if e.Invalid == nil || e.Invalid.Error() != want || !e.EventTime.Equal(at) ||
			e.Report != nil {
			t.Errorf("%+v, want %s", e, want)
		}
	}
	long := event.Damage{Last: 5, Count: 1, Err: errors.New(strings.Repeat("ä", 5000))}
	if n := len(event.Decode(event.Record{Offset: 5, Damage: &long}, at).
		Invalid.Error()); n > 1000 || n < 990 {
		t.Errorf("a message of %d bytes", n)
	}
}

// However much the topic accepts, a dead letter is never larger than what its readers can read of a
// record, in bytes and in headers.
func TestLettersCanBeRead(t *testing.T) {
	brokertest.Run(t, 1, func(w *brokertest.World) {
		createTopicWithLimit(w, "large", 10<<20)
		c := w.Client()
		letters := deadletter.NewWriter(c, "large")
		many := func(n int) event.Record { return record(10, make([]event.Header, n)...) }
		for _, r := range []event.Record{record(batch.MaxRecord + 65_500),
			record(batch.MaxRecord - 10), many(batch.MaxHeaders - 5), many(batch.MaxHeaders - 20)} {
			if err := letters.Write(w.Context(), brokertest.DeadLetter(r)); err != nil {
				w.Fatal(err)
			}
		}
		var got []string
		unread, err := c.Scan(w.Context(), w.TopicOffsets(c, "large"), func(r event.Record) error {
			if r.Damage != nil {
				w.Errorf("dead letter %d: %v", r.Offset, r.Damage.Err)
			}
			value, _ := r.Header("markread.value-omitted")
			headers, _ := r.Header("markread.headers-omitted")
			got = append(got, value+"/"+headers)
			return nil
		})
		if want := []string{"1114076/", "/", "/9995", "/"}; err != nil || len(unread) > 0 ||
			!slices.Equal(got, want) {
			w.Errorf("%q, want %q; %v %v", got, want, unread, err)
		}
	})
}
