package deadletter

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"markread/consumer/broker/brokertest"
	"markread/consumer/event"
	"markread/consumer/kafkaclient"
)

// world is the virtual Kafka with a client.
type world struct {
	*brokertest.World
	client *kafkaclient.Client
}

func inWorld(t *testing.T, test func(w *world)) {
	t.Helper()
	brokertest.Run(t, 3, func(w *brokertest.World) { test(&world{w, w.Client()}) })
}

// write writes the dead letter of a record with the worker's Writer.
func (w *world) write(r event.Record, class string) {
	w.Helper()
	err := NewWriter(w.client, brokertest.Topics.DeadLetter).Write(w.Context(), event.DeadLetter{
		Event: event.Decode(r, time.Now()), Class: class, Code: "90048", Message: "refused",
		Attempts: 1, Collapsed: 2, FailedAt: time.Now(), Group: "g",
	})
	if err != nil {
		w.Fatal(err)
	}
}

// read returns the n records of a topic, read by another client.
func (w *world) read(topic string, n int) (records []*kgo.Record) {
	w.Helper()
	c := w.Kgo(kgo.ConsumeTopics(topic))
	defer c.Close()
	ctx, cancel := context.WithTimeout(w.Context(), time.Minute)
	defer cancel()
	for len(records) < n && ctx.Err() == nil {
		records = append(records, c.PollFetches(ctx).Records()...)
	}
	if len(records) != n {
		w.Fatalf("%d records of %s, want %d", len(records), topic, n)
	}
	return records
}

func (w *world) store() *Store {
	return &Store{Topic: w.client,
		Name: brokertest.Topics.DeadLetter}
}

func (w *world) replay(s *Store) Done {
	w.Helper()
	plan := PlanOf(find(w.T, s).Find(Open), 0)
	done, err := s.Replay(w.Context(), plan, time.Now,
		w.client.Publisher(brokertest.Topics.Backfill),
		w.client.Publisher(brokertest.Topics.DeadLetter), nil)
	if err != nil {
		w.Fatal(err)
	}
	return done
}

// The Store understands each header that the worker's Writer writes. Much later it replays the
// original record, with the time when the user read.
func TestLettersOfTheWorker(t *testing.T) {
	inWorld(t, func(w *world) {
		read := time.Now()
		records := []event.Record{
			{
				Topic: "events", Partition: 2, Offset: 40, Key: []byte("a|b"),
				Value: []byte(`{"Report_Account":"a","Peer_Account":"b"}`), Time: read,
				Headers: []event.Header{{Key: "trace", Value: []byte("1")},
					{Key: "markread.replays", Value: []byte("1")}, {Key: "null"}},
			},
			{Topic: "events", Partition: 2, Offset: 41,
				Value: []byte(`{"Report_Account":"c","Peer_Account":"b",` +
					`"MsgReadTime":"1700000000"}`), Time: read},
			{Topic: "events", Offset: 42, Key: []byte("a|b"), Value: []byte(`no event`),
				Time: read},
		}
		classes := []string{"rejected", "exhausted", "invalid"}
		for i, r := range records {
			time.Sleep(time.Second)
			w.write(r, classes[i])
		}
		s := w.store()
		index := NewIndex(3, Filter{})
		if err := s.Find(w.Context(), index); err != nil {
			w.Fatal(err)
		}
		if counts := index.Counts(); len(counts) != 3 || index.Unknown() != 0 {
			w.Errorf("%+v", counts)
		}
		found := index.Find(Open)
		var lines []string
		err := s.List(w.Context(), found, func(l *Letter) error {
			// without the partition, which the partitioner chooses
			_, rest, _ := strings.Cut(string(l.AppendJSON(nil, false)), `,"state"`)
			lines = append(lines, rest)
			return nil
		})
		want := `:"open","class":"rejected","code":"90048","message":"refused","report":"a",` +
			`"peer":"b","read_time":null,"event_time":"2026-01-01T00:00:00Z",` +
			`"failed_at":"2026-01-01T00:00:01Z","origin":{"topic":"events","partition":2,` +
			`"offset":40,"group":"g"},"delivery_count":1,"collapsed":2,"replays":1,` +
			`"lane":"live","key":"a|b","value":"{\"Report_Account\":\"a\",\"Peer_Account\":\"b\"}"}`
		if err != nil || len(lines) != 3 || lines[0] != want {
			w.Errorf("%v: %q, want\n%s", err, lines, want)
		}

		time.Sleep(3 * time.Hour)
		if done := w.replay(s); done != (Done{Letters: 2, Conversations: 2}) {
			w.Errorf("%+v", done)
		}
		events := w.read(brokertest.Topics.Backfill, 2)
		slices.SortFunc(events,
			func(a, b *kgo.Record) int { return strings.Compare(string(a.Value), string(b.Value)) })
		headers := func(r *kgo.Record) (all string) {
			for _, h := range r.Headers {
				all += h.Key + "=" + string(h.Value) + " "
			}
			return all
		}
		if e := events[0]; string(e.Key) != "a|b" || string(e.Value) != string(records[0].Value) ||
			headers(e) != "trace=1 null= markread.event-time=1767225600000 markread.replays=2 " ||
			e.Headers[1].Value != nil || time.Since(e.Timestamp) > time.Minute {
			w.Errorf("%s %s %s %s", e.Key, e.Value, headers(e), e.Timestamp)
		}
		if e := events[1]; e.Key != nil ||
			headers(e) != "markread.event-time=1767225600000 markread.replays=1 " {
			w.Errorf("%s %s", e.Key, headers(e))
		}
		// As a worker decodes it.
		replayed := event.Record{Value: events[0].Value,
			Headers: []event.Header{{Key: "markread.event-time", Value: []byte("1767225600000")}},
			Time:    time.Now()}
		if event := event.Decode(replayed, time.Now()); event.ReadTime != 1767225600 {
			w.Errorf("T is %d", event.ReadTime)
		}
		if got := states(w.T, s); strings.Count(got, "replayed") != 2 ||
			strings.Count(got, "open") != 1 {
			w.Error(got)
		}
		w.read(brokertest.Topics.DeadLetter, 5)
		if done := w.replay(s); done != (Done{}) {
			w.Errorf("a second replay: %+v", done)
		}
	})
}

