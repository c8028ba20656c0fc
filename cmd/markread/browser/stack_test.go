package browser_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"markread/cmd/markread/app"
	"markread/consumer/broker/brokertest"
	"markread/consumer/event"
	"markread/consumer/kafkaclient"
	"markread/imclient"
	"markread/worker"
)

// stack is the product in this process, as `markread dev` runs it: an embedded broker, an IM
// sandbox and a worker, whose page is served.
type stack struct {
	t      *testing.T
	addr   app.DevAddrs
	events *kafkaclient.Publisher
	stop   func() // stops all of it and waits; further calls do nothing
}

// startStack starts a stack without sample traffic; change, if not nil, changes its options. It
// stops with the test, and fails the test if it does not stop cleanly.
func startStack(t *testing.T, change func(*app.DevOptions)) *stack {
	t.Helper()
	useChromium(t) // without it the test is skipped
	s := &stack{t: t}
	var log brokertest.Logs
	t.Cleanup(func() {
		if t.Failed() {
			text := log.String()
			t.Logf("the end of the log:\n%s", text[max(0, len(text)-4000):])
		}
	})
	options := app.DevOptions{
		KafkaAddr: "127.0.0.1:0", IMAddr: "127.0.0.1:0", AdminAddr: "127.0.0.1:0",
		ConsoleAddr: "127.0.0.1:0",
		Worker:      workerOptions(zerolog.New(&log)),
	}
	if change != nil {
		change(&options)
	}
	started, ended := make(chan struct{}), make(chan error, 1)
	options.Started = func(at app.DevAddrs) {
		s.addr = at
		close(started)
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() { ended <- app.Dev(ctx, options) }()
	stopped := false
	s.stop = func() {
		if cancel(); stopped {
			return
		}
		stopped = true
		if err := <-ended; err != nil { // it has its own limit
			t.Errorf("the stack stopped: %v", err)
		}
	}
	t.Cleanup(s.stop)
	select {
	case <-started:
	case err := <-ended:
		stopped = true
		t.Fatalf("the stack does not start: %v", err)
	}
	client, err := kafkaclient.New(kafkaclient.Options{Brokers: []string{s.addr.Kafka}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	s.events = client.Publisher(app.DevTopics.Live)
	return s
}

// workerOptions returns the defaults of `markread run`.
func workerOptions(log zerolog.Logger) worker.Options {
	return worker.Options{
		Rate: 200, MaxInFlight: 200, MaxPending: 500_000, MaxRejected: 95, Attempts: 8,
		Backoff:    imclient.NewBackoff(200*time.Millisecond, 30*time.Second),
		MaxReplays: 3, CallTimeout: 5 * time.Second, CommitEvery: time.Second,
		DrainTimeout: 10 * time.Second, Log: log, Version: "test",
	}
}

// page returns the URL of the worker's page.
func (s *stack) page() string { return "http://" + s.addr.Admin + "/" }

// console returns the URL of the group's page.
func (s *stack) console() string { return "http://" + s.addr.Console + "/" }

// faults replaces the sandbox's faults; the JSON is documented in package sandbox, `{}`: none.
func (s *stack) faults(json string) {
	s.t.Helper()
	request, err := http.NewRequestWithContext(s.t.Context(), http.MethodPut,
		"http://"+s.addr.IM+"/sandbox/faults", strings.NewReader(json))
	if err != nil {
		s.t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		s.t.Fatal(err)
	}
	defer response.Body.Close()
	if body, _ := io.ReadAll(response.Body); response.StatusCode != http.StatusOK {
		s.t.Fatalf("faults: %s: %s", response.Status, body)
	}
}

// emit publishes an event of each of n conversations between report and different peers, or between
// report and peer if n is 1.
func (s *stack) emit(n int, report, peer string) {
	s.t.Helper()
	for first := 0; first < n; first += app.MaxBatch {
		var batch []event.Message
		for i := first; i < min(n, first+app.MaxBatch); i++ {
			to := peer
			if n > 1 {
				to = fmt.Sprint(peer, i)
			}
			batch = append(batch, app.NewEvent(report, to, nil, time.Now()))
		}
		s.publish(batch...)
	}
}

// emitInvalid publishes an event that becomes a dead letter at once: its read time is not a number.
func (s *stack) emitInvalid(report, peer string) {
	s.t.Helper()
	s.publish(event.Message{Key: event.Key(report, peer), Time: time.Now(), Value: fmt.Appendf(nil,
		`{"Report_Account":%q,"Peer_Account":%q,"MsgReadTime":"yesterday"}`, report, peer)})
}

// publish publishes any records to the topic of live events.
func (s *stack) publish(messages ...event.Message) {
	s.t.Helper()
	if err := s.events.Publish(s.t.Context(), messages...); err != nil {
		s.t.Fatal(err)
	}
}
