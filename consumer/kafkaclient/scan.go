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
	// scanPatience is how long a scan goes on without getting anything of a partition.
	scanPatience = 20 * time.Second
	// damagePatience is the same for a batch that the broker has, but damaged.
	damagePatience = 2 * time.Second
)

// FetchAtOnce is how many partitions are read at the same time.
const FetchAtOnce = 3

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
func (c *Client) Scan(ctx context.Context, extent TopicOffsets,
	each func(event.Record) error) (unread []UnreadRange, err error) {
	c.UseTopics(extent.Topic)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var one sync.Mutex
	Parallel(FetchAtOnce, len(extent.Partitions), func(partition int) {
		tp := event.TopicPartition{Topic: extent.Topic, Partition: partition}
		b := extent.Partitions[partition]
		failed := UnreadRange{tp, -1, -1, b.Err}
		if b.Err == nil {
			failed.From, failed.Err = c.scan(ctx, tp, b, func(r event.Record) error {
				one.Lock()
				defer one.Unlock()
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
				err := each(r)
				if err != nil { // before another partition's turn
					cancel(fmt.Errorf("topic %q, partition %d: %w", tp.Topic, partition, err))
				}
				return err
			})
			failed.To = b.End
		}
		one.Lock()
		defer one.Unlock()
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
	give func(event.Record) error) (next int64, err error) {
	wait, last := NewBackoff(), time.Now()
	for next = b.First; next < b.End; {
		reached, err := c.scanOnce(ctx, tp, next, b.End, Following, give)
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
		if reached > next {
			next, wait, last = reached, NewBackoff(), time.Now()
			continue
		}
		patience := scanPatience
		switch {
		case Damaged(err):
			patience = damagePatience
		case err != nil && !Retriable(err) && !errors.Is(err, kafka.OffsetOutOfRange):
			return next, WithPermissionHint(err, "Read of the topic")
		}
		if time.Since(last) > patience {
			return next, fmt.Errorf("nothing at offset %d for %s, given up: %w", next, patience,
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
	a FetchLimits, give func(event.Record) error) (next int64, err error) {
	f, err := c.Fetch(ctx, c.memory, tp, func() int64 { return from }, a)
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
			if err := give(event.Record(r.Clone())); err != nil {
				return r.Offset, err
			}
		}
	}
}

// errNothing is what a broker answers that knows an end beyond an offset, and has nothing there.
var errNothing = errors.New("the broker has nothing to give")
