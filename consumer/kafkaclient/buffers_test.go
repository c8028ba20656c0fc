package kafkaclient

import "testing"

// A buffer has at most twice the size of its response, except for the small ones that are not kept,
// and its whole capacity counts as used memory.
func TestBufferSize(t *testing.T) {
	for _, c := range []struct {
		size, capacity int64
		kept           bool
	}{
		{1, 1, false}, {32 << 10, 32 << 10, false}, {32<<10 + 1, 64 << 10, true},
		{64 << 10, 64 << 10, true}, {64<<10 + 1, 128 << 10, true}, {200_000, 256 << 10, true},
		{fetchBytes, fetchBytes, true}, {1 << 20, 1 << 20, true}, {1<<20 + 1, 1<<20 + 1, false},
		{2 << 20, 2 << 20, false}, {MaxBatch, MaxBatch, false},
	} {
		var b buffers
		buffer := b.get(c.size)
		if int64(len(buffer)) != c.size || int64(cap(buffer)) != c.capacity ||
			(b.pool(c.capacity) != nil) != c.kept {
			t.Errorf("%d bytes: length %d, capacity %d, want %+v", c.size, len(buffer),
				cap(buffer), c)
		}
		m := NewMemory(MaxBatch, 0)
		l := &lease{memory: m}
		if !l.tryAcquire(c.size) || l.acquired != c.capacity {
			t.Errorf("%d bytes: %d are acquired, want %d", c.size, l.acquired, c.capacity)
		}
		b.put(buffer)
	}
	new(buffers).put(nil) // of a fetch without records
}

// A closed fetch's buffer is reused once, and only then: a second fetch that got the same
// buffer would overwrite the first one's records.
func TestCloseReturnsTheBufferOnce(t *testing.T) {
	f := fetchOfBytes(0, nil, nil)
	m := f.lease.memory
	f.buffer = m.buffers.get(fetchBytes)
	first := &f.buffer[0]
	if other := m.buffers.get(fetchBytes); &other[0] == first {
		t.Error("a buffer in use was given to another fetch")
	}
	f.Close()
	f.Close()
	if a, b := m.buffers.get(fetchBytes), m.buffers.get(fetchBytes); &a[0] == &b[0] {
		t.Error("a buffer was given to two fetches")
	}
}
