package kafkaclient

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/segmentio/kafka-go"
	"golang.org/x/sync/errgroup"
)

// errTimeout is the cause of a context of WithTimeout that has reached its deadline.
var errTimeout = fmt.Errorf("no response from the Kafka brokers; gave up after %s", DescribeTimeout)

// WithTimeout limits to 8 s a request about the cluster that somebody waits for.
func WithTimeout(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, DescribeTimeout, errTimeout)
}

// Ping waits up to 8 s for a broker to respond. It returns a *RefusedError immediately.
func (c *Client) Ping(ctx context.Context) error {
	ctx, cancel := withBrokerTimeout(ctx)
	defer cancel()
	return c.WaitForBroker(ctx)
}

// withBrokerTimeout limits to 8 s an attempt to reach any broker that somebody waits for.
func withBrokerTimeout(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, DescribeTimeout, errNoBroker)
}

var errNoBroker = fmt.Errorf("no broker in --brokers is reachable; gave up after %s",
	DescribeTimeout)

// TopicOffsets are the offsets of each partition of a topic at one moment, as consumers may see
// them: each log ends before its first open transaction.
type TopicOffsets struct {
	Topic      string
	Partitions []OffsetRange // by number
}

// OffsetRange is a log's first offset and the one after its last; unknown if Err is set.
type OffsetRange struct {
	First, End int64
	Err        error
}

// Size returns the number of offsets. The number of records may be smaller: logs have holes.
func (e TopicOffsets) Size() (size int64) {
	for _, b := range e.Partitions {
		if b.Err == nil {
			size += max(0, b.End-b.First)
		}
	}
	return size
}

// TopicOffsets returns the current offsets of a topic, within 8 s. A missing topic is a
// *MissingTopicError; a partition whose leader does not respond has its own error.
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
	// In rounds, so that a partition whose leader is dead does not delay the others.
	for wait := NewBackoff(); c.listOffsets(ctx, e) && wait.Sleep(ctx); {
		c.RefreshMetadata()
	}
	return e, nil
}

// errNotListed is the error of a partition whose offsets were not requested within the time limit.
var errNotListed = errors.New("no time left to request the partition's offsets")

// listOffsetsTimeout limits the request for one partition in a round.
const listOffsetsTimeout = 2 * time.Second

// listOffsets requests the unknown offsets once, and reports whether to retry.
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

// parallelListOffsets is how many partitions are requested in parallel: each needs a connection of
// its own while it waits.
const parallelListOffsets = 16

// Parallel calls do for 0 to n-1, at most limit calls at a time, and waits for all.
func Parallel(limit, n int, do func(i int)) {
	var all errgroup.Group
	all.SetLimit(limit)
	for i := range n {
		all.Go(func() error { do(i); return nil })
	}
	_ = all.Wait()
}
