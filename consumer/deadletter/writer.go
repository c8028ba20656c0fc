package deadletter

import (
	"context"
	"encoding/binary"
	"errors"
	"math"

	"markread/consumer/batch"
	"markread/consumer/event"
	"markread/consumer/kafkaclient"
)

// Writer writes dead letters to one topic. It is safe for concurrent use.
type Writer struct {
	client *kafkaclient.Client
	topic  string
	bound  *sizeBound
}

// NewWriter returns a writer of dead letters to topic.
func NewWriter(c *kafkaclient.Client, topic string) *Writer {
	c.UseTopics(topic)
	return &Writer{c, topic, &sizeBound{turn: make(chan struct{}, 1)}}
}

// Write writes one letter and returns when all in-sync replicas have it. The caller retries. After
// an error the letter may have been written nevertheless.
//
// A letter that would not fit, or that the topic refuses for what is in it, is written without some
// parts of the record: see event.Omissions. Each form is tried once, for at most 5 s; a large one
// three times, if the connection breaks each time (see put). An error means that the topic does not
// take even the smallest form, or nothing at the moment.
func (w *Writer) Write(ctx context.Context, letter event.DeadLetter) error {
	partitions, err := w.client.PartitionCount(ctx, w.topic)
	if err != nil {
		return err
	}
	partition := letterPartition(letter.Event.Record, partitions)
	most := w.bound.largest(ctx, w.client, w.topic)
	excess, cut := math.MaxInt, 0 // the smallest size that was too large, and that was cut off
	for i, omit := range event.Omissions {
		m := letter.Encode(omit)
		size := batchSize(m)
		fits := size <= most && len(m.Headers) <= batch.MaxHeaders
		if size >= excess || !fits && i < len(event.Omissions)-1 {
			continue
		}
		err = w.put(ctx, partition, m, size)
		var cutOff *cutOffError
		switch {
		case err == nil:
			if cut > 0 {
				w.bound.cutAt(cut)
			}
			return nil
		case errors.As(err, &cutOff):
			excess, cut = size, size
		case kafkaclient.IsTooLarge(err):
			excess = size
			w.bound.forget()
		case !kafkaclient.IsRefusedRecord(err):
			return err
		}
	}
	return err
}

// letterPartition keeps the letters of one key together. Without a key their origin spreads them.
func letterPartition(r event.Record, partitions int) int {
	key := r.Key
	if key == nil {
		key = binary.BigEndian.AppendUint64([]byte(r.Topic),
			uint64(r.Partition)<<40^uint64(r.Offset))
	}
	return kafkaclient.PartitionOf(key, partitions)
}
