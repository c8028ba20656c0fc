package stacksim

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"markread/consumer/broker"
	"markread/consumer/event"
	"markread/imclient"
	"markread/imclient/sandbox"
)

const (
	serviceKafka = "kafka"
	serviceIM    = "im"
	kafkaAddr    = "localhost:9092"
	imAddr       = "localhost:80"
	appID        = 1400000000
	imTimeout    = 5 * time.Second
)

var topics = event.Topics{Live: "mark-read", Backfill: "mark-read-backfill",
	DeadLetter: "mark-read-dead-letters"}

// simulation is one run of the whole product for a seed.
type simulation struct {
	t               *testing.T
	plan            plan
	began           time.Time
	network         *network
	broker          *broker.Broker
	sandbox         *sandbox.Server
	ledger          *ledger
	heartbeats      *heartbeats
	logs            *logbook
	wrong           atomic.Bool // the workers get the wrong key
	faultsOver      atomic.Bool // no new fault begins
	losingResponses map[kmsg.Key]*atomic.Bool
	cuttingMetadata atomic.Bool  // the broker modifies the metadata of commits
	rate            atomic.Int64 // with which workers are started
	load            *load

	mu      sync.Mutex   // guards what follows
	running []*workerRun // by slot; nil: no worker runs there
	starts  []int
	runs    []*workerRun
	counts  map[string]int // partitions
	faults  sandbox.Faults
	rules   map[string]sandbox.Rule
	stats   *stats
}

// stats is what happened in all the runs of a test: an oracle is worth little if nothing did.
type stats struct {
	mu                sync.Mutex
	fired             map[string]int   // faults
	during            map[string]int64 // calls applied during a kind of fault
	details           map[string]int
	letters           map[string]int
	applied           int64
	late              int
	stale             int
	metadataEvents    int // events that metadata contained
	strictGenerations int // generations of runs in which nothing may be repeated
	lost              int
	worst             time.Duration // longest drain
	stop              time.Duration
}

func newStats() *stats {
	return &stats{fired: map[string]int{}, during: map[string]int64{}, details: map[string]int{},
		letters: map[string]int{}}
}

// noteFault counts a fault that has begun.
func (s *simulation) noteFault(k kind) {
	s.stats.mu.Lock()
	s.stats.fired[k.name]++
	s.stats.mu.Unlock()
	if !k.noRepeats {
		s.ledger.mu.Lock()
		defer s.ledger.mu.Unlock()
		s.ledger.troubles++
	}
}

func (s *simulation) note(detail string, n int) {
	s.stats.mu.Lock()
	defer s.stats.mu.Unlock()
	s.stats.details[detail] += n
}

