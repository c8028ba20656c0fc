package main

import (
	"context"
	"errors"
	"fmt"
	"markread/consumer"
	"markread/consumer/admin"
	"markread/consumer/deadletter"
	"markread/consumer/event"
	"markread/consumer/kafkaclient"
	"slices"
	"sync"
	"time"
)

// lookOptions is the group, and who is asked.
type lookOptions struct {
	Kafka      *kafkaclient.Client
	Worker     *adminClient // nil: no worker is asked
	Group      string
	Topics     event.Topics
	MaxReplays int
	// Reading, if non-nil, is the dead-letter store's.
	Reading func(kafkaclient.TopicOffsets) (func(event.Record), func())
}

// lookAtGroup finds everything out at once. Each part fails for itself.
func lookAtGroup(ctx context.Context, o lookOptions) *statusReport {
	return (&look{lookOptions: o}).report(ctx)
}

// look is what a report is made from.
type look struct {
	lookOptions

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

func (l *look) report(ctx context.Context) *statusReport {
	r := &statusReport{At: time.Now().UTC().Truncate(time.Millisecond)}
	var parts sync.WaitGroup
	if l.Worker != nil {
		parts.Go(func() {
			state, err := l.Worker.state(ctx)
			if err != nil {
				l.fail(err)
				return
			}
			r.Worker = workerReportOf(l.Worker.URL(), state, l.Group)
			if n := len(r.Worker.Unreadable); n > 0 {
				first := r.Worker.Unreadable[0]
				l.fail(fmt.Errorf("the worker at %s can't read %s, the first is %s/%d: %s", l.Worker.URL(),
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
	if err := l.Kafka.Ping(ctx); err != nil {
		l.fail(err)
		return
	}
	missing, err := l.Kafka.MissingTopics(ctx, l.Topics)
	if err != nil {
		l.fail(err)
		return
	}
	flags := map[string]string{l.Topics.Live: "--topic", l.Topics.Backfill: "--backfill-topic", l.Topics.DeadLetter: "--dead-letter-topic"}
	for _, topic := range missing {
		l.fail(fmt.Errorf("topic %q (%s) does not exist; `markread run --create-topics` makes it", topic, flags[topic]))
	}
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
		r.Group = groupReportOf(l.Group, group)
		r.Group.unassigned(lags)
	}
	r.Lag = lagReportOf(lags, l.Topics.Backfill, r.Group, r.At)
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

// letters reads the dead-letter topic; nil if nothing of it could be read.
func (l *look) letters(ctx context.Context) *lettersReport {
	fold := deadletter.NewIndex(l.MaxReplays, deadletter.Filter{})
	o := deadletter.Store{Topic: l.Kafka, Name: l.Topics.DeadLetter, Reading: l.Reading}
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
		l.fail(fmt.Errorf("among the dead letters: %d more parts of topic %q can't be decoded", more, l.Topics.DeadLetter))
	}
	return lettersReportOf(l.Topics.DeadLetter, fold)
}

// placeOf is where something can't be read.
func placeOf(u deadletter.Unread) string {
	if u.From < 0 {
		return fmt.Sprintf("topic %q, partition %d", u.Topic, u.Partition)
	}
	return fmt.Sprintf("topic %q, partition %d, offsets %d to %d", u.Topic, u.Partition, u.From, u.To-1)
}

// remedyOf is what to do about it.
func remedyOf(u deadletter.Unread) string {
	if u.Damaged {
		return "find out what wrote it; markread did not, so no letter is lost"
	}
	return u.Do()
}
