package worker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"markread/consumer"
	"markread/consumer/deadletter"
	"markread/consumer/kafkaclient"
	"markread/imclient"
	"markread/worker/engine"
)

const lastCommitTimeout = 5 * time.Second // Kafka's request timeout

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

// serve works through one generation. ctx ends when it is revoked, or at a stop.
func (w *Worker) serve(ctx context.Context, g *consumer.Generation) {
	w.begin(g)
	defer w.end(g)

	// What is in flight when the generation ends is finished, so it has a context of its own.
	work, abandon := context.WithCancel(
		imclient.WithLease(context.Background(), func() error { return w.lease(g) }))
	defer abandon()

	var calls, dispatching, background sync.WaitGroup
	topic := deadletter.NewWriter(w.options.Kafka, w.options.Topics.DeadLetter)
	dispatching.Go(func() { w.dispatch(ctx, work, g, &calls) })
	background.Go(func() { w.writeLetters(work, topic) })
	background.Go(func() { every(work, w.options.CommitEvery, func() { _ = w.commit(work, g) }) })
	background.Go(func() { w.watchKey(work) })
	background.Go(func() { w.watchStalls(work, g) })

	g.Fetch(ctx, sink{w})
	dispatching.Wait()
	w.markAlive()
	drained := w.drain()
	w.markAlive()
	// The last commit, and what is left of the one before it.
	last, cancel := context.WithTimeout(context.Background(), lastCommitTimeout)
	defer cancel()
	abandon()
	calls.Wait()
	background.Wait()
	w.uncleanStop = errors.Join(drained, w.commit(last, g))
}

// begin starts working on g.
func (w *Worker) begin(g *consumer.Generation) {
	all, assigned := g.All(), g.Assigned()
	w.metrics.generations.Inc()
	w.markAlive()
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	w.generation = g
	w.member.Store(true)
	w.engine.Begin(now, g, len(assigned), len(all))
	if w.options.Rate == 0 {
		return
	}
	if why, do := g.Mismatch(); why != "" {
		w.engine.SetMismatch(now, why, do)
	} else {
		w.engine.SetShare(now, engine.Share(w.options.Rate, all, assigned))
	}
	w.options.Log.Info().Int("rate", w.options.Rate).Int("share", w.engine.State(now).Share).
		Int("assigned", len(assigned)).Int("partitions", len(all)).
		Msg("this worker's share of the rate")
}

// end drops g and its in-memory state.
func (w *Worker) end(g *consumer.Generation) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	w.engine.End(now)
	for topic, n := range g.Lost() {
		w.lost[topic] += n
	}
	w.generation = nil
	w.member.Store(false)
	w.outsideSince.Store(now.UnixNano())
}

// proofMargin is what a call may take beside its timeout, until it is sent and its connection
// closed.
const proofMargin = time.Second

// errNoProof is why a call was not sent.
var errNoProof = errors.New("this worker may have been given up by its group")

// lease returns an error unless a call that is sent now ends before another worker can have our
// partitions: before our session ends.
func (w *Worker) lease(g *consumer.Generation) error {
	if g.ProofAge() > kafkaclient.SessionTimeout-w.options.CallTimeout-proofMargin {
		return errNoProof
	}
	return nil
}
