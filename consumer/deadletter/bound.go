package deadletter

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/bits"
	"net"
	"time"

	"markread/consumer/batch"
	"markread/consumer/event"
	"markread/consumer/kafkaclient"
)

// maxLetter is the largest letter, in bytes: Scan reads no larger record.
const maxLetter = batch.MaxRecord + event.LetterOverhead

const (
	limitAge = time.Minute      // of what is known of the topic's limit
	cutAge   = 10 * time.Minute // of what is known of a size that is cut off

	cutFrom = 64 << 10 // a smaller request is not cut off for its size
	cutSure = 3        // after so many broken connections a letter is cut off for its size
)

// sizeBound is how large a letter may be. It is safe for concurrent use.
type sizeBound struct {
	// holds one value while somebody uses the rest; no mutex, for that may take 2 s
	turn  chan struct{}
	limit int       // the topic's max.message.bytes, as far as is known
	asked time.Time // when that was asked for; zero: to be asked
	cut   int       // the smallest batch that was cut off
	seen  time.Time // when
}

// largest returns the size of the largest batch that the topic takes and Scan can read. A limit
// that can't be found out within 2 s is taken for Kafka's default: if that is wrong, the topic
// refuses the letter.
func (b *sizeBound) largest(ctx context.Context, c *kafkaclient.Client, topic string) int {
	b.turn <- struct{}{}
	defer func() { <-b.turn }()
	if time.Since(b.asked) >= limitAge {
		b.limit = c.MessageLimit(ctx, topic)
		b.asked = time.Now()
	}
	if b.cut > 0 && time.Since(b.seen) < cutAge {
		return min(b.limit, maxLetter, b.cut-1)
	}
	return min(b.limit, maxLetter)
}

// forget has the topic's limit asked for again: it refused what should fit.
func (b *sizeBound) forget() {
	b.turn <- struct{}{}
	defer func() { <-b.turn }()
	b.asked = time.Time{}
}

// cutAt notes that a batch of that size was cut off, while a smaller form of the same letter was
// written.
func (b *sizeBound) cutAt(size int) {
	b.turn <- struct{}{}
	defer func() { <-b.turn }()
	b.cut, b.seen = size, time.Now()
}

// cutOffError says that a request is cut off for its size.
type cutOffError struct {
	size int
	err  error
}

func (e *cutOffError) Error() string {
	return fmt.Sprintf("the connection broke %d times at a request of %d bytes, while small ones "+
		"are answered: %v", cutSure, e.size, e.err)
}

func (e *cutOffError) Unwrap() error { return e.err }

// put produces the record of a letter. It fails with a *cutOffError if the record is large and the
// connection breaks three times, but each time the partition's leader answers a small request right
// after it: a broker closes the connection without an answer when a request is larger than its
// socket.request.max.bytes, and so do proxies. In an outage the small request fails, too; and a
// connection does not break by chance three times in half a second at the same letter only.
func (w *Writer) put(ctx context.Context, partition int, m event.Message, size int) error {
	wait := kafkaclient.NewBackoff()
	for broken := 1; ; broken++ {
		err := w.client.Produce(ctx, w.topic, partition, []event.Message{m})
		if err == nil || size < cutFrom || !isBroken(err) {
			return err
		}
		if _, _, failed := w.client.LogRange(ctx, w.topic, partition); failed != nil {
			return cmp.Or(context.Cause(ctx), err)
		}
		if broken == cutSure {
			return &cutOffError{size, err}
		}
		if !wait.Sleep(ctx) {
			return context.Cause(ctx)
		}
	}
}

// isBroken reports whether a connection was closed in the middle of a request. A timeout says
// nothing of the kind.
func isBroken(err error) bool {
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
