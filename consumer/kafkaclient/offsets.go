package kafkaclient

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/segmentio/kafka-go"
	"golang.org/x/sync/errgroup"
)

// errTimeout says that a look at the cluster has taken as long as somebody waits for it.
var errTimeout = fmt.Errorf("no answer from the Kafka brokers, given up after %s", DescribeTimeout)

// WithTimeout bounds a look at the cluster that somebody waits for.
func WithTimeout(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, DescribeTimeout, errTimeout)
}

// Ping makes sure, for 8 s, that a broker can be talked to. A *RefusedError comes at once.
func (c *Client) Ping(ctx context.Context) error {
	ctx, cancel := withBrokerTimeout(ctx)
	defer cancel()
	return c.WaitForBroker(ctx)
}

// withBrokerTimeout bounds a try to reach any broker that somebody waits for.
func withBrokerTimeout(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, DescribeTimeout, errNoBroker)
}

var errNoBroker = fmt.Errorf("no Kafka broker of --brokers can be reached, given up after %s",
	DescribeTimeout)

// TopicOffsets is what the log of each partition of a topic held at one moment, as consumers may
// see it: without what open transactions have written, and what comes behind it.
type TopicOffsets struct {
	Topic      string
	Partitions []OffsetRange // by number
}

// OffsetRange are a log's first offset and the one behind its last. With Err they are not known.
type OffsetRange struct {
	First, End int64
	Err        error
}

// Size returns how many offsets there are. There are at most so many records: logs have holes.
func (e TopicOffsets) Size() (size int64) {
	for _, b := range e.Partitions {
		if b.Err == nil {
			size += max(0, b.End-b.First)
		}
	}
	return size
}

// TopicOffsets finds out what a topic holds now, for 8 s. A missing topic is a *MissingTopicError;
// a partition whose leader does not answer has its error.
func (c *Client) TopicOffsets(ctx context.Context, topic string) (TopicOffsets, error) {
	ctx, cancel := WithTimeout(ctx)
	defer cancel()
	c.UseTopics(topic)
	count := 0
	err := c.Retry(ctx, "counting the partitions of topic "+topic, func() error {
		counts, err := c.PartitionCounts(ctx, topic)
		count = counts[topic]
		return err
	})
	switch {
	case err != nil:
		return TopicOffsets{}, fmt.Errorf("partitions of topic %q: %w", topic, err)
	case count == 0:
		return TopicOffsets{}, &MissingTopicError{[]string{topic}}
	}
	e := TopicOffsets{Topic: topic, Partitions: make([]OffsetRange, count)}
	for i := range e.Partitions {
		e.Partitions[i].Err = errNotListed
	}
	// In rounds, so that one whose leader is dead does not keep the others waiting.
	for wait := NewBackoff(); c.listOffsets(ctx, e) && wait.Sleep(ctx); {
		c.RefreshMetadata()
	}
	return e, nil
}

// errNotListed is what is wrong with bounds that were not asked for.
var errNotListed = errors.New("not known")

// listOffsetsTimeout is how long one partition is waited for in a round.
const listOffsetsTimeout = 2 * time.Second

// listOffsets asks once for the bounds that are not known yet, and reports whether to ask again.
func (c *Client) listOffsets(ctx context.Context, e TopicOffsets) (again bool) {
	Parallel(parallelListOffsets, len(e.Partitions), func(partition int) {
		b := &e.Partitions[partition]
		if b.Err == nil || ctx.Err() != nil {
			return
		}
		ctx, cancel := context.WithTimeout(ctx, listOffsetsTimeout)
		defer cancel()
		b.First, b.End, b.Err = c.logRange(ctx, e.Topic, partition, kafka.ReadCommitted)
	})
	for _, b := range e.Partitions {
		again = again || b.Err != nil && (Retriable(b.Err) || errors.Is(b.Err, kafka.Unknown))
	}
	return again
}

// parallelListOffsets is how many partitions are asked for at the same time: each is a connection of its own
// while it waits.
const parallelListOffsets = 16

// Parallel calls do for the numbers below n, so many at a time, and returns when all calls have.
func Parallel(limit, n int, do func(i int)) {
	var all errgroup.Group
	all.SetLimit(limit)
	for i := range n {
		all.Go(func() error { do(i); return nil })
	}
	_ = all.Wait()
}
