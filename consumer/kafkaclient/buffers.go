package kafkaclient

import (
	"math/bits"
	"sync"
)

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
