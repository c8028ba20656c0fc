package imclient

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync"
	"syscall"
	"time"
)

const (
	// idleTimeout is below the 60 or 75 seconds after which servers usually close an idle
	// connection: a call that meets that close fails.
	idleTimeout = 30 * time.Second
	// maxHeader bounds the header of an answer; net/http's own limit is 10 MB.
	maxHeader = 64 << 10
)

// NewTransport returns the transport that a Client uses by itself: HTTP/1.1 with kept-alive
// connections, up to maxConns of them idle; TLS 1.2 or better, verified; proxies as the environment
// says; no compression. A connection that is closed is gone at once, with all that was not sent
// yet.
//
// It is for callers that want another dial function or other root certificates: change the fields
// before the first call.
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
		TLSHandshakeTimeout:    timeout, // a dial outlives its call
		DisableCompression:     true,
		MaxIdleConnsPerHost:    maxConns,
		IdleConnTimeout:        idleTimeout,
		MaxResponseHeaderBytes: maxHeader,
		Protocols:              protocols,
	}
}

// abrupt makes Close discard what was not sent yet: an abandoned request must not arrive later,
// when its permit has gone to another. And it makes every Close wait for the first, so that the
// caller of any of them knows that the connection is closed.
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

// trail is what an HTTP exchange went through, as its transport reports it. The hooks run in
// several goroutines, one of which may outlive the exchange.
type requestTrace struct {
	lease func() error // is asked before the request is sent
	abort func(error)  // gets what it returned

	mu              sync.Mutex
	connRequested   bool     // for a connection
	conn            net.Conn // the one it got, nil: none
	responseStarted bool     // the first byte of an answer has come
	handshakeErr    error    // why TLS failed
}

func (t *requestTrace) attach(ctx context.Context) context.Context {
	set := func(change func()) {
		t.mu.Lock()
		defer t.mu.Unlock()
		change()
	}
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn:              func(string) { set(func() { t.connRequested = true }) },
		GotConn:              func(got httptrace.GotConnInfo) { set(func() { t.conn = got.Conn }) },
		WroteHeaders:         t.checkLease,
		GotFirstResponseByte: func() { set(func() { t.responseStarted = true }) },
		TLSHandshakeDone: func(_ tls.ConnectionState, err error) {
			set(func() { t.handshakeErr = err })
		},
	})
}

// permitted is called when the head of the request is in net/http's buffer, where the body follows
// (it is in memory, so the head does not go ahead of it) and from which both are then written to
// the socket. On a connection that is closed they are not.
func (t *requestTrace) checkLease() {
	if err := t.lease(); err != nil {
		t.abort(err)
		t.closeConn()
	}
}

// hangUp closes the connection of an exchange that has failed, below TLS: a farewell would be one
// more thing to wait for. net/http closes it too, but not always before the caller knows of the
// failure.
func (t *requestTrace) closeConn() {
	t.mu.Lock()
	conn := t.conn
	t.mu.Unlock()
	if conn == nil {
		return
	}
	for {
		wrapped, ok := conn.(*tls.Conn)
		if !ok {
			break
		}
		conn = wrapped.NetConn()
	}
	_ = conn.Close()
}

// label says what kind of failure err is, which is not that of an ended context.
func (t *requestTrace) label(err error) string {
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
		return LabelTLS // an alert, after the handshake too
	case t.handshakeErr != nil && errors.Is(err, t.handshakeErr) && !connectionEnded(err):
		return LabelTLS
	case t.connRequested && t.conn == nil, isOp && op.Op == "dial", errors.As(err, &unnamed):
		return LabelConnect
	case t.responseStarted && !connectionEnded(err):
		return LabelAnswer // what came is not HTTP
	default:
		return LabelReset
	}
}

// broken says whether err means that the connection ended, and not that something wrong came over
// it.
func connectionEnded(err error) bool {
	for _, end := range []error{
		io.EOF, io.ErrUnexpectedEOF, io.ErrClosedPipe, net.ErrClosed,
		syscall.ECONNRESET, syscall.EPIPE, syscall.ECONNABORTED,
	} {
		if errors.Is(err, end) {
			return true
		}
	}
	return false
}
