package console

import (
	"container/list"
	"net"
	"net/http"
	"sync"
	"time"
)

// maxConns is the largest number of open connections. Ten scrapers and browsers need fewer. A
// worker needs some 300 descriptors for calls and brokers at the default rate, and some systems
// allow a process no more than 512.
const maxConns = 128

// minStay is how long a connection stays open at least after its last change of state, also while
// others connect as fast as they can: a probe sends its request within that time. Newer connections
// wait to be accepted; for 600 of them that takes half a second.
const minStay = 100 * time.Millisecond

// connLimiter closes the connection that has been in its state the longest when there are too many:
// legitimate requests take milliseconds, except exports and plans of dead letters, which can be
// repeated. If it refused the newest one instead,
// anybody who holds maxConns connections open could lock out a health probe. The zero value is
// ready.
type connLimiter struct {
	mu    sync.Mutex
	order list.List // of *connState, by since, oldest first
	at    map[net.Conn]*list.Element
}

// connState is a connection and the time of its last change of state.
type connState struct {
	net.Conn
	since time.Time
}

// stateChanged is for [http.Server.ConnState]. The server calls it for a new connection before it
// accepts the next one, so there is never more than one too many.
func (c *connLimiter) stateChanged(conn net.Conn, state http.ConnState) {
	if oldest := c.track(conn, state); oldest != nil {
		time.Sleep(minStay - time.Since(oldest.since))
		_ = oldest.Close() // its goroutine detects that and ends
	}
}

// track returns the connection to close; nil: none.
func (c *connLimiter) track(conn net.Conn, state http.ConnState) *connState {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, known := c.at[conn]
	switch {
	case state == http.StateNew:
		if c.at == nil {
			c.at = make(map[net.Conn]*list.Element)
		}
		c.at[conn] = c.order.PushBack(&connState{conn, time.Now()})
	case !known: // being closed already
	case state == http.StateClosed || state == http.StateHijacked:
		c.forget(e)
	default:
		e.Value.(*connState).since = time.Now()
		c.order.MoveToBack(e)
	}
	if len(c.at) <= maxConns {
		return nil
	}
	return c.forget(c.order.Front())
}

// forget removes a connection and returns it. The caller holds the lock.
func (c *connLimiter) forget(e *list.Element) *connState {
	conn := c.order.Remove(e).(*connState)
	delete(c.at, conn.Conn)
	return conn
}
