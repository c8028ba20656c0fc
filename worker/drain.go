package worker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"markread/consumer"
)

const lastCommit = 5 * time.Second // Kafka's request timeout

// drain waits until nothing is in flight. Its error says that it took longer than DrainTimeout.
func (w *Worker) drain() error {
	deadline := time.NewTimer(w.options.DrainTimeout)
	defer deadline.Stop()
	for {
		w.mu.Lock()
		idle := w.engine.Idle()
		w.mu.Unlock()
		if idle {
			return nil
		}
		select {
		case <-w.wake:
		case <-deadline.C:
			w.options.Log.Warn().Dur("drain_timeout_ms", w.options.DrainTimeout).
				Msg("the drain timeout is over; " +
					"what is still out will be repeated by the next owner")
			return fmt.Errorf("calls or dead letters were still out after the drain timeout of %v",
				w.options.DrainTimeout)
		}
	}
}

// commit counts and logs its failure, too.
func (w *Worker) commit(ctx context.Context, g *consumer.Generation) error {
	err := g.Commit(ctx)
	if err == nil || errors.Is(err, context.Canceled) {
		return nil
	}
	code := "network"
	var failed *consumer.CommitError
	if errors.As(err, &failed) {
		code = failed.Code
	}
	w.metrics.commitFailures.WithLabelValues(code).Inc()
	w.throttled.Pass("commit "+code, w.options.Log.Warn()).Err(err).Str("code", code).
		Msg("a commit failed; the next one commits the same and more")
	return err
}
