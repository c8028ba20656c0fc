package consumer

import (
	"context"
	"net"
	"sync"
)

// conns keeps the group's connections, to cut them.
type conns struct {
	dial func(ctx context.Context, network, addr string) (net.Conn, error)

	mu   sync.Mutex
	live map[*groupConn]struct{}
	off  bool
}

type groupConn struct {
	net.Conn
	conns *conns
}

func (c *conns) open(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := c.dial(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	g := &groupConn{conn, c}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.off {
		conn.Close()
		return nil, net.ErrClosed
	}
	if c.live == nil {
		c.live = map[*groupConn]struct{}{}
	}
	c.live[g] = struct{}{}
	return g, nil
}

func (g *groupConn) Close() error {
	g.conns.mu.Lock()
	delete(g.conns.live, g)
	g.conns.mu.Unlock()
	return g.Conn.Close()
}

func (c *conns) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.off = true
	for g := range c.live {
		g.Conn.Close()
	}
}
