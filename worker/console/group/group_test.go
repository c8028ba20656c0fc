package group

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"markread/consumer/broker/brokertest"
	"markread/consumer/event"
	"markread/consumer/kafkaclient"
	"markread/imclient"
	"markread/imclient/sandbox"
	"markread/worker"
	"markread/worker/console"
	"markread/worker/console/overview"
)

const partitions = 4

var key = imclient.NewSecret("a key for tests")

// world is a broker and an IM server in virtual time.
type world struct {
	*brokertest.World
	kafka brokertest.CuttableDialer // of the group's console
}

func inWorld(t *testing.T, test func(w *world)) {
	brokertest.Run(t, partitions, func(b *brokertest.World) {
		w := &world{World: b}
		w.kafka.Dial = b.Network.DialContext
		l, err := b.Network.Listen("tcp", "localhost:80")
		if err != nil {
			w.Fatal(err)
		}
		im := &http.Server{Handler: sandbox.New(sandbox.Options{AppID: 7, Admin: "administrator",
			Key: key, Rate: 200, OpenAccounts: true})}
		go im.Serve(l)
		w.Cleanup(func() { _ = im.Close() })
		test(w)
	})
}

// running is a worker with its admin server, which records commands and questions.
type running struct {
	*worker.Worker
	stop  func()
	mu    sync.Mutex
	asked []string
}

func (r *running) record(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked = append(r.asked, fmt.Sprintf(format, args...))
}

func (r *running) Details() overview.Details { return overview.Details{} }
func (r *running) Pause(by, why string)      { r.record("pause by %s: %s", by, why) }
func (r *running) Resume(by string, all bool) {
	r.record("resume by %s %t", by, all)
}

func (r *running) Conversation(_ context.Context, report,
	peer string) (console.Conversation, error) {
	r.record("%s and %s", report, peer)
	return console.Conversation{Here: true, Note: "a note",
		Waiting: &console.WaitingConversation{Events: 3}}, nil
}

func (r *running) Rejected() []console.RejectedEvent {
	return []console.RejectedEvent{{Code: "90048"}}
}

// member returns its member ID.
func (r *running) member() string {
	if m := r.State().Group.Member; m != nil {
		return *m
	}
	return ""
}

// start starts a worker whose admin server has this address.
func (w *world) start(addr, token string) *running {
	w.Helper()
	transport := imclient.NewTransport(5*time.Second, 200)
	transport.DialContext = w.Network.DialContext
	im, err := imclient.New(imclient.Options{BaseURL: "http://localhost:80", AppID: 7,
		Admin: "administrator", Key: imclient.Key(key), Timeout: 5 * time.Second,
		Transport: transport})
	if err != nil {
		w.Fatal(err)
	}
	client := w.Client()
	of, err := worker.New(worker.Options{Kafka: client, IM: im, Topics: brokertest.Topics,
		Group: brokertest.Group, Rate: 200, MaxPending: 100_000, MaxRejected: 95, Attempts: 8,
		Backoff:     imclient.NewBackoff(200*time.Millisecond, 30*time.Second),
		CallTimeout: 5 * time.Second, CommitEvery: time.Second, DrainTimeout: 10 * time.Second,
		Log: zerolog.Nop(), Version: "v1"})
	if err != nil {
		w.Fatal(err)
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(of)
	r := &running{Worker: of}
	server, err := console.New(console.Options{Addr: addr, Token: token, Source: r, Controls: r,
		Inspector: r, Gatherer: registry, Log: zerolog.Nop(), Listen: w.Network.Listen})
	if err != nil {
		w.Fatal(err)
	}
	ctx, cancel := context.WithCancel(w.Context())
	ended := make(chan struct{}, 2)
	go func() { _ = of.Run(ctx); ended <- struct{}{} }()
	go func() { _ = server.Run(ctx); ended <- struct{}{} }()
	r.stop = sync.OnceFunc(func() { cancel(); <-ended; <-ended; im.Close(); client.Close() })
	w.Cleanup(r.stop)
	return r
}

// watch runs a group's console without its server, until the test ends.
func (w *world) watch(change func(*Options)) *Group {
	client := w.ClientOver(w.kafka.DialContext)
	o := Options{Kafka: client, Name: brokertest.Group, Topics: brokertest.Topics,
		PeerPort: 8780, Monitor: overview.NewMonitor("group", brokertest.Group),
		CountLetters: func(context.Context) (overview.DeadLetters, error) {
			return overview.DeadLetters{}, nil
		},
		Letters: func(context.Context, string, string) (any, error) { return nil, nil },
		Replay:  func() any { return nil },
		Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
			_, port, _ := net.SplitHostPort(addr)
			return w.Network.DialContext(ctx, network, "localhost:"+port)
		},
		LookUp: func(context.Context, string) ([]netip.Addr, error) {
			return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
		}}
	if change != nil {
		change(&o)
	}
	g := New(o)
	ctx, cancel := context.WithCancel(w.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); g.Run(ctx) }()
	w.Cleanup(func() { cancel(); <-ended; client.Close() })
	return g
}

// rowsOf returns the present rows.
func rowsOf(g *Group) []overview.Member {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.rows
}

