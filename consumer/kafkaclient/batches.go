package kafkaclient

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"

	"markread/consumer/batch"
	"markread/consumer/event"
)

// Fetched holds the batches of one fetch, and decodes them one chunk at a time. The broker sends
// whole batches: the first may begin before the requested offset, the last may be truncated. The
// client filters aborted transactions: the broker lists the producer and the first offset of each,
// and each ends at that producer's next marker. Markers (control batches) occupy offsets, but are
// no records.
type Fetched struct {
	event.TopicPartition
	*fetchResponse
	lease *lease

	offset   int64          // the requested one
	Next     int64          // to fetch next
	aborting map[int64]bool // producers within an aborted transaction
	current  batch.Batch
	Opened   bool // current has records that are not decoded yet
}

// Close releases the memory. A later fetch may overwrite it, so records that Chunk returned, and
// the decoder, must not be used afterwards. Only the receiver of a response may do this: while
// nobody has received it, kafka-go may still be reading it.
func (f *Fetched) Close() {
	f.lease.memory.buffers.put(f.buffer)
	f.Records, f.buffer = nil, nil
	f.lease.close()
}

// Chunk decodes the next records that consumers may see. They are valid until the next use of d. It
// returns none at the end. A batch that can't be read is an error only if nothing precedes it.
// Otherwise the next fetch begins at that batch, and fails if the damage persists.
func (f *Fetched) Chunk(d *batch.Decoder) ([]batch.Record, error) {
	for {
		if f.Opened {
			if records := d.Next(); len(records) > 0 {
				for i := range records {
					records[i].Topic, records[i].Partition = f.Topic, f.Partition
				}
				f.Next = records[len(records)-1].End()
				return records, nil
			}
			f.Opened = false
			f.Next = max(f.Next, f.current.Last+1)
		}
		if f.Empty() {
			return nil, nil
		}
		b, err := f.batch()
		if err != nil {
			f.Records = nil
			if f.Next > f.offset {
				return nil, nil
			}
			return nil, err
		}
		if f.open(b) {
			d.Reset(b, f.Next)
		} else {
			f.Next = max(f.Next, b.Last+1)
		}
		if len(f.Records) == 0 && b.Last < f.offset {
			return nil, fmt.Errorf("the response to a fetch at offset %d has only earlier offsets",
				f.offset)
		}
	}
}

// Empty reports whether all batches have been opened.
func (f *Fetched) Empty() bool { return len(f.Records) == 0 && f.large == nil }

// batch returns the next batch.
func (f *Fetched) batch() (b batch.Batch, err error) {
	if f.large != nil {
		b, f.large = *f.large, nil
		return b, f.damage
	}
	b, size, err := batch.Parse(f.Records)
	if err == nil {
		f.Records = f.Records[size:]
	}
	return b, err
}

// open makes b the current batch, and reports whether consumers may see its records.
func (f *Fetched) open(b batch.Batch) bool {
	for len(f.aborted) > 0 && f.aborted[0].firstOffset <= b.Last {
		f.aborting[f.aborted[0].producer] = true
		f.aborted = f.aborted[1:]
	}
	if b.Control() {
		delete(f.aborting, b.Producer) // a marker ends its producer's transaction
		return false
	}
	f.current, f.Opened = b, !b.Transactional() || !f.aborting[b.Producer]
	return f.Opened
}

// FirstRecord returns the first record at or after offset; ok is false if one fetch finds none.
func (c *Client) FirstRecord(ctx context.Context, tp event.TopicPartition, offset int64,
	limits FetchLimits) (r event.Record, ok bool, err error) {
	_, err = c.scanOnce(ctx, tp, offset, math.MaxInt64, limits, func(first event.Record) error {
		r, ok = first, true
		return io.EOF
	})
	if ok {
		err = nil
	}
	return r, ok, err
}

// Damaged reports whether err means that the broker's copy of a batch can't be read.
func Damaged(err error) bool {
	return errors.Is(err, batch.ErrChecksum) || errors.Is(err, batch.ErrFormat) ||
		errors.Is(err, batch.ErrTruncated)
}
