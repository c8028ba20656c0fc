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

// The sandbox's app by default. The key is no secret: it opens nothing but a sandbox.
const (
	LocalAppID = 1400000000
	LocalKey   = "markread-local-key"
	LocalAdmin = "administrator"
)

// sandboxServer is a sandbox on a port that is taken already.
type sandboxServer struct {
	Addr     string
	listener net.Listener
	http     *http.Server
}

// ServeSandbox takes the port of addr, which is the flag's value; the server answers when it runs.
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

// Run serves until ctx ends. Requests under way are cut off: whoever runs a sandbox does not want
// to wait for its hanging faults.
func (s *sandboxServer) Run(ctx context.Context) error {
	defer context.AfterFunc(ctx, func() { _ = s.http.Close() })()
	if err := s.http.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("IM sandbox: %w", err)
	}
	return nil
}

// listenError explains why an address can't be listened on and names its flag.
func listenError(flag, addr string, err error) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%s %s: the port is taken by another program; choose another one with "+
			"%s, or 0 for any", flag, addr, flag)
	}
	return fmt.Errorf("%s %s: %w", flag, addr, err)
}

// StandardLog is what a standard logger of a library writes to.
type StandardLog struct {
	Log  zerolog.Logger
	Mask func(string) string // what it does to secrets, if non-nil
}

func (s StandardLog) Write(b []byte) (int, error) {
	text := string(b)
	if s.Mask != nil {
		text = s.Mask(text)
	}
	s.Log.Warn().Msg(format.Line(text))
	return len(b), nil
}
