// Package groupstatus collects the status of a whole consumer group from Kafka and, optionally,
// from the admin server of one of its workers: members and their share of the rate, lag, unreadable
// partitions, dead letters. The result is values: [Report], and [Rates] of two reports; it does not
// print them.
//
// It works when no worker responds, joins no group and changes nothing. Each part fails
// independently: a value that is not known is nil, never 0, and the reason is in Report.Errors.
package groupstatus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"markread/consumer"
	"markread/consumer/admin"
	"markread/consumer/deadletter"
	"markread/consumer/event"
	"markread/consumer/kafkaclient"
	"markread/worker/console"
	"markread/worker/format"
)

// Options names the group and the sources of its status.
type Options struct {
	Kafka      *kafkaclient.Client
	Worker     *console.Client // nil: no worker is queried
	Group      string
	Topics     event.Topics
	MaxReplays int
	// Reading, if non-nil, is passed to the dead-letter store, to show its progress.
	Reading func(kafkaclient.TopicOffsets) (func(event.Record), func())
}

// Collector collects reports of a group, one after another. What it has read of the dead-letter
// topic it keeps for the next report, which reads only what was appended.
type Collector struct {
	Options
	store deadletter.Store
	index *deadletter.Index

	mu     sync.Mutex
	failed []string // errors of the current report
}

// NewCollector returns a collector. It connects to nothing yet.
func NewCollector(o Options) *Collector {
	return &Collector{Options: o,
		store: deadletter.Store{Topic: o.Kafka, Name: o.Topics.DeadLetter},
		index: deadletter.NewIndex(o.MaxReplays, deadletter.Filter{})}
}

// fail records an error, once.
func (l *Collector) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var away *kafkaclient.UnreachableError // every part that needs this broker fails with it
	if errors.As(err, &away) {
		err = away
	}
	if text := format.Line(err.Error()); !slices.Contains(l.failed, text) {
		l.failed = append(l.failed, text)
	}
}

// Report collects all parts concurrently, once Kafka has responded or failed, so that they are of
// the same moment, Report.At. Each part fails independently.
func (l *Collector) Report(ctx context.Context) *Report {
	l.failed = nil
	missing, err := l.missingTopics(ctx)
	r := &Report{At: time.Now().UTC().Truncate(time.Millisecond)}
	var parts sync.WaitGroup
	if l.Worker != nil {
		parts.Go(func() { r.Worker = l.worker(ctx) })
	}
	if err == nil {
		parts.Go(func() { l.fromKafka(ctx, r, missing) })
	}
	parts.Wait()
	slices.Sort(l.failed)
	r.Errors = append([]string{}, l.failed...)
	return r
}

// worker returns the state of the worker; nil if it does not respond.
func (l *Collector) worker(ctx context.Context) *Worker {
	state, err := l.Worker.State(ctx)
	if err != nil {
		l.fail(err)
		return nil
	}
	r := WorkerOf(l.Worker.Base, state, l.Group)
	if n := len(r.Unreadable); n > 0 {
		first := r.Unreadable[0]
		l.fail(fmt.Errorf("the worker at %s can't read %s, the first is %s/%d: %s",
			l.Worker.Base, format.Count(n, "partition"), first.Topic, first.Partition,
			first.Reason))
	}
	return r
}

// missingTopics waits for Kafka, and returns the topics that don't exist.
func (l *Collector) missingTopics(ctx context.Context) (missing []string, err error) {
	if err = l.Kafka.Ping(ctx); err == nil {
		missing, err = admin.MissingTopics(ctx, l.Kafka, l.Topics)
	}
	if err != nil {
		l.fail(err)
	}
	flags := map[string]string{l.Topics.Live: "--topic", l.Topics.Backfill: "--backfill-topic",
		l.Topics.DeadLetter: "--dead-letter-topic"}
	for _, topic := range missing {
		l.fail(fmt.Errorf("topic %q (%s) does not exist; `markread run --create-topics` creates it",
			topic, flags[topic]))
	}
	return missing, err
}

// fromKafka fills in the parts of the report that come from Kafka.
func (l *Collector) fromKafka(ctx context.Context, r *Report, missing []string) {
	var group *consumer.DescribedGroup
	var lags [][]admin.PartitionLag
	var parts sync.WaitGroup
	parts.Go(func() {
		view, err := consumer.DescribeGroup(ctx, l.Kafka, l.Group)
		if err != nil {
			l.fail(err)
			return
		}
		group = &view
	})
	parts.Go(func() { lags = l.lags(ctx, missing) })
	if !slices.Contains(missing, l.Topics.DeadLetter) {
		parts.Go(func() { r.Letters = l.letters(ctx) })
	}
	parts.Wait()
	if group != nil {
		r.Group = GroupOf(l.Group, group)
		r.Group.NoteUnassigned(lags)
	}
	r.Lag = LagOf(lags, l.Topics.Backfill, r.Group, r.At)
	if r.Lag == nil {
		return
	}
	for _, topic := range r.Lag.Topics {
		for _, err := range topic.Unreadable() {
			l.fail(err)
		}
	}
}

// lags returns the lag of the event topics, the live one first, without topics whose lag is not
// known.
func (l *Collector) lags(ctx context.Context, missing []string) (lags [][]admin.PartitionLag) {
	found := make([][]admin.PartitionLag, 2)
	var parts sync.WaitGroup
	for i, topic := range []string{l.Topics.Live, l.Topics.Backfill} {
		if topic == "" || slices.Contains(missing, topic) {
			continue
		}
		parts.Go(func() {
			var err error
			if found[i], err = admin.Lag(ctx, l.Kafka, l.Group, topic); err != nil {
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

// letters reads the dead-letter topic and counts dead letters; nil if the topic can't be read.
func (l *Collector) letters(ctx context.Context) *DeadLetters {
	l.store.OnFind = l.Reading
	if err := l.store.Find(ctx, l.index); err != nil {
		l.fail(fmt.Errorf("dead letters can't be counted: %w", err))
		return nil
	}
	r := DeadLettersOf(l.Topics.DeadLetter, l.index)
	r.Reading = 1 + l.index.Resets()
	unread, more := l.store.Unread()
	for _, u := range unread {
		what := "among the dead letters"
		if !u.Damaged {
			what, r.Reading = "dead letters can't be counted", 0
		}
		l.fail(fmt.Errorf("%s: %s: %w; %s", what, u.Place(), u.Err, u.Do()))
	}
	if more > 0 {
		l.fail(fmt.Errorf("among the dead letters: %d more parts of topic %q can't be decoded",
			more, l.Topics.DeadLetter))
	}
	return r
}
