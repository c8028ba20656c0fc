package imclient

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"slices"
	"sync"
	"syscall"
	"time"
)

const (
	// idleTimeout is below the 60 or 75 seconds after which servers usually close an idle
	// connection: a call that coincides with such a close fails.
	idleTimeout = 30 * time.Second
	// maxHeader bounds the header of a response; net/http's own limit is 10 MB.
	maxHeader = 64 << 10
)

// NewTransport returns the transport that a Client uses by default: HTTP/1.1 with keep-alive, up to
// maxConns idle connections; TLS 1.2 or later, verified; the environment's proxies; no compression.
// Closing a connection takes effect immediately and discards all unsent data.
//
// Callers that need another dial function or other root certificates change the fields before the
// first call.
func NewTransport(timeout time.Duration, maxConns int) *http.Transport {
	dialer := &net.Dialer{Timeout: timeout}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Transport{
		Proxy: http.ProxyFromEnvironment,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := dialer.DialContext(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			return noLinger(conn), nil
		},
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    timeout, // a dial may outlive its call
		DisableCompression:     true,
		MaxIdleConnsPerHost:    maxConns,
		IdleConnTimeout:        idleTimeout,
		MaxResponseHeaderBytes: maxHeader,
		Protocols:              protocols,
	}
}

// noLinger makes Close discard unsent data: an abandoned request must not arrive later, when
// another call has its permit. It also makes every Close wait for the first one, so that each
// caller knows that the connection is closed.
func noLinger(conn net.Conn) net.Conn {
	if conn, ok := conn.(interface{ SetLinger(sec int) error }); ok {
		_ = conn.SetLinger(0) // fails only if the connection is closed already
	}
	c := &noLingerConn{Conn: conn}
	c.close = sync.OnceValue(conn.Close)
	return c
}

type noLingerConn struct {
	net.Conn
	close func() error
}

func (c *noLingerConn) Close() error { return c.close() }

// requestTrace records the progress of an HTTP exchange, as its transport reports it. The hooks run
// in several goroutines, one of which may outlive the exchange.
type requestTrace struct {
	lease  func() error       // checked before the request is sent
	cancel context.CancelFunc // ends the exchange
	hooks  httptrace.ClientTrace

	mu              sync.Mutex
	leaseErr        error    // why the lease has ended
	connRequested   bool     // a connection was requested
	conn            net.Conn // the connection of the request; nil: none
	responseStarted bool     // the first byte of a response has arrived
	handshakeErr    error    // why TLS failed
}

func (t *requestTrace) attach(ctx context.Context) context.Context {
	t.hooks.GetConn = t.getConn
	t.hooks.GotConn = t.gotConn
	t.hooks.WroteHeaders = t.checkLease
	t.hooks.GotFirstResponseByte = t.gotFirstResponseByte
	t.hooks.TLSHandshakeDone = t.tlsHandshakeDone
	return httptrace.WithClientTrace(ctx, &t.hooks)
}

func (t *requestTrace) getConn(string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.connRequested = true
}

func (t *requestTrace) gotConn(got httptrace.GotConnInfo) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.conn = got.Conn
}

func (t *requestTrace) gotFirstResponseByte() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.responseStarted = true
}

func (t *requestTrace) tlsHandshakeDone(_ tls.ConnectionState, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.handshakeErr = err
}

// checkLease is called when the request's header is in net/http's buffer. The body follows there
// (it is in memory, so the header is not sent ahead of it), and both are then written to the
// socket. If the connection is closed, they are not written; if the exchange has ended, too,
// net/http does not try again on another connection.
func (t *requestTrace) checkLease() {
	if err := t.lease(); err != nil {
		t.mu.Lock()
		t.leaseErr = err
		t.mu.Unlock()
		t.cancel()
		t.closeConn()
	}
}

// interrupted returns why a call that got no response is no failure: the lease's error, or the
// cause why the caller's context has ended. It returns nil if it is one.
func (t *requestTrace) interrupted(ctx context.Context) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.leaseErr != nil {
		return t.leaseErr
	}
	return context.Cause(ctx)
}

// closeConn closes the connection of a failed exchange, below TLS: a close notification would be
// one more thing to wait for. net/http closes the connection, too, but not always before the caller
// learns of the failure.
func (t *requestTrace) closeConn() {
	t.mu.Lock()
	conn := t.conn
	t.mu.Unlock()
	if conn == nil {
		return
	}
	for wrapped, ok := conn.(*tls.Conn); ok; wrapped, ok = conn.(*tls.Conn) {
		conn = wrapped.NetConn()
	}
	_ = conn.Close()
}

// labelOf classifies err, which must not be the error of an ended context.
func (t *requestTrace) labelOf(err error) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var (
		network   net.Error
		op        *net.OpError
		unnamed   *net.DNSError
		untrusted *tls.CertificateVerificationError
	)
	isOp := errors.As(err, &op)
	switch {
	case errors.As(err, &network) && network.Timeout():
		return LabelTimeout
	case errors.As(err, &untrusted), isOp && (op.Op == "remote error" || op.Op == "local error"):
		return LabelTLS // an alert, which may also come after the handshake
	case t.handshakeErr != nil && errors.Is(err, t.handshakeErr) && !connectionEnded(err):
		return LabelTLS
	case t.connRequested && t.conn == nil, isOp && op.Op == "dial", errors.As(err, &unnamed):
		return LabelConnect
	case t.responseStarted && !connectionEnded(err):
		return LabelAnswer // the response is not HTTP
	default:
		return LabelReset
	}
}

// connectionEnded reports whether err means that the connection ended, rather than that invalid
// data arrived.
func connectionEnded(err error) bool {
	return slices.ContainsFunc([]error{
		io.EOF, io.ErrUnexpectedEOF, io.ErrClosedPipe, net.ErrClosed,
		syscall.ECONNRESET, syscall.EPIPE, syscall.ECONNABORTED,
	}, func(end error) bool { return errors.Is(err, end) })
}
