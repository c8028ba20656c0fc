package letters

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"markread/consumer/broker/brokertest"
	"markread/consumer/deadletter"
	"markread/consumer/event"
	"markread/consumer/kafkaclient"
	"markread/worker/console/overview"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a virtual Kafka with a Letters that runs until the test ends.
type world struct {
	*brokertest.World
	kafka *kafkaclient.Client
	*Letters
	handler http.Handler
	halt    func() // ends Run and waits for it
	logs    brokertest.Logs

	mu       sync.Mutex
	ends     int // how often the topic's end was read
	scans    int
	gate     chan struct{} // non-nil: each publication waits for a value
	gated    chan struct{} // receives a value when a publication begins to wait
	fail     error         // of each publication
	broken   error         // of each scan
	cut      bool          // partition 0 can't be read from offset 1
	slow     time.Duration // of each scan
	recorded []overview.Command
}

func (w *world) TopicOffsets(ctx context.Context, topic string) (kafkaclient.TopicOffsets, error) {
	w.mu.Lock()
	w.ends++
	w.mu.Unlock()
	return w.kafka.TopicOffsets(ctx, topic)
}

func (w *world) Scan(ctx context.Context, offsets kafkaclient.TopicOffsets,
	each func(event.Record) error) ([]kafkaclient.UnreadRange, error) {
	w.mu.Lock()
	w.scans++
	broken, slow := w.broken, w.slow
	w.mu.Unlock()
	select {
	case <-time.After(slow):
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if broken != nil {
		return []kafkaclient.UnreadRange{{TopicPartition: event.TopicPartition{
			Topic: offsets.Topic}, From: 1, To: 2, Err: broken}}, nil
	}
	if !w.cut || offsets.Partitions[0].End < 2 {
		return w.kafka.Scan(ctx, offsets, each)
	}
	readable := offsets
	readable.Partitions = slices.Clone(offsets.Partitions)
	readable.Partitions[0].End = 1
	_, err := w.kafka.Scan(ctx, readable, each)
	return []kafkaclient.UnreadRange{{TopicPartition: event.TopicPartition{Topic: offsets.Topic},
		From: 1, To: offsets.Partitions[0].End, Err: errors.New("checksum")}}, err
}

// publisher is a publisher to an event topic that a test can block or break.
type publisher struct {
	deadletter.Publisher
	w *world
}

func (p publisher) Publish(ctx context.Context, messages ...event.Message) error {
	p.w.mu.Lock()
	gate, fail := p.w.gate, p.w.fail
	p.w.mu.Unlock()
	if gate != nil {
		p.w.gated <- struct{}{}
		select {
		case <-gate:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if fail != nil {
		return fail
	}
	return p.Publisher.Publish(ctx, messages...)
}

func inWorld(t *testing.T, test func(w *world), change ...func(*Options)) {
	t.Helper()
	brokertest.Run(t, 3, func(b *brokertest.World) {
		w := &world{World: b, kafka: b.Client(), gated: make(chan struct{}, 10)}
		o := Options{Topic: w, Name: brokertest.Topics.DeadLetter,
			Publisher: func(topic string) deadletter.Publisher {
				p := w.kafka.Publisher(topic)
				if topic == brokertest.Topics.DeadLetter {
					return p
				}
				return publisher{p, w}
			},
			CheckWritable: func(ctx context.Context, writeTo ...string) error {
				return deadletter.CheckWritable(ctx, w.kafka, brokertest.Topics.DeadLetter,
					writeTo...)
			},
			MaxReplays: 3, AllowReplay: true, ReplayTo: brokertest.Topics.Backfill,
			Rate:   func() float64 { return 0.5 },
			Who:    func(r *http.Request) string { return r.Header.Get("X-Forwarded-User") },
			Record: func(c overview.Command) { w.recorded = append(w.recorded, c) },
			Flags:  []string{"--brokers", "kafka-1:9092,kafka-2:9092"},
			Log:    zerolog.New(&w.logs),
		}
		for _, c := range change {
			c(&o)
		}
		w.Letters = New(o)
		w.handler = w.Handler()
		ctx, cancel := context.WithCancel(w.Context())
		ended := make(chan error, 1)
		go func() { ended <- w.Run(ctx) }()
		w.halt = sync.OnceFunc(func() {
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
		defer w.halt()
		test(w)
	})
}

// letter is a dead letter to write.
type letter struct {
	partition           int
	report, class, code string
	value               string // "": an event of report and p
	message             string
	headers             []event.Header
	replays             int
}

// write writes dead letters which fail one second after the other.
func (w *world) write(letters ...letter) {
	w.Helper()
	for _, l := range letters {
		time.Sleep(time.Second)
		if l.value == "" {
			l.value = fmt.Sprintf(`{"Report_Account":%q,"Peer_Account":"p","MsgReadTime":%d}`,
				l.report, brokertest.FirstSecond)
		}
		d := brokertest.DeadLetter(event.Record{Topic: "mark-read", Partition: 1, Offset: 7,
			Key: []byte(l.report + "|p"), Value: []byte(l.value), Headers: l.headers})
		d.Class, d.Code, d.FailedAt, d.Event.Replays = l.class, l.code, time.Now(), l.replays
		d.Message = l.message
		if err := w.kafka.Publisher(brokertest.Topics.DeadLetter).PublishTo(w.Context(),
			l.partition, d.Encode(event.Omission{})); err != nil {
			w.Fatal(err)
		}
	}
}

// rejected returns n rejected dead letters of the conversations a0, a1 …
func rejected(n int) (letters []letter) {
	for i := range n {
		letters = append(letters, letter{partition: i % 3, report: fmt.Sprint("a", i),
			class: "rejected", code: "90048"})
	}
	return letters
}

// request makes a POST of the page with a body of JSON.
func (w *world) request(path string, body any) *httptest.ResponseRecorder {
	w.Helper()
	b, err := json.Marshal(body)
	if err != nil {
		w.Fatal(err)
	}
	r := httptest.NewRequestWithContext(w.Context(), "POST", path, strings.NewReader(string(b)))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json")
	r.Header.Set("X-Forwarded-User", "alice")
	recorder := httptest.NewRecorder()
	w.handler.ServeHTTP(recorder, r)
	return recorder
}

// post is request with a response of that status, which it decodes.
func post[Response any](w *world, path string, body any, status int) (response Response) {
	w.Helper()
	got := w.request(path, body)
	if got.Code != status {
		w.Fatalf("POST %s %v: %d %s, want %d", path, body, got.Code, got.Body, status)
	}
	if err := json.Unmarshal(got.Body.Bytes(), &response); err != nil {
		w.Fatalf("POST %s: %v: %s", path, err, got.Body)
	}
	return response
}

// listed posts a filter to the list.
func (w *world) listed(f Filter) page {
	w.Helper()
	return post[page](w, "/api/dead-letters", f, http.StatusOK)
}

func reports(items []Item) (reports []string) {
	for _, i := range items {
		reports = append(reports, *i.Report)
	}
	return reports
}

// states counts the dead letters of the topic by state.
func (w *world) states() map[string]int {
	w.Helper()
	index := deadletter.NewIndex(3, deadletter.Filter{})
	store := deadletter.Store{Topic: w.kafka, Name: brokertest.Topics.DeadLetter}
	if err := store.Find(w.Context(), index); err != nil {
		w.Fatal(err)
	}
	counts := map[string]int{}
	for _, l := range index.Find(deadletter.AllStates()...) {
		counts[l.State.String()]++
	}
	return counts
}

func (w *world) wantStates(want map[string]int) {
	w.Helper()
	if got := w.states(); !maps.Equal(got, want) {
		w.Errorf("states %v, want %v", got, want)
	}
}

// published returns how many records a topic has.
func (w *world) published(topic string) (n int64) {
	w.Helper()
	for _, p := range w.World.TopicOffsets(w.kafka, topic).Partitions {
		n += p.End - p.First
	}
	return n
}

func wantEqual[T comparable](t *testing.T, what string, got, want []T) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}
