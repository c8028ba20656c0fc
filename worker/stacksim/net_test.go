package stacksim

import (
	"context"
	"net"
	"sync"
	"syscall"
	"time"
)

// network connects the parts of a simulation. Everything about a connection is decided when it is
// dialled, by fates; in addition, the route from an owner to a service can be closed, blocked or
// cut at any moment.
type network struct {
	fates func(l *link) // sets the fate of a new link

	mu        sync.Mutex
	listeners map[string]*acceptor
	links     map[*link]struct{}
	dialled   map[route]int
	gates     map[route]*gate
	killed    map[string]bool
}

// route is a client and a service; an empty field means all.
type route struct{ owner, service string }

// gate decides what happens to dials.
type gate struct {
	refuse bool          // otherwise they hang
	opened chan struct{} // closed when it opens again
}

func newNetwork() *network {
	return &network{
		listeners: map[string]*acceptor{}, links: map[*link]struct{}{}, dialled: map[route]int{},
		gates:  map[route]*gate{},
		killed: map[string]bool{},
	}
}

// acceptor is a listener.
type acceptor struct {
	addr   string
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (n *network) Listen(_, addr string) (net.Listener, error) {
	a := &acceptor{addr: addr, conns: make(chan net.Conn, 1024), closed: make(chan struct{})}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.listeners[addr] = a
	return a, nil
}

func (a *acceptor) Accept() (net.Conn, error) {
	select {
	case c := <-a.conns:
		return c, nil
	case <-a.closed:
		return nil, net.ErrClosed
	}
}

func (a *acceptor) Close() error {
	a.once.Do(func() { close(a.closed) })
	return nil
}

func (a *acceptor) Addr() net.Addr { return addrOf(a.addr) }

type dialFunc = func(ctx context.Context, network, addr string) (net.Conn, error)

// dialer returns the dial function of an owner to a service: whatever address is dialled, it
// connects to that service's only address.
func (n *network) dialer(owner, service, addr string) dialFunc {
	return func(ctx context.Context, _, _ string) (net.Conn, error) {
		for {
			g, conn, err := n.dial(owner, service, addr)
			if g == nil {
				return conn, err
			}
			select {
			case <-g.opened:
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
	}
}

// dial connects, or returns the gate to wait for.
func (n *network) dial(owner, service, addr string) (*gate, net.Conn, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	refused := &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	if n.killed[owner] {
		return nil, nil, refused
	}
	for _, w := range []route{{owner, service}, {"", service}} {
		if g := n.gates[w]; g != nil && g.refuse {
			return nil, nil, refused
		} else if g != nil {
			return g, nil, nil
		}
	}
	a := n.listeners[addr]
	if a == nil {
		return nil, nil, refused
	}
	w := route{owner, service}
	n.dialled[w]++
	l := newLink(owner, service, n.dialled[w])
	if n.fates != nil {
		n.fates(l)
	}
	n.links[l] = struct{}{}
	left := 2
	gone := func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		if left--; left == 0 {
			delete(n.links, l)
		}
	}
	select {
	case <-a.closed:
		delete(n.links, l)
		return nil, nil, refused
	case a.conns <- &end{link: l, in: &l.up, out: &l.down, server: true, onClose: gone}:
	default:
		delete(n.links, l)
		return nil, nil, refused
	}
	return nil, &end{link: l, in: &l.down, out: &l.up, onClose: gone}, nil
}

// linksOf returns the links of a route.
func (n *network) linksOf(w route) []*link {
	n.mu.Lock()
	defer n.mu.Unlock()
	var links []*link
	for l := range n.links {
		if (w.owner == "" || l.client == w.owner) && (w.service == "" || l.service == w.service) {
			links = append(links, l)
		}
	}
	return links
}

// cutAll cuts the connections of a route; new ones are possible.
func (n *network) cutAll(w route, lost bool) {
	for _, l := range n.linksOf(w) {
		l.sever(lost)
	}
}

// block makes the dials of a route hang, and freezes its connections. The caller opens it again.
func (n *network) block(w route, long time.Duration, then bool) {
	n.shut(w, &gate{opened: make(chan struct{})})
	for _, l := range n.linksOf(w) {
		l.freezeFor(long, then)
	}
}

// refuse makes the dials of a route fail, and cuts its connections.
func (n *network) refuse(w route) {
	n.shut(w, &gate{refuse: true, opened: make(chan struct{})})
	n.cutAll(w, true)
}

func (n *network) shut(w route, g *gate) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if old := n.gates[w]; old != nil {
		close(old.opened)
	}
	n.gates[w] = g
}

// open ends block and refuse.
func (n *network) open(w route) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if g := n.gates[w]; g != nil {
		close(g.opened)
		delete(n.gates, w)
	}
}

// kill does to the network what the death of a process does. What the process sent may still
// arrive, except what was written to an abrupt link.
func (n *network) kill(owner string) {
	n.mu.Lock()
	n.killed[owner] = true
	n.mu.Unlock()
	for _, l := range n.linksOf(route{owner: owner}) {
		l.sever(l.abrupt || l.number%2 == 0)
	}
}

// heal ends all faults of the network; whoever sets fates must prevent new ones.
func (n *network) heal() {
	n.mu.Lock()
	for w, g := range n.gates {
		close(g.opened)
		delete(n.gates, w)
	}
	n.mu.Unlock()
	for _, l := range n.linksOf(route{}) {
		l.mu.Lock()
		l.fate = fate{}
		l.mu.Unlock()
		l.thaw(l.number%2 == 0)
	}
}
