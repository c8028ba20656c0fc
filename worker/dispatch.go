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

// dispatcher makes the calls of one generation. Whatever changes the engine's state, an arriving
// batch or the end of a call, starts the calls that are due by then: that takes fewer wake-ups than
// another goroutine would. Its own goroutine, run, covers the passing of time. The permits bound
// how many calls are in flight.
type dispatcher struct {
	*Worker
	ctx        context.Context // no call begins after its end
	work       context.Context // of the calls
	generation *consumer.Generation
	calls      sync.WaitGroup
	asksAt     time.Time // when run asks the engine again; guarded by mu
}

// run starts calls as time passes, until ctx ends.
func (d *dispatcher) run() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for d.ctx.Err() == nil {
		d.mu.Lock()
		now := time.Now()
		d.asksAt = d.start(now)
		wait := d.asksAt.Sub(now)
		d.mu.Unlock()
		d.markAlive()
		timer.Reset(wait)
		select {
		case <-d.ctx.Done():
		case <-d.wake:
		case <-timer.C:
		}
	}
}

// start starts the calls that are due, each in its own goroutine, and returns when to ask again.
// The caller holds the lock.
func (d *dispatcher) start(now time.Time) (again time.Time) {
	for {
		c, again := d.next(now)
		if c == nil {
			return again
		}
		d.calls.Go(func() { d.call(c) })
	}
}

// next returns the call to make now; nil: none before again.
func (d *dispatcher) next(now time.Time) (c *engine.Call, again time.Time) {
	if d.ctx.Err() == nil {
		d.engine.SetMembership(now, d.lease(d.generation))
		c, again = d.engine.Next(now)
	}
	if recheck := now.Add(recheckEvery); again.IsZero() || again.After(recheck) {
		again = recheck
	}
	return c, again.Add(d.engine.Slack(now))
}

// changed wakes goroutines that wait for a change of the engine's state. again is when run must ask
// for the next call at the latest. The caller holds the lock.
func (d *dispatcher) changed(again time.Time) {
	if again.Before(d.asksAt) || d.ctx.Err() != nil {
		d.asksAt = again
		notify(d.wake) // run, or the drain
	}
	d.wakeWaiting()
}

// call makes a call, and then the calls that become due as the previous one ends: one goroutine for
// several calls need not grow its stack for each.
func (d *dispatcher) call(c *engine.Call) {
	for c != nil {
		err := d.options.IM.MarkRead(d.work, c.Read)
		d.mu.Lock()
		now := time.Now()
		d.ended(now, c, err)
		var again time.Time
		if c, again = d.next(now); c != nil {
			again = d.start(now)
		}
		d.changed(again)
		d.mu.Unlock()
	}
}

// ended reports the result of a call to the engine. The caller holds the lock.
func (d *dispatcher) ended(now time.Time, c *engine.Call, err error) {
	var failure *imclient.Error
	if err == nil || errors.As(err, &failure) {
		d.engine.CallDone(now, c, failure)
		return
	}
	if !errors.Is(err, context.Canceled) && !errors.Is(err, errNoProof) {
		withRecord(d.options.Log.Error().Err(err), c.Record()).
			Msg("a call ended without a response and without a known reason")
	}
	d.engine.CallInterrupted(now, c)
}

// wakeWaiting wakes goroutines that wait for capacity or for dead letters. The caller holds the
// lock.
func (w *Worker) wakeWaiting() {
	for lane, capacity := range w.capacityFreed {
		if w.engine.HasCapacity(lane) {
			close(capacity)
			delete(w.capacityFreed, lane)
		}
	}
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
