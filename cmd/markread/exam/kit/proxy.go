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

// Proxy forwards bytes between a worker and the IM server. A test can refuse the connections or
// redirect them to another server at the same address, without either side's cooperation.
type Proxy struct {
	URL string

	mu       sync.Mutex
	listener net.Listener // nil: connections are refused
	target   string       // host:port of the server
	conns    map[net.Conn]struct{}
}

// StartProxy starts a proxy in front of the server.
func StartProxy(t *testing.T, serverURL string) *Proxy {
	t.Helper()
	g := &Proxy{target: strings.TrimPrefix(serverURL, "http://"), conns: map[net.Conn]struct{}{}}
	g.listen(t, "127.0.0.1:0")
	g.URL = "http://" + g.listener.Addr().String()
	t.Cleanup(g.Refuse)
	return g
}

func (g *Proxy) listen(t *testing.T, addr string) {
	t.Helper()
	var listener net.Listener
	Wait(t, "the proxy listens", 5*time.Second, func() bool {
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
				return // closed by Refuse
			}
			go g.forward(conn)
		}
	}()
}

// Refuse resets all connections and refuses new ones.
func (g *Proxy) Refuse() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.listener != nil {
		g.listener.Close()
		g.listener = nil
	}
	g.resetAll()
}

// Accept ends Refuse.
func (g *Proxy) Accept(t *testing.T) {
	t.Helper()
	g.listen(t, strings.TrimPrefix(g.URL, "http://"))
}

// Redirect resets all connections and forwards new ones to another server.
func (g *Proxy) Redirect(serverURL string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.target = strings.TrimPrefix(serverURL, "http://")
	g.resetAll()
}

// resetAll resets all connections. The caller holds the lock.
func (g *Proxy) resetAll() {
	for conn := range g.conns {
		_ = conn.(*net.TCPConn).SetLinger(0)
		conn.Close()
	}
	clear(g.conns)
}

// forward copies in both directions until one side ends, and then resets both connections: a
// graceful server announces the end in its response (Connection: close), and a server must detect
// immediately that a client has gone.
func (g *Proxy) forward(client net.Conn) {
	g.mu.Lock()
	to, refused := g.target, g.listener == nil
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
	g.conns[client], g.conns[server] = struct{}{}, struct{}{}
	if g.target != to || g.listener == nil { // changed while dialling
		g.resetAll()
	}
	g.mu.Unlock()
	var once sync.Once
	end := func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		for _, conn := range []net.Conn{client, server} {
			_ = conn.(*net.TCPConn).SetLinger(0)
			conn.Close()
			delete(g.conns, conn)
		}
	}
	go func() {
		_, _ = io.Copy(server, client)
		once.Do(end)
	}()
	_, _ = io.Copy(client, server)
	once.Do(end)
}
