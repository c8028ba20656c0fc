package group

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"markread/consumer/printable"
	"markread/worker/console/overview"
	"markread/worker/console/sample"
)

// endpoint is the admin server of one worker.
type endpoint struct {
	addr string     // to dial and to show
	ip   netip.Addr // to find its member; zero: not known
	// unresolved is why addr's name can't be resolved; "": it can, or need not be
	unresolved string
}

// peer is an endpoint that is read, and what was read.
type peer struct {
	endpoint
	tried  time.Time      // when the last scrape began; zero: none yet
	took   time.Duration  // the last scrape
	sample *sample.Member // the last scrape's; nil: it failed
	silent string         // why it failed
	member string         // the ID of the member that it was last
	// since when it exports the ID of a member that Kafka does not report; zero: it does not
	unknownSince time.Time

	details *overview.Details // nil: not known, or nothing is wrong
	asked   time.Time         // when details were last asked for
}

// fail records why a scrape failed.
func (p *peer) fail(why string) { p.sample, p.silent, p.details = nil, why, nil }

// checkGroup makes a worker silent that exports the name of another group.
func (p *peer) checkGroup(group string) {
	if p.sample == nil {
		return
	}
	if other := p.sample.Settings["group"]; other != "" && other != group {
		p.fail(fmt.Sprintf("it is a worker of the group %q, not of %q (--group)", other, group))
	}
}

// resolved is an entry of Options.Peers with its endpoints.
type resolved struct {
	entry     string
	endpoints []endpoint
	// several is set once the name had several addresses. It stays set: during a rollout a service
	// may have one address for a while, and its worker must not change its name.
	several bool
}

// lookUpTimeout limits the resolution of one name.
const lookUpTimeout = 5 * time.Second

// resolve resolves the names of Options.Peers, atATime at a time. One that can't be resolved keeps
// its addresses.
func (g *Group) resolve(ctx context.Context) {
	g.mu.Lock()
	names := slices.Clone(g.names)
	g.mu.Unlock()
	slots := make(chan struct{}, atATime)
	var lookUps sync.WaitGroup
	for i := range names {
		slots <- struct{}{}
		lookUps.Go(func() {
			defer func() { <-slots }()
			names[i] = names[i].refreshed(ctx, g.LookUp)
		})
	}
	lookUps.Wait()
	if ctx.Err() == nil {
		g.set(func() { g.names = names })
	}
}

// refreshed returns the entry with its present endpoints.
func (r resolved) refreshed(ctx context.Context,
	lookUp func(context.Context, string) ([]netip.Addr, error)) resolved {
	host, port, _ := net.SplitHostPort(r.entry) // the configuration was checked
	if ip, err := netip.ParseAddr(host); err == nil {
		r.endpoints = []endpoint{{addr: r.entry, ip: ip}}
		return r
	}
	ctx, cancel := context.WithTimeout(ctx, lookUpTimeout)
	defer cancel()
	ips, err := lookUp(ctx, host)
	if err != nil || len(ips) == 0 {
		if r.endpoints == nil {
			why := "it has no address"
			if err != nil {
				why = printable.Line(err.Error())
			}
			r.endpoints = []endpoint{{addr: r.entry, unresolved: "its name can't be resolved: " +
				why + "; is --peers correct?"}}
		}
		return r
	}
	ips = distinct(ips)
	if r.several = r.several || len(ips) > 1; !r.several {
		r.endpoints = []endpoint{{addr: r.entry, ip: ips[0]}}
		return r
	}
	r.endpoints = nil
	for _, ip := range ips[:min(len(ips), 2*MaxWorkers)] {
		r.endpoints = append(r.endpoints,
			endpoint{addr: net.JoinHostPort(ip.String(), port), ip: ip})
	}
	return r
}

// distinct returns the addresses, sorted. A machine with both versions of IP is one worker, not
// two, so those of version 6 count only if there are no others.
func distinct(ips []netip.Addr) []netip.Addr {
	var four, six []netip.Addr
	for _, ip := range ips {
		if ip = ip.Unmap(); ip.Is4() {
			four = append(four, ip)
		} else {
			six = append(six, ip)
		}
	}
	if len(four) == 0 {
		four = six
	}
	slices.SortFunc(four, netip.Addr.Compare)
	return slices.Compact(four)
}

// wanted returns the endpoints to read: of Options.Peers or, without these, one at the host of each
// member.
func (g *Group) wanted(names []resolved, view *kafkaView) (all []endpoint) {
	for _, r := range names {
		all = append(all, r.endpoints...)
	}
	if len(g.Peers) > 0 || view == nil || view.group == nil {
		return all
	}
	for _, m := range view.group.Members {
		if ip := addressOf(m.Host); ip.IsValid() {
			all = append(all, endpoint{
				addr: net.JoinHostPort(ip.String(), strconv.Itoa(g.PeerPort)), ip: ip})
		}
	}
	return all
}

// addressOf returns the address of a member's host; zero: it is none. The embedded broker adds the
// port of the connection.
func addressOf(host string) netip.Addr {
	if at, err := netip.ParseAddrPort(host); err == nil {
		return at.Addr().Unmap()
	}
	ip, _ := netip.ParseAddr(host) // zero if it is a name
	return ip.Unmap()
}

// updatePeers returns the peers for the wanted endpoints, each once, with what is known of them. At
// most MaxWorkers are returned; more is the number of others.
func updatePeers(old []*peer, wanted []endpoint) (peers []*peer, more int) {
	known := map[string]*peer{}
	for _, p := range old {
		known[p.addr] = p
	}
	seen := map[string]bool{}
	for _, e := range wanted {
		switch {
		case seen[e.addr]:
			continue
		case len(peers) == MaxWorkers:
			more++
			continue
		}
		seen[e.addr] = true
		p := known[e.addr]
		if p == nil {
			p = &peer{}
		}
		p.endpoint = e
		peers = append(peers, p)
	}
	return peers, more
}
