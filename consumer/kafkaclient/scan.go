package kafkaclient

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"

	"markread/consumer/event"
)

const (
	// scanTimeout is how long a scan continues without receiving anything from a partition.
	scanTimeout = 20 * time.Second
	// damagedScanTimeout is the same for a batch whose copy on the broker is damaged.
	damagedScanTimeout = 2 * time.Second
)

// ParallelFetches is how many partitions are read in parallel.
const ParallelFetches = 3

// UnreadRange is a range of a partition that could not be read.
type UnreadRange struct {
	event.TopicPartition
	From, To int64 // offsets, To excluded; both -1: unknown
	Err      error // why
}

// Do returns the remedy, as text for people.
func (u UnreadRange) Do() string {
	if Damaged(u.Err) {
		return "restore the partition from a good replica: Kafka's tools can remove the damaged " +
			"batch only together with all records before it"
	}
	_, do := WhyUnreadable(u.Err)
	return do
}

// Scan reads the given offsets of a topic and calls onRecord for each record, one call at a time,
// in the order of each partition. onRecord may keep the record. Records of aborted transactions are
// skipped, and so are records that retention deletes meanwhile. A record with a Damage stands for
// records that could not be decoded.
//
// unread has the ranges that could not be read, sorted by partition: a partition whose offsets are
// unknown, and the rest of a partition from which nothing arrives for 20 s. The error is an error
// of onRecord, or the cause of ctx's end. Scan needs no more memory than a few fetches.
func (c *Client) Scan(ctx context.Context, offsets TopicOffsets,
	onRecord func(event.Record) error) (unread []UnreadRange, err error) {
	c.UseTopics(offsets.Topic)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var mu sync.Mutex
	Parallel(ParallelFetches, len(offsets.Partitions), func(partition int) {
		tp := event.TopicPartition{Topic: offsets.Topic, Partition: partition}
		b := offsets.Partitions[partition]
		failed := UnreadRange{tp, -1, -1, b.Err}
		if b.Err == nil {
			failed.From, failed.Err = c.scan(ctx, tp, b, func(r event.Record) error {
				mu.Lock()
				defer mu.Unlock()
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
				err := onRecord(r)
				if err != nil { // before a record of another partition
					cancel(fmt.Errorf("topic %q, partition %d: %w", tp.Topic, partition, err))
				}
				return err
			})
			failed.To = b.End
		}
		mu.Lock()
		defer mu.Unlock()
		if failed.Err != nil && (b.Err != nil || ctx.Err() == nil) {
			unread = append(unread, failed)
		}
	})
	slices.SortFunc(unread,
		func(a, b UnreadRange) int { return cmp.Compare(a.Partition, b.Partition) })
	return unread, context.Cause(ctx)
}

// scan reads one partition, and returns the offset that it reached.
func (c *Client) scan(ctx context.Context, tp event.TopicPartition, b OffsetRange,
	onRecord func(event.Record) error) (next int64, err error) {
	wait, last := NewBackoff(), time.Now()
	for next = b.First; next < b.End; {
		until, err := c.scanOnce(ctx, tp, next, b.End, Following, onRecord)
		if errors.Is(err, kafka.OffsetOutOfRange) {
			// retention has deleted the next offset
			if first, _, err := c.LogRange(ctx, tp.Topic, tp.Partition); err == nil &&
				first > next {
				next = first
				continue
			}
		}
		if ctx.Err() != nil {
			return next, context.Cause(ctx)
		}
		if until > next {
			next, wait, last = until, NewBackoff(), time.Now()
			continue
		}
		timeout := scanTimeout
		switch {
		case Damaged(err):
			timeout = damagedScanTimeout
		case err != nil && !Retriable(err) && !errors.Is(err, kafka.OffsetOutOfRange):
			return next, WithPermissionHint(err, "Read of the topic")
		}
		if time.Since(last) > timeout {
			return next, fmt.Errorf("no data at offset %d for %s; gave up: %w", next, timeout,
				cmp.Or(err, errNothing))
		}
		if err != nil {
			if StaleMetadata(err) {
				c.RefreshMetadata()
			}
			c.WarnRepeated("scan "+tp.Topic+" "+Code(err)).Err(err).Str("topic", tp.Topic).
				Int("partition", tp.Partition).Int64("offset", next).
				Msg("fetch failed; retrying")
		}
		wait.Sleep(ctx)
	}
	return next, nil
}

// scanOnce performs one fetch, and returns the offset that it reached.
func (c *Client) scanOnce(ctx context.Context, tp event.TopicPartition, from, end int64,
	limits FetchLimits, onRecord func(event.Record) error) (next int64, err error) {
	f, err := c.Fetch(ctx, c.memory, tp, func() int64 { return from }, limits)
	if err != nil {
		return from, err
	}
	defer f.Close()
	d, err := c.memory.Decoder(ctx)
	if err != nil {
		return from, err
	}
	defer c.memory.GiveBack(d)
	for {
		records, err := f.Chunk(&d.Decoder)
		if err != nil || len(records) == 0 {
			return f.Next, err
		}
		for _, r := range records {
			if r.Offset >= end {
				return end, nil
			}
			if err := onRecord(event.Record(r.Clone())); err != nil {
				return r.Offset, err
			}
		}
	}
}

// errNothing means that a broker returns no records at an offset, although its log ends beyond it.
var errNothing = errors.New("the broker returned no records")
