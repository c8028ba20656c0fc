package worker

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"markread/consumer/deadletter"
	"markread/consumer/event"
	"markread/worker/engine"
)

const letterBatch = 64 // dead letters written concurrently

// writeLetters writes dead letters until ctx ends. While the topic refuses them, it tries one per
// second and the others wait; no offset of their events is committed.
func (w *Worker) writeLetters(ctx context.Context, topic *deadletter.Writer) {
	for ctx.Err() == nil {
		w.mu.Lock()
		batch := w.engine.NextLetters(letterBatch)
		w.mu.Unlock()
		waiting, retry := w.lettersWaiting, (<-chan time.Time)(nil)
		if len(batch) > 0 {
			if !w.writeBatch(ctx, topic, batch) {
				continue
			}
			waiting, retry = nil, time.After(engine.LetterRetry)
		}
		select {
		case <-ctx.Done():
		case <-waiting:
		case <-retry:
		}
	}
}

// writeBatch writes dead letters concurrently, and reports whether the topic refuses them.
func (w *Worker) writeBatch(
	ctx context.Context, topic *deadletter.Writer, batch []*engine.Letter,
) (refuses bool) {
	failures := make([]error, len(batch))
	var writes sync.WaitGroup
	for i, l := range batch {
		writes.Go(func() {
			l.Group = w.options.Group
			failures[i] = topic.Write(ctx, l.DeadLetter)
			if errors.Is(failures[i], context.Canceled) {
				failures[i] = engine.ErrInterrupted
			}
		})
	}
	writes.Wait()
	var refused event.Record
	first := slices.IndexFunc(failures, func(err error) bool { return err != nil })
	if first >= 0 {
		refused = batch[first].Event.Record // the engine takes its parts back
	}

	w.mu.Lock()
	defer w.mu.Unlock()
	refuses = w.engine.LettersWritten(time.Now(), batch, failures)
	w.wakeWaiting()
	notify(w.wake)
	if refuses && ctx.Err() == nil {
		line := w.throttled.Pass("letter", w.options.Log.Error()).Err(failures[first])
		withRecord(line, refused).
			Msg("the dead-letter topic refuses this record's dead letter; retrying, and nothing " +
				"behind it is committed")
	}
	return refuses
}
