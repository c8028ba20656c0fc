// Package app is the composition root: it wires a worker, its admin server and, for `markread dev`,
// an embedded broker, a local IM server and sample traffic, from options as values; and it stops
// them in the right order. It reads no flag and no variable, and makes no decision about events.
// Any test can start the whole product in its own process and stop it.
//
// It promises that a stop ends within the drain timeout and [StopGrace], that nil means a clean one
// (calls ended, offsets committed, the group left), and that the admin server answers from the
// first moment to the last. Errors name the flag that would help.
//
// # A stop, in order
//
//   - cli.UntilSignal ends the context at the first SIGTERM, SIGINT or SIGHUP; a second one ends
//     the process at once, with status 1.
//   - [supervise] logs "stopping" and limits what follows to the drain timeout and [StopGrace].
//   - consumer.Consume ends the generation's context: worker.serve (worker/generation.go) stops
//     fetching and dispatching, and waits for what is in flight, up to the drain timeout.
//     Heartbeats and commits continue.
//   - The last commit; then the member leaves the group, so that its partitions move at once.
//   - The admin server ends; "stopped cleanly" is logged; the exit status is 0.
package app

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/rs/zerolog"

	"markread/consumer/admin"
	"markread/imclient"
	"markread/worker"
	"markread/worker/console"
)

// Options is a worker with its admin server.
type Options struct {
	Worker       worker.Options
	AdminAddr    string
	AdminToken   imclient.Secret
	CreateTopics bool
	Started      func(adminAddr string) // if non-nil, is called once the admin server listens
}

// Run runs a worker and its admin server until ctx ends; see [supervise].
func Run(ctx context.Context, o Options) error {
	s, err := open(o)
	if err != nil {
		return err
	}
	if o.Started != nil {
		o.Started(s.admin.Addr())
	}
	return s.run(ctx, func(ctx context.Context) error {
		return admin.CheckTopics(ctx, o.Worker.Kafka, o.Worker.Topics, o.CreateTopics)
	})
}

// OptionsError says that a worker can't have these options. Its text names the flag.
type OptionsError struct{ Err error }

func (e *OptionsError) Error() string { return e.Err.Error() }
func (e *OptionsError) Unwrap() error { return e.Err }

// service is a worker with its admin server, as [Run] and [Dev] need it.
type service struct {
	drain  time.Duration
	log    zerolog.Logger
	worker *worker.Worker
	admin  *console.Server
}

// gcPercent is how much garbage, in per cent of what is in use, waits for the collector: a
// full backlog is hundreds of megabytes, of which Go's 100 would make twice as many.
const gcPercent = 15

// open makes the worker and takes the admin server's port. After it, run must be called.
func open(o Options) (*service, error) {
	if _, chosen := os.LookupEnv("GOGC"); !chosen {
		debug.SetGCPercent(gcPercent)
	}
	w, err := worker.New(o.Worker)
	if err != nil {
		return nil, &OptionsError{err}
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(w, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	server, err := console.New(console.Options{Addr: o.AdminAddr, Token: o.AdminToken.Reveal(),
		Source: w, Controls: w, Gatherer: registry, Log: o.Worker.Log})
	if err != nil {
		return nil, err
	}
	return &service{drain: o.Worker.DrainTimeout, log: o.Worker.Log, worker: w, admin: server}, nil
}

// run answers on the admin server at once, prepares, then works until ctx ends: see [supervise].
func (s *service) run(ctx context.Context, prepare func(context.Context) error) error {
	s.log.Info().Str("addr", s.admin.Addr()).Msg("admin server listens")
	return supervise(ctx, s.log, s.drain, s.admin.Run, func(ctx context.Context) error {
		if err := prepare(ctx); err != nil {
			if ctx.Err() != nil && errors.Is(err, context.Cause(ctx)) {
				return nil // stopping is not failing
			}
			return err
		}
		return s.worker.Run(ctx)
	})
}

// StopGrace is how much longer than its drain timeout a worker may take to stop.
const StopGrace = 5 * time.Second

// supervise runs work until it returns or ctx ends, and show beside it, which ends last: what a
// stopping worker does can be seen. It returns nil after a clean stop. One that takes longer than
// drain and [StopGrace] is given up with an error; what the work still does is left to the end of
// the process. A show that fails stops the work.
func supervise(ctx context.Context, log zerolog.Logger, drain time.Duration, serve,
	work func(context.Context) error) error {
	serveCtx, stopServing := context.WithCancel(context.WithoutCancel(ctx))
	served := make(chan error, 1)
	go func() { defer close(served); served <- serve(serveCtx) }()
	defer stopServing()

	workCtx, stopWork := context.WithCancel(ctx)
	defer stopWork()
	worked := make(chan error, 1)
	go func() { worked <- work(workCtx) }()

	finish := func(err error) error { stopServing(); <-served; return err }
	var failure error
	select {
	case err := <-worked:
		return finish(err)
	case err := <-served:
		failure = fmt.Errorf("stopped, because the admin server failed: %w", err)
		stopWork()
	case <-ctx.Done():
		log.Info().Msgf("stopping: waiting up to %s for calls that are out; a second signal "+
			"stops at once", drain)
	}
	limit := drain + StopGrace
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	select {
	case err := <-worked:
		if err = finish(errors.Join(failure, err)); err != nil {
			return err
		}
		log.Info().Msg("stopped cleanly")
		return nil
	case <-deadline.C:
		return errors.Join(failure, fmt.Errorf("the stop took longer than %s (--drain-timeout "+
			"and %s); given up", limit, StopGrace))
	}
}