// owners returns the owners' rows of the live topic's partitions.
func owners(g *Group) (names []string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	var peers []*peer
	for _, r := range g.rows {
		peers = append(peers, &peer{endpoint: endpoint{addr: r.Address}, member: r.Member,
			sample: r.Sample})
	}
	for _, p := range join(time.Now(), peers, g.view, g.letters).Kafka.Partitions {
		if p.Lane == "live" {
			names = append(names, p.Worker)
		}
	}
	return names
}

// Two workers are two rows with their members and partitions. One that stops is silent, then its
// partitions are the other's.
func TestWorkersComeAndGo(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.start("localhost:8780", ""), w.start("localhost:8781", "")
		g := w.watch(func(o *Options) {
			o.Peers = []string{"localhost:8780", "localhost:8781"}
		})
		time.Sleep(30 * time.Second)
		rows := rowsOf(g)
		if len(rows) != 2 {
			t.Fatalf("%+v", rows)
		}
		for i, r := range []*running{a, b} {
			if row := rows[i]; row.Sample == nil || row.Silent != "" || !row.Controllable ||
				row.Member == "" || row.Member != r.member() ||
				len(row.Sample.Partitions) != partitions { // two of each lane
				t.Errorf("%d: %+v, member %s", i, row, r.member())
			}
		}
		if got := slices.Sorted(slices.Values(owners(g))); !slices.Equal(got,
			[]string{"localhost:8780", "localhost:8780", "localhost:8781", "localhost:8781"}) {
			t.Errorf("owners: %q", got)
		}

		b.stop()
		time.Sleep(2 * workersEvery)
		if row := rowsOf(g)[1]; row.Sample != nil || row.Silent == "" || row.Controllable {
			t.Errorf("it has stopped: %+v", row)
		}
		time.Sleep(30 * time.Second)
		if row := rowsOf(g)[1]; row.Member != "" || row.Name != "localhost:8781" {
			t.Errorf("it has left the group: %+v", row)
		}
		if got := slices.Compact(owners(g)); !slices.Equal(got, []string{"localhost:8780"}) {
			t.Errorf("owners: %q", got)
		}
		a.stop()
	})
}

// While no broker responds, workers are read as before.
func TestKafkaUnreachable(t *testing.T) {
	inWorld(t, func(w *world) {
		a := w.start("localhost:8780", "")
		g := w.watch(func(o *Options) { o.Peers = []string{"localhost:8780"} })
		time.Sleep(30 * time.Second)
		w.kafka.Cut(true)
		time.Sleep(30 * time.Second)
		rows := rowsOf(g)
		if len(rows) != 1 || rows[0].Sample == nil || rows[0].Member != a.member() ||
			time.Since(rows[0].Sample.At) > 2*workersEvery {
			t.Errorf("%+v", rows)
		}
		g.mu.Lock()
		view := g.view
		g.mu.Unlock()
		if !view.unreachable || view.lag != nil || len(view.errors) != 1 {
			t.Errorf("%+v", view)
		}
		w.kafka.Cut(false)
		time.Sleep(30 * time.Second)
		g.mu.Lock()
		view = g.view
		g.mu.Unlock()
		if view.unreachable || view.lag == nil || len(view.errors) != 0 {
			t.Errorf("%+v", view)
		}
		a.stop()
	})
}

// If the group can't be described, its last known members remain, with the reason.
func TestGroupCantBeDescribed(t *testing.T) {
	inWorld(t, func(w *world) {
		a := w.start("localhost:8780", "")
		g := w.watch(func(o *Options) { o.Peers = []string{"localhost:8780"} })
		time.Sleep(30 * time.Second)
		w.Cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.DescribeGroups},
			Err: kerr.GroupAuthorizationFailed, Count: -1})
		time.Sleep(30 * time.Second)
		g.mu.Lock()
		view, rows := g.view, g.rows
		g.mu.Unlock()
		if len(rows) != 1 || rows[0].Member != a.member() || view.current || view.unreachable ||
			view.lag == nil || len(view.errors) != 1 || !strings.Contains(view.errors[0], "--group") {
			t.Errorf("%+v\n%+v", rows, view)
		}
	})
}

// The error of a missing dead-letter topic names the flag, and the command that creates it.
func TestMissingDeadLetterTopic(t *testing.T) {
	g := New(Options{Topics: event.Topics{Live: "live", DeadLetter: "letters"},
		CountLetters: func(context.Context) (overview.DeadLetters, error) {
			return overview.DeadLetters{}, fmt.Errorf("read: %w", kafkaclient.UnknownTopicOrPartition)
		}})
	if got := g.countLetters(t.Context()); got.count != nil || got.err != "dead letters can't be "+
		"counted: topic \"letters\" (--dead-letter-topic) does not exist; `markread run "+
		"--create-topics` creates it" {
		t.Errorf("%+v", got)
	}
}

// A worker of another group is not shown as one of this group.
func TestOtherGroup(t *testing.T) {
	p := reads("10.0.0.1:1", "")
	for other, silent := range map[string]bool{"": false, "markread": false, "x": true} {
		p.sample, p.silent = reads("", "").sample, ""
		if other != "" {
			p.sample.Settings = map[string]string{"group": other}
		}
		p.checkGroup("markread")
		if (p.silent != "") != silent || (p.sample == nil) != silent {
			t.Errorf("group %q: %+v", other, p)
		}
	}
}
