// Package console is a worker's admin server: /healthz, /readyz, /metrics, /api/state, a page with
// the state at /, and /api/pause and /api/resume. It also has the [Client] of such a server.
//
// It knows nothing of Kafka, of the IM API or of the engine: it shows a [State] from its [Source],
// and passes an operator's commands to its [Controls]. It keeps no history and draws no graphs;
// /metrics is for that.
//
// It promises:
//   - /healthz, /readyz and /metrics are open to everybody, because probes and scrapers run
//     elsewhere. They contain no account and no secret.
//   - Everything else needs the token. Without a configured token, it is served to this machine
//     only.
//   - Only a POST changes anything, and only if it comes from no page of another site and has no
//     unknown parameter (see commandHandler).
//   - A slow or hostile client can't block the server: all phases of a connection have time limits,
//     and headers a size limit. However many connections others hold open, a probe gets a response,
//     and enough of the process's descriptors remain for Kafka and the IM API (see conns.go).
//   - When [New] returns, the server listens: an orchestrator's first probe reaches it.
//
// Non-obvious:
//   - A hold does not make the worker unready. A rollout waits for readiness, and it must be able
//     to bring the fix for the cause of a hold.
//   - /healthz only reads the source's heartbeat: a probe must not depend on how long the whole
//     state takes.
//   - The page has no inline script and no external asset, and its policy forbids both: end users
//     choose the ids in events, and although the state contains no ids, a page that is safe by its
//     policy stays safe if somebody adds one.
package console

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
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

// Options configure a Server. The methods of Source and Controls are called concurrently.
type Options struct {
	Addr string // host and port to listen on; port 0 means any free port
	// needed as "Authorization: Bearer" by all but the open paths; "": this machine only
	Token    string
	Source   Source
	Controls Controls // nil: the routes that change something don't exist
	Gatherer prometheus.Gatherer
	Settings func() []Setting // of this process; nil: not known
	// for the server's own failures and an operator's commands
	Log    zerolog.Logger
	Listen func(network, addr string) (net.Listener, error) // nil: net.Listen
}

// Server is an admin server that already listens.
type Server struct {
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
	l, err := listen("tcp", o.Addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("--admin-addr %s: the port is in use by another program; choose "+
			"another port", o.Addr)
	} else if err != nil {
		return nil, fmt.Errorf("--admin-addr %s: %w", o.Addr, err)
	}
	return &Server{
		listener: l,
		log:      o.Log,
		http: &http.Server{
			Handler:           handler(o),
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
// returns an error only if the listener fails. Call it once.
func (s *Server) Run(ctx context.Context) error {
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
