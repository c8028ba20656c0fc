package consumer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
)

// scanPatience is how long a scan goes on without getting anything of a partition.
const scanPatience = 20 * time.Second

// fetchAtOnce is how many partitions are read at the same time: an answer is many times its size when it is decoded, and a batch may be large.
const fetchAtOnce = 3

// Scan reads what a topic held when its extent was found out, and gives each record to each: those of one partition in order, one at a time. It
// ends there, whatever is written meanwhile; records of aborted transactions are left out, and so is what retention deletes meanwhile.
//
// It ends early with an error of each, when ctx ends, when a partition of the extent is not known, or when nothing comes of a partition for
// 20 s. It takes as long as the topic is large, and no more memory than a few answers to a fetch.
func (c *Client) Scan(ctx context.Context, extent Extent, each func(Record) error) error {
	c.use(extent.Topic)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var one sync.Mutex
	inParallel(fetchAtOnce, len(extent.Partitions), func(partition int) {
		b := extent.Partitions[partition]
		err := b.Err
		if err == nil {
			err = c.scan(ctx, extent.Topic, partition, b, func(records []Record) error {
				one.Lock()
				defer one.Unlock()
				for _, r := range records {
					if ctx.Err() != nil {
						return context.Cause(ctx)
					}
					if err := each(r); err != nil {
						cancel(fmt.Errorf("topic %q, partition %d: %w", extent.Topic, partition, err)) // before another partition's turn
						return err
					}
				}
				return nil
			})
		}
		if err != nil {
			cancel(fmt.Errorf("topic %q, partition %d: %w", extent.Topic, partition, err)) // the first counts
		}
	})
	return context.Cause(ctx)
}

// scan reads one partition.
func (c *Client) scan(ctx context.Context, topic string, partition int, b Bounds, give func([]Record) error) error {
	wait, last := newWait(), time.Now()
	for next := b.First; next < b.End; {
		f, err := c.fetch(ctx, topic, partition, next)
		if errors.Is(err, kafka.OffsetOutOfRange) {
			if first, _, err := c.bounds(ctx, topic, partition); err == nil && first > next { // retention was faster
				next = first
				continue
			}
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err == nil && f.next > next {
			wait, last = newWait(), time.Now()
			next = f.next
			for len(f.records) > 0 && f.records[len(f.records)-1].Offset >= b.End {
				f.records = f.records[:len(f.records)-1]
			}
			if err := give(f.records); err != nil {
				return err
			}
			continue
		}
		if err != nil && !retriable(err) && !errors.Is(err, kafka.OffsetOutOfRange) {
			return denied(err, "Read of the topic")
		}
		err = plainly(err)
		if time.Since(last) > scanPatience {
			return fmt.Errorf("nothing at offset %d for %s, given up: %w", next, scanPatience, cmp.Or(err, errNothing))
		}
		if err != nil {
			if isLayout(err) {
				c.refresh()
			}
			c.repeats("scan "+topic+" "+code(err)).Err(err).Str("topic", topic).Int("partition", partition).Int64("offset", next).
				Msg("fetch failed; trying again")
		}
		wait.sleep(ctx)
	}
	return nil
}

// errNothing is what a broker answers that knows an end beyond an offset, and has nothing there.
var errNothing = errors.New("the broker has nothing to give")
