package consumer

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/segmentio/kafka-go"
)

// errLooked says that a look at the cluster has taken as long as somebody waits for it.
var errLooked = fmt.Errorf("no answer from the Kafka brokers, given up after %s", lookTimeout)

// looking bounds a look at the cluster that somebody waits for.
func looking(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, lookTimeout, errLooked)
}

// Reach makes sure that one of the brokers can be talked to. It tries for 8 s; the error says what failed, or is a *RefusedError, at once.
func (c *Client) Reach(ctx context.Context) error {
	ctx, cancel := reaching(ctx)
	defer cancel()
	return c.reach(ctx)
}

// reaching bounds a try to reach any broker that somebody waits for.
func reaching(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, lookTimeout, errReached)
}

var errReached = fmt.Errorf("no Kafka broker of --brokers can be reached, given up after %s", lookTimeout)

// MissingTopics returns those of the topics that don't exist. It tries for 8 s.
func (c *Client) MissingTopics(ctx context.Context, topics Topics) ([]string, error) {
	ctx, cancel := looking(ctx)
	defer cancel()
	c.use(topics.all()...)
	missing, err := c.missing(ctx, topics)
	if err == nil && len(missing) > 0 && pause(ctx, lookAgain) {
		c.refresh()
		missing, err = c.missing(ctx, topics)
	}
	return missing, err
}

// Extent is what the log of each partition of a topic held at one moment, as consumers may see it: without what open transactions have written,
// and what comes behind it.
type Extent struct {
	Topic      string
	Partitions []Bounds // by number
}

// Bounds are a log's first offset and the one behind its last. With Err they are not known.
type Bounds struct {
	First, End int64
	Err        error
}

// Size returns how many offsets there are. There are at most so many records: logs have holes.
func (e Extent) Size() (size int64) {
	for _, b := range e.Partitions {
		if b.Err == nil {
			size += max(0, b.End-b.First)
		}
	}
	return size
}

// Extent finds out what a topic holds now. It tries for 8 s. A topic that does not exist is a *MissingTopicError; a partition whose leader does
// not answer has its error, and the others are there.
func (c *Client) Extent(ctx context.Context, topic string) (Extent, error) {
	ctx, cancel := looking(ctx)
	defer cancel()
	c.use(topic)
	count := 0
	err := c.persist(ctx, "counting the partitions of topic "+topic, func() error {
		counts, err := c.partitions(ctx, topic)
		count = counts[topic]
		return err
	})
	switch {
	case err != nil:
		return Extent{}, fmt.Errorf("partitions of topic %q: %w", topic, err)
	case count == 0:
		return Extent{}, &MissingTopicError{[]string{topic}}
	}
	e := Extent{Topic: topic, Partitions: make([]Bounds, count)}
	for i := range e.Partitions {
		e.Partitions[i].Err = errUnknown
	}
	// In rounds, so that one whose leader is dead does not keep the others waiting.
	for wait := newWait(); ; {
		again := c.askBounds(ctx, e)
		if !again || !wait.sleep(ctx) {
			return e, nil
		}
		c.refresh()
	}
}

// errUnknown is what is wrong with bounds that were not asked for.
var errUnknown = errors.New("not known")

// boundsTimeout is how long one partition is waited for in a round.
const boundsTimeout = 2 * time.Second

// askBounds asks once for the bounds that are not known yet, and reports whether to ask again.
func (c *Client) askBounds(ctx context.Context, e Extent) (again bool) {
	inParallel(atOnce, len(e.Partitions), func(partition int) {
		b := &e.Partitions[partition]
		if b.Err == nil || ctx.Err() != nil {
			return
		}
		ctx, cancel := context.WithTimeout(ctx, boundsTimeout)
		defer cancel()
		b.First, b.End, b.Err = c.boundsFor(ctx, e.Topic, partition, kafka.ReadCommitted)
	})
	for _, b := range e.Partitions {
		again = again || b.Err != nil && (retriable(b.Err) || errors.Is(b.Err, kafka.Unknown))
	}
	return again
}

// atOnce is how many partitions are asked for at the same time: each is a connection of its own while it waits.
const atOnce = 16

// inParallel calls do for the numbers below n, so many at a time, and returns when all calls have.
func inParallel(atOnce, n int, do func(i int)) {
	var next atomic.Int64
	var all sync.WaitGroup
	for range min(n, atOnce) {
		all.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				do(i)
			}
		})
	}
	all.Wait()
}
