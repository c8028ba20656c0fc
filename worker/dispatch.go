package worker

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"markread/consumer"
	"markread/consumer/deadletter"
	"markread/imclient"
	"markread/worker/engine"
	"markread/worker/hold"
)

const (
	recheckEvery = time.Second     // the dispatcher looks at least so often: the proof of membership comes and goes
	letterBatch  = 64              // letters that are written at the same time
	lastCommit   = 5 * time.Second // Kafka's request timeout
	keyInterval  = time.Second     // between looks at the key while it is refused
)

// dispatch makes the calls that are due until ctx ends; each runs in a goroutine of its own, under the
// context work. How many there are at a time is bounded by the permits.
func (w *Worker) dispatch(ctx, work context.Context, g *consumer.Generation, calls *sync.WaitGroup) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		w.mu.Lock()
		now := time.Now()
		w.engine.SetMembership(now, w.lease(g))
		todo, again := w.engine.Next(now)
		w.mu.Unlock()
		w.turn()
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
		w.engine.Answer(now, c, failure)
	} else {
		if !errors.Is(err, context.Canceled) && !errors.Is(err, errNoProof) {
			ofRecord(w.options.Log.Error().Err(err), c.Record()).Msg("a call ended without an answer or a reason")
		}
		w.engine.CutOff(now, c)
	}
	w.wakeWaiting()
}

// wakeWaiting lets those look again who wait for room, work or the end of it. The caller holds the lock.
func (w *Worker) wakeWaiting() {
	for lane, roomy := range w.roomy {
		if w.engine.HasCapacity(lane) {
			close(roomy)
			delete(w.roomy, lane)
		}
	}
	poke(w.wake)
	if w.engine.HasLetters() {
		poke(w.letters)
	}
}

func poke(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// writeLetters writes dead letters until ctx ends. While the topic refuses it tries one a second, and the
// others wait: nothing that they stand for is committed.
func (w *Worker) writeLetters(ctx context.Context, topic *deadletter.Writer) {
	for {
		w.mu.Lock()
		batch := w.engine.NextLetters(letterBatch)
		w.mu.Unlock()
		if len(batch) == 0 {
			select {
			case <-ctx.Done():
				return
			case <-w.letters:
			}
			continue
		}
		refuses := w.writeBatch(ctx, topic, batch)
		if ctx.Err() != nil {
			return
		}
		if refuses {
			select {
			case <-ctx.Done():
				return
			case <-time.After(engine.LetterRetry):
			}
		}
	}
}

// writeBatch writes letters side by side, and says whether the topic refuses them.
func (w *Worker) writeBatch(ctx context.Context, topic *deadletter.Writer, batch []*engine.Letter) (refuses bool) {
	failures := make([]error, len(batch))
	var writes sync.WaitGroup
	for i, l := range batch {
		writes.Go(func() {
			l.Group = w.options.Group
			failures[i] = topic.Write(ctx, l.DeadLetter)
		})
	}
	writes.Wait()

	w.mu.Lock()
	defer w.mu.Unlock()
	for i, err := range failures {
		if errors.Is(err, context.Canceled) {
			failures[i] = engine.ErrCutOff
		}
	}
	refuses = w.engine.LettersWritten(time.Now(), batch, failures)
	w.wakeWaiting()
	if first := slices.IndexFunc(failures, func(err error) bool { return err != nil }); refuses && ctx.Err() == nil {
		ofRecord(w.thin.Pass("letter", w.options.Log.Error()).Err(failures[first]), batch[first].Event.Record).
			Msg("the dead-letter topic refuses the letter of this record; it is tried again, and nothing behind it is committed")
	}
	return refuses
}

// watchKey looks, as long as calls are held for the credentials, whether the key is another one by now: then
// it is tried at once.
func (w *Worker) watchKey(ctx context.Context) {
	every(ctx, keyInterval, func() {
		w.mu.Lock()
		held := slices.ContainsFunc(w.engine.Holds(), func(h hold.Hold) bool { return h.Reason == hold.Credentials })
		w.mu.Unlock()
		if !held || !w.options.IM.KeyChanged() { // it may read a file: not under the lock
			return
		}
		w.mu.Lock()
		w.engine.KeyChanged(time.Now())
		w.mu.Unlock()
		poke(w.wake)
	})
}

// every calls f at that interval until ctx ends.
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
