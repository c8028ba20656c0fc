package worker_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"markread/consumer/deadletter"
	"markread/consumer/event"
	"markread/imclient"
	"markread/imclient/sandbox"
	"markread/worker"
)

const traceID = "4bf92f3577b34da6a3ce929d0e0e4736"

func traceparent(id string) event.Header {
	return event.Header{Key: "traceparent", Value: []byte("00-" + id + "-00f067aa0ba902b7-01")}
}

// spy is a connection that records what is sent.
type spy struct {
	net.Conn
	sent *lockedLog
}

func (s spy) Write(b []byte) (int, error) {
	_, _ = s.sent.Write(b)
	return s.Conn.Write(b)
}

// read returns n records of a topic.
func (s *stack) read(topic string, n int) (records []*kgo.Record) {
	s.t.Helper()
	c, err := kgo.NewClient(kgo.SeedBrokers(s.broker.Addr()), kgo.Dialer(s.dial),
		kgo.ConsumeTopics(topic))
	if err != nil {
		s.t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for len(records) < n && ctx.Err() == nil {
		records = append(records, c.PollFetches(ctx).Records()...)
	}
	if len(records) != n {
		s.t.Fatalf("%d records of %s, want %d", len(records), topic, n)
	}
	return records
}

// The headers of a record are the same on its dead letter and on the replay, byte for byte and in
// order, and the IM server gets none of them.
func TestHeadersOfARecord(t *testing.T) {
	inBubble(t, func(s *stack) {
		own := []event.Header{
			{Key: "Traceparent", Value: []byte{0, 0xff}},
			traceparent(strings.Repeat("1", 32)),
			{Key: "tracestate", Value: []byte("vendor=trace-state-value")},
			{Key: "baggage"},
			traceparent(traceID),
			{Key: "tracestate", Value: []byte{}},
		}
		sent, log := &lockedLog{}, &lockedLog{}
		s.fault(sandbox.Faults{Rules: []sandbox.Rule{{Kind: sandbox.KindCode, Code: 90012}}})
		w := s.start(func(o *worker.Options) {
			o.Log = zerolog.New(log)
			o.IM = s.clientVia(imclient.Key(key), func(ctx context.Context) (net.Conn, error) {
				conn, err := s.dial(ctx, "tcp", imAddr)
				return spy{conn, sent}, err
			})
		})
		refuses := s.refuseLetters(kerr.NotEnoughReplicas)
		headers := append([]event.Header{{Key: "markread.class", Value: []byte("forged")}}, own...)
		s.publishMessages(topics.Live,
			event.Message{Value: []byte(eventJSON("rita", "paul", 1_700_000_000)), Headers: headers},
			event.Message{Value: []byte("no event"), Headers: headers})
		time.Sleep(10 * time.Second)
		refuses.Remove()
		w.waitSettled(t, 2)
		if l := log.withMessage(t, "refuses this"); len(l) == 0 || l[0]["trace_id"] != traceID ||
			l[0]["topic"] != topics.Live {
			t.Errorf("logged %v", l)
		}
		lines := slices.DeleteFunc(log.withMessage(t, "dead-lettered"),
			func(line map[string]any) bool { return line["class"] == nil }) // of the hold
		if len(lines) != 2 || lines[0]["trace_id"] != traceID || lines[1]["trace_id"] != traceID {
			t.Errorf("logged %v", lines)
		}

		s.fault(sandbox.Faults{})
		kafka := s.kafka()
		defer kafka.Close()
		store := &deadletter.Store{Topic: kafka, Name: topics.DeadLetter}
		index := deadletter.NewIndex(3, deadletter.Filter{Class: event.ClassRejected})
		if err := store.Find(s.t.Context(), index); err != nil {
			t.Fatal(err)
		}
		done, err := store.Replay(s.t.Context(), deadletter.PlanOf(index.Find(deadletter.Open), 0),
			time.Now, kafka.Publisher(topics.Backfill), kafka.Publisher(topics.DeadLetter), nil)
		if err != nil || done.Letters != 1 {
			t.Fatalf("%+v, %v", done, err)
		}
		w.waitSettled(t, 3)
		if n := s.sandbox.Stats().Applied; n != 1 {
			t.Errorf("%d applied", n)
		}
		// two dead letters and a resolution, which has none of the headers
		for _, r := range append(s.read(topics.DeadLetter, 3), s.read(topics.Backfill, 1)...) {
			var got []event.Header
			for _, h := range r.Headers {
				if !strings.HasPrefix(h.Key, "markread.") && !strings.HasPrefix(h.Key, "__dlq.") {
					got = append(got, event.Header(h))
				}
			}
			want := own
			if r.Value == nil {
				want = nil
			}
			if fmt.Sprintf("%#v", got) != fmt.Sprintf("%#v", want) { // null and empty differ
				t.Errorf("%s: headers\n%q, want\n%q", r.Topic, got, want)
			}
		}
		s.mustStop(w)
		sent.mu.Lock()
		defer sent.mu.Unlock()
		request := bytes.ToLower(sent.lines.Bytes())
		for _, secret := range []string{"trace", "baggage", "vendor", traceID, "markread."} {
			if bytes.Contains(request, []byte(secret)) || !bytes.Contains(request, []byte("rita")) {
				t.Errorf("%s was sent to the server: %s", secret, request)
			}
		}
	})
}

// A live event that finishes more than 5 s after its event time is logged with its trace. After an
// outage one line per 10 s stands for all.
func TestLateEventsAreLogged(t *testing.T) {
	inBubble(t, func(s *stack) {
		log := &lockedLog{}
		w := s.start(func(o *worker.Options) { o.Log = zerolog.New(log) })
		read := func(report string, ago time.Duration, headers ...event.Header) event.Message {
			at := fmt.Sprint(time.Now().Add(-ago).UnixMilli())
			return event.Message{Key: []byte("one partition"),
				Value: []byte(eventJSON(report, "peer", time.Now().Add(-ago).Unix())),
				Headers: append(headers,
					event.Header{Key: "markread.event-time", Value: []byte(at)})}
		}
		s.publishMessages(topics.Backfill, read("backfill", time.Hour))
		s.publishMessages(topics.Live, read("in time", 0),
			read("late", 7*time.Second), // collapses
			read("late", 6*time.Second, traceparent(traceID)))
		w.waitSettled(t, 4)
		lines := log.withMessage(t, "finished late")
		if len(lines) != 1 || lines[0]["trace_id"] != traceID || lines[0]["topic"] != topics.Live ||
			lines[0]["offset"] != 2. || lines[0]["age_seconds"].(float64) < 6 ||
			lines[0]["age_seconds"].(float64) > 10 || lines[0]["collapsed"] != 2. ||
			lines[0]["attempts"] != 0. || lines[0]["failures"] != 0. ||
			lines[0]["level"] != "info" || lines[0]["repeated"] != nil {
			t.Errorf("logged %v", lines)
		}
		if got := exemplars(t, w.Worker); !slices.Equal(got, []string{traceID}) {
			t.Errorf("the exemplars are %v", got)
		}

		time.Sleep(10 * time.Second)
		for i := range 300 {
			s.publishMessages(topics.Live, read(fmt.Sprint("reader", i), time.Minute))
		}
		w.waitSettled(t, 304)
		time.Sleep(10 * time.Second)
		s.publishMessages(topics.Live, read("the last", time.Minute))
		w.waitSettled(t, 305)
		lines = log.withMessage(t, "finished late")
		sum := 0.
		for _, l := range lines[1:] {
			repeated, _ := l["repeated"].(float64)
			if sum += 1 + repeated; l["trace_id"] != nil {
				t.Errorf("a trace that does not exist: %v", l)
			}
		}
		if sum != 301 || len(lines) > 4 {
			t.Errorf("%d lines stand for %v events, want 301", len(lines)-1, sum)
		}
		s.mustStop(w)
	})
}

// exemplars returns the traces of the exemplars of the event ages.
func exemplars(t *testing.T, w *worker.Worker) (traces []string) {
	t.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(w)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.Metric {
			for _, b := range m.GetHistogram().GetBucket() {
				for _, l := range b.GetExemplar().GetLabel() {
					if l.GetName() != "trace_id" || f.GetName() != "markread_event_age_seconds" {
						t.Errorf("%s: label %s", f.GetName(), l.GetName())
					}
					traces = append(traces, l.GetValue())
				}
			}
		}
	}
	return traces
}
