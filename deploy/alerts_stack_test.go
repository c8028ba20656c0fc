//go:build exam && linux

package deploy_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kfake"

	"markread/cmd/markread/app"
	"markread/consumer/broker"
	"markread/consumer/event"
	"markread/consumer/kafkaclient"
	"markread/imclient"
	"markread/imclient/sandbox"
	"markread/worker"
)

const (
	group       = "markread"
	appKey      = "the key of the app"
	traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01" // sampled
	perSecond   = 10                                                        // events of each stack
)

var names = app.DevTopics

// stack is a worker with its own broker and IM server, under constant traffic.
type stack struct {
	t       *testing.T
	broker  *broker.Broker
	sandbox *sandbox.Server
	imURL   string
	keyFile string
	options app.Options
	live    *kafkaclient.Publisher
	events  atomic.Int64 // published; each is of its own conversation
	stop    func()       // stops the worker, as SIGTERM does
	fault   *kfake.FaultHandle
}

// newStack starts a stack, and waits until its worker has made calls.
func newStack(t *testing.T, rate int) *stack {
	t.Helper()
	s := &stack{t: t, keyFile: filepath.Join(t.TempDir(), "key")}
	s.writeKey(appKey)
	var err error
	s.broker, err = broker.Start(broker.Options{Partitions: 4,
		Topics: []string{names.Live, names.Backfill, names.DeadLetter}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.broker.Close)
	s.sandbox = sandbox.New(sandbox.Options{AppID: app.LocalAppID, Admin: app.LocalAdmin,
		Key: imclient.NewSecret(appKey), OpenAccounts: true})
	server, err := app.ServeSandbox("", "127.0.0.1:0", s.sandbox, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	s.imURL = "http://" + server.Addr
	s.background(func(ctx context.Context) { _ = server.Run(ctx) })

	s.options = app.Options{AdminAddr: "127.0.0.1:0", Worker: worker.Options{
		Topics: names, Group: group, Rate: rate, MaxPending: 100_000, MaxRejected: 95,
		Attempts: 8, Backoff: imclient.NewBackoff(200*time.Millisecond, 30*time.Second),
		MaxReplays: 3, CallTimeout: 5 * time.Second, CommitEvery: time.Second,
		DrainTimeout: 10 * time.Second, Log: zerolog.Nop(), Version: "test",
	}}
	s.start()
	t.Cleanup(func() { s.stop() })
	publisher := s.kafka()
	t.Cleanup(publisher.Close)
	s.live = publisher.Publisher(names.Live)
	s.background(s.traffic)
	waitFor(t, s.options.AdminAddr, "markread_partition_lag")
	return s
}

// background runs f until the test ends, and waits for it.
func (s *stack) background(f func(ctx context.Context)) {
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { f(ctx) })
	s.t.Cleanup(func() { stop(); running.Wait() })
}

func (s *stack) kafka() *kafkaclient.Client {
	s.t.Helper()
	c, err := kafkaclient.New(kafkaclient.Options{Brokers: []string{s.broker.Addr()},
		Log: zerolog.Nop()})
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

// start starts a worker, on the port of the previous one.
func (s *stack) start() {
	s.t.Helper()
	kafka := s.kafka()
	im, err := imclient.New(imclient.Options{BaseURL: s.imURL, AppID: app.LocalAppID,
		Admin: app.LocalAdmin, Key: imclient.KeyFile(s.keyFile)})
	if err != nil {
		s.t.Fatal(err)
	}
	o := s.options
	o.Worker.Kafka, o.Worker.IM = kafka, im
	started, ended := make(chan string, 1), make(chan error, 1)
	o.Started = func(addr string) { started <- addr }
	ctx, stop := context.WithCancel(context.Background())
	go func() { ended <- app.Run(ctx, o) }()
	s.stop = sync.OnceFunc(func() {
		stop()
		if err := <-ended; err != nil {
			s.t.Error(err)
		}
		im.Close()
		kafka.Close()
	})
	select {
	case s.options.AdminAddr = <-started:
	case err := <-ended:
		ended <- err
		s.t.Fatal(err)
	}
}

// writeKey replaces the worker's key file.
func (s *stack) writeKey(key string) {
	if err := os.WriteFile(s.keyFile, []byte(key), 0o600); err != nil {
		s.t.Error(err)
	}
}

// setRules replaces the IM server's faults.
func (s *stack) setRules(rules ...sandbox.Rule) {
	if err := s.sandbox.SetFaults(sandbox.Faults{Rules: rules}); err != nil {
		s.t.Error(err)
	}
}

// setFault makes the broker fail requests until s.fault is removed.
func (s *stack) setFault(f kfake.Fault) {
	f.Count = -1
	s.fault = s.broker.Cluster().Fault(f)
}

// traffic publishes events until ctx ends.
func (s *stack) traffic(ctx context.Context) {
	tick := time.NewTicker(time.Second / perSecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			s.publishEvents(1)
		}
	}
}

// publishEvents publishes n events of different conversations, which users have read now.
func (s *stack) publishEvents(n int) {
	messages := make([]event.Message, n)
	for i := range messages {
		peer := fmt.Sprint("peer-", s.events.Add(1))
		messages[i] = app.NewEvent("reader", peer, nil, time.Now())
		messages[i].Headers = []event.Header{
			{Key: event.HeaderTraceparent, Value: []byte(traceparent)}}
	}
	s.send(messages...)
}

// publish publishes a record with this value.
func (s *stack) publish(value string) { s.send(event.Message{Value: []byte(value)}) }

func (s *stack) send(messages ...event.Message) {
	if err := s.live.Publish(context.Background(), messages...); err != nil {
		s.t.Error(err)
	}
}
