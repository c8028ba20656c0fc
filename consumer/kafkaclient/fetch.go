package kafkaclient

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol/fetch"

	"markread/consumer/event"
)

const (
	fetchWait  = 2 * time.Second // how long the broker may delay a fetch that finds nothing
	fetchBytes = 256 << 10       // of one response; a larger batch is returned whole
	// MaxBatch is the largest batch that is kept, in bytes. By default brokers accept no request of
	// more than 100 MB.
	MaxBatch = 64 << 20

	// SameLogWithin and MaxSameLogPause: a fetch reads the same log as the previous one if it
	// begins within SameLogWithin of that response, and the wait for capacity was at most
	// MaxSameLogPause. Nobody recreates a topic and fills it that fast.
	SameLogWithin   = time.Second
	MaxSameLogPause = 5 * time.Millisecond

	// LogReplacedAfter is how long an offset must be beyond the end, without interruption, until it
	// counts as an offset of another log: the topic was recreated or truncated. During a change of
	// leaders, brokers may return that error for a moment.
	LogReplacedAfter = 5 * time.Second
)

// FetchLimits are how long the broker may delay a fetch that finds nothing, and how many bytes it
// may return. The first batch is returned whole.
type FetchLimits struct {
	wait  time.Duration
	Bytes int32
}

var (
	Following = FetchLimits{fetchWait, fetchBytes} // existing batches, or new ones that arrive soon
	FirstOnly = FetchLimits{0, 1}                  // the first batch, if it exists now
)

// errNoResponse means that the leader sent no response, or stopped in the middle of it.
var errNoResponse = fmt.Errorf("no response from the partition's leader within %v",
	fetchWait+RequestTimeout)

// Fetch fetches from the leader, beginning at the offset that nextOffset returns. If there is no
// memory for the records, it waits, possibly for long, and fetches again. It may find nothing. The
// caller must close the result.
func (c *Client) Fetch(ctx context.Context, m *Memory, tp event.TopicPartition,
	nextOffset func() int64, limits FetchLimits) (*Fetched, error) {
	l := &lease{memory: m}
	for {
		offset := nextOffset()
		r, err := c.fetchOnce(ctx, l, tp, offset, limits)
		if err == nil && r.unreadBytes > 0 {
			if err = l.reserve(ctx, r.unreadBytes); err == nil {
				continue
			}
		}
		if err != nil {
			l.close()
			return nil, err
		}
		return &Fetched{TopicPartition: tp, fetchResponse: r, lease: l, offset: offset,
			Next: offset, aborting: map[int64]bool{}}, nil
	}
}

// fetchOnce sends one fetch. It replaces kafka-go's Fetch, which hides aborted transactions and
// reads records without bounds. The time limit applies to each step of the response, not to the
// whole: a large batch may take long on a slow connection.
func (c *Client) fetchOnce(ctx context.Context, l *lease, tp event.TopicPartition, offset int64,
	limits FetchLimits) (*fetchResponse, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	noProgress := time.AfterFunc(fetchWait+RequestTimeout, func() { cancel(errNoResponse) })
	defer noProgress.Stop()
	response, err := router{c}.RoundTrip(ctx, anyBroker{}, &fetchExchange{
		clientID: c.Options.ClientID,
		lease:    l,
		progress: func() { noProgress.Reset(fetchWait + RequestTimeout) },
		Request: fetch.Request{
			ReplicaID:      -1,
			MaxWaitTime:    int32(limits.wait / time.Millisecond),
			MinBytes:       1,
			MaxBytes:       limits.Bytes,
			IsolationLevel: 1, // read committed: the response lists aborted transactions
			SessionEpoch:   -1,
			Topics: []fetch.RequestTopic{{Topic: tp.Topic, Partitions: []fetch.RequestPartition{{
				Partition:          int32(tp.Partition),
				CurrentLeaderEpoch: -1,
				FetchOffset:        offset,
				LogStartOffset:     -1,
				PartitionMaxBytes:  limits.Bytes,
			}}}},
		},
	})
	switch {
	case err != nil && errors.Is(context.Cause(ctx), errNoResponse):
		return nil, errNoResponse
	case err != nil:
		return nil, clarify(err)
	}
	r := response.(*fetchResponse)
	if r.errorCode != 0 {
		return nil, clarify(r.errorCode)
	}
	return r, nil
}

// LogRange returns the first offset of the partition's log and the offset after its last one.
func (c *Client) LogRange(ctx context.Context, topic string, partition int) (first, end int64,
	err error) {
	return c.logRange(ctx, topic, partition, kafka.ReadUncommitted)
}

// logRange is LogRange with an isolation level: ReadCommitted ends at the first open transaction.
func (c *Client) logRange(ctx context.Context, topic string, partition int,
	level kafka.IsolationLevel) (first, end int64, err error) {
	response, err := c.api().ListOffsets(ctx, &kafka.ListOffsetsRequest{
		IsolationLevel: level,
		Topics: map[string][]kafka.OffsetRequest{topic: {kafka.FirstOffsetOf(partition),
			kafka.LastOffsetOf(partition)}},
	})
	if err != nil {
		return 0, 0, clarifyLeaderError(err)
	}
	if len(response.Topics[topic]) != 1 {
		return 0, 0, fmt.Errorf("the response with the offsets of one partition has %d",
			len(response.Topics[topic]))
	}
	p := response.Topics[topic][0]
	return p.FirstOffset, p.LastOffset, clarifyLeaderError(p.Error)
}
