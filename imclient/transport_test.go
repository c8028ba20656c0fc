package imclient_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"markread/imclient"
)

// What a server can do to a call in flight, and the state when MarkRead returns. The connections
// are in memory and the time is virtual, so the results are exact.
func TestCallsEndInTimeAndCloseTheirConnection(t *testing.T) {
	hang := func() { time.Sleep(time.Hour) }
	for name, v := range map[string]struct {
		serve func(net.Conn, *http.Request) bool
		want  outcome
		after time.Duration
	}{
		"no response": {func(net.Conn, *http.Request) bool { hang(); return false },
			outcome{imclient.Transient, "timeout", 0, 0}, 5 * time.Second},
		"late response": {func(c net.Conn, r *http.Request) bool {
			time.Sleep(5*time.Second + 1)
			return ok(c, r)
		},
			outcome{imclient.Transient, "timeout", 0, 0}, 5 * time.Second},
		"header that drips": {func(c net.Conn, _ *http.Request) bool {
			return drip(c, "HTTP/1.1 200 OK\r\nX: "+strings.Repeat("x", 1000))
		},
			outcome{imclient.Transient, "timeout", 0, 0}, 5 * time.Second},
		"endless provisional responses": {func(c net.Conn, _ *http.Request) bool {
			return drip(c, strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 1000))
		}, outcome{imclient.Transient, "timeout", 0, 0}, 5 * time.Second},
		"body that never comes": {func(c net.Conn, _ *http.Request) bool {
			fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Length: 60\r\n\r\n")
			hang()
			return false
		}, outcome{imclient.Transient, "timeout", 0, 200}, 5 * time.Second},
		"body that drips": {func(c net.Conn, _ *http.Request) bool {
			fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
			return drip(c, apiResult(0, strings.Repeat("x", 900)))
		}, outcome{imclient.Transient, "timeout", 0, 200}, 5 * time.Second},
		"half a gateway's page": {func(c net.Conn, _ *http.Request) bool {
			fmt.Fprint(c, "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 60\r\n\r\n<html>")
			hang()
			return false
		}, outcome{imclient.Transient, "http_502", 0, 502}, 5 * time.Second},
		"other protocol": {func(c net.Conn, _ *http.Request) bool {
			fmt.Fprint(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n"+
				"Upgrade: websocket\r\n\r\n")
			hang()
			return false
		}, outcome{imclient.Transient, "http_101", 0, 101}, 0},
		"too long": {func(c net.Conn, _ *http.Request) bool {
			return reply(c, 200, "", apiResult(0, strings.Repeat("x", 1<<20)))
		}, outcome{imclient.Transient, "answer", 0, 200}, 0},
		"too long a header": {func(c net.Conn, _ *http.Request) bool {
			return reply(c, 200, "X: "+strings.Repeat("x", 1<<20)+"\r\n", apiResult(0, ""))
		}, outcome{imclient.Transient, "answer", 0, 0}, 0},
		"half the JSON, then the end": {func(c net.Conn, _ *http.Request) bool {
			fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Length: 60\r\n\r\n{\"ErrorCode\":")
			return false
		}, outcome{imclient.Transient, "reset", 0, 200}, 0},
		"the end": {func(net.Conn, *http.Request) bool { return false },
			outcome{imclient.Transient, "reset", 0, 0}, 0},
		"the end in a header": {func(c net.Conn, _ *http.Request) bool {
			fmt.Fprint(c, "HTTP/1.1 200 OK\r\nX: ")
			return false
		},
			outcome{imclient.Transient, "reset", 0, 0}, 0},
		"no HTTP": {func(c net.Conn, _ *http.Request) bool {
			fmt.Fprint(c, "SSH-2.0-OpenSSH_9.6\r\n\r\n")
			return false
		},
			outcome{imclient.Transient, "answer", 0, 0}, 0},
		"wrong chunks": {func(c net.Conn, _ *http.Request) bool {
			fmt.Fprint(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")
			return false
		}, outcome{imclient.Transient, "answer", 0, 200}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := &pipeServer{serveRequest: v.serve}
				c := w.client(t)
				for range 2 {
					begin := time.Now()
					err := c.MarkRead(t.Context(), validRead)
					took, closed := time.Since(begin), w.lastClosed()
					if got := outcomeOf(t, err); got != v.want {
						t.Errorf("%+v, want %+v: %v", got, v.want, err)
					}
					if took != v.after {
						t.Errorf("took %v, want %v", took, v.after)
					}
					if !closed {
						t.Error("the connection is still open")
					}
				}
				if w.requests.Load() != 2 || w.dials.Load() != 2 {
					t.Errorf("2 calls made %d requests on %d connections", w.requests.Load(),
						w.dials.Load())
				}
				c.Close()
				time.Sleep(2 * time.Hour)
			})
		})
	}
}

