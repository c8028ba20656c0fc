package imclient_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"markread/imclient"
)

// writeCounter counts the writes to a connection.
type writeCounter struct {
	net.Conn
	writes *atomic.Int32
}

func (c writeCounter) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	if n > 0 {
		c.writes.Add(1)
	}
	return n, err
}

var errLost = errors.New("the lease is lost")

// A lease that ends while the connection is being made, or between two calls on one connection,
// prevents the request from being sent.
func TestLease(t *testing.T) {
	t.Run("plain", func(t *testing.T) { mustKeepTheLease(t, httptest.NewServer) })
	t.Run("TLS", func(t *testing.T) { mustKeepTheLease(t, httptest.NewTLSServer) })
}

func mustKeepTheLease(t *testing.T, start func(http.Handler) *httptest.Server) {
	var arrived, dialled, writes atomic.Int32
	var lost atomic.Bool
	server := start(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		arrived.Add(1)
		fmt.Fprint(w, apiResult(0, ""))
	}))
	defer server.Close()
	o := options(server.URL)
	pool := &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn,
		error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, addr)
		if dialled.Add(1) == 1 {
			lost.Store(true) // the process stood still meanwhile
		}
		return writeCounter{conn, &writes}, err
	}}
	if trusted, ok := server.Client().Transport.(*http.Transport); ok &&
		trusted.TLSClientConfig != nil {
		pool.TLSClientConfig = trusted.TLSClientConfig.Clone()
	}
	defer pool.CloseIdleConnections()
	o.Transport = pool
	c := client(t, o)
	defer c.Close()
	checks := 0
	ctx := imclient.WithLease(t.Context(), func() error {
		checks++
		if lost.Load() {
			return errLost
		}
		return nil
	})
	read := imclient.Read{Report: "a", Peer: "b", Time: 1700000000}
	for _, step := range []struct {
		name    string
		lost    bool
		err     error
		arrived int32
	}{
		{"lost while dialling", false, errLost, 0},
		{"there again", false, nil, 1},
		{"on a connection that is kept", false, nil, 2},
		{"lost on a connection that is kept", true, errLost, 2},
		{"there again after that", false, nil, 3},
	} {
		lost.Store(step.lost)
		before := checks
		writes.Store(0)
		if err := c.MarkRead(ctx, read); !errors.Is(err, step.err) || step.err == nil &&
			err != nil {
			t.Errorf("%s: %v, want %v", step.name, err, step.err)
		}
		if n := arrived.Load(); n != step.arrived || checks == before {
			t.Errorf("%s: %d requests have arrived, want %d; the lease was checked %d times",
				step.name, n, step.arrived, checks-before)
		}
		if n := writes.Load(); pool.TLSClientConfig == nil && (n != 0) != (step.err == nil) ||
			n > 1 && pool.TLSClientConfig == nil {
			t.Errorf("%s: head and body went out in %d writes", step.name, n)
		}
	}
	if n := dialled.Load(); n > 3 {
		t.Errorf("%d connections for 5 calls", n)
	}
}
