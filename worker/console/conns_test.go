package console

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// connCrowd is an admin server in a bubble and many connections to it.
type connCrowd struct {
	t      *testing.T
	accept chan<- net.Conn
	// whether the server has closed each connection, in the order in which they began
	ended []*atomic.Bool
	conns []net.Conn
}

// newConnCrowd runs an admin server until the test ends.
func newConnCrowd(t *testing.T) *connCrowd {
	accept, stop := runOverPipes(t)
	c := &connCrowd{t: t, accept: accept}
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// connect opens a connection and sends text; responses are discarded until the server closes it.
func (c *connCrowd) connect(text string) {
	c.t.Helper()
	near, far := net.Pipe()
	c.accept <- far
	if _, err := io.WriteString(near, text); err != nil {
		c.t.Fatal(err)
	}
	ended := new(atomic.Bool)
	c.conns, c.ended = append(c.conns, near), append(c.ended, ended)
	go func() {
		_, _ = io.Copy(io.Discard, near)
		ended.Store(true)
	}()
	synctest.Wait()
}

// probe makes a health probe on a connection of its own.
func (c *connCrowd) probe() (status int, took time.Duration) {
	c.t.Helper()
	near, far := net.Pipe()
	defer near.Close()
	began := time.Now()
	c.accept <- far
	if _, err := io.WriteString(near,
		"GET /healthz HTTP/1.1\r\nHost: probe\r\nConnection: close\r\n\r\n"); err != nil {
		c.t.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(near), nil)
	if err != nil {
		c.t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, response.Body)
	return response.StatusCode, time.Since(began)
}

func (c *connCrowd) open() (n int) {
	synctest.Wait()
	for _, ended := range c.ended {
		if !ended.Load() {
			n++
		}
	}
	return n
}

// However many connections others hold open, in whatever state, there are never more than maxConns,
// and a probe gets its response immediately.
func TestProbeIsServedWhenConnectionsAreExhausted(t *testing.T) {
	const whole, half = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /healthz HTTP/1.1\r\nHost: x"
	for name, texts := range map[string][]string{
		"silent": {""}, "half a header": {half}, "idle after a request": {whole},
		"all kinds": {"", half, whole},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newConnCrowd(t)
				for i := range 600 {
					c.connect(texts[i%len(texts)])
					if n := c.open(); n > maxConns {
						t.Fatalf("%d connections are open", n)
					}
					if i%50 != 0 {
						continue
					}
					if status, took := c.probe(); status != http.StatusOK || took > minStay {
						t.Fatalf("with %d connections: %d after %v", i+1, status, took)
					}
				}
				if n := c.open(); n < maxConns-1 { // the probe displaced one
					t.Errorf("only %d are open", n)
				}
				time.Sleep(idleTimeout)
				if n := c.open(); n != 0 {
					t.Errorf("%d are still open after %v", n, idleTimeout)
				}
			})
		})
	}
}

// The connection that has been idle the longest is closed.
func TestIdlestConnectionIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newConnCrowd(t)
		const whole = "GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n"
		for range maxConns {
			c.connect(whole)
		}
		if _, err := io.WriteString(c.conns[0], whole); err != nil { // the oldest one is used again
			t.Fatal(err)
		}
		synctest.Wait()
		c.connect("")
		c.connect("")
		synctest.Wait()
		for i, ended := range c.ended {
			if ended.Load() != (i == 1 || i == 2) {
				t.Errorf("connection %d: closed %v", i, ended.Load())
			}
		}
	})
}

// An ended connection is forgotten and frees its place.
func TestEndedConnectionsAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newConnCrowd(t)
		began := time.Now()
		for range 10 * maxConns {
			if status, _ := c.probe(); status != http.StatusOK {
				t.Fatal(status)
			}
			synctest.Wait()
		}
		if waited := time.Since(began); waited != 0 {
			t.Errorf("consecutive probes had to wait: %v", waited)
		}
	})
}
