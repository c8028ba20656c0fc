package kafkaclient

import (
	"context"
	"math/bits"
	"sync"

	"golang.org/x/sync/semaphore"

	"markread/consumer/batch"
	"markread/consumer/event"
)

// FetchMemory bounds the fetched and undelivered bytes of all partitions together. Each lane has
// half of it, so that live events never wait for a full backfill.
const FetchMemory = 32 << 20

// laneDecoders is how many partitions of a lane decode and deliver at the same time, including
// fetches that wait for capacity.
const laneDecoders = 2

// Memory bounds the bytes of fetches until their records are delivered.
type Memory struct {
	size     int64
	free     *semaphore.Weighted
	buffers  buffers
	decoders chan *Decoder
}

// Decoder decodes one chunk of records at a time, and holds the events made from it.
type Decoder struct {
	batch.Decoder
	Events []event.Event
}

// NewMemory returns a memory of size bytes. Its decoders accept records that are up to extra bytes
// larger than an event.
func NewMemory(size int64, extra int) *Memory {
	m := &Memory{size: size, free: semaphore.NewWeighted(size),
		decoders: make(chan *Decoder, laneDecoders)}
	for range laneDecoders {
		m.decoders <- &Decoder{Decoder: batch.Decoder{Extra: extra}}
	}
	return m
}

// Decoder waits for a free decoder. The caller must return it with GiveBack.
func (m *Memory) Decoder(ctx context.Context) (*Decoder, error) {
	select {
	case d := <-m.decoders:
		return d, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// GiveBack returns a decoder that came from Decoder.
func (m *Memory) GiveBack(d *Decoder) {
	clear(d.Events[:cap(d.Events)]) // so that the events keep no record alive
	d.Release()
	m.decoders <- d
}

// lease is one fetch's share of the memory. It is safe for concurrent use: kafka-go may still be
// reading a response that nobody waits for any more.
type lease struct {
	memory *Memory

	mu       sync.Mutex
	reserved int64 // excludes acquired
	acquired int64
	closed   bool
}

// amount returns how much memory a response of size bytes needs. A response that is larger than the
// whole memory gets all of it.
func (l *lease) amount(size int64) int64 { return min(bufferSize(size), l.memory.size) }

// reserve waits until there is memory for a response of size bytes.
func (l *lease) reserve(ctx context.Context, size int64) error {
	l.mu.Lock()
	reserved := l.reserved
	l.reserved = 0
	l.mu.Unlock()
	// first, because fetches that keep memory while they wait could deadlock
	l.memory.free.Release(reserved)
	if err := l.memory.free.Acquire(ctx, l.amount(size)); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reserved = l.amount(size)
	return nil
}

// tryAcquire acquires memory for a response of size bytes, from the reservation first, and reports
// whether the response may be read.
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

// close releases all memory. Later calls do nothing.
func (l *lease) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	if n := l.reserved + l.acquired; n > 0 {
		l.memory.free.Release(n)
		l.reserved, l.acquired = 0, 0
	}
}

// buffers keeps the memory of closed fetches for later ones: otherwise it would be most of the
// garbage of a backlog. It does not count as used, and the collector frees what is not reused soon.
type buffers struct {
	bySize [maxPooledBits - minPooledBits + 1]sync.Pool // of *[]byte with a power of 2 as capacity
}

// Smaller buffers are little garbage, and larger ones too much memory to keep.
const (
	minPooledBits = 16
	maxPooledBits = 20
)

// bufferSize returns the capacity of the buffer for a response of size bytes.
func bufferSize(size int64) int64 {
	if size <= 1<<(minPooledBits-1) || size > 1<<maxPooledBits {
		return size
	}
	return 1 << max(minPooledBits, bits.Len64(uint64(size-1)))
}

// pool returns the pool for buffers with that capacity; nil: they are not kept.
func (b *buffers) pool(capacity int64) *sync.Pool {
	n := bits.TrailingZeros64(uint64(capacity))
	if capacity != 1<<n || n < minPooledBits || n > maxPooledBits {
		return nil
	}
	return &b.bySize[n-minPooledBits]
}

// get returns a buffer of size bytes. Its content is undefined.
func (b *buffers) get(size int64) []byte {
	capacity := bufferSize(size)
	if pool := b.pool(capacity); pool != nil {
		if kept, ok := pool.Get().(*[]byte); ok {
			return (*kept)[:size]
		}
	}
	return make([]byte, size, capacity)
}

// put keeps a buffer that nobody uses any more.
func (b *buffers) put(buffer []byte) {
	if pool := b.pool(int64(cap(buffer))); pool != nil {
		pool.Put(&buffer)
	}
}
