package cli

import (
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"markread/cmd/markread/cli/clitest"
)

func TestMain(m *testing.M) {
	clitest.RaiseParallelism()
	os.Exit(m.Run())
}

func TestSignals(t *testing.T) {
	for name, c := range map[string]struct {
		at      []time.Duration // when the signals arrive
		stopped bool            // the context has ended
		exited  bool            // the process would have ended immediately
	}{
		"none":                 {},
		"one":                  {at: []time.Duration{time.Second}, stopped: true},
		"one that comes twice": {at: []time.Duration{0, 50 * time.Millisecond}, stopped: true},
		"two": {at: []time.Duration{0, 100 * time.Millisecond}, stopped: true,
			exited: true},
		"one that comes twice, and a second": {at: []time.Duration{0, 0, time.Hour}, stopped: true,
			exited: true},
	} {
		synctest.Test(t, func(t *testing.T) {
			signals := make(chan os.Signal, 4)
			exited := false
			ctx, stop := contextUntilSignal(t.Context(), signals, func() { exited = true })
			begin := time.Now()
			for _, at := range c.at {
				time.Sleep(at - time.Since(begin))
				signals <- syscall.SIGTERM
				synctest.Wait()
			}
			if (ctx.Err() != nil) != c.stopped || exited != c.exited {
				t.Errorf("%s: stopped %v, exited %v", name, ctx.Err() != nil, exited)
			}
			stop()
			if ctx.Err() == nil {
				t.Errorf("%s: stop does not end the context", name)
			}
		})
	}
}

func try(t *testing.T, env []string, stdin string, args ...string) clitest.Result {
	t.Helper()
	return clitest.Commands(Run).Try(t, env, stdin, args...)
}

func begin(t *testing.T, env []string, args ...string) *clitest.Running {
	t.Helper()
	return clitest.Commands(Run).Begin(t, env, args...)
}

func beginWorker(t *testing.T, brokers, im string, extra ...string) (*clitest.Running, string) {
	t.Helper()
	return clitest.Commands(Run).BeginWorker(t, brokers, im, extra...)
}
