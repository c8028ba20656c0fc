// Package app is the composition root. It wires a worker, its admin server and, for `markread dev`,
// an embedded broker, a local IM server and sample traffic, and it stops them in the right order.
// Its options are values: it reads no flags, and no environment variables except GOGC: unless that
// is set, it tunes the garbage collector (gc.go). It makes no decision about events. A test can
// start and stop the whole product in its own process.
//
// It promises:
//
//   - A shutdown ends within the drain timeout plus [StopGrace].
//   - A nil error means a clean shutdown: calls finished, offsets committed, the group left.
//   - The admin server responds from the start until the worker has stopped.
//   - Errors name the flag that would help.
//
// # Shutdown, in order
//
//   - cli.UntilSignal ends the context at the first SIGTERM, SIGINT or SIGHUP. A second signal ends
//     the process immediately, with status 1.
//   - [supervise] logs "stopping" and limits the rest to the drain timeout plus [StopGrace].
//   - consumer.Consume ends the generation's context: worker.serve (worker/generation.go) stops
//     fetching and dispatching, and waits for calls and dead letters in flight, up to the drain
//     timeout. Heartbeats and commits continue.
//   - The last commit is made; then the member leaves the group, so that its partitions move
//     immediately.
//   - The admin server stops; "stopped cleanly" is logged; the exit status is 0.
package app

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rs/zerolog"

	"markread/consumer/admin"
	"markread/imclient"
	"markread/worker"
	"markread/worker/console"
)

// Options configures a worker and its admin server.
type Options struct {
	Worker       worker.Options
	AdminAddr    string
	AdminToken   imclient.Secret
	CreateTopics bool
	Settings     func() []console.Setting // of the process, for its page; may be nil
	Started      func(adminAddr string)   // if non-nil, called once the admin server listens
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

// OptionsError is returned if the worker refuses its options. Its text names the flag.
type OptionsError struct{ Err error }

func (e *OptionsError) Error() string { return e.Err.Error() }
func (e *OptionsError) Unwrap() error { return e.Err }

// service is a worker with its admin server, shared by [Run] and [Dev].
type service struct {
	drain  time.Duration
	log    zerolog.Logger
	worker *worker.Worker
	admin  *console.Server
}

// open creates the worker and listens on the admin server's port. The caller must then call run.
func open(o Options) (*service, error) {
	tuneGC()
	w, err := worker.New(o.Worker)
	if err != nil {
		return nil, &OptionsError{err}
	}
	server, err := console.New(console.Options{Addr: o.AdminAddr, Token: o.AdminToken.Reveal(),
		Version: o.Worker.Version, Group: o.Worker.Group, Source: w, Controls: w, Inspector: w,
		Settings: settings(o.Settings), Gatherer: newRegistry(w), Log: o.Worker.Log})
	if err != nil {
		return nil, err
	}
	return &service{drain: o.Worker.DrainTimeout, log: o.Worker.Log, worker: w, admin: server}, nil
}

// run serves the admin server immediately, calls prepare, then runs the worker until ctx ends; see
// [supervise].
func (s *service) run(ctx context.Context, prepare func(context.Context) error) error {
	s.log.Info().Str("addr", s.admin.Addr()).Msg("admin server listens")
	return supervise(ctx, s.log, s.drain, s.admin.Run, func(ctx context.Context) error {
		if err := prepare(ctx); err != nil {
			if ctx.Err() != nil && errors.Is(err, context.Cause(ctx)) {
				return nil // stopping is not a failure
			}
			return err
		}
		return s.worker.Run(ctx)
	})
}

// StopGrace is how much longer than the drain timeout a shutdown may take.
const StopGrace = 5 * time.Second

// supervise runs work until it returns or ctx ends. It runs serve, the admin server, beside it and
// stops it last, so that a stopping worker stays observable. It returns nil after a clean shutdown.
// A shutdown that takes longer than drain plus [StopGrace] returns an error without waiting
// further; work then continues until the process ends. If serve fails, work is stopped.
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
		log.Info().Stringer("drain_timeout", drain).
			Msg("stopping: waiting for calls in flight; a second signal stops immediately")
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
		return errors.Join(failure, fmt.Errorf("the shutdown took longer than %s "+
			"(--drain-timeout + %s): gave up", limit, StopGrace))
	}
}

// settings returns the settings of a worker's own page; nil: they are not known.
func settings(own func() []console.Setting) func() console.Settings {
	if own == nil {
		return nil
	}
	return func() console.Settings {
		return console.Settings{Workers: []string{}, Settings: own()}
	}
}
