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

// drain waits until nothing is in flight. It returns an error if that takes longer than
// DrainTimeout.
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
				Msg("drain timeout reached; " +
					"calls and dead letters in flight will be repeated by the next owner")
			return fmt.Errorf("calls or dead letters were still in flight after the drain "+
				"timeout of %v", w.options.DrainTimeout)
		}
	}
}

// commit commits the offsets of g, and also counts and logs a failure.
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
		Msg("a commit failed; the next commit includes its offsets")
	return err
}

// serve processes one generation. ctx ends when the generation is revoked or the worker shuts down.
func (w *Worker) serve(ctx context.Context, g *consumer.Generation) {
	w.begin(g)
	defer w.end(g)

	// Calls in flight when the generation ends are finished, so they have their own context.
	work, abandon := context.WithCancel(
		imclient.WithLease(context.Background(), func() error { return w.lease(g) }))
	defer abandon()

	d := &dispatcher{Worker: w, ctx: ctx, work: work, generation: g}
	var dispatching, background sync.WaitGroup
	topic := deadletter.NewWriter(w.options.Kafka, w.options.Topics.DeadLetter)
	dispatching.Go(d.run)
	background.Go(func() { w.writeLetters(work, topic) })
	background.Go(func() { every(work, w.options.CommitEvery, func() { _ = w.commit(work, g) }) })
	background.Go(func() { w.watchKey(work) })
	background.Go(func() { w.watchStalls(work, g) })
	background.Go(func() { w.watchRetention(work) })

	g.Fetch(ctx, sink{d})
	dispatching.Wait()
	w.markAlive()
	drained := w.drain()
	w.markAlive()
	// last bounds the last commit, together with one that is still in flight.
	last, cancel := context.WithTimeout(context.Background(), lastCommitTimeout)
	defer cancel()
	abandon()
	d.calls.Wait()
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
	w.generation, w.groupSize, w.memberID = g, len(all), g.MemberID()
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

// proofMargin is how long a call may take beyond its timeout until it is sent and its connection
// closed.
const proofMargin = time.Second

// errNoProof is the reason why a call was not sent.
var errNoProof = errors.New("this worker may have been removed from its group")

// lease returns an error unless a call sent now ends before our session does. Only after the
// session can another worker own our partitions.
func (w *Worker) lease(g *consumer.Generation) error {
	if g.ProofAge() > kafkaclient.SessionTimeout-w.options.CallTimeout-proofMargin {
		return errNoProof
	}
	return nil
}
