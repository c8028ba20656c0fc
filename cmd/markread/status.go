package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"markread/consumer"
	"markread/consumer/admin"
	"markread/consumer/deadletter"
	"markread/consumer/event"
	"markread/consumer/kafkaclient"
)

// statusCommand looks at a whole group, from Kafka.
type statusCommand struct {
	AdminURL    *string `name:"admin-url" placeholder:"URL" help:"Admin server of one of the workers: what holds it, and what waits in its memory, is shown too."`
	JSON        bool    `name:"json" help:"Print one JSON document."`
	kafkaFlags  `embed:"" group:"Kafka:"`
	groupFlags  `embed:"" group:"Topics and group:"`
	replaysFlag `embed:"" group:"Worker:"`
	Log         logFlags `embed:"" group:"Log:"`
}

// Help is kong's: what follows the summary.
func (*statusCommand) Help() string {
	return `Members with their partitions and their share of the rate; the lag; partitions that can't be read;
open dead letters by class and code. All of it is read from Kafka, so it also works when no worker
answers. The dead-letter topic is read to its end, which takes as long as it is large. What can't be
found out or read is one line on standard error, the rest is shown, and the exit status is 1.

    markread status --brokers kafka-1:9092
    markread status --brokers kafka-1:9092 --admin-url http://127.0.0.1:8780
    markread status --brokers kafka-1:9092 --json | jq .lag.lag

The JSON document has "group", "lag", "letters", "worker" (null without --admin-url) and "errors"; what could not be found out is null.
README.md has all of its names.` + adminHelp + variablesHelp
}

func (c *statusCommand) validate(env environment) error {
	return firstError(func() error { return c.kafkaFlags.validate(env) }, c.groupFlags.validate, c.replaysFlag.validate)
}

func (c *statusCommand) run(ctx context.Context, p *process) error {
	if err := c.validate(p.env); err != nil {
		return err
	}
	var admin *adminClient
	if c.AdminURL != nil {
		var err error
		if admin, err = (&adminURLFlag{c.AdminURL}).client(p.env); err != nil {
			return err
		}
	}
	options, err := c.kafkaFlags.options(p.env)
	if err != nil {
		return err
	}
	p.begin(c.Log)
	c.warn(p)
	p.takeStandardLog(nil)
	options.Log = p.log
	kafka, err := kafkaclient.New(options)
	if err != nil {
		return usagef("--brokers: %v", err)
	}
	defer kafka.Close()
	l := &look{
		kafka: kafka, admin: admin, group: c.Group, maxReplays: c.MaxReplays, progress: newProgress(p.stderr, "reading the dead letters"),
		topics: c.topics(),
	}
	report := l.report(ctx)
	if ctx.Err() != nil {
		return errors.New("interrupted")
	}
	if c.JSON {
		out := json.NewEncoder(p.stdout)
		out.SetIndent("", "  ")
		err = out.Encode(report)
	} else {
		err = report.print(p.stdout)
	}
	if err == nil && len(report.Errors) > 0 {
		err = errors.New(strings.Join(report.Errors, "; "))
	}
	return err
}

// look is what a report is made from.
type look struct {
	kafka      *kafkaclient.Client
	admin      *adminClient // nil: no worker is asked
	group      string
	topics     event.Topics
	maxReplays int
	progress   *progress

	mu     sync.Mutex
	failed []string
}

// fail notes what could not be found out.
func (l *look) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var away *kafkaclient.UnreachableError // all that needs that broker fails for it
	if errors.As(err, &away) {
		err = away
	}
	if text := oneLine(err.Error()); !slices.Contains(l.failed, text) {
		l.failed = append(l.failed, text)
	}
}

// report finds everything out at once. Each part fails for itself.
func (l *look) report(ctx context.Context) *statusReport {
	r := &statusReport{At: time.Now().UTC().Truncate(time.Millisecond)}
	var parts sync.WaitGroup
	if l.admin != nil {
		parts.Go(func() {
			state, err := l.admin.state(ctx)
			if err != nil {
				l.fail(err)
				return
			}
			r.Worker = workerReportOf(l.admin.base, state, l.group)
			if n := len(r.Worker.Unreadable); n > 0 {
				first := r.Worker.Unreadable[0]
				l.fail(fmt.Errorf("the worker at %s can't read %s, the first is %s/%d: %s", l.admin.base,
					number(n, "partition"), first.Topic, first.Partition, first.Reason))
			}
		})
	}
	parts.Go(func() { l.fromKafka(ctx, r) })
	parts.Wait()
	slices.Sort(l.failed)
	r.Errors = append([]string{}, l.failed...)
	return r
}

