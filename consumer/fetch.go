package consumer

import (
	"context"
	"fmt"
	"time"

	"github.com/segmentio/kafka-go"
)

const (
	fetchWait  = 2 * time.Second // how long the broker may hold a fetch that finds nothing
	fetchBytes = 256 << 10       // of one answer; a larger batch comes whole
	chunkLimit = 512             // events delivered at once

	// A fetch reads the same log as the last one if it begins so soon after its answer, and there was no room
	// for so short a time: nobody makes a topic again and fills it so fast.
	sameLog    = time.Second
	shortPause = 5 * time.Millisecond

	// Out of range beyond the end, this long and without a break, means another log: deleted and created again,
	// or cut. During a change of leaders it may be answered for a moment.
	anotherLog = 5 * time.Second
)

// fetched is the answer to one fetch.
type fetched struct {
	batch
	highWatermark int64
}

// fetch asks the leader for what follows offset. It may answer nothing after fetchWait.
//
// It goes below kafka-go's Fetch, which hides the aborted transactions of the answer, and has a message of
// its own (fetchapi.go).
func (c *Client) fetch(ctx context.Context, topic string, partition int, offset int64) (fetched, error) {
	return c.fetchWithin(ctx, fetchWait, fetchBytes, topic, partition, offset)
}

// fetchWithin is fetch with other limits. With a wait of 0 the leader answers at once; the answer has at least one
// batch if there is any, however few bytes are allowed.
func (c *Client) fetchWithin(
	ctx context.Context, wait time.Duration, size int32, topic string, partition int, offset int64,
) (fetched, error) {
	f := fetched{batch: batch{next: offset}, highWatermark: -1}
	response, err := c.roundTrip(ctx, wait+requestTimeout, &fetchRequest{
		ReplicaID:      -1,
		MaxWaitTime:    int32(wait / time.Millisecond),
		MinBytes:       1,
		MaxBytes:       size,
		IsolationLevel: 1, // only what is decided, with the list of what was aborted
		SessionEpoch:   -1,
		Topics: []fetchTopic{{Topic: topic, Partitions: []fetchPartition{{
			Partition:          int32(partition),
			CurrentLeaderEpoch: -1,
			FetchOffset:        offset,
			LogStartOffset:     -1,
			PartitionMaxBytes:  size,
		}}}},
	})
	if err != nil {
		return f, err
	}
	r := response.(*fetchResponse)
	if r.ErrorCode != 0 {
		return f, kafka.Error(r.ErrorCode)
	}
	if len(r.Topics) != 1 || len(r.Topics[0].Partitions) != 1 {
		return f, fmt.Errorf("fetch of one partition was answered with %d topics", len(r.Topics))
	}
	p := &r.Topics[0].Partitions[0]
	if p.ErrorCode != 0 {
		return f, kafka.Error(p.ErrorCode)
	}
	f.highWatermark = p.HighWatermark
	f.batch, err = readBatches(p.Records, p.AbortedTransactions, topic, partition, offset)
	return f, err
}

// bounds returns the first offset of the partition's log and the one behind its last.
func (c *Client) bounds(ctx context.Context, topic string, partition int) (first, end int64, err error) {
	return c.boundsFor(ctx, topic, partition, kafka.ReadUncommitted)
}

// boundsFor is bounds for an isolation level: who reads only what is decided finds the end before the first transaction that is not.
func (c *Client) boundsFor(ctx context.Context, topic string, partition int, level kafka.IsolationLevel) (first, end int64, err error) {
	response, err := c.api().ListOffsets(ctx, &kafka.ListOffsetsRequest{
		IsolationLevel: level,
		Topics:         map[string][]kafka.OffsetRequest{topic: {kafka.FirstOffsetOf(partition), kafka.LastOffsetOf(partition)}},
	})
	if err != nil {
		return 0, 0, err
	}
	if len(response.Topics[topic]) != 1 {
		return 0, 0, fmt.Errorf("offsets of one partition were answered with %d", len(response.Topics[topic]))
	}
	p := response.Topics[topic][0]
	return p.FirstOffset, p.LastOffset, p.Error
}
