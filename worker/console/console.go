// Package console is the admin server of a worker: /healthz, /readyz, /metrics, /api/state, at / a
// page that shows the state, and /api/pause and /api/resume; and the [Client] of another one.
//
// It knows nothing of Kafka, of the IM API or of the engine: what it shows comes as a [State] from
// its [Source], and what an operator asks for goes to [Controls]. It keeps no history and draws no
// graphs; that is what /metrics is for.
//
// It promises:
//   - /healthz, /readyz and /metrics are open to everybody: probes and scrapers come from
//     elsewhere. They contain no account and no secret.
//   - Everything else needs the token. If there is none, it is served to this machine only.
//   - Nothing changes but by a POST that neither a page of another site made nor asks for something
//     unknown (see change).
//   - A slow or hostile client can't hold the server: all phases of a connection have time limits,
//     and headers a size limit. However many connections others hold open, a probe is answered, and
//     the descriptors of the process are left to Kafka and the IM API (see conns.go).
//   - When [New] returns, the address is taken: an orchestrator's first probe finds a server.
//
// Non-obvious:
//   - A hold does not make the worker unready. A rollout waits for readiness, and it must be able
//     to bring the fix for what holds the worker.
//   - /healthz asks the source for nothing but its heartbeat: a probe must not depend on how long
//     the whole state takes.
//   - The page has no inline script and no external asset, and its policy forbids both: ids in
//     events are chosen by end users, and although the state contains none, a page that is safe by
//     its policy stays safe when somebody adds one.
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
	// The slowest honest request is a scrape of a large registry: milliseconds.
	headerTimeout = 5 * time.Second
	// Longer than the page's refresh in a hidden tab (10 s) and usual intervals of probes. A
	// scraper that comes every 30 s connects anew, which costs it a millisecond.
	idleTimeout = 15 * time.Second
	// Requests in flight are reads, or commands that are done at once: cutting them off costs
	// nothing.
	stopTimeout = time.Second
)

// Options says what to serve, where, and to whom. The methods of Source and Controls are called
// from many goroutines at once.
type Options struct {
	Addr string // host and port to listen on; port 0 takes a free one
	// that all but the open paths need as "Authorization: Bearer"; "": this machine only
	Token    string
	Source   Source
	Controls Controls // nil: the routes that change something do not exist
	Gatherer prometheus.Gatherer
	// of the server's own failures and an operator's commands
	Log    zerolog.Logger
	Listen func(network, addr string) (net.Listener, error) // nil: net.Listen
}

// Server is an admin server whose address is taken already.
type Server struct {
	http     *http.Server
	listener net.Listener
	log      zerolog.Logger
}

// New takes the address; nothing is answered before [Server.Run]. A server that is never run keeps
// its address until the process ends.
func New(o Options) (*Server, error) {
	listen := o.Listen
	if listen == nil {
		listen = net.Listen
	}
	l, err := listen("tcp", o.Addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("--admin-addr %s: the port is taken by another program; choose "+
			"another one", o.Addr)
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

// Addr is the address that was taken, with the real port.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// Handler answers the requests; [Server.Run] serves it.
func (s *Server) Handler() http.Handler { return s.http.Handler }

// Run serves until ctx ends, then lets requests in flight finish for at most a second, and returns
// nil. It returns an error only if the listener fails. Call it once.
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
		s.log.Debug().Err(err).Msg("admin server: requests cut off at the stop")
		_ = s.http.Close()
	}
	<-served
	return nil
}
