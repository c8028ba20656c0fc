package consumer

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/segmentio/kafka-go/protocol"
	fetchapi "github.com/segmentio/kafka-go/protocol/fetch"
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
//   - Markers (control batches) occupy an offset and are no records.
//   - Compaction leaves holes, and batches without any record. kafka-go drops a batch's last offset, so behind
//     the last record that is left the way on is one offset at a time.
func readBatches(set protocol.RecordSet, aborted []fetchapi.ResponseTransaction, topic string, partition int, offset int64) (batch, error) {
	b := batch{next: offset}
	if set.Records == nil {
		return b, nil
	}
	stream, ok := set.Records.(*protocol.RecordStream)
	if !ok {
		return b, fmt.Errorf("fetched a record set of type %T", set.Records)
	}
	pending := slices.SortedFunc(slices.Values(aborted), func(a, b fetchapi.ResponseTransaction) int {
		return cmp.Compare(a.FirstOffset, b.FirstOffset)
	})
	aborting := map[int64]bool{} // producers within an aborted transaction
	for _, reader := range stream.Records {
		base, producer, transactional := batchInfo(reader)
		for len(pending) > 0 && pending[0].FirstOffset <= base {
			aborting[pending[0].ProducerID] = true
			pending = pending[1:]
		}
		if _, ok := reader.(*protocol.ControlBatch); ok {
			delete(aborting, producer) // a marker ends its producer's transaction
			b.next = max(b.next, base+1)
			continue
		}
		skip := transactional && aborting[producer]
		for {
			r, err := reader.ReadRecord()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				if b.next > offset {
					return b, nil // the next fetch begins here, and fails with this error if it lasts
				}
				return b, err
			}
			record, err := copyRecord(r, skip || r.Offset < b.next)
			if err != nil {
				return b, err
			}
			if r.Offset < b.next {
				continue
			}
			b.next = r.Offset + 1
			if !skip {
				record.Topic, record.Partition = topic, partition
				b.records = append(b.records, record)
			}
		}
		b.next = max(b.next, base+1) // a batch that compaction has emptied
	}
	if b.next == offset && len(stream.Records) > 0 {
		b.next++ // the batch that would hold offset is here, and offset is not in it
	}
	return b, nil
}

func batchInfo(reader protocol.RecordReader) (base, producer int64, transactional bool) {
	switch r := reader.(type) {
	case *protocol.RecordBatch:
		return r.BaseOffset, r.ProducerID, r.Attributes.Transactional()
	case *protocol.ControlBatch:
		return r.BaseOffset, r.ProducerID, true
	case *protocol.MessageSet:
		return r.BaseOffset, -1, false
	}
	return -1, -1, false
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
