package kafkaclient

import (
	"context"
	"sync"

	"golang.org/x/sync/semaphore"

	"markread/consumer/batch"
	"markread/consumer/event"
)

// FetchMemory bounds the fetched and undelivered bytes of all partitions together. Each lane has
// half of it: live events never wait for a full backfill.
const FetchMemory = 32 << 20

// laneDecoders is how many partitions of a lane decode and deliver at a time, waiting for capacity
// included.
const laneDecoders = 2

// Memory bounds what fetches take until their records are delivered.
type Memory struct {
	size     int64
	free     *semaphore.Weighted
	decoders chan *Decoder
}

// Decoder decodes a chunk of records at a time, and holds what becomes of them.
type Decoder struct {
	batch.Decoder
	Events []event.Event
}

// NewMemory returns a memory of that size, with decoders of records that are extra bytes larger
// than events.
func NewMemory(size int64, extra int) *Memory {
	m := &Memory{size: size, free: semaphore.NewWeighted(size),
		decoders: make(chan *Decoder, laneDecoders)}
	for range laneDecoders {
		m.decoders <- &Decoder{Decoder: batch.Decoder{Extra: extra}}
	}
	return m
}

// Decoder waits for a decoder, which must be given back.
func (m *Memory) Decoder(ctx context.Context) (*Decoder, error) {
	select {
	case d := <-m.decoders:
		return d, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// GiveBack takes a decoder that decoder returned.
func (m *Memory) GiveBack(d *Decoder) {
	clear(d.Events[:cap(d.Events)]) // so that they keep no record alive
	d.Release()
	m.decoders <- d
}

// lease is one fetch's share of the memory. It is safe for concurrent use: kafka-go may still read
// a response that nobody waits for any more.
type lease struct {
	memory *Memory

	mu       sync.Mutex
	reserved int64 // without what was given to the response
	acquired int64
	closed   bool
}

// amount is what size counts for: a response that is larger than all memory has it for itself.
func (l *lease) amount(size int64) int64 { return min(size, l.memory.size) }

// reserve waits until there is memory for a response of that size.
func (l *lease) reserve(ctx context.Context, size int64) error {
	l.mu.Lock()
	reserved := l.reserved
	l.reserved = 0
	l.mu.Unlock()
	l.memory.free.Release(reserved) // those who wait and keep what they have could wait for each other
	if err := l.memory.free.Acquire(ctx, l.amount(size)); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reserved = l.amount(size)
	return nil
}

// tryAcquire reports whether a response of that size may be read, and takes the memory for it.
func (l *lease) tryAcquire(size int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	missing := l.amount(size) - l.reserved
	if missing > 0 && !l.memory.free.TryAcquire(missing) {
		return false
	}
	l.reserved = max(0, -missing)
	l.acquired += l.amount(size)
	return true
}

// close gives all memory back. Later calls do nothing.
func (l *lease) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	if n := l.reserved + l.acquired; n > 0 {
		l.memory.free.Release(n)
		l.reserved, l.acquired = 0, 0
	}
}