// Two concurrent replays, and a replay whose resolutions were lost, only publish twice.
func TestReplaysAtTheSameTime(t *testing.T) {
	inWorld(t, func(w *world) {
		w.write(event.Record{Topic: "events", Key: []byte("a|b"),
			Value: []byte(`{"Report_Account":"a","Peer_Account":"b"}`), Time: time.Now()},
			"rejected")
		s := w.store()
		plan := PlanOf(find(w.T, s).Find(Open), 0)
		for range 2 {
			if _, err := s.Replay(w.Context(), plan, time.Now,
				w.client.Publisher(brokertest.Topics.Backfill),
				w.client.Publisher(brokertest.Topics.DeadLetter), nil); err != nil {
				w.Fatal(err)
			}
		}
		w.read(brokertest.Topics.Backfill, 2)
		if got := states(w.T, s); strings.Count(got, "replayed") != 1 ||
			strings.Contains(got, ",") {
			w.Error(got)
		}
	})
}

// A dead letter that the target topic rejects stays open, and the rest of its batch is replayed: a
// topic with a smaller limit than the dead-letter topic, a compacted one, one with timestamp
// bounds.
func TestRefusedByTheTargetTopic(t *testing.T) {
	for code, want := range map[*kerr.Error]Done{
		kerr.MessageTooLarge:  {Letters: 3, Conversations: 3, TooLarge: 1},
		kerr.InvalidRecord:    {Letters: 3, Conversations: 3, Refused: 1},
		kerr.InvalidTimestamp: {Letters: 3, Conversations: 3, Refused: 1},
	} {
		t.Run(code.Message, func(t *testing.T) {
			inWorld(t, func(w *world) {
				for _, who := range []string{"a", "b", "c", "d"} {
					value := []byte(`{"Report_Account":"` + who + `","Peer_Account":"b"}`)
					w.write(event.Record{Topic: "events", Key: []byte("k"), Value: value,
						Time: time.Now()}, "rejected")
				}
				w.Broker.Cluster().ControlKey(int16(kmsg.Produce),
					func(r kmsg.Request) (kmsg.Response, error, bool) {
						w.Broker.Cluster().KeepControl()
						request := r.(*kmsg.ProduceRequest)
						if topic := request.Topics[0]; topic.Topic != brokertest.Topics.Backfill ||
							!strings.Contains(string(topic.Partitions[0].Records),
								`"Report_Account":"b"`) {
							return nil, nil, false
						}
						response := request.ResponseKind().(*kmsg.ProduceResponse)
						topic, partition := kmsg.NewProduceResponseTopic(),
							kmsg.NewProduceResponseTopicPartition()
						partition.Partition, partition.ErrorCode =
							request.Topics[0].Partitions[0].Partition, code.Code
						topic.Topic, topic.Partitions = brokertest.Topics.Backfill,
							append(topic.Partitions, partition)
						response.Topics = append(response.Topics, topic)
						return response, nil, true
					})
				s := w.store()
				if done := w.replay(s); done != want {
					w.Errorf("%+v", done)
				}
				if got := states(w.T, s); strings.Count(got, "replayed") != 3 ||
					strings.Count(got, "open") != 1 {
					w.Error(got)
				}
			})
		})
	}
}
