package cli

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// UntilSignal returns a context that ends at the first SIGINT or SIGTERM, and at SIGHUP unless that is ignored, as nohup(1) has it. A second signal
// ends the process. The function that it returns ends the context and the watch.
func UntilSignal(parent context.Context) (context.Context, func()) {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	if !signal.Ignored(syscall.SIGHUP) {
		signal.Notify(signals, syscall.SIGHUP)
	}
	return watch(parent, signals, func() {
		forcedStop(os.Stderr)
		os.Exit(ExitFailed)
	})
}

// sameSignal is how long after the first signal another one counts as the same: some supervisors, timeout(1) among them, signal a process
// and then its group.
const sameSignal = 100 * time.Millisecond

// watch returns a context that ends at the first signal. The second one calls exit: a person who asks twice does not want to wait for
// calls that are still out. The function that it returns ends the context and the watch.
func watch(parent context.Context, signals <-chan os.Signal, exit func()) (context.Context, func()) {
	ctx, cancel := context.WithCancel(parent)
	done := make(chan struct{})
	go func() {
		select {
		case <-signals:
		case <-done:
			return
		}
		cancel()
		for first := time.Now(); ; {
			select {
			case <-signals:
			case <-done:
				return
			}
			if time.Since(first) >= sameSignal {
				exit()
				return
			}
		}
	}()
	return ctx, func() { cancel(); close(done) }
}
