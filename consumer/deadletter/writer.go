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

// NewWriter returns a writer of dead letters to topic.
func NewWriter(c *kafkaclient.Client, topic string) *Writer {
	c.UseTopics(topic)
	return &Writer{c, topic, &sizeBound{lock: make(chan struct{}, 1)}}
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
	maxSize := w.bound.largest(ctx, w.client, w.topic)
	// the smallest size that was too large, and that was cut off
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

// letterPartition keeps the letters of one key together. Without a key their origin spreads them.
func letterPartition(r event.Record, partitions int) int {
	key := r.Key
	if key == nil {
		key = binary.BigEndian.AppendUint64([]byte(r.Topic),
			uint64(r.Partition)<<40^uint64(r.Offset))
	}
	return kafkaclient.PartitionOf(key, partitions)
}

// maxLetter is the largest letter, in bytes: Scan reads no larger record.
const maxLetterSize = batch.MaxRecord + event.LetterOverhead

const (
	limitAge      = time.Minute      // of what is known of the topic's limit
	disconnectAge = 10 * time.Minute // of what is known of a size that is cut off

	minDisconnectSize = 64 << 10 // a smaller request is not cut off for its size
	// after so many broken connections a letter is cut off for its size
	maxDisconnects = 3
)

// sizeBound is how large a letter may be. It is safe for concurrent use.
type sizeBound struct {
	// holds one value while somebody uses the rest; no mutex, for that may take 2 s
	lock           chan struct{}
	limit          int       // the topic's max.message.bytes, as far as is known
	limitTime      time.Time // when that was asked for; zero: to be asked
	disconnectSize int       // the smallest batch that was cut off
	disconnectTime time.Time // when
}

// largest returns the size of the largest batch that the topic takes and Scan can read. A limit
// that can't be found out within 2 s is taken for Kafka's default: if that is wrong, the topic
// refuses the letter.
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

// forget has the topic's limit asked for again: it refused what should fit.
func (b *sizeBound) forgetLimit() {
	b.lock <- struct{}{}
	defer func() { <-b.lock }()
	b.limitTime = time.Time{}
}

// cutAt notes that a batch of that size was cut off, while a smaller form of the same letter was
// written.
func (b *sizeBound) noteDisconnect(size int) {
	b.lock <- struct{}{}
	defer func() { <-b.lock }()
	b.disconnectSize, b.disconnectTime = size, time.Now()
}

// cutOffError says that a request is cut off for its size.
type disconnectError struct{ error }

func (e *disconnectError) Unwrap() error { return e.error }

// put produces the record of a letter. It fails with a *cutOffError if the record is large and the
// connection breaks three times, but each time the partition's leader answers a small request right
// after it: a broker closes the connection without an answer when a request is larger than its
// socket.request.max.bytes, and so do proxies. In an outage the small request fails, too; and a
// connection does not break by chance three times in half a second at the same letter only.
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
			return &disconnectError{fmt.Errorf("the connection broke %d times at a request of %d "+
				"bytes, while small ones are answered: %w", maxDisconnects, size, err)}
		}
		if !wait.Sleep(ctx) {
			return context.Cause(ctx)
		}
	}
}

// isBroken reports whether a connection was closed in the middle of a request. A timeout says
// nothing of the kind.
func isDisconnect(err error) bool {
	var k kafkaclient.Error
	var timeout net.Error
	return !(errors.As(err, &k) || kafkaclient.Leaderless(err) || kafkaclient.IsRefused(err) ||
		kafkaclient.NeverConnected(err) || errors.Is(err, context.Canceled) ||
		errors.As(err, &timeout) && timeout.Timeout())
}

// batchSize returns how large the batch of one record is, uncompressed, as max.message.bytes
// counts.
func batchSize(m event.Message) int {
	bytes := func(b []byte) int {
		if b == nil {
			return 1
		}
		return varintSize(len(b)) + len(b)
	}
	// attributes, time, offset
	record := 3 + bytes(m.Key) + bytes(m.Value) + varintSize(len(m.Headers))
	for _, h := range m.Headers {
		record += varintSize(len(h.Key)) + len(h.Key) + bytes(h.Value)
	}
	return 61 + varintSize(record) + record // the batch's header has 61 bytes
}

// varintSize returns the size of a number in zigzag encoding, in bytes.
func varintSize(n int) int { return (bits.Len64(uint64(n)<<1|1) + 6) / 7 }
