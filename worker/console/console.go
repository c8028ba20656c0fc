// Package console is an admin server: a worker's own, or the one of `markread console` for a group.
// Both serve /healthz, /readyz, /metrics, a page at / with the JSON behind it, and an operator's
// commands (see routes.go). It also has the [Client] of a worker's server.
//
// It knows nothing of Kafka, of the IM API or of the engine. The page shows the overview that its
// monitor has (see package overview), and what its Inspector, Settings and Letters return; commands
// go to its Controls. A group's server has [Workers] in place of Inspector and Controls.
//
// It promises:
//   - /healthz, /readyz, /metrics and the page's files are open to everybody: probes and scrapers
//     run elsewhere, and the login form needs its files. They contain no account and no secret.
//   - Everything else needs the token: as a Bearer token, or as the cookie that the login form
//     sets. Without a configured token, it is served to this machine only.
//   - A wrong token or cookie is answered a second later, and logged without it.
//   - Only a POST changes anything, and only if it comes from no page of another site and has no
//     unknown parameter.
//   - A slow or hostile client can't block the server: all phases of a connection have time limits,
//     and headers and bodies size limits. However many connections others hold open, a probe gets a
//     response, and enough of the process's descriptors remain for Kafka and the IM API (see
//     conns.go).
//   - When [New] returns, the server listens: an orchestrator's first probe reaches it.
//
// Non-obvious:
//   - A hold does not make the worker unready. A rollout waits for readiness, and it must be able
//     to bring the fix for the cause of a hold.
//   - /healthz only reads the source's heartbeat: a probe must not depend on how long the whole
//     state takes.
//   - All viewers of the page get the same overview, built once a second: they cost the worker
//     nothing.
//   - The page has no inline script and no external asset, and its policy forbids both: users
//     choose the accounts and codes that it shows.
package console

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"markread/worker/console/overview"
)

const (
	// The slowest legitimate request is a scrape of a large registry: milliseconds.
	headerTimeout = 5 * time.Second
	// Longer than the page's refresh in a hidden tab (10 s) and the usual intervals of probes. A
	// scraper with an interval of 30 s reconnects each time, which costs a millisecond.
	idleTimeout = 15 * time.Second
	// Requests in flight are reads, or commands that take effect immediately: aborting them costs
	// nothing.
	stopTimeout = time.Second
)

// Options configure a Server. A worker's server has a Source, a group's has none. The methods of
// all interfaces are called concurrently.
type Options struct {
	Addr string // host and port to listen on; port 0 means any free port
	Flag string // the flag of Addr, for errors; "": --admin-addr
	// needed, as "Authorization: Bearer" or to log in, by all but the open paths; "": this machine
	// only
	Token   string
	Version string // of the program
	Group   string // name of the consumer group

	Source    Source    // of a worker
	Controls  Controls  // of a worker; nil: it can't be paused
	Inspector Inspector // of a worker; nil: it can't be inspected
	// of a group, in place of Source, Controls and Inspector; nil: none of its workers can be
	// paused or inspected
	Workers  Workers
	Monitor  *overview.Monitor // nil: one of the server's own
	Settings func() Settings   // nil: none are shown
	Letters  http.Handler      // dead letters and their replay (see routes.go); nil: none

	ReadOnly    bool // no command exists
	AllowReplay bool // the replay of dead letters exists

	// for /metrics and, every second, for a worker's overview
	Gatherer prometheus.Gatherer
	// for the server's own failures, failed logins and an operator's commands
	Log    zerolog.Logger
	Listen func(network, addr string) (net.Listener, error) // nil: net.Listen
}

// Server is an admin server that already listens.
type Server struct {
	site     *site
	http     *http.Server
	listener net.Listener
	log      zerolog.Logger
}

// New listens on the address; requests are served only in [Server.Run]. A server that is never run
// keeps its address until the process ends.
func New(o Options) (*Server, error) {
	listen := o.Listen
	if listen == nil {
		listen = net.Listen
	}
	flag := cmp.Or(o.Flag, "--admin-addr")
	l, err := listen("tcp", o.Addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("%s %s: the port is in use by another program; choose another port",
			flag, o.Addr)
	} else if err != nil {
		return nil, fmt.Errorf("%s %s: %w", flag, o.Addr, err)
	}
	site := newSite(o)
	return &Server{
		site:     site,
		listener: l,
		log:      o.Log,
		http: &http.Server{
			Handler:           site.handler(),
			ReadHeaderTimeout: headerTimeout,
			ReadTimeout:       2 * headerTimeout,
			WriteTimeout:      30 * time.Second,
			IdleTimeout:       idleTimeout,
			MaxHeaderBytes:    16 << 10,
			ErrorLog:          newErrorLog(o.Log),
			ConnState:         new(connLimiter).stateChanged,
		},
	}, nil
}

// Addr returns the address that it listens on, with the actual port.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// Handler returns the handler that [Server.Run] serves.
func (s *Server) Handler() http.Handler { return s.http.Handler }

// Run serves until ctx ends, waits at most a second for requests in flight, and returns nil. It
// returns an error only if the listener fails. Meanwhile it samples the worker. Call it once.
func (s *Server) Run(ctx context.Context) error {
	sampling, stopSampling := context.WithCancel(ctx)
	var background sync.WaitGroup
	defer background.Wait()
	defer stopSampling()
	background.Go(func() { s.site.sample(sampling) })

	served := make(chan error, 1)
	go func() { served <- s.http.Serve(s.listener) }()
	select {
	case err := <-served:
		return fmt.Errorf("admin server: %w", err)
	case <-ctx.Done():
	}
	limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	if err := s.http.Shutdown(limit); err != nil {
		s.log.Debug().Err(err).Msg("admin server: requests in flight were aborted by the shutdown")
		_ = s.http.Close()
	}
	<-served
	return nil
}
