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

// Fetched is what one fetch found: batches, which are decoded a chunk at a time. The broker sends
// whole batches: the first may begin before the offset that was asked for, and the last may be cut
// off. It leaves the filtering to us: of aborted transactions it lists the producer and the first
// offset, and each ends at that producer's next marker. Markers (control batches) occupy offsets
// and are no records.
type Fetched struct {
	event.TopicPartition
	*fetchResponse
	lease *lease

	offset   int64          // that was asked for
	Next     int64          // to fetch next
	aborting map[int64]bool // producers within an aborted transaction
	current  batch.Batch
	Opened   bool // current has records that were not decoded yet
}

// Close gives the memory back. What chunk returned stays valid.
func (f *Fetched) Close() {
	f.Records = nil
	f.lease.close()
}

// Chunk decodes the next records that consumers may see, valid until the next use of d; none and no
// error: there are no more. A batch that can't be read is an error only if nothing came before it.
// Else the next fetch begins there, and fails if the damage lasts.
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
			return nil, fmt.Errorf("a fetch at offset %d was answered with what comes before it",
				f.offset)
		}
	}
}

// Empty reports whether there are no batches that were not opened yet.
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

// FirstRecord returns the first record at offset or behind it. false: one fetch finds no record.
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

// Damaged reports whether err says that a batch can't be read as the broker has it.
func Damaged(err error) bool {
	return errors.Is(err, batch.ErrChecksum) || errors.Is(err, batch.ErrFormat) ||
		errors.Is(err, batch.ErrTruncated)
}
