package group

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"markread/consumer/broker/brokertest"
)

const metrics = "# TYPE markread_build_info gauge\n" +
	"markread_build_info{commit=\"c\",go=\"g\",version=\"v1\"} 1\n" +
	"# TYPE markread_ready gauge\nmarkread_ready 1\n"

// hostile are responses to /metrics that no worker sends, each with a part of the reason that is
// shown.
var hostile = map[string]struct {
	respond http.HandlerFunc
	reason  string
}{
	"endless": {func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			if _, err := io.WriteString(w, metrics+strings.Repeat("# x\n", 1000)); err != nil {
				return
			}
		}
	}, "more than 1 MiB"},
	"dripping": {func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			_, _ = io.WriteString(w, "#\n")
			_ = http.NewResponseController(w).Flush()
			time.Sleep(100 * time.Millisecond)
		}
	}, "no response within 2s"},
	"silent": {func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"no response within 2s"},
	"redirects": {func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://localhost:9/metrics", http.StatusFound)
	}, "redirects elsewhere (HTTP 302)"},
	"not found":   {http.NotFound, "HTTP 404"},
	"unavailable": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }, "HTTP 503"},
	"garbage": {func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "<html>\x00\xff{{{\n")
	}, "can't be parsed"},
	"cut off": {func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "99999")
		_, _ = io.WriteString(w, metrics)
	}, "is it the admin server of a markread worker?"},
	"empty": {func(http.ResponseWriter, *http.Request) {}, "markread_build_info is missing"},
	"another program": {func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "# TYPE up gauge\nup 1\n")
	}, "markread_build_info is missing"},
	"headers": {func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X", strings.Repeat("x", 1<<20))
		_, _ = io.WriteString(w, metrics)
	}, "is it the admin server of a markread worker?"},
	"text of its own": {func(w http.ResponseWriter, r *http.Request) {
		c, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			_, _ = io.WriteString(c, "\x1b[31m\r\nnot HTTP\r\n"+strings.Repeat("y", 5000))
			_ = c.Close()
		}
	}, "is it the admin server of a markread worker?"},
}

// serve serves /metrics at an address of the network, until the test ends.
func serve(t *testing.T, network *kfake.VirtualNetwork, addr string, respond http.HandlerFunc) {
	t.Helper()
	l, err := network.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: respond}
	go server.Serve(l)
	t.Cleanup(func() { _ = server.Close() })
}

// Hostile servers are rows with a reason. In each round all others are read, within two seconds.
func TestHostilePeers(t *testing.T) {
	brokertest.Bubble(t, func(t *testing.T) {
		var network kfake.VirtualNetwork
		var endpoints []endpoint
		reasons := map[string]string{}
		add := func(addr, reason string) {
			endpoints, reasons[addr] = append(endpoints, endpoint{addr: addr}), reason
		}
		port := 0
		next := func() string { port++; return "localhost:" + strconv.Itoa(port) }
		for name, h := range hostile {
			addr := next()
			add(addr, h.reason)
			serve(t, &network, addr, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/metrics" || r.Header.Get("Authorization") != "" ||
					len(r.Cookies()) > 0 {
					t.Errorf("%s: it sends %s %v", name, r.URL, r.Header)
				}
				h.respond(w, r)
			})
		}
		for range 3 * atATime { // more than can be read in one round
			addr := next()
			add(addr, "no response within 2s")
			serve(t, &network, addr, hostile["silent"].respond)
		}
		add(next(), "no listener")
		endpoints = append(endpoints, endpoint{addr: "gone:1", unresolved: "no such host"})
		reasons["gone:1"] = "no such host"
		asked := map[string]*atomic.Int32{}
		for range 20 {
			addr := next()
			add(addr, "")
			count := new(atomic.Int32)
			asked[addr] = count
			serve(t, &network, addr, func(w http.ResponseWriter, r *http.Request) {
				count.Add(1)
				_, _ = io.WriteString(w, metrics)
			})
		}

		s := newScraper(func(ctx context.Context, network_, addr string) (net.Conn, error) {
			return network.DialContext(ctx, network_, addr)
		})
		defer s.http.CloseIdleConnections()
		peers, _ := updatePeers(nil, endpoints)
		const rounds = 8
		for range rounds {
			began := time.Now()
			s.scrapeAll(t.Context(), peers)
			if took := time.Since(began); took > scrapeTimeout {
				t.Errorf("a round took %v", took)
			}
		}
		for _, p := range peers {
			reason := reasons[p.addr]
			if !strings.Contains(p.silent, reason) || (p.sample == nil) != (reason != "") ||
				len(p.silent) > maxReason+len("…") || strings.ContainsAny(p.silent, "\x1b\r\n") {
				t.Errorf("%s: %q, sample %t, want %q", p.addr, p.silent, p.sample != nil, reason)
			}
			// The first round knows nothing yet of those that hang.
			if reason == "" && asked[p.addr].Load() < rounds-4 {
				t.Errorf("%s: read %d times in %d rounds", p.addr, asked[p.addr].Load(), rounds)
			}
			if reason == "" && (p.sample.Version != "v1" || !p.sample.Ready) {
				t.Errorf("%s: %+v", p.addr, p.sample)
			}
		}
	})
}