// simulate runs one seed in the bubble in which it is called, and returns the simulation with the
// problems found.
func simulate(t *testing.T, p plan, all *stats) *simulation {
	s := &simulation{
		t: t, plan: p, began: time.Now(), network: newNetwork(), logs: &logbook{began: time.Now()},
		stats:      all,
		heartbeats: newHeartbeats(),
		running:    make([]*workerRun, p.workers), starts: make([]int, p.workers),
		rules:           map[string]sandbox.Rule{},
		losingResponses: map[kmsg.Key]*atomic.Bool{kmsg.OffsetCommit: {}, kmsg.Produce: {}},
		counts:          map[string]int{topics.Live: p.partitions, topics.Backfill: p.partitions},
	}
	s.rate.Store(int64(p.rate))
	s.sandbox = sandbox.New(sandbox.Options{AppID: appID, Admin: "administrator",
		Key: imclient.NewSecret(rightKey), Rate: p.rate, OpenAccounts: true})
	s.ledger = newLedger(s.sandbox)
	s.ledger.lose = func(l *link, key int16, n int) bool {
		return l.client != "load" && s.losingResponses[kmsg.Key(key)].Load() &&
			p.unit("lose", int(key), n) < 0.5
	}
	s.ledger.usesAttempts = slices.ContainsFunc(p.kinds, func(k kind) bool {
		// With an ErrorCode, only five conversations distinguish an outage from an event's own
		// fault.
		return k.usesAttempts || k.name == "im-outage" && p.conversations < 5*10*p.workers
	})
	s.ledger.cutsMetadata = slices.ContainsFunc(p.kinds, func(k kind) bool {
		return k.name == "metadata-refused" || k.name == "metadata-cut"
	})
	s.network.fates = s.fates
	b, err := broker.Start(broker.Options{
		Addr: kafkaAddr, Partitions: p.partitions,
		Topics: []string{topics.Live, topics.Backfill, topics.DeadLetter},
		Listen: s.network.Listen,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	s.broker = b
	s.cutMetadata()
	listener, _ := s.network.Listen("tcp", imAddr)
	server := &http.Server{Handler: s.sandbox}
	go server.Serve(listener)
	defer server.Close()

	load := s.newLoad()
	s.load = load
	load.publish(p.burst, topics.Backfill)
	for slot := range s.running {
		s.startWorker(slot)
	}
	reaping, stop := context.WithCancel(context.Background())
	var reaper sync.WaitGroup
	reaper.Go(func() { s.reap(reaping, load.client) })
	s.disturb(load)
	s.drain()
	stop()
	reaper.Wait()
	load.client.Close()
	s.stopAll()
	return s
}

// fates decides the fate of a connection: the first that the plan's kinds have for it.
func (s *simulation) fates(l *link) {
	if l.abrupt = l.service == serviceIM; l.abrupt {
		l.onClientWrite = func() { s.heartbeats.called(l.client) }
	}
	if l.service == serviceKafka {
		l.tap = &tap{link: l, recorder: s.ledger, heartbeats: s.heartbeats,
			pending: map[int32]pendingRequest{}}
	}
	if l.client == "load" || s.faultsOver.Load() {
		return
	}
	key := s.plan.linkKey(l)
	if s.plan.unit("distant") < 0.5 {
		l.latency = s.plan.between(100*time.Microsecond, 20*time.Millisecond, "latency", key,
			l.number)
	}
	for _, k := range s.plan.kinds {
		if k.fate == nil {
			continue
		}
		if f := k.fate(s.plan, l); f.kind != lives {
			l.fate, l.onFate = f, func() { s.noteFault(k) }
			return
		}
	}
}

// disturb is the fault phase: load, and one incident of each kind after the other.
func (s *simulation) disturb(load *load) {
	end := time.Now().Add(time.Duration(s.plan.minutes) * time.Minute)
	var all sync.WaitGroup
	all.Go(func() { load.run(end) })
	for i, k := range s.plan.kinds {
		if k.begin != nil {
			all.Go(func() { s.incidents(i, k, end) })
		}
	}
	all.Wait()
}

func (s *simulation) incidents(i int, k kind, end time.Time) {
	for n := i << 16; ; n++ {
		time.Sleep(s.plan.between(2*time.Second, 2*time.Minute, "pause-"+k.name, n))
		long := min(s.plan.between(k.shortest, k.longest, "long-"+k.name, n), time.Until(end))
		if long <= 0 {
			return
		}
		before := s.sandbox.Stats().Applied
		stop := k.begin(s, n, long)
		if stop == nil {
			continue
		}
		s.noteFault(k)
		time.Sleep(long)
		stop()
		s.stats.mu.Lock()
		s.stats.during[k.name] += s.sandbox.Stats().Applied - before
		s.stats.mu.Unlock()
	}
}

// withoutWorker stops a worker for the duration of an incident.
func (s *simulation) withoutWorker(purpose string, n int, away func(slot int)) func() {
	slot, name := s.runningWorker(purpose, n)
	if name == "" {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	away(slot)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.running[slot] == nil {
			s.startWorker(slot)
		}
	}
}

// rule activates a fault of the sandbox, and returns the function that ends it.
func (s *simulation) rule(name string, r sandbox.Rule) (end func()) {
	set := func(change func()) {
		s.mu.Lock()
		defer s.mu.Unlock()
		change()
		s.apply()
	}
	set(func() { s.rules[name] = r })
	return func() { set(func() { delete(s.rules, name) }) }
}

func (s *simulation) setFaults(begin, end func(*sandbox.Faults)) func() {
	set := func(change func(*sandbox.Faults)) {
		s.mu.Lock()
		defer s.mu.Unlock()
		change(&s.faults)
		s.apply()
	}
	set(begin)
	return func() { set(end) }
}

func (s *simulation) apply() {
	s.faults.Seed, s.faults.Rules = uint64(s.plan.seed), nil
	for _, name := range slices.Sorted(maps.Keys(s.rules)) {
		s.faults.Rules = append(s.faults.Rules, s.rules[name])
	}
	if err := s.sandbox.SetFaults(s.faults); err != nil {
		s.t.Error(err)
	}
}

// load publishes the events of the plan.
type load struct {
	s      *simulation
	client *kgo.Client
	n      int
}

func (s *simulation) newLoad() *load {
	client, err := kgo.NewClient(
		kgo.SeedBrokers(s.broker.Addr()),
		kgo.Dialer(s.network.dialer("load", serviceKafka, kafkaAddr)),
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.UnknownTopicRetries(-1),
		kgo.ProducerBatchMaxBytes(64<<10),
		kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.RetryTimeout(10*time.Minute),
	)
	if err != nil {
		s.t.Fatal(err)
	}
	return &load{s: s, client: client}
}

// publish publishes n events; to topic, if it is not empty.
func (l *load) publish(n int, topic string) {
	var records []*kgo.Record
	var want []int64
	for range n {
		now := time.Now()
		e, lane, keyed := l.s.plan.event(l.n, now)
		if topic != "" {
			lane = topic
		}
		spread := l.n
		r := &kgo.Record{Topic: lane, Value: []byte(e.value), Timestamp: now}
		if keyed {
			r.Key = []byte(e.report + "|" + e.peer)
			spread = int(seed(0).bits(string(r.Key)) >> 1)
		}
		r.Partition = int32(seed(1).below(l.s.partitions(lane), "partition", spread))
		l.n++
		want = append(want, l.s.ledger.publish(topicPartition{r.Topic, r.Partition}, e))
		records = append(records, r)
	}
	for _, result := range l.client.ProduceSync(context.Background(), records...) {
		if result.Err != nil {
			l.s.ledger.Problem("harness: publish: %v", result.Err)
		}
	}
	for i, r := range records {
		if r.Offset != want[i] {
			l.s.ledger.Problem("harness: an event has offset %d of %s/%d, want %d", r.Offset,
				r.Topic, r.Partition, want[i])
			return
		}
	}
}

// run publishes steadily until a time.
func (l *load) run(end time.Time) {
	const every = 500 * time.Millisecond
	owed := 0.0
	for time.Until(end) > 0 {
		time.Sleep(every)
		owed += l.s.plan.perSecond * every.Seconds()
		l.publish(int(owed), "")
		owed -= float64(int(owed))
	}
}

func (s *simulation) String() string { return fmt.Sprintf("seed %d: %v", s.plan.seed, s.plan) }
