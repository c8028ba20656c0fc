package group

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"markread/consumer"
	"markread/consumer/admin"
	"markread/consumer/event"
	"markread/consumer/kafkaclient"
	"markread/worker/console/overview"
	"markread/worker/format"
	"markread/worker/groupstatus"
)

// kafkaView is what Kafka reports about the group at one moment.
type kafkaView struct {
	group       *groupstatus.Group // the latest that is known; nil: none
	current     bool               // group was read now
	lag         *groupstatus.Lag   // nil: not known
	unreachable bool               // no broker responds
	errors      []string
}

// kafkaReader reads kafkaViews, from one goroutine.
type kafkaReader struct {
	Options
	group *groupstatus.Group // the last known
}

func newKafkaReader(o Options) *kafkaReader {
	return &kafkaReader{Options: o}
}

// read reads the group and its lag. If the group can't be read, its last known state remains: the
// members' addresses are needed to read the workers.
func (k *kafkaReader) read(ctx context.Context) *kafkaView {
	view := &kafkaView{}
	missing, err := k.missingTopics(ctx)
	if err != nil {
		view.group, view.errors = k.group, []string{lineOf(err)}
		view.unreachable = !kafkaclient.IsRefused(err)
		return view
	}
	now := time.Now()
	lags := make([][]admin.PartitionLag, 2)
	errs := make([]error, 3)
	var group *groupstatus.Group
	var parts sync.WaitGroup
	parts.Go(func() {
		described, err := consumer.DescribeGroup(ctx, k.Kafka, k.Name)
		if errs[2] = err; err == nil {
			group = groupstatus.GroupOf(k.Name, &described)
		}
	})
	for i, topic := range k.Topics.Consumed() {
		if slices.Contains(missing, topic) {
			errs[i] = missingError(k.Topics, topic)
			continue
		}
		parts.Go(func() { lags[i], errs[i] = admin.Lag(ctx, k.Kafka, k.Name, topic) })
	}
	parts.Wait()
	lags = slices.DeleteFunc(lags, func(l []admin.PartitionLag) bool { return len(l) == 0 })
	if group != nil {
		group.NoteUnassigned(lags)
		k.group = group
	}
	view.group, view.current = k.group, group != nil
	view.lag = groupstatus.LagOf(lags, k.Topics.Backfill, group, now)
	view.errors = linesOf(errs)
	if group != nil && group.State != string(consumer.GroupEmpty) &&
		group.State != string(consumer.GroupRebalancing) { // the sentence on top says those
		view.errors = append(view.errors, group.Notes...)
	}
	return view
}

func missingError(topics event.Topics, topic string) error {
	return fmt.Errorf("topic %q (%s) does not exist; `markread run --create-topics` creates it", topic,
		topics.Flag(topic))
}

// missingTopics waits for Kafka, and returns the topics that don't exist.
func (k *kafkaReader) missingTopics(ctx context.Context) ([]string, error) {
	if err := k.Kafka.Ping(ctx); err != nil {
		return nil, err
	}
	return admin.MissingTopics(ctx, k.Kafka, k.Topics)
}

// linesOf returns the errors' texts, each once. All that needs an unreachable broker fails with the
// same error.
func linesOf(errs []error) (lines []string) {
	for _, err := range errs {
		if err == nil {
			continue
		}
		if line := lineOf(err); !slices.Contains(lines, line) {
			lines = append(lines, line)
		}
	}
	return lines
}

func lineOf(err error) string {
	if away, ok := errors.AsType[*kafkaclient.UnreachableError](err); ok {
		err = away
	}
	return format.Line(err.Error())
}

// lettersCount is the number of dead letters at one moment.
type lettersCount struct {
	count *overview.DeadLetters // nil: not known
	err   string                // why not
}

// countLetters counts the dead letters.
func (g *Group) countLetters(ctx context.Context) lettersCount {
	count, err := g.CountLetters(ctx)
	if errors.Is(err, kafkaclient.UnknownTopicOrPartition) {
		err = missingError(g.Topics, g.Topics.DeadLetter)
	}
	if err != nil {
		return lettersCount{err: "dead letters can't be counted: " + lineOf(err)}
	}
	return lettersCount{count: &count}
}
