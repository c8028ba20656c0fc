package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"markread/consumer/event"
	"markread/consumer/kafkaclient"
	"markread/imclient"
	"markread/worker"
	"markread/worker/console"
)

// service is a worker with its admin server, as `run` and `dev` need it.
type service struct {
	engine     engineFlags
	group      string
	topics     event.Topics
	kafka      *kafkaclient.Client
	im         worker.Caller
	imTimeout  time.Duration // of one call
	adminAddr  string
	adminToken imclient.Secret
	log        logger

	worker *worker.Worker
	admin  *console.Server
}

// garbagePercent is how much garbage, in per cent of what is in use, waits for the collector: a full backlog is hundreds of megabytes, of which
// Go's 100 would make twice as many.
const garbagePercent = 15

// open makes the worker and takes the admin server's port. After it, run must be called.
func (s *service) open() error {
	if _, chosen := os.LookupEnv("GOGC"); !chosen {
		debug.SetGCPercent(garbagePercent)
	}
	v, c := build()
	var err error
	s.worker, err = worker.New(worker.Options{
		Kafka: s.kafka, IM: s.im, Topics: s.topics, Group: s.group,
		Rate: s.engine.Rate, MaxInFlight: s.engine.inFlight(), MaxPending: s.engine.MaxPending,
		MaxRejected: s.engine.MaxRejected, Attempts: s.engine.Attempts, Backoff: imclient.NewBackoff(s.engine.BackoffInitial, s.engine.BackoffMax),
		MaxReplays: s.engine.MaxReplays, CallTimeout: s.imTimeout, CommitEvery: s.engine.CommitEvery, DrainTimeout: s.engine.DrainTimeout,
		Log: s.log, Version: v, Commit: c,
	})
	if err != nil {
		return &usageError{err.Error()}
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(s.worker, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	s.admin, err = console.New(console.Options{
		Addr: s.adminAddr, Token: s.adminToken.Reveal(), Source: s.worker, Controls: s.worker, Gatherer: registry, Log: s.log,
	})
	return err
}

// run answers on the admin server at once, makes the topics ready, then works until ctx ends: see [supervise].
func (s *service) run(ctx context.Context, prepare func(context.Context) error) error {
	s.log.Info().Str("addr", s.admin.Addr()).Msg("admin server listens")
	return supervise(ctx, s.log, s.engine.DrainTimeout, s.admin.Run, func(ctx context.Context) error {
		if err := prepare(ctx); err != nil {
			if ctx.Err() != nil && errors.Is(err, context.Cause(ctx)) {
				return nil // stopping is not failing
			}
			return err
		}
		return s.worker.Run(ctx)
	})
}

// stopGrace is how much longer than its drain timeout a worker may take to stop.
const stopGrace = 5 * time.Second

// supervise runs work until it returns or ctx ends, and show beside it, which ends last: what a stopping worker does can be seen. It returns
// nil after a clean stop: calls ended, offsets committed, the group left. A stop that takes longer than drain and [stopGrace] is given up with an
// error; what the work still does is left to the end of the process. A show that fails stops the work.
func supervise(ctx context.Context, log logger, drain time.Duration, show, work func(context.Context) error) error {
	showing, stopShow := context.WithCancel(context.WithoutCancel(ctx))
	shown := make(chan error, 1)
	go func() { defer close(shown); shown <- show(showing) }()
	defer stopShow()

	working, stopWork := context.WithCancel(ctx)
	defer stopWork()
	worked := make(chan error, 1)
	go func() { worked <- work(working) }()

	var failure error
	select {
	case err := <-worked:
		stopShow()
		<-shown
		return err
	case err := <-shown:
		failure = fmt.Errorf("stopped, because the admin server failed: %w", err)
		stopWork()
	case <-ctx.Done():
		log.Info().Msgf("stopping: waiting up to %s for calls that are out; a second signal stops at once", drain)
	}
	limit := drain + stopGrace
	giveUp := time.NewTimer(limit)
	defer giveUp.Stop()
	select {
	case err := <-worked:
		stopShow()
		<-shown
		if err = errors.Join(failure, err); err != nil {
			return err
		}
		log.Info().Msg("stopped cleanly")
		return nil
	case <-giveUp.C:
		return errors.Join(failure, fmt.Errorf("the stop took longer than %s (--drain-timeout and %s); given up", limit, stopGrace))
	}
}
