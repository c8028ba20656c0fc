package consumer

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/segmentio/kafka-go/protocol"
)

// batch is what the answer to a fetch holds: the records that consumers may see, and the offset to go on at.
type batch struct {
	records []Record
	next    int64
}

// readBatches reads the batches of an answer to a fetch at offset. The broker sends whole batches, so that
// the first may begin before offset; and it leaves the filtering to us:
//
//   - Records of aborted transactions are in the answer. It lists, for each, the producer and the offset where
//     it begins; it ends at that producer's next marker.
//   - Markers (control batches) occupy offsets and are no records.
//   - Compaction leaves holes, and batches without any record. A batch knows what its last offset was.
//
// Where the topic has LogAppendTime, the time of a batch counts for its records.
//
// What comes before a batch that can't be read is returned. The next fetch begins there, and fails if it lasts.
func readBatches(set recordSet, aborted []abortedTransaction, topic string, partition int, offset int64) (batch, error) {
	b := batch{next: offset}
	pending := slices.SortedFunc(slices.Values(aborted), func(a, b abortedTransaction) int {
		return cmp.Compare(a.FirstOffset, b.FirstOffset)
	})
	aborting := map[int64]bool{} // producers within an aborted transaction
	for i := range set.batches {
		from := &set.batches[i]
		for len(pending) > 0 && pending[0].FirstOffset <= from.last {
			aborting[pending[0].ProducerID] = true
			pending = pending[1:]
		}
		if from.attributes.Control() {
			delete(aborting, from.producer) // a marker ends its producer's transaction
		} else if err := b.read(from, from.attributes.Transactional() && aborting[from.producer], topic, partition); err != nil {
			set.err = err
			break
		}
		b.next = max(b.next, from.last+1)
	}
	switch {
	case b.next > offset:
		return b, nil
	case set.err == nil && len(set.batches) > 0:
		set.err = fmt.Errorf("a fetch at offset %d was answered with what comes before it", offset)
	}
	return b, set.err
}

// read appends the records of one batch from b.next on. With skip they are only let go.
func (b *batch) read(from *recordBatch, skip bool, topic string, partition int) error {
	count := 0
	for ; ; count++ {
		r, err := from.records.ReadRecord()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		record, err := copyRecord(r, skip || r.Offset < b.next)
		if err != nil {
			return err
		}
		if r.Offset < b.next {
			continue
		}
		b.next = r.Offset + 1
		if skip {
			continue
		}
		if from.appended >= 0 {
			record.Time = time.UnixMilli(from.appended)
		}
		record.Topic, record.Partition = topic, partition
		b.records = append(b.records, record)
	}
	if from.count >= 0 && count != from.count {
		return fmt.Errorf("a batch of %d records has %d", from.count, count) // kafka-go ends at one that it can't decode
	}
	return nil
}

// copyRecord copies a record out of the pages of the answer, which are used again. Of one that is not wanted
// it only lets go.
func copyRecord(r *protocol.Record, drop bool) (Record, error) {
	if r.Key != nil {
		defer r.Key.Close()
	}
	if r.Value != nil {
		defer r.Value.Close()
	}
	if drop {
		return Record{}, nil
	}
	record := Record{Offset: r.Offset}
	if ms := r.Time.UnixMilli(); ms >= 0 {
		record.Time = time.UnixMilli(ms)
	}
	var keySize, valueSize int
	if r.Key != nil {
		keySize = r.Key.Len()
	}
	if r.Value != nil {
		valueSize = r.Value.Len()
	}
	buffer := make([]byte, keySize+valueSize)
	if r.Key != nil {
		record.Key = buffer[:keySize:keySize]
		if _, err := io.ReadFull(r.Key, record.Key); err != nil {
			return record, err
		}
	}
	if r.Value != nil {
		record.Value = buffer[keySize:]
		if _, err := io.ReadFull(r.Value, record.Value); err != nil {
			return record, err
		}
	}
	if len(r.Headers) > 0 {
		record.Headers = make([]Header, len(r.Headers))
		for i, h := range r.Headers {
			record.Headers[i] = Header(h)
		}
	}
	return record, nil
}