// drip sends text one byte a second.
func drip(conn net.Conn, text string) bool {
	for i := range len(text) {
		time.Sleep(time.Second)
		if _, err := conn.Write([]byte{text[i]}); err != nil {
			return false
		}
	}
	return true
}

// A complete result counts even if the response does not end: the call was made.
func TestCompleteResultCountsInTruncatedResponse(t *testing.T) {
	for code := range map[int]bool{0: true, 90003: true} {
		synctest.Test(t, func(t *testing.T) {
			w := &pipeServer{serveRequest: func(c net.Conn, _ *http.Request) bool {
				fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n%s",
					apiResult(code, ""))
				time.Sleep(time.Hour)
				return false
			}}
			c := w.client(t)
			err := c.MarkRead(t.Context(), validRead)
			if code == 0 && err != nil || code != 0 && outcomeOf(t, err).code != code ||
				!w.lastClosed() {
				t.Errorf("code %d: %v, closed: %v", code, err, w.lastClosed())
			}
			c.Close()
			time.Sleep(2 * time.Hour)
		})
	}
}

func TestCancelClosesTheConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stop := errors.New("we stop")
		ctx, cancel := context.WithCancelCause(t.Context())
		w := &pipeServer{serveRequest: func(net.Conn, *http.Request) bool {
			time.Sleep(time.Hour)
			return false
		}}
		c := w.client(t)
		time.AfterFunc(time.Second, func() { cancel(stop) })
		begin := time.Now()
		if err := c.MarkRead(ctx, validRead); err != stop || time.Since(begin) != time.Second ||
			!w.lastClosed() {
			t.Errorf("%v after %v, closed: %v", err, time.Since(begin), w.lastClosed())
		}
		c.Close()
		time.Sleep(2 * time.Hour)
	})
}

func TestTimeoutIncludesConnecting(t *testing.T) {
	for name, dial := range map[string]func(context.Context, string, string) (net.Conn, error){
		"hanging": func(ctx context.Context, _, _ string) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		},
		"slow": func(context.Context, string, string) (net.Conn, error) {
			time.Sleep(4 * time.Second)
			c, _ := net.Pipe()
			return c, nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := options("http://im.test")
				transport := imclient.NewTransport(o.Timeout, 1)
				transport.DialContext = dial
				o.Transport = transport
				c := client(t, o)
				begin := time.Now()
				err := c.MarkRead(t.Context(), validRead)
				if got, want := outcomeOf(t,
					err), (outcome{imclient.Transient, "timeout", 0, 0}); got != want ||
					time.Since(begin) != o.Timeout {
					t.Errorf("%+v after %v, want %+v", got, time.Since(begin), want)
				}
				if !strings.Contains(err.Error(), "5s") {
					t.Errorf("does not say how long: %v", err)
				}
				c.Close()
			})
		})
	}
}

// A connection that turns out to be dead before anything was written costs nothing: the call uses
// another one.
func TestDeadConnectionIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &pipeServer{serveRequest: ok}
		c := w.client(t)
		for range 3 {
			if err := c.MarkRead(t.Context(), validRead); err != nil {
				t.Error(err)
			}
			synctest.Wait()
			w.failLastConn()
		}
		if w.requests.Load() != 3 || w.dials.Load() != 3 {
			t.Errorf("3 calls made %d requests on %d connections", w.requests.Load(),
				w.dials.Load())
		}
		c.Close()
	})
}

