package worker_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kfake"

	"markread/consumer/broker"
	"markread/consumer/broker/brokertest"
	"markread/consumer/event"
	"markread/consumer/kafkaclient"
	"markread/imclient"
	"markread/imclient/sandbox"
	"markread/worker"
)

const (
	appID  = 1400000000
	imAddr = "localhost:80"
)

var (
	key    = imclient.NewSecret("a key for tests")
	topics = event.Topics{Live: "mark-read", Backfill: "mark-read-backfill",
		DeadLetter: "mark-read-dead-letters"}
)

// stack is the whole product in a bubble of virtual time: embedded broker, IM sandbox and what the
// workers need, over an in-memory network.
type stack struct {
	t       *testing.T
	network kfake.VirtualNetwork
	broker  *broker.Broker
	sandbox *sandbox.Server
}

// inBubble runs test in a synctest bubble with its own stack, and stops the stack at the end.
func inBubble(t *testing.T, test func(s *stack)) { inBubbleOf(t, 4, test) }

// inBubbleOf is inBubble with a number of partitions per topic.
func inBubbleOf(t *testing.T, partitions int, test func(s *stack)) {
	brokertest.Bubble(t, func(t *testing.T) {
		s := &stack{t: t}
		var err error
		s.broker, err = broker.Start(broker.Options{
			Addr: "localhost:9092", Partitions: partitions,
			Topics: []string{topics.Live, topics.Backfill, topics.DeadLetter},
			Listen: s.network.Listen,
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.broker.Close)
		s.sandbox = sandbox.New(sandbox.Options{AppID: appID, Admin: "administrator", Key: key,
			Rate: 200, OpenAccounts: true})
		listener, err := s.network.Listen("tcp", imAddr)
		if err != nil {
			t.Fatal(err)
		}
		server := &http.Server{Handler: s.sandbox}
		go server.Serve(listener)
		t.Cleanup(func() { server.Close() })
		test(s)
	})
}

func (s *stack) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	return s.network.DialContext(ctx, network, addr)
}

func (s *stack) kafka() *kafkaclient.Client {
	s.t.Helper()
	c, err := kafkaclient.New(kafkaclient.Options{Brokers: []string{s.broker.Addr()},
		ClientID: "test", Dial: s.dial, Log: zerolog.Nop()})
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

// member is a running worker.
type member struct {
	*worker.Worker
	stop func() error
}

// start starts a worker. Its stop function stops it as SIGTERM would, and waits.
func (s *stack) start(change func(*worker.Options)) *member {
	s.t.Helper()
	im, kafka := s.client(imclient.Key(key)), s.kafka()
	options := worker.Options{
		Kafka: kafka, IM: im, Topics: topics, Group: "markread",
		Rate: 200, MaxPending: 100_000, MaxRejected: 95, Attempts: 8,
		Backoff:     imclient.NewBackoff(200*time.Millisecond, 30*time.Second),
		CallTimeout: 5 * time.Second, CommitEvery: time.Second, DrainTimeout: 10 * time.Second,
		Log: zerolog.Nop(),
	}
	if change != nil {
		change(&options)
	}
	w, err := worker.New(options)
	if err != nil {
		s.t.Fatal(err)
	}
	if w.Ready() || w.Healthy() != nil {
		s.t.Errorf("before joining: ready %v, healthy %v", w.Ready(), w.Healthy())
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	m := &member{w, sync.OnceValue(func() error {
		cancel()
		err := <-done
		im.Close()
		kafka.Close()
		return err
	})}
	s.t.Cleanup(func() { _ = m.stop() })
	return m
}

func (s *stack) mustStop(m *member) {
	s.t.Helper()
	if err := m.stop(); err != nil {
		s.t.Errorf("Run: %v", err)
	}
}

func (s *stack) publish(topic string, values ...string) {
	s.t.Helper()
	var messages []event.Message
	for _, value := range values {
		var fields struct{ Report_Account, Peer_Account string }
		_ = json.Unmarshal([]byte(value), &fields)
		messages = append(messages,
			event.Message{Key: event.Key(fields.Report_Account, fields.Peer_Account),
				Value: []byte(value)})
	}
	s.publishMessages(topic, messages...)
}

func (s *stack) publishMessages(topic string, messages ...event.Message) {
	s.t.Helper()
	kafka := s.kafka()
	defer kafka.Close()
	if err := kafka.Publisher(topic).Publish(context.Background(), messages...); err != nil {
		s.t.Fatal(err)
	}
}

func eventJSON(report, peer string, readTime int64) string {
	return fmt.Sprintf(`{"Report_Account":%q,"Peer_Account":%q,"MsgReadTime":%d}`, report, peer,
		readTime)
}

// waitSettled waits until all received events are finished and no partition lags.
func (m *member) waitSettled(t *testing.T, received int64) {
	t.Helper()
	for range 600 {
		state := m.State()
		n := state.Totals
		lag := int64(0)
		for _, p := range state.Partitions {
			if p.Lag == nil {
				lag++ // not yet known
				continue
			}
			lag += *p.Lag
		}
		if len(state.Partitions) > 0 && n.Received >= received &&
			n.Applied+n.Collapsed+n.Superseded+n.DeadLettered+n.Returned == n.Received && lag == 0 {
			return
		}
		time.Sleep(time.Second)
	}
	state, _ := json.Marshal(m.State())
	t.Fatalf("not settled in ten minutes: %s", state)
}
