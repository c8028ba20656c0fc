// Package console is the admin server of a worker: /healthz, /readyz, /metrics, /api/state, and at / a page that shows the state; and
// /api/pause and /api/resume, with which an operator holds the worker.
//
// It knows nothing of Kafka, of the IM API or of the engine: what it shows comes as a [State] from its [Source], the metrics from a Prometheus
// gatherer, and what an operator asks for goes to [Controls]. It keeps no history and draws no graphs; that is what /metrics is for.
//
// It promises:
//   - /healthz, /readyz and /metrics are open to everybody: probes and scrapers come from elsewhere. They contain no account and no secret.
//   - Everything else needs the token, if there is one. If there is none, it is served to this machine only (see access.go for why three
//     conditions are needed).
//   - Nothing changes but by a POST that neither a page of another site made nor asks for something unknown (see control.go).
//   - A slow or hostile client can't hold the server: all phases of a connection have time limits, and headers a size limit.
//   - However many connections others hold open, a probe is answered, and the descriptors of the
//     process are left to Kafka and the IM API (see conns.go).
//   - When [New] returns, the address is taken: an orchestrator's first probe finds a server.
//
// Non-obvious:
//   - A hold does not make the worker unready. A rollout waits for readiness, and it must be able to bring the fix for what holds the worker.
//   - /healthz asks the source for nothing but its heartbeat, never for the whole state: a probe must not depend on how long that takes.
//   - The page has no inline script and no external asset, and its policy forbids both: ids in events are chosen by end users, and although
//     the state contains none, a page that is safe by its policy stays safe when somebody adds one.
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
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/rs/zerolog"
)

// Limits of one connection. A scrape of a large registry is the slowest honest request, and takes milliseconds.
const (
	headerTimeout  = 5 * time.Second
	requestTimeout = 10 * time.Second
	answerTimeout  = 30 * time.Second
	// idleTimeout is longer than the page's refresh in a hidden tab (10 s) and
	// than usual intervals of probes. A scraper that comes every 30 s connects
	// anew, which costs it a millisecond.
	idleTimeout    = 15 * time.Second
	maxHeaderBytes = 16 << 10
	// stopTimeout is how long a stop waits for requests under way. They are reads, or commands that are done at once: cutting them off costs
	// nothing.
	stopTimeout = time.Second
)

// Options says what to serve, where, and to whom.
type Options struct {
	// Addr is the host and port to listen on ("127.0.0.1:8780"); port 0 takes a free one.
	Addr string
	// Token, if not empty, is what requests for all but the open paths must carry as "Authorization: Bearer". Empty: this machine only.
	Token string
	// Source of the state. Its methods are called from many goroutines at once.
	Source Source
	// Controls are what an operator may do; nil: nothing, and the routes do not exist. Its methods are called from many goroutines at once.
	Controls Controls
	// Gatherer of the metrics.
	Gatherer prometheus.Gatherer
	// Log gets the server's own failures and an operator's commands; other requests are not logged.
	Log zerolog.Logger
	// Listen opens the listener; nil: net.Listen.
	Listen func(network, addr string) (net.Listener, error)
}

// Server is an admin server whose address is taken already.
type Server struct {
	http     *http.Server
	listener net.Listener
	log      zerolog.Logger
}

// New takes the address; nothing is answered before [Server.Run]. The error of an address that can't be taken names the flag --admin-addr.
// A server that is never run keeps its address until the process ends.
func New(o Options) (*Server, error) {
	listen := o.Listen
	if listen == nil {
		listen = net.Listen
	}
	l, err := listen("tcp", o.Addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("--admin-addr %s: the port is taken by another program; choose another one", o.Addr)
	} else if err != nil {
		return nil, fmt.Errorf("--admin-addr %s: %w", o.Addr, err)
	}
	return &Server{
		listener: l,
		log:      o.Log,
		http: &http.Server{
			Handler:           handler(o),
			ReadHeaderTimeout: headerTimeout,
			ReadTimeout:       requestTimeout,
			WriteTimeout:      answerTimeout,
			IdleTimeout:       idleTimeout,
			MaxHeaderBytes:    maxHeaderBytes,
			ErrorLog:          newErrorLog(o.Log),
			ConnState:         new(conns).changed,
		},
	}, nil
}

// Addr is the address that was taken, with the real port.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// Handler answers the requests; [Server.Run] serves it.
func (s *Server) Handler() http.Handler { return s.http.Handler }

// Run serves until ctx ends, then lets requests under way finish for at most a second, and returns nil. It returns an error only if the
// listener fails. Call it once.
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

// handler is all routes with their access rules.
func handler(o Options) http.Handler {
	open, guarded := http.NewServeMux(), http.NewServeMux()
	open.Handle("GET /healthz", healthz(o.Source))
	open.Handle("GET /readyz", readyz(o.Source))
	open.Handle("GET /metrics", promhttp.HandlerFor(o.Gatherer, promhttp.HandlerOpts{ErrorLog: newErrorLog(o.Log)}))
	open.Handle("/", guard(o.Token, guarded))
	guarded.Handle("GET /api/state", apiState(o.Source))
	if o.Controls != nil {
		guarded.Handle("POST /api/pause", pause(o))
		guarded.Handle("POST /api/resume", resume(o))
	}
	guarded.Handle("GET /{$}", page(o.Source))
	guarded.Handle("GET /assets/{file}", assets())
	return withHeaders(open)
}
