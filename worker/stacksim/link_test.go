package stacksim

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// link is one connection of the simulated network. Unlike a pipe it has buffers, like a real
// connection: written bytes may still be in flight when an end dies, and it can be frozen or cut
// after any byte.
type link struct {
	client, service string // the dialler, and what it dialled
	number          int    // of this client's connections to that service
	abrupt          bool   // closing it discards what is in flight, as SO_LINGER 0 does
	latency         time.Duration
	fate            fate
	onFate          func() // called when the fate occurs
	tap             *tap   // nil: not observed
	onClientWrite   func() // called after each write of the client; may be nil

	mu           sync.Mutex
	up, down     flow // client to server, server to client
	bytesWritten int  // bytes written, both ways
	frozen       bool
	dead         bool
}

// fate is what happens to a connection after so many bytes.
type fate struct {
	kind     fateKind
	after    int           // bytes, of both directions together
	duration time.Duration // of a freeze
	resumes  bool          // after a freeze: it continues; otherwise it dies
}

type fateKind int

const (
	lives fateKind = iota
	cuts
	freezes
)

// flow is one direction. The link's lock guards it.
type flow struct {
	chunks   []chunk
	written  int // bytes, ever
	read     int
	limit    int   // how far may be read while frozen: a position
	end      error // what the reader gets after the last byte
	changed  chan struct{}
	deadline time.Time // of the reader
	last     time.Time // when the last byte that was read was written
}

type chunk struct {
	data         []byte
	written, due time.Time
}

func newLink(owner, service string, number int) *link {
	l := &link{client: owner, service: service, number: number}
	l.up.changed, l.down.changed = make(chan struct{}, 1), make(chan struct{}, 1)
	return l
}

func notify(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (l *link) notifyBoth() { notify(l.up.changed); notify(l.down.changed) }

// write puts b in flight, and applies the link's fate. It never blocks.
func (l *link) write(f *flow, b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dead || f.end != nil {
		return 0, broken("write")
	}
	l.bytesWritten += len(b)
	keep := len(b)
	fateDue := l.fate.kind != lives && l.bytesWritten > l.fate.after
	if fateDue {
		keep = max(0, len(b)-(l.bytesWritten-l.fate.after))
		l.onFate()
	}
	now := time.Now()
	if fateDue && l.fate.kind == cuts {
		f.put(b[:keep], now, now.Add(l.latency))
		l.cut(false)
		return keep, broken("write")
	}
	from := f.written
	f.put(b, now, now.Add(l.latency))
	if fateDue {
		then := l.fate.resumes
		l.freeze()
		if f.limit < 0 || f.limit > from+keep {
			f.limit = max(f.read, from+keep)
		}
		time.AfterFunc(l.fate.duration, func() { l.thaw(then) })
		l.fate = fate{}
	}
	notify(f.changed)
	return len(b), nil
}

func (f *flow) put(b []byte, written, due time.Time) {
	if len(b) == 0 {
		return
	}
	f.chunks = append(f.chunks, chunk{append([]byte(nil), b...), written, due})
	f.written += len(b)
}

// take reads the bytes that have arrived. Without bytes and error: wait until again, zero: until
// notified.
func (l *link) take(f *flow, b []byte) (n int, again time.Time, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if !f.deadline.IsZero() && !f.deadline.After(now) {
		return 0, again, os.ErrDeadlineExceeded
	}
	again = f.deadline
	if l.frozen && f.read >= f.limit {
		return 0, again, nil
	}
	if len(f.chunks) == 0 {
		return 0, again, f.end
	}
	c := &f.chunks[0]
	if c.due.After(now) {
		if again.IsZero() || c.due.Before(again) {
			again = c.due
		}
		return 0, again, nil
	}
	n = min(len(b), len(c.data))
	if l.frozen {
		n = min(n, f.limit-f.read)
	}
	copy(b, c.data[:n])
	f.read += n
	f.last = c.written
	if c.data = c.data[n:]; len(c.data) == 0 {
		f.chunks[0] = chunk{}
		f.chunks = f.chunks[1:]
	}
	return n, time.Time{}, nil
}

// freeze stops everything that has not been read. The caller holds the lock.
func (l *link) freeze() {
	l.frozen = true
	l.up.limit, l.down.limit = l.up.read, l.down.read
}

// thaw ends a freeze: the link continues, or dies.
func (l *link) thaw(goOn bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.frozen {
		return
	}
	l.frozen = false
	if !goOn {
		l.cut(true)
	}
	l.notifyBoth()
}

// cut ends both directions; bytes in flight are lost or still arrive. The caller holds the lock.
func (l *link) cut(lost bool) {
	l.dead = true
	for _, f := range []*flow{&l.up, &l.down} {
		if lost {
			f.chunks = nil
		}
		if f.end == nil {
			f.end = broken("read")
		}
	}
	l.frozen = false
	l.notifyBoth()
}

// sever is cut for callers without the lock.
func (l *link) sever(lost bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut(lost)
}

// freezeFor freezes the link for a while.
func (l *link) freezeFor(long time.Duration, then bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dead || l.frozen {
		return
	}
	l.freeze()
	time.AfterFunc(long, func() { l.thaw(then) })
}

// lastWritten returns when the last byte that the server has read was written.
func (l *link) lastWritten() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.up.last
}

func broken(op string) error {
	return &net.OpError{Op: op, Net: "tcp", Err: syscall.ECONNRESET}
}

// end is one end of a link, a net.Conn.
type end struct {
	link    *link
	in, out *flow
	server  bool
	onClose func() // called at the close
	once    sync.Once
}

func (e *end) Read(b []byte) (int, error) {
	for {
		n, again, err := e.link.take(e.in, b)
		if n > 0 && e.server && e.link.tap != nil {
			e.link.tap.requestBytes(b[:n])
		}
		if n > 0 || err != nil || len(b) == 0 {
			return n, err
		}
		if again.IsZero() {
			<-e.in.changed
			continue
		}
		timer := time.NewTimer(time.Until(again))
		select {
		case <-e.in.changed:
		case <-timer.C:
		}
		timer.Stop()
	}
}

func (e *end) Write(b []byte) (int, error) {
	if e.server && e.link.tap != nil && !e.link.tap.response(b) {
		e.link.sever(true) // done, but the client gets no response
		return 0, broken("write")
	}
	n, err := e.link.write(e.out, b)
	if n > 0 && !e.server && e.link.onClientWrite != nil {
		e.link.onClientWrite()
	}
	return n, err
}

// Close ends its own direction after what was written; what arrives the other way meets a closed
// end.
func (e *end) Close() error {
	e.once.Do(func() {
		e.link.mu.Lock()
		if e.link.abrupt && !e.server {
			e.link.cut(true)
		}
		if e.out.end == nil {
			e.out.end = io.EOF
		}
		e.in.chunks, e.in.end = nil, net.ErrClosed
		e.link.notifyBoth()
		e.link.mu.Unlock()
		e.onClose()
	})
	return nil
}

func (e *end) SetReadDeadline(t time.Time) error {
	e.link.mu.Lock()
	defer e.link.mu.Unlock()
	e.in.deadline = t
	notify(e.in.changed)
	return nil
}

func (e *end) SetDeadline(t time.Time) error  { return e.SetReadDeadline(t) }
func (*end) SetWriteDeadline(time.Time) error { return nil } // a write never blocks
func (e *end) LocalAddr() net.Addr            { return addrOf(e.link.client) }
func (e *end) RemoteAddr() net.Addr           { return addrOf("localhost:1") }

type addrOf string

func (addrOf) Network() string  { return "tcp" }
func (a addrOf) String() string { return string(a) }
