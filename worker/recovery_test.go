package worker_test

import (
	"context"
	"net"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"markread/imclient"
	"markread/imclient/sandbox"
	"markread/worker"
)

// After an outage in which nothing new arrives, calls resume within a second or two, in whichever
// second it ends and however it looked: nothing waits for a probe that hangs.
func TestRecoveryAfterAnOutage(t *testing.T) {
	latency := sandbox.Latency{P50: 20 * time.Millisecond, P99: 50 * time.Millisecond}
	for name, rule := range map[string]sandbox.Rule{
		"502":     {Kind: sandbox.KindStatus, Status: 502},
		"code":    {Kind: sandbox.KindCode, Code: 60008},
		"hang":    {Kind: sandbox.KindHang},
		"refused": {Kind: sandbox.KindReset}, // connections that exist; new ones are refused
	} {
		t.Run(name, func(t *testing.T) {
			oneIsEnough(t, name == "hang")
			for _, lasts := range []time.Duration{7 * time.Second, 8 * time.Second, 10 * time.Second,
				10500 * time.Millisecond, 12 * time.Second, 40 * time.Second} {
				inBubble(t, func(s *stack) {
					var down atomic.Bool
					w := s.start(func(o *worker.Options) { o.IM = s.refusingClient(&down) })
					time.Sleep(5 * time.Second)
					s.fault(sandbox.Faults{Latency: latency, Rules: []sandbox.Rule{rule}})
					down.Store(name == "refused")
					s.publishMany(topics.Live, "reader", 0, 1000)
					time.Sleep(lasts)
					if !s.heldFor(w, "outage") {
						t.Errorf("%v: not held", lasts)
					}
					s.fault(sandbox.Faults{Latency: latency})
					down.Store(false)
					ended := time.Now()
					time.Sleep(5 * time.Second)
					atLeast := 750 // the next probe is sent within a second
					if lasts > 15*time.Second {
						atLeast = 550 // within two
					}
					n := s.succeededBetween(ended, time.Now())
					if n < atLeast {
						t.Errorf("%v: %d accepted in the 5 s after it, want %d", lasts, n, atLeast)
					}
					w.waitSettled(t, 1000)
					s.mustStop(w)
					t.Logf("%v: %d accepted in the 5 s after it", lasts, n)
				})
			}
		})
	}
}

// refusingClient returns an IM client whose connections are refused while down is set.
func (s *stack) refusingClient(down *atomic.Bool) *imclient.Client {
	return s.clientVia(imclient.Key(key), func(ctx context.Context) (net.Conn, error) {
		if down.Load() {
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
		}
		return s.dial(ctx, "tcp", imAddr)
	})
}
