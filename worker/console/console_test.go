package console

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"markread/worker/console/overview"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fake is a source with values that the test chooses.
type fake struct {
	state     State
	details   overview.Details
	unhealthy error
	ready     bool
}

func (f *fake) Details() overview.Details { return f.details }

func (f *fake) State() State   { return f.state }
func (f *fake) Held() []Hold   { return f.State().Held }
func (f *fake) Healthy() error { return f.unhealthy }
func (f *fake) Ready() bool    { return f.ready }

// options returns the options of an admin server with this source and one metric.
func options(source Source) Options {
	registry := prometheus.NewRegistry()
	registry.MustRegister(prometheus.NewCounterFunc(
		prometheus.CounterOpts{Name: "markread_test_total"}, func() float64 { return 7 }))
	return Options{Addr: "127.0.0.1:0", Group: "markread", Version: "v1.2.3",
		Source: source, Gatherer: registry, Log: zerolog.Nop()}
}

// get sends a request from this machine, changed by the edits, to an admin server with the options.
func get(t *testing.T, o Options, path string,
	edits ...func(*http.Request)) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, "http://localhost:8780"+path, nil)
	r.RemoteAddr = "127.0.0.1:50000"
	for _, edit := range edits {
		edit(r)
	}
	w := httptest.NewRecorder()
	newSite(o).handler().ServeHTTP(w, r)
	return w
}

func TestServesOverTCPAndStops(t *testing.T) {
	server, err := New(options(&fake{ready: true}))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx) }()
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	response, err := client.Get("http://" + server.Addr() + "/api/state")
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(response.Body)
	response.Body.Close()
	if response.StatusCode != http.StatusOK || !strings.Contains(string(body), `"held":[]`) {
		t.Errorf("GET /api/state: %d %s", response.StatusCode, body)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("shutdown returned an error: %v", err)
	}
	if _, err := net.Dial("tcp", server.Addr()); err == nil {
		t.Error("the stopped server still accepts connections")
	}
}

// Shutdown waits at most a second for a client that never finishes.
func TestShutdownAbortsHangingRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		accept, stop := runOverPipes(t)
		near, far := net.Pipe()
		accept <- far
		// Half a request: the server waits for the rest.
		if _, err := near.Write([]byte("GET /healthz HTTP/1.1\r\nHost: x")); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		start := time.Now()
		if err := stop(); err != nil {
			t.Error(err)
		}
		_, err := near.Read(make([]byte, 1))
		if took := time.Since(start); took > stopTimeout || err != io.EOF {
			t.Errorf("the connection ended after %s, %v", took, err)
		}
	})
}

// A client that sends its header very slowly, or not at all, is disconnected.
func TestSlowClientIsCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		accept, stop := runOverPipes(t)
		near, far := net.Pipe()
		accept <- far
		start := time.Now()
		if _, err := io.ReadAll(near); err != nil {
			t.Error(err)
		}
		if took := time.Since(start); took > headerTimeout {
			t.Errorf("a silent client was kept for %s", took)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}

func TestPortInUseNamesTheFlag(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	o := options(&fake{})
	o.Addr = l.Addr().String()
	_, err = New(o)
	if err == nil || !strings.Contains(err.Error(), "--admin-addr "+o.Addr) ||
		!strings.Contains(err.Error(), "in use") {
		t.Errorf("error of a port in use: %v", err)
	}
	o.Flag = "--addr"
	if _, err := New(o); err == nil || !strings.HasPrefix(err.Error(), "--addr "+o.Addr) {
		t.Errorf("the error does not name its flag: %v", err)
	}
	o.Flag = ""
	o.Listen = func(string, string) (net.Listener, error) {
		return nil, &net.OpError{Op: "listen", Err: os.NewSyscallError("bind", syscall.EACCES)}
	}
	_, err = New(o)
	if err == nil || !strings.Contains(err.Error(), "--admin-addr") ||
		!errors.Is(err, syscall.EACCES) {
		t.Errorf("error of a forbidden port: %v", err)
	}
}

func TestListenerFailureEndsRun(t *testing.T) {
	server, err := New(options(&fake{}))
	if err != nil {
		t.Fatal(err)
	}
	server.listener.Close()
	if err := server.Run(t.Context()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Run of a closed listener: %v", err)
	}
}

// runOverPipes runs an admin server that accepts the connections sent to accept. stop ends it and
// returns Run's error.
func runOverPipes(t *testing.T, edits ...func(*Options)) (accept chan<- net.Conn,
	stop func() error) {
	t.Helper()
	conns := make(chan net.Conn)
	o := options(&fake{ready: true})
	o.Listen = func(string, string) (net.Listener, error) {
		return &pipeListener{conns, make(chan struct{})}, nil
	}
	for _, edit := range edits {
		edit(&o)
	}
	server, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx) }()
	return conns, func() error { cancel(); return <-done }
}

// pipeListener accepts the connections it is given; no network is involved.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error   { close(l.closed); return nil }
func (l *pipeListener) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }
