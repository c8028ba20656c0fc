//go:build exam && unix

package exam

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"markread/cmd/markread/exam/kit"
)

// idleConns holds idle connections to an admin server open.
type idleConns struct {
	addr      string
	reconnect atomic.Bool // open another connection when the server closes one
	stop      chan struct{}
	done      sync.WaitGroup

	opened atomic.Int64
}

// openIdleConns opens n connections of three kinds: silent, with half a header, idle after a
// request.
func openIdleConns(t *testing.T, addr string, n int) *idleConns {
	t.Helper()
	s := &idleConns{addr: strings.TrimPrefix(addr, "http://"), stop: make(chan struct{})}
	const half = "GET /healthz HTTP/1.1\r\nHost: x"
	texts := []string{"", half, half + "\r\n\r\n"}
	for i := range n {
		s.done.Go(func() {
			for {
				s.hold(texts[i%len(texts)])
				for wait := true; wait; wait = !s.reconnect.Load() {
					select {
					case <-s.stop:
						return
					case <-time.After(10 * time.Millisecond):
					}
				}
			}
		})
	}
	t.Cleanup(func() { close(s.stop); s.done.Wait() })
	return s
}

// hold opens a connection and keeps it until the server closes it.
func (s *idleConns) hold(text string) {
	conn, err := net.DialTimeout("tcp", s.addr, 5*time.Second)
	if err != nil {
		return
	}
	defer conn.Close()
	s.opened.Add(1)
	_, _ = io.WriteString(conn, text)
	ended := make(chan struct{})
	go func() { defer close(ended); _, _ = io.Copy(io.Discard, conn) }()
	select {
	case <-ended:
	case <-s.stop:
		conn.Close()
		<-ended
	}
}

// TestExamConnections: with a limit of 512 descriptors, 600 connections to the admin server are
// opened and left idle, and then reopened as fast as the server closes them. Health probes succeed
// within a second, and events are applied as before.
func TestExamConnections(t *testing.T) {
	const squatters, descriptors = 600, 512
	k := kit.StartBroker(t)
	sandbox := kit.StartSandbox(t)
	limited := inShell(fmt.Sprintf(`ulimit -n %d; exec "$@"`, descriptors))
	w := startWorkerPrepared(t, k, sandbox.URL, limited)
	w.WaitReady(t)
	flow := kit.StartTraffic(t, k, k.Live, "squat", 100)
	kit.Wait(t, "calls", 30*time.Second, func() bool { return sandbox.Stats(t).Applied >= 200 })
	w.WaitCaughtUp(t)

	probe := &http.Client{Timeout: time.Second, Transport: &http.Transport{
		DisableKeepAlives: true, Proxy: func(*http.Request) (*url.URL, error) { return nil, nil },
	}}
	open := func() int { // descriptors of the worker; 0 where there is no /proc
		entries, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", w.Cmd.Process.Pid))
		return len(entries)
	}
	watch := func(lasts time.Duration) (probes, failed, most int, slowest time.Duration) {
		for end := time.Now().Add(lasts); time.Now().Before(end); probes++ {
			began := time.Now()
			ok := false
			for try := 0; try < 2 && !ok; try++ { // as whoever probes: one that is displaced tries again
				res, err := probe.Get(w.Admin + "/healthz")
				if err == nil {
					res.Body.Close()
				}
				if ok = err == nil && res.StatusCode == http.StatusOK; !ok {
					t.Logf("probe %d: %v after %v", probes, err, time.Since(began))
				}
			}
			if !ok || time.Since(began) > time.Second {
				failed++
			}
			slowest, most = max(slowest, time.Since(began)), max(most, open())
			<-time.After(50 * time.Millisecond)
		}
		return probes, failed, most, slowest
	}
	report := func(how string, probes, failed, most int, slowest time.Duration) {
		kit.Figure(t, "connections", "%s: %d probes, %d failed, slowest %v; at most %d descriptors",
			how, probes, failed, slowest.Round(time.Millisecond), most)
		kit.Check(t, failed == 0, "%d of %d probes failed", failed, probes)
		kit.Check(t, most < descriptors-200, "%d of %d descriptors are in use", most, descriptors)
	}
	began := time.Now()
	s := openIdleConns(t, w.Admin, squatters)
	probes, failed, most, slowest := watch(4 * time.Second)
	report("held open", probes, failed, most, slowest)
	s.reconnect.Store(true)
	probes, failed, most, slowest = watch(4 * time.Second)
	report(fmt.Sprintf("reopened, %d in all", s.opened.Load()), probes, failed, most, slowest)
	s.reconnect.Store(false)

	events := flow.End()
	k.WaitCommitted(t, 20*time.Second, k.Live)
	w.Stop(t, syscall.SIGTERM, kit.StopLimit)
	delays := flow.Delays(sandbox.Calls(t).Between(began, time.Now()))
	kit.Figure(t, "connections-flow", "%d events at 100/s, delay %v", len(events), delays)
	kit.Check(t, delays.Longest() < 2*time.Second, "an event took %v", delays.Longest())
	kit.CompareReadTimes(t, kit.Largest(events), sandbox.ReadTimes(t))
}