// Slow workers are not silent, however many there are: a scrape begins only if there is time.
func TestSlowPeers(t *testing.T) {
	brokertest.Bubble(t, func(t *testing.T) {
		var network kfake.VirtualNetwork
		var endpoints []endpoint
		for i := range 2 * atATime {
			addr := "localhost:" + strconv.Itoa(i+1)
			endpoints = append(endpoints, endpoint{addr: addr})
			serve(t, &network, addr, func(w http.ResponseWriter, r *http.Request) {
				time.Sleep(1500 * time.Millisecond)
				_, _ = io.WriteString(w, metrics)
			})
		}
		s := newScraper(network.DialContext)
		defer s.http.CloseIdleConnections()
		peers, _ := updatePeers(nil, endpoints)
		for range 4 {
			s.scrapeAll(t.Context(), peers)
		}
		for _, p := range peers {
			if p.sample == nil || p.silent != "" {
				t.Errorf("%s: %q", p.addr, p.silent)
			}
		}
	})
}

// A worker that responds again is no longer silent, and one that stops responding has no sample.
func TestPeerRecovers(t *testing.T) {
	brokertest.Bubble(t, func(t *testing.T) {
		var network kfake.VirtualNetwork
		well := true
		serve(t, &network, "localhost:1", func(w http.ResponseWriter, r *http.Request) {
			if !well {
				w.WriteHeader(500)
				return
			}
			_, _ = io.WriteString(w, metrics)
		})
		s := newScraper(network.DialContext)
		defer s.http.CloseIdleConnections()
		p := &peer{endpoint: endpoint{addr: "localhost:1"}}
		for i, now := range []bool{true, false, true} {
			well = now
			s.scrapeAll(t.Context(), []*peer{p})
			if (p.sample != nil) != now || (p.silent == "") != now {
				t.Errorf("%d: %+v", i, p)
			}
		}
	})
}

// The reasons name the remedy.
func TestExplain(t *testing.T) {
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	refused := &url.Error{Op: "Get", URL: "u", Err: fmt.Errorf("dial: %w", syscall.ECONNREFUSED)}
	for _, c := range []struct {
		ctx        context.Context
		addr       string
		err        error
		want, lack string
	}{
		{t.Context(), "10.0.0.1:8780", refused, "MARKREAD_ADMIN_ADDR=:8780", "dial"},
		{t.Context(), "localhost:8780", refused, "it has stopped", "loopback"},
		{ended, "10.0.0.1:8780", refused, "firewall", "refused"},
		{t.Context(), "10.0.0.1:8780", errors.New("EOF"), "EOF; is it the admin server", "refused"},
	} {
		if got := explain(c.ctx, c.addr, c.err).Error(); !strings.Contains(got, c.want) ||
			strings.Contains(got, c.lack) {
			t.Errorf("%s, %v: %q", c.addr, c.err, got)
		}
	}
}

// A name server that does not respond delays the first look at the workers once, not per name.
func TestNamesAreResolvedTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var peers []string
		for i := range atATime {
			peers = append(peers, fmt.Sprintf("worker-%d:8780", i))
		}
		g := New(Options{Peers: peers, LookUp: func(ctx context.Context, host string) ([]netip.Addr,
			error) {
			if host == "worker-3" {
				return []netip.Addr{netip.MustParseAddr("10.0.0.3")}, nil
			}
			<-ctx.Done()
			return nil, ctx.Err()
		}})
		began := time.Now()
		g.resolve(t.Context())
		if took := time.Since(began); took > lookUpTimeout {
			t.Errorf("%v", took)
		}
		if e := g.names[3].endpoints; len(e) != 1 || e[0].unresolved != "" ||
			g.names[4].endpoints[0].unresolved == "" {
			t.Errorf("%+v", g.names)
		}
	})
}
