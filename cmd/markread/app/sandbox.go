package app

import (
	"context"
	"errors"
	"fmt"
	stdlog "log"
	"net"
	"net/http"
	"syscall"
	"time"

	"github.com/rs/zerolog"

	"markread/worker/format"
)

// The sandbox's default app. The key is not a secret: only sandboxes accept it.
const (
	LocalAppID = 1400000000
	LocalKey   = "markread-local-key"
	LocalAdmin = "administrator"
)

// sandboxServer is a sandbox whose port is already open.
type sandboxServer struct {
	Addr     string
	listener net.Listener
	http     *http.Server
}

// ServeSandbox listens on addr, the value of flag; Run then serves requests.
func ServeSandbox(flag, addr string, im http.Handler, log zerolog.Logger) (*sandboxServer, error) {
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, listenError(flag, addr, err)
	}
	return &sandboxServer{
		Addr: listener.Addr().String(), listener: listener,
		http: &http.Server{Handler: im, ReadHeaderTimeout: 10 * time.Second,
			IdleTimeout: 2 * time.Minute, ErrorLog: stdlog.New(StandardLog{Log: log}, "", 0)},
	}, nil
}

// Run serves until ctx ends. It then cuts off requests in flight, so that nobody waits for the
// sandbox's hanging faults.
func (s *sandboxServer) Run(ctx context.Context) error {
	defer context.AfterFunc(ctx, func() { _ = s.http.Close() })()
	if err := s.http.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("IM sandbox: %w", err)
	}
	return nil
}

// listenError explains why listening on an address failed, and names its flag.
func listenError(flag, addr string, err error) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%s %s: the port is in use by another program; choose another one with "+
			"%s (port 0: any free port)", flag, addr, flag)
	}
	return fmt.Errorf("%s %s: %w", flag, addr, err)
}

// StandardLog is an io.Writer for the standard loggers of libraries. It logs each write as a
// warning, on one line.
type StandardLog struct {
	Log  zerolog.Logger
	Mask func(string) string // if non-nil, removes secrets from the text
}

func (s StandardLog) Write(b []byte) (int, error) {
	text := string(b)
	if s.Mask != nil {
		text = s.Mask(text)
	}
	s.Log.Warn().Msg(format.Line(text))
	return len(b), nil
}
