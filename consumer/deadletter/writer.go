package deadletter

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"net"
	"time"

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

// NewWriter returns a Writer for the dead-letter topic.
func NewWriter(c *kafkaclient.Client, topic string) *Writer {
	c.UseTopics(topic)
	return &Writer{c, topic, &sizeBound{lock: make(chan struct{}, 1)}}
}

// Write writes one dead letter, and returns when all in-sync replicas have it. The caller retries.
// After an error the dead letter may have been written nevertheless.
//
// If the dead letter is too large, or the topic rejects its content, it is written without parts of
// the record: see event.Omissions. Each form is tried once, for at most 5 s; a large one three
// times if the connection is closed each time (see produce). An error means that the topic rejects
// even the smallest form, or accepts nothing at the moment.
func (w *Writer) Write(ctx context.Context, letter event.DeadLetter) error {
	partitions, err := w.client.PartitionCount(ctx, w.topic)
	if err != nil {
		return err
	}
	partition := letterPartition(letter.Event.Record, partitions)
	maxSize := w.bound.largest(ctx, w.client, w.topic)
	// smallest size that was too large; size at which the connection was closed
	excess, disconnectSize := math.MaxInt, 0
	for i, omit := range event.Omissions {
		m := letter.Encode(omit)
		size := batchSize(m)
		fits := size <= maxSize && len(m.Headers) <= batch.MaxHeaders
		if size >= excess || !fits && i < len(event.Omissions)-1 {
			continue
		}
		err = w.produce(ctx, partition, m, size)
		var disconnected *disconnectError
		switch {
		case err == nil:
			if disconnectSize > 0 {
				w.bound.noteDisconnect(disconnectSize)
			}
			return nil
		case errors.As(err, &disconnected):
			excess, disconnectSize = size, size
		case kafkaclient.IsTooLarge(err):
			excess = size
			w.bound.forgetLimit()
		case !kafkaclient.IsRefusedRecord(err):
			return err
		}
	}
	return err
}

// letterPartition returns the partition of a dead letter. It keeps the dead letters of one key
// together, and spreads those without a key by their origin.
func letterPartition(r event.Record, partitions int) int {
	key := r.Key
	if key == nil {
		key = binary.BigEndian.AppendUint64([]byte(r.Topic),
			uint64(r.Partition)<<40^uint64(r.Offset))
	}
	return kafkaclient.PartitionOf(key, partitions)
}

// maxLetterSize is the largest dead letter, in bytes: Scan reads no larger record.
const maxLetterSize = batch.MaxRecord + event.LetterOverhead

const (
	limitAge      = time.Minute      // how long the topic's limit is cached
	disconnectAge = 10 * time.Minute // how long a size that closes connections is remembered

	minDisconnectSize = 64 << 10 // no connection is closed for the size of a smaller request
	// after this many closed connections the size is the cause
	maxDisconnects = 3
)

// sizeBound determines how large a dead letter may be. It is safe for concurrent use.
type sizeBound struct {
	// Holds one value while the other fields are in use. Not a mutex, because that may take 2 s.
	lock           chan struct{}
	limit          int       // max.message.bytes of the topic, or Kafka's default
	limitTime      time.Time // when limit was queried; zero: to be queried
	disconnectSize int       // smallest batch at which the connection was closed
	disconnectTime time.Time // when that happened
}

// largest returns the size of the largest batch that the topic accepts and Scan can read. A limit
// that can't be queried within 2 s is assumed to be Kafka's default: if that is wrong, the topic
// rejects the dead letter.
func (b *sizeBound) largest(ctx context.Context, c *kafkaclient.Client, topic string) int {
	b.lock <- struct{}{}
	defer func() { <-b.lock }()
	if time.Since(b.limitTime) >= limitAge {
		b.limit = c.MessageLimit(ctx, topic)
		b.limitTime = time.Now()
	}
	if b.disconnectSize > 0 && time.Since(b.disconnectTime) < disconnectAge {
		return min(b.limit, maxLetterSize, b.disconnectSize-1)
	}
	return min(b.limit, maxLetterSize)
}

// forgetLimit makes largest query the topic's limit again: the topic rejected a batch that should
// fit.
func (b *sizeBound) forgetLimit() {
	b.lock <- struct{}{}
	defer func() { <-b.lock }()
	b.limitTime = time.Time{}
}

// noteDisconnect records that the connection was closed at a batch of that size, and a smaller form
// of the same dead letter was written.
func (b *sizeBound) noteDisconnect(size int) {
	b.lock <- struct{}{}
	defer func() { <-b.lock }()
	b.disconnectSize, b.disconnectTime = size, time.Now()
}

// disconnectError means that the connection is closed because of the size of the request.
type disconnectError struct{ error }

func (e *disconnectError) Unwrap() error { return e.error }

// produce writes the record of a dead letter. It returns a *disconnectError if the record is large
// and the connection is closed three times, and each time the partition's leader responds to a
// small request right after. A broker closes the connection without a response when a request is
// larger than its socket.request.max.bytes, and so do proxies. In an outage the small request
// fails, too; and no connection is closed by chance three times within half a second for the same
// dead letter only.
func (w *Writer) produce(ctx context.Context, partition int, m event.Message, size int) error {
	wait := kafkaclient.NewBackoff()
	for broken := 1; ; broken++ {
		err := w.client.Produce(ctx, w.topic, partition, []event.Message{m})
		if err == nil || size < minDisconnectSize || !isDisconnect(err) {
			return err
		}
		if _, _, failed := w.client.LogRange(ctx, w.topic, partition); failed != nil {
			return cmp.Or(context.Cause(ctx), err)
		}
		if broken == maxDisconnects {
			return &disconnectError{fmt.Errorf("the connection was closed %d times at a request "+
				"of %d bytes, while small requests succeed: %w", maxDisconnects, size, err)}
		}
		if !wait.Sleep(ctx) {
			return context.Cause(ctx)
		}
	}
}

// isDisconnect reports whether the connection was closed in the middle of a request. A timeout is
// not a disconnect.
func isDisconnect(err error) bool {
	var k kafkaclient.Error
	var timeout net.Error
	return !(errors.As(err, &k) || kafkaclient.Leaderless(err) || kafkaclient.IsRefused(err) ||
		kafkaclient.NeverConnected(err) || errors.Is(err, context.Canceled) ||
		errors.As(err, &timeout) && timeout.Timeout())
}

// batchSize returns the uncompressed size of a batch with one record, in bytes, as
// max.message.bytes counts it.
func batchSize(m event.Message) int {
	bytes := func(b []byte) int {
		if b == nil {
			return 1
		}
		return varintSize(len(b)) + len(b)
	}
	// attributes, timestamp delta, offset delta
	record := 3 + bytes(m.Key) + bytes(m.Value) + varintSize(len(m.Headers))
	for _, h := range m.Headers {
		record += varintSize(len(h.Key)) + len(h.Key) + bytes(h.Value)
	}
	return 61 + varintSize(record) + record // the batch's header has 61 bytes
}

// varintSize returns the size of a number in zigzag encoding, in bytes.
func varintSize(n int) int { return (bits.Len64(uint64(n)<<1|1) + 6) / 7 }
