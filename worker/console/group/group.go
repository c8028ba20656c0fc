// Package group reads the members of a consumer group for the group's console: from each worker its
// /metrics, and from Kafka who is a member, who owns which partition, the lag and the dead letters.
// It joins both and passes them to an [overview.Monitor]. It also forwards an operator's commands
// and questions to a worker on this machine. It serves no pages, and joins no group.
//
// It promises:
//   - No worker needs a credential for its metrics to be read, and none is sent. The admin token
//     goes only to workers on this machine, for commands and details: see forward.go and
//     details.go.
//   - Whatever listens at a worker's address is read with bounds: 2 s, 1 MiB, no redirects, 16 at a
//     time. One that is slow, silent or hostile delays no other one by more than one round of 2 s.
//   - Kafka is read by goroutines of its own: if it is slow or unreachable, workers are still read.
//   - At most [MaxWorkers] workers are read and shown.
//
// Non-obvious:
//   - A worker is the member whose ID it exports (join.go). So a worker of another Kafka cluster, or
//     the same worker at a second address, is noticed, and not counted.
//   - The latest sample of a worker that does not respond is dropped: it would be taken for the
//     present.
package group

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"markread/consumer/event"
	"markread/consumer/kafkaclient"
	"markread/imclient"
	"markread/worker/console/overview"
)

// MaxWorkers bounds the workers that are read and shown.
const MaxWorkers = 500

// The intervals, from start to start: of reading the workers, reading Kafka, and resolving the
// names of Options.Peers.
const (
	workersEvery = 2 * time.Second
	kafkaEvery   = 5 * time.Second
	resolveEvery = 10 * time.Second
)

// Options configures a Group.
type Options struct {
	Kafka  *kafkaclient.Client
	Name   string // of the group
	Topics event.Topics
	// Peers are the admin servers of the workers, as HOST:PORT. A name with several addresses is
	// several workers. None: PeerPort at the host of each member, as Kafka knows it.
	Peers    []string
	PeerPort int
	Token    imclient.Secret // for commands to workers on this machine, and their details
	ReadOnly bool            // no worker can be controlled
	Monitor  *overview.Monitor
	// CountLetters counts the dead letters; Letters returns those of a conversation, and Replay the
	// progress for Overview.Replay.
	CountLetters func(context.Context) (overview.DeadLetters, error)
	Letters      func(ctx context.Context, report, peer string) (any, error)
	// Command returns the command that lists the dead letters of a conversation; nil: one without
	// the flags of this console.
	Command func(report, peer string) string
	Replay  func() any
	// Dial connects to workers, and LookUp resolves names of Peers; nil: those of package net.
	Dial   func(ctx context.Context, network, addr string) (net.Conn, error)
	LookUp func(ctx context.Context, host string) ([]netip.Addr, error)
}

// Group reads the members of a consumer group.
type Group struct {
	Options
	scraper *scraper
	kafka   *kafkaReader
	peers   []*peer // only round uses them

	mu      sync.Mutex
	names   []resolved   // of Options.Peers
	view    *kafkaView   // the latest; nil: none yet
	letters lettersCount // the latest
	rows    []overview.Member
}

// New returns a group. It connects to nothing yet.
func New(o Options) *Group {
	if o.Dial == nil {
		o.Dial = (&net.Dialer{Timeout: scrapeTimeout}).DialContext
	}
	if o.LookUp == nil {
		o.LookUp = func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		}
	}
	g := &Group{Options: o, scraper: newScraper(o.Dial), kafka: newKafkaReader(o)}
	g.scraper.details = g.readDetails
	for _, p := range o.Peers {
		g.names = append(g.names, resolved{entry: p})
	}
	return g
}

// Run reads the group until ctx ends, and returns when everything that it started has ended.
func (g *Group) Run(ctx context.Context) {
	var loops sync.WaitGroup
	defer loops.Wait()
	defer g.scraper.http.CloseIdleConnections()
	loops.Go(func() {
		every(ctx, kafkaEvery, func() {
			view := g.kafka.read(ctx)
			g.set(func() { g.view = view })
		})
	})
	loops.Go(func() {
		every(ctx, kafkaEvery, func() {
			count := g.countLetters(ctx)
			g.set(func() { g.letters = count })
		})
	})
	if len(g.Peers) > 0 {
		g.resolve(ctx) // before the first round
		loops.Go(func() { every(ctx, resolveEvery, func() { g.resolve(ctx) }) })
	}
	every(ctx, workersEvery, func() { g.round(ctx) })
}

func (g *Group) set(change func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	change()
}

// every calls do at once and then at each interval until ctx ends. One that takes longer than the
// interval delays the next one.
func every(ctx context.Context, interval time.Duration, do func()) {
	ticks := time.NewTicker(interval)
	defer ticks.Stop()
	for ctx.Err() == nil {
		do()
		select {
		case <-ctx.Done():
		case <-ticks.C:
		}
	}
}

// round reads the workers once and updates the monitor.
func (g *Group) round(ctx context.Context) {
	g.mu.Lock()
	names, view, letters := g.names, g.view, g.letters
	g.mu.Unlock()
	var more int
	g.peers, more = updatePeers(g.peers, g.wanted(names, view))
	g.scraper.scrapeAll(ctx, g.peers)
	if ctx.Err() != nil {
		return // what it interrupted looks like silence
	}
	for _, p := range g.peers {
		p.checkGroup(g.Name)
	}
	in := join(time.Now(), g.peers, view, letters)
	if n := len(in.Members) - MaxWorkers; n > 0 {
		in.Members, more = in.Members[:MaxWorkers], more+n
	}
	if more > 0 && in.Kafka != nil {
		in.Kafka.Errors = append(in.Kafka.Errors, fmt.Sprintf("%d more workers are not shown: at "+
			"most %d are", more, MaxWorkers))
	}
	for i := range in.Members {
		in.Members[i].Controllable = g.controllable(in.Members[i])
	}
	g.set(func() { g.rows = in.Members })
	in.Replay = g.Replay()
	g.Monitor.Update(in)
}

// Rate returns the calls a second of the whole group, as its leader uses them; 0: no limit, or not
// known.
func (g *Group) Rate() float64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.view == nil || g.view.group == nil || g.view.group.Rate == nil {
		return 0
	}
	return float64(*g.view.group.Rate)
}

// controllable reports whether commands can be forwarded to a worker.
func (g *Group) controllable(m overview.Member) bool { return !g.ReadOnly && reachable(m) }

// reachable reports whether questions can be forwarded to a worker.
func reachable(m overview.Member) bool {
	return m.Sample != nil && imclient.IsLoopback(m.Address)
}

// row returns the row of the worker with this address; false if there is none.
func (g *Group) row(address string) (overview.Member, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	i := slices.IndexFunc(g.rows, func(m overview.Member) bool {
		return address != "" && m.Address == address
	})
	if i < 0 {
		return overview.Member{}, false
	}
	return g.rows[i], true
}
