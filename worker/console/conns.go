package console

import (
	"container/list"
	"net"
	"net/http"
	"sync"
	"time"
)

// maxConns is how many connections are open at most. Ten scrapers and browsers
// need fewer. A worker needs some 300 descriptors for calls and brokers at the
// default rate, and some systems allow a process no more than 512.
const maxConns = 64

// makeRoom is how long the server waits with the next connection after it has
// closed one. So each has at least maxConns of these, 64 ms, before it is the
// oldest, however fast others connect.
const makeRoom = time.Millisecond

// conns closes the connection that has been in its state the longest when
// there are too many: the newest are those of somebody who waits for a
// response, and no honest request takes longer than milliseconds. To refuse
// the newest instead would let anybody who holds maxConns connections open
// shut out a health probe. The zero value is ready.
type conns struct {
	mu    sync.Mutex
	order list.List // of net.Conn, by their last change of state, oldest first
	at    map[net.Conn]*list.Element
}

// changed is for [http.Server.ConnState]. The server calls it for a new
// connection before it accepts the next one, so there is never more than one
// too many.
func (c *conns) changed(conn net.Conn, state http.ConnState) {
	if oldest := c.note(conn, state); oldest != nil {
		_ = oldest.Close() // its goroutine finds out and ends
		time.Sleep(makeRoom)
	}
}

// note returns the connection to close, nil: none.
func (c *conns) note(conn net.Conn, state http.ConnState) net.Conn {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, known := c.at[conn]
	switch {
	case state == http.StateNew:
		if c.at == nil {
			c.at = make(map[net.Conn]*list.Element)
		}
		c.at[conn] = c.order.PushBack(conn)
	case !known: // closed by us
	case state == http.StateClosed || state == http.StateHijacked:
		c.forget(e)
	default:
		c.order.MoveToBack(e)
	}
	if len(c.at) <= maxConns {
		return nil
	}
	return c.forget(c.order.Front())
}

// forget removes a connection and returns it. The caller holds the lock.
func (c *conns) forget(e *list.Element) net.Conn {
	conn := c.order.Remove(e).(net.Conn)
	delete(c.at, conn)
	return conn
}
