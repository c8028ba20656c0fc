package worker

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"markread/consumer"
	"markread/imclient"
	"markread/worker/engine"
	"markread/worker/hold"
)

const (
	// at least: the proof of membership expires and is renewed without a wake-up
	recheckEvery = time.Second
	keyInterval  = time.Second // between checks for a changed key while the key is refused
)

// dispatch makes the calls that are due until ctx ends, each in its own goroutine and under the
// context work. The permits bound how many are in flight.
func (w *Worker) dispatch(
	ctx, work context.Context, g *consumer.Generation, calls *sync.WaitGroup,
) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		w.mu.Lock()
		now := time.Now()
		w.engine.SetMembership(now, w.lease(g))
		todo, again := w.engine.Next(now)
		w.mu.Unlock()
		w.markAlive()
		if todo != nil {
			calls.Go(func() { w.call(work, todo) })
			continue
		}
		wait := recheckEvery
		if !again.IsZero() {
			wait = min(wait, again.Sub(now))
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
		case <-w.wake:
		case <-timer.C:
		}
	}
}

func (w *Worker) call(ctx context.Context, c *engine.Call) {
	err := w.options.IM.MarkRead(ctx, c.Read)
	var failure *imclient.Error
	w.mu.Lock()
	defer w.mu.Unlock()
	if now := time.Now(); err == nil || errors.As(err, &failure) {
		w.engine.CallDone(now, c, failure)
	} else {
		if !errors.Is(err, context.Canceled) && !errors.Is(err, errNoProof) {
			withRecord(w.options.Log.Error().Err(err), c.Record()).
				Msg("a call ended without a response and without a known reason")
		}
		w.engine.CallInterrupted(now, c)
	}
	w.wakeWaiting()
}

// wakeWaiting wakes goroutines that wait for capacity, work or the drain. The caller holds the
// lock.
func (w *Worker) wakeWaiting() {
	for lane, capacity := range w.capacityFreed {
		if w.engine.HasCapacity(lane) {
			close(capacity)
			delete(w.capacityFreed, lane)
		}
	}
	notify(w.wake)
	if w.engine.HasLetters() {
		notify(w.lettersWaiting)
	}
}

func notify(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// watchKey checks for a changed key while calls are held for the credentials.
func (w *Worker) watchKey(ctx context.Context) {
	refused := func(h hold.Hold) bool { return h.Reason == hold.Credentials }
	every(ctx, keyInterval, func() {
		w.mu.Lock()
		held := slices.ContainsFunc(w.engine.Holds(), refused)
		w.mu.Unlock()
		if !held || !w.options.IM.KeyChanged() { // may read a file, so not under the lock
			return
		}
		w.mu.Lock()
		w.engine.KeyChanged(time.Now())
		w.mu.Unlock()
		notify(w.wake)
	})
}

// every calls f once per interval until ctx ends.
func every(ctx context.Context, interval time.Duration, f func()) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			f()
		}
	}
}
