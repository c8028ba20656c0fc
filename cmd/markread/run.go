package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"markread/consumer"
	"markread/imclient"
	"markread/worker"
	"markread/worker/console"
)

// runCommand is the worker.
type runCommand struct {
	kafkaFlags  `embed:"" group:"Kafka:"`
	groupFlags  `embed:"" group:"Topics and group:"`
	imFlags     `embed:"" group:"IM API:"`
	engineFlags `embed:"" group:"Worker:"`
	Uncapped    bool       `group:"Worker:" help:"Allow --rate 0 to another machine."`
	Admin       adminFlags `embed:"" group:"Admin server:"`
	Log         logFlags   `embed:"" group:"Log:"`
}

// Help is kong's: what follows the summary.
func (*runCommand) Help() string {
	return `SIGTERM or SIGINT stops it cleanly; a second one at once.

    export MARKREAD_IM_KEY_FILE=/run/secrets/im-key
    markread run --brokers kafka:9092 --create-topics --im-url singapore --im-app-id 1400000000` + variablesHelp
}

func (c *runCommand) validate(env environment) error {
	return firstError(
		func() error { return c.kafkaFlags.validate(env) },
		c.groupFlags.validate,
		c.imFlags.validate,
		func() error { return c.engineFlags.validate(c.IMTimeout) },
		func() error {
			if c.Rate == 0 && !c.local() && !c.Uncapped {
				return usagef("--rate 0 calls %s without any limit; if you mean it, add --uncapped", c.IMURL)
			}
			return nil
		},
		func() error { return c.Admin.validate(env) },
	)
}

// firstError calls the checks in order until one fails.
func firstError(checks ...func() error) error {
	for _, check := range checks {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func (c *runCommand) run(ctx context.Context, p *process) error {
	if err := c.validate(p.env); err != nil {
		return err
	}
	token, err := p.env.secret(adminToken)
	if err != nil {
		return err
	}
	im, err := c.imFlags.client(p.env, c.inFlight())
	if err != nil {
		return err
	}
	defer im.Close()
	options, err := c.kafkaFlags.options(p.env)
	if err != nil {
		return err
	}
	p.begin(c.Log)
	p.takeStandardLog(im.Mask)
	options.Log = p.log
	kafka, err := consumer.New(options)
	if err != nil {
		return usagef("--brokers: %v", err)
	}
	defer kafka.Close()
	topics := consumer.Topics{Live: c.Topic, Backfill: c.BackfillTopic, DeadLetter: c.DeadLetterTopic}
	s := &service{
		engine: c.engineFlags, group: c.Group, topics: topics, kafka: kafka, im: im,
		adminAddr: c.Admin.AdminAddr, adminToken: token, log: p.log,
	}
	if err := s.open(); err != nil {
		return err
	}
	return s.run(ctx, func(ctx context.Context) error { return kafka.CheckTopics(ctx, topics, c.CreateTopics) })
}

// service is a worker with its admin server, as `run` and `dev` need it.
type service struct {
	engine     engineFlags
	group      string
	topics     consumer.Topics
	kafka      *consumer.Client
	im         *imclient.Client
	adminAddr  string
	adminToken imclient.Secret
	log        logger

	worker *worker.Worker
	admin  *console.Server
}

// open makes the worker and takes the admin server's port. After it, run must be called.
func (s *service) open() error {
	v, c := build()
	var err error
	s.worker, err = worker.New(worker.Options{
		Kafka: s.kafka, IM: s.im, Topics: s.topics, Group: s.group,
		Rate: s.engine.Rate, MaxInFlight: s.engine.inFlight(), MaxPending: s.engine.MaxPending,
		Attempts: s.engine.Attempts, Backoff: imclient.NewBackoff(s.engine.BackoffInitial, s.engine.BackoffMax),
		CommitEvery: s.engine.CommitEvery, DrainTimeout: s.engine.DrainTimeout,
		Log: s.log, Version: v, Commit: c,
	})
	if err != nil {
		return &usageError{err.Error()}
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(s.worker, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	s.admin, err = console.New(console.Options{
		Addr: s.adminAddr, Token: s.adminToken.Reveal(), Source: s.worker, Gatherer: registry, Log: s.log,
	})
	return err
}

// stopGrace is how much longer than its drain timeout a worker may take to stop.
const stopGrace = 5 * time.Second

// run answers on the admin server at once, makes the topics ready, then works until ctx ends. It returns nil after a clean stop: calls
// ended, offsets committed, the group left. A stop that takes longer than the drain timeout and 5 s is given up, with what it still does left
// to the end of the process.
func (s *service) run(ctx context.Context, prepare func(context.Context) error) error {
	s.log.Info().Str("addr", s.admin.Addr()).Msg("admin server listens")
	adminCtx, stopAdmin := context.WithCancel(context.WithoutCancel(ctx))
	adminDone := make(chan struct{})
	var adminErr error
	go func() { defer close(adminDone); adminErr = s.admin.Run(adminCtx) }()
	defer func() { stopAdmin(); <-adminDone }()

	work, stop := context.WithCancel(ctx)
	defer stop()
	done := make(chan error, 1)
	go func() { done <- s.work(work, prepare) }()
	select {
	case err := <-done:
		return err
	case <-adminDone:
		stop()
		<-done
		return adminErr
	case <-ctx.Done():
	}
	s.log.Info().Msg("stopping: calls that are out may end; a second signal stops at once")
	limit := time.NewTimer(s.engine.DrainTimeout + stopGrace)
	defer limit.Stop()
	select {
	case err := <-done:
		if err == nil {
			s.log.Info().Msg("stopped cleanly")
		}
		return err
	case <-limit.C:
		return fmt.Errorf("the stop took longer than --drain-timeout (%s) + %s; given up", s.engine.DrainTimeout, stopGrace)
	}
}

func (s *service) work(ctx context.Context, prepare func(context.Context) error) error {
	if err := prepare(ctx); err != nil {
		if ctx.Err() != nil && errors.Is(err, context.Cause(ctx)) {
			return nil // stopping is not failing
		}
		return err
	}
	return s.worker.Run(ctx)
}
