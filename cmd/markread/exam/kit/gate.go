//go:build exam && unix

package kit

import (
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// Gate stands between a worker and the IM server and passes bytes on, so that a row can have
// connections refused, or another server answer at the same address, without a word to either side.
type Gate struct {
	URL string

	mu       sync.Mutex
	listener net.Listener // nil: connections are refused
	to       string
	open     map[net.Conn]struct{}
}

func StartGate(t *testing.T, serverURL string) *Gate {
	t.Helper()
	g := &Gate{to: strings.TrimPrefix(serverURL, "http://"), open: map[net.Conn]struct{}{}}
	g.listen(t, "127.0.0.1:0")
	g.URL = "http://" + g.listener.Addr().String()
	t.Cleanup(g.Refuse)
	return g
}

func (g *Gate) listen(t *testing.T, addr string) {
	t.Helper()
	var listener net.Listener
	Wait(t, "the gate listens", 5*time.Second, func() bool {
		var err error
		listener, err = net.Listen("tcp", addr)
		return err == nil
	})
	g.mu.Lock()
	g.listener = listener
	g.mu.Unlock()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return // closed by refuse
			}
			go g.pass(conn)
		}
	}()
}

// Refuse resets all connections and has new ones refused.
func (g *Gate) Refuse() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.listener != nil {
		g.listener.Close()
		g.listener = nil
	}
	g.cut()
}

// Accept ends refuse.
func (g *Gate) Accept(t *testing.T) {
	t.Helper()
	g.listen(t, strings.TrimPrefix(g.URL, "http://"))
}

// Lead resets all connections and has new ones lead to another server.
func (g *Gate) Lead(serverURL string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.to = strings.TrimPrefix(serverURL, "http://")
	g.cut()
}

// cut resets all connections. The lock is held.
func (g *Gate) cut() {
	for conn := range g.open {
		_ = conn.(*net.TCPConn).SetLinger(0)
		conn.Close()
	}
	clear(g.open)
}

// pass copies both ways until one side ends. An end is passed on as a reset: a server that only
// says good-bye does so in its answers, and a client that goes away must be missed at once.
func (g *Gate) pass(client net.Conn) {
	g.mu.Lock()
	to, refused := g.to, g.listener == nil
	g.mu.Unlock()
	server, err := net.Dial("tcp", to)
	if err != nil || refused {
		_ = client.(*net.TCPConn).SetLinger(0)
		client.Close()
		if err == nil {
			server.Close()
		}
		return
	}
	g.mu.Lock()
	g.open[client], g.open[server] = struct{}{}, struct{}{}
	if g.to != to || g.listener == nil { // changed while we dialled
		g.cut()
	}
	g.mu.Unlock()
	var once sync.Once
	end := func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		for _, conn := range []net.Conn{client, server} {
			_ = conn.(*net.TCPConn).SetLinger(0)
			conn.Close()
			delete(g.open, conn)
		}
	}
	go func() {
		_, _ = io.Copy(server, client)
		once.Do(end)
	}()
	_, _ = io.Copy(client, server)
	once.Do(end)
}
