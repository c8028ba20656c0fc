package kafkaclient

import (
	"errors"
	"net"
	"sync"
	"time"
)

// silenceTimeout limits reads and writes for which kafka-go has set no deadline: an abandoned request must not
// keep its connection for ever.
const silenceTimeout = 30 * time.Second

// errExpired says that a connection's authentication is about to expire. The request was not sent.
var errExpired = errors.New("the connection's authentication expires")

// brokerConn is a connection to a broker as the transport has it.
//
// Where brokers let an authentication expire (connections.max.reauth.ms), they close the connection at the
// next request after that. kafka-go can't authenticate again on a connection (KIP-368), so that requests would
// fail again and again. Here the connection refuses them just before, and the router sends them on another.
type brokerConn struct {
	net.Conn
	expires time.Time // zero: never

	mu          sync.Mutex
	read, write bool // the library has set a deadline
}

func (c *brokerConn) SetDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.read, c.write = !t.IsZero(), !t.IsZero()
	return c.Conn.SetDeadline(t)
}

func (c *brokerConn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.read = !t.IsZero()
	return c.Conn.SetReadDeadline(t)
}

func (c *brokerConn) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.write = !t.IsZero()
	return c.Conn.SetWriteDeadline(t)
}

func (c *brokerConn) Read(b []byte) (int, error) {
	if err := c.limit(&c.read, c.Conn.SetReadDeadline); err != nil {
		return 0, err
	}
	return c.Conn.Read(b)
}

func (c *brokerConn) Write(b []byte) (int, error) {
	if !c.expires.IsZero() && time.Now().After(c.expires) {
		return 0, errExpired
	}
	if err := c.limit(&c.write, c.Conn.SetWriteDeadline); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}

func (c *brokerConn) limit(set *bool, deadline func(time.Time) error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if *set {
		return nil
	}
	return deadline(time.Now().Add(silenceTimeout))
}
