package imclient_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"markread/imclient"
)

// pipeServer is one server with an in-memory network, for use in a synctest bubble. It counts
// connections and complete requests, and records which connections the client has closed.
type pipeServer struct {
	// serveRequest handles one request: it writes to the connection and returns whether to read
	// another request.
	serveRequest func(conn net.Conn, request *http.Request) bool

	dials    atomic.Int32
	requests atomic.Int32
	mu       sync.Mutex
	last     *clientConn
}

// clientConn is the client's end of a connection. Its Close yields to other goroutines before it
// counts as closed, which reveals callers that don't wait for it.
type clientConn struct {
	net.Conn
	closing    sync.Once
	closed     atomic.Bool
	failWrites atomic.Bool // writes fail, but nobody has detected it yet
}

func (e *clientConn) Close() error {
	e.closing.Do(func() {
		_ = e.Conn.Close()
		for range 100 {
			runtime.Gosched() // no sleep: net/http holds a lock
		}
		e.closed.Store(true)
	})
	return nil
}

func (e *clientConn) Write(p []byte) (int, error) {
	if e.failWrites.Load() {
		return 0, syscall.EPIPE
	}
	return e.Conn.Write(p)
}

func (w *pipeServer) dial(context.Context, string, string) (net.Conn, error) {
	client, server := net.Pipe()
	last := &clientConn{Conn: client}
	w.dials.Add(1)
	w.mu.Lock()
	w.last = last
	w.mu.Unlock()
	go w.serve(server)
	return last, nil
}

func (w *pipeServer) serve(conn net.Conn) {
	defer conn.Close()
	reader := bufio.NewReader(conn)
	for {
		request, err := http.ReadRequest(reader)
		if err != nil {
			return
		}
		if _, err := io.Copy(io.Discard, request.Body); err != nil {
			return
		}
		w.requests.Add(1)
		if !w.serveRequest(conn, request) {
			return
		}
	}
}

// lastClosed reports whether the client has closed its newest connection.
func (w *pipeServer) lastClosed() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.last.closed.Load()
}

// failLastConn makes the newest connection fail at the next write.
func (w *pipeServer) failLastConn() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last.failWrites.Store(true)
}

// client returns a client of the server. The test must close it.
func (w *pipeServer) client(t *testing.T, change ...func(*imclient.Options)) *imclient.Client {
	t.Helper()
	o := options("http://im.test")
	transport := imclient.NewTransport(o.Timeout, 64)
	transport.DialContext = w.dial
	o.Transport = transport
	for _, change := range change {
		change(&o)
	}
	return client(t, o)
}

func options(base string) imclient.Options {
	return imclient.Options{
		BaseURL: base, AppID: vectorApp, Admin: "administrator",
		Key: imclient.Key(imclient.NewSecret(canary)), Timeout: 5 * time.Second,
	}
}

func client(t testing.TB, o imclient.Options) *imclient.Client {
	t.Helper()
	c, err := imclient.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// validRead is a valid request.
var validRead = imclient.Read{Report: "alice", Peer: "bob", Time: 1700000000}

// ok sends a successful response, with a Date and keep-alive.
func ok(conn net.Conn, _ *http.Request) bool {
	return reply(conn, 200, "", apiResult(0, ""))
}

func apiResult(code int, info string) string {
	status := "OK"
	if code != 0 {
		status = "FAIL"
	}
	return fmt.Sprintf(`{"ActionStatus":%q,"ErrorInfo":%q,"ErrorCode":%d}`, status, info, code)
}

// reply writes a response; header lines end with "\r\n".
func reply(conn net.Conn, status int, header, body string) bool {
	_, err := fmt.Fprintf(conn, "HTTP/1.1 %d %s\r\nDate: %s\r\n%sContent-Length: %d\r\n\r\n%s",
		status, http.StatusText(status), time.Now().UTC().Format(http.TimeFormat), header,
		len(body), body)
	return err == nil
}

// roundTrip is a transport without a network.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// respond returns a complete response.
func respond(status int, header http.Header, body string) (*http.Response, error) {
	if header == nil {
		header = http.Header{}
	}
	return &http.Response{
		StatusCode: status, Header: header, Body: io.NopCloser(strings.NewReader(body)),
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, ContentLength: int64(len(body)),
	}, nil
}

// always sets a transport that always returns the same response.
func always(status int, header http.Header, body string) func(*imclient.Options) {
	return withTransport(func(*http.Request) (*http.Response, error) {
		return respond(status, header, body)
	})
}

// withTransport sets the transport.
func withTransport(f roundTrip) func(*imclient.Options) {
	return func(o *imclient.Options) { o.Transport = f }
}

// offlineClient returns a client without a network.
func offlineClient(t testing.TB, change ...func(*imclient.Options)) *imclient.Client {
	t.Helper()
	o := options("https://im.test")
	for _, change := range change {
		change(&o)
	}
	return client(t, o)
}