// fromKafka fills in what the brokers know.
func (l *look) fromKafka(ctx context.Context, r *statusReport) {
	if err := l.kafka.Ping(ctx); err != nil {
		l.fail(err)
		return
	}
	missing, err := admin.MissingTopics(ctx, l.kafka, l.topics)
	if err != nil {
		l.fail(err)
		return
	}
	flags := map[string]string{l.topics.Live: "--topic", l.topics.Backfill: "--backfill-topic", l.topics.DeadLetter: "--dead-letter-topic"}
	for _, topic := range missing {
		l.fail(fmt.Errorf("topic %q (%s) does not exist; `markread run --create-topics` makes it", topic, flags[topic]))
	}
	var group *consumer.DescribedGroup
	var lags [][]admin.PartitionLag
	var parts sync.WaitGroup
	parts.Go(func() {
		view, err := consumer.DescribeGroup(ctx, l.kafka, l.group)
		if err != nil {
			l.fail(err)
			return
		}
		group = &view
	})
	parts.Go(func() { lags = l.lags(ctx, missing) })
	if !slices.Contains(missing, l.topics.DeadLetter) {
		parts.Go(func() { r.Letters = l.letters(ctx) })
	}
	parts.Wait()
	if group != nil {
		r.Group = groupReportOf(l.group, group)
		r.Group.unassigned(lags)
	}
	r.Lag = lagReportOf(lags, l.topics.Backfill, r.Group, r.At)
	if r.Lag == nil {
		return
	}
	for _, topic := range r.Lag.Topics {
		for _, err := range topic.unreadable() {
			l.fail(err)
		}
	}
}

// lags returns the lag of the event topics that are there, the live one first; of those alone that could be found out.
func (l *look) lags(ctx context.Context, missing []string) (lags [][]admin.PartitionLag) {
	found := make([][]admin.PartitionLag, 2)
	var parts sync.WaitGroup
	for i, topic := range []string{l.topics.Live, l.topics.Backfill} {
		if topic == "" || slices.Contains(missing, topic) {
			continue
		}
		parts.Go(func() {
			var err error
			if found[i], err = admin.Lag(ctx, l.kafka, l.group, topic); err != nil {
				l.fail(err)
			}
		})
	}
	parts.Wait()
	for _, lag := range found {
		if len(lag) > 0 {
			lags = append(lags, lag)
		}
	}
	return lags
}

// letters reads the dead-letter topic; nil if nothing of it could be read.
func (l *look) letters(ctx context.Context) *lettersReport {
	fold := deadletter.NewIndex(l.maxReplays, deadletter.Filter{})
	o := deadletter.Store{Topic: l.kafka, Name: l.topics.DeadLetter, Reading: func(e kafkaclient.TopicOffsets) (func(event.Record), func()) {
		stop := l.progress.start(e)
		return l.progress.add, stop
	}}
	if err := o.Find(ctx, fold); err != nil {
		l.fail(fmt.Errorf("dead letters can't be counted: %w", err))
		return nil
	}
	unread, more := o.Unread()
	for _, u := range unread {
		what := "dead letters can't be counted"
		if u.Damaged {
			what = "among the dead letters"
		}
		l.fail(fmt.Errorf("%s: %s: %w; %s", what, placeOf(u), u.Err, remedyOf(u)))
	}
	if more > 0 {
		l.fail(fmt.Errorf("among the dead letters: %d more parts of topic %q can't be decoded", more, l.topics.DeadLetter))
	}
	return lettersReportOf(l.topics.DeadLetter, fold)
}

// placeOf is where something can't be read.
func placeOf(u deadletter.Unread) string {
	if u.From < 0 {
		return fmt.Sprintf("topic %q, partition %d", u.Topic, u.Partition)
	}
	return fmt.Sprintf("topic %q, partition %d, offsets %d to %d", u.Topic, u.Partition, u.From, u.To-1)
}