// The pool holds as many connections as there are calls in flight; net/http's own default of 2
// would dial for nearly every call.
func TestConnectionsAreReused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &pipeServer{serveRequest: func(c net.Conn, r *http.Request) bool {
			time.Sleep(25 * time.Millisecond)
			return ok(c, r)
		}}
		c := w.client(t)
		call := func() {
			if err := c.MarkRead(t.Context(), validRead); err != nil {
				t.Error(err)
			}
		}
		var calls sync.WaitGroup
		for range 10 * 200 {
			calls.Go(call)
			time.Sleep(5 * time.Millisecond)
		}
		calls.Wait()
		if dials := w.dials.Load(); dials > 8 {
			t.Errorf("2000 calls, 5 or 6 in parallel, made %d connections", dials)
		}
		for range 5 { // bursts as large as the pool
			for range 64 {
				calls.Go(call)
			}
			calls.Wait()
			time.Sleep(time.Second)
		}
		if dials := w.dials.Load(); dials > 64+8 {
			t.Errorf("volleys of 64 made %d connections", dials)
		}
		before := w.dials.Load()
		time.Sleep(31 * time.Second) // idle connections are closed before the server closes them
		call()
		if w.dials.Load() != before+1 {
			t.Error("a connection was reused after half a minute")
		}
		c.Close()
	})
}

// net/http repeats some requests by itself. Our POST must never arrive twice: its permit is for one
// arrival. This uses real sockets, and a server that drops connections in all the ways that provoke
// a repetition.
func TestOneCallNeverArrivesTwice(t *testing.T) {
	var arrived, connections atomic.Int32
	var server sync.WaitGroup
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serve := func(conn net.Conn, way int32) {
		defer conn.Close()
		reader := bufio.NewReader(conn)
		for n := 0; ; n++ {
			request, err := http.ReadRequest(reader)
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, request.Body)
			arrived.Add(1)
			if n < 2 { // so that the client trusts the connection
				if !ok(conn, request) {
					return
				}
				if n == 1 && way == 0 {
					return // closes it while idle, which races with the next call
				}
				continue
			}
			switch way {
			case 1: // has read the whole request, then closes
			case 2: // resets
				_ = conn.(*net.TCPConn).SetLinger(0)
			case 3: // begins a response
				fmt.Fprint(conn, "HTTP/1.1 ")
			case 4:
				fmt.Fprint(conn, "HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n"+
					"Content-Length: 0\r\n\r\n")
			}
			return
		}
	}
	server.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			way := connections.Add(1) % 5
			server.Go(func() { serve(conn, way) })
		}
	})
	c := client(t, options("http://"+listener.Addr().String()))
	failed := 0
	const calls = 1000
	for i := range calls {
		before := arrived.Load()
		err := c.MarkRead(t.Context(), validRead)
		if n := arrived.Load() - before; n > 1 {
			t.Fatalf("call %d arrived %d times: %v", i, n, err)
		}
		if err != nil {
			failed++
			if got := outcomeOf(t, err); got.label != "reset" && got.label != "http_408" &&
				got.label != "answer" {
				t.Fatalf("call %d: %v", i, err)
			}
		}
	}
	if failed < calls/10 || failed > calls/2 {
		t.Errorf("%d of %d calls failed: the server did not do what it should", failed, calls)
	}
	c.Close()
	listener.Close()
	server.Wait()
}

func TestConnCanBeClosedTwice(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	conn, err := imclient.NewTransport(time.Second, 1).DialContext(t.Context(), "tcp",
		server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	}
}

// Data that is unsent when a call is abandoned must not be sent later: closing resets the
// connection.
func TestClosingResetsTheConnection(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	seen := make(chan error, 1)
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			seen <- err
			return
		}
		defer conn.Close()
		_, _ = conn.Read(make([]byte, 1))
		cancel()
		_, err = io.Copy(io.Discard, conn)
		seen <- err
	}()
	c := client(t, options("http://"+listener.Addr().String()))
	if err := c.MarkRead(ctx, validRead); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if err := <-seen; !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the server saw %v, not a reset", err)
	}
}
