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
	// scanTimeout is how long a scan goes on without getting anything of a partition.
	scanTimeout = 20 * time.Second
	// damagedScanTimeout is the same for a batch that the broker has, but damaged.
	damagedScanTimeout = 2 * time.Second
)

// ParallelFetches is how many partitions are read at the same time.
const ParallelFetches = 3

// UnreadRange is a part of a partition that could not be read.
type UnreadRange struct {
	event.TopicPartition
	From, To int64 // the offsets; To is not in it; both -1: not known
	Err      error // why
}

// Do returns what to do about it, as text for people.
func (u UnreadRange) Do() string {
	if Damaged(u.Err) {
		return "restore the partition from a good replica: Kafka's tools can remove the damaged " +
			"batch only together with all records before it"
	}
	_, do := WhyUnreadable(u.Err)
	return do
}

// Scan reads what a topic held when its extent was found out, and gives each record, its own to
// keep, to each: those of one partition in order, one at a time. Records of aborted transactions
// are left out, and so is what retention deletes meanwhile. One with a Damage stands for what could
// not be decoded.
//
// What can't be read it returns in unread, sorted by partition: a partition without known bounds,
// and what follows when nothing comes of one for 20 s. Its error is one of each, or the cause of
// ctx's end. It takes no more memory than a few fetches.
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
				if err != nil { // before another partition's turn
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

// scan reads one partition, and returns how far it came.
func (c *Client) scan(ctx context.Context, tp event.TopicPartition, b OffsetRange,
	onRecord func(event.Record) error) (next int64, err error) {
	wait, last := NewBackoff(), time.Now()
	for next = b.First; next < b.End; {
		until, err := c.scanOnce(ctx, tp, next, b.End, Following, onRecord)
		if errors.Is(err, kafka.OffsetOutOfRange) {
			// retention was faster
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
			return next, fmt.Errorf("nothing at offset %d for %s, given up: %w", next, timeout,
				cmp.Or(err, errNothing))
		}
		if err != nil {
			if StaleMetadata(err) {
				c.RefreshMetadata()
			}
			c.WarnRepeated("scan "+tp.Topic+" "+Code(err)).Err(err).Str("topic", tp.Topic).
				Int("partition", tp.Partition).Int64("offset", next).
				Msg("fetch failed; trying again")
		}
		wait.Sleep(ctx)
	}
	return next, nil
}

// scanOnce does one fetch, and returns how far it came.
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

// errNothing is what a broker answers that knows an end beyond an offset, and has nothing there.
var errNothing = errors.New("the broker has nothing to give")
