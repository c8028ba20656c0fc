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

// wire is a network in memory with one server, fit for a synctest bubble. It counts what matters:
// connections, whole requests, and which ends are closed.
type pipeServer struct {
	// answer serves one request; it writes to the connection and says whether to go on with the
	// next.
	serveRequest func(conn net.Conn, request *http.Request) bool

	dials    atomic.Int32
	requests atomic.Int32
	mu       sync.Mutex
	last     *clientConn
}

// end is the client's end of a connection. Between its closing and its being closed others get
// their turn, so that it shows who does not wait for that.
type clientConn struct {
	net.Conn
	closing    sync.Once
	closed     atomic.Bool
	failWrites atomic.Bool // writes fail, though nobody has noticed yet
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

// lastClosed says whether the client has closed its newest connection.
func (w *pipeServer) lastClosed() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.last.closed.Load()
}

// cutLast makes the newest connection fail at the next write.
func (w *pipeServer) failLastConn() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last.failWrites.Store(true)
}

// client returns a client of the wire. The test closes it.
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

// aRead is a call that makes sense.
var aRead = imclient.Read{Report: "alice", Peer: "bob", Time: 1700000000}

// ok is a successful answer, with a Date and with keep-alive.
func ok(conn net.Conn,
	_ *http.Request) bool {
	return writeResponse(conn, 200, "", apiResult(0, ""))
}

func apiResult(code int, info string) string {
	status := "OK"
	if code != 0 {
		status = "FAIL"
	}
	return fmt.Sprintf(`{"ActionStatus":%q,"ErrorInfo":%q,"ErrorCode":%d}`, status, info, code)
}

// say writes an answer; header lines end with "\r\n".
func writeResponse(conn net.Conn, status int, header, body string) bool {
	_, err := fmt.Fprintf(conn, "HTTP/1.1 %d %s\r\nDate: %s\r\n%sContent-Length: %d\r\n\r\n%s",
		status, http.StatusText(status), time.Now().UTC().Format(http.TimeFormat), header,
		len(body), body)
	return err == nil
}

// roundTrip is a transport that answers without a network.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// respond is a whole answer.
func respond(status int, header http.Header, body string) (*http.Response, error) {
	if header == nil {
		header = http.Header{}
	}
	return &http.Response{
		StatusCode: status, Header: header, Body: io.NopCloser(strings.NewReader(body)),
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, ContentLength: int64(len(body)),
	}, nil
}

// always answers the same.
func alwaysRespond(status int, header http.Header, body string) func(*imclient.Options) {
	return withTransport(func(*http.Request) (*http.Response, error) {
		return respond(status, header, body)
	})
}

// with sets the transport.
func withTransport(f roundTrip) func(*imclient.Options) {
	return func(o *imclient.Options) { o.Transport = f }
}

// canned returns a client without a network.
func offlineClient(t testing.TB, change ...func(*imclient.Options)) *imclient.Client {
	t.Helper()
	o := options("https://im.test")
	for _, change := range change {
		change(&o)
	}
	return client(t, o)
}
