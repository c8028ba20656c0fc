package offsets

import "time"

const (
	chunkSize = 512
	chunkMask = chunkSize - 1
)

// chunk holds consecutive events, usually in 8 bytes each: the differences to its first event. One
// whose offsets or times differ too much, or with an event that has attempts, takes 16 bytes each.
type chunk struct {
	offset, time int64 // of the first event
	narrow       *[chunkSize]uint64
	wide         *[chunkSize]slot // instead of narrow; nil: narrow
	finished     int              // how many events have finished
	attempted    int              // how many events have attempts
}

// slot is what is known of an event.
type slot struct {
	offset int64  // ^offset (negative): finished
	state  uint64 // milliseconds since 1970; the attempts in the higher bits
}

const (
	timeBits    = 52
	maxTime     = 1<<timeBits - 1
	maxAttempts = 1<<(64-timeBits) - 1
)

func (s slot) time() time.Time { return time.UnixMilli(int64(s.state & maxTime)) }

func (s slot) attempts() int { return int(s.state >> timeBits) }

// A narrow event has the difference of its time in the lowest bits, then that of its offset.
const (
	narrowTime   = 36 // bits, of milliseconds: a year before or after the chunk's time
	narrowOffset = 27
	finishedBit  = 1 << (narrowTime + narrowOffset)
)

// start makes s the first event of an empty chunk.
func (c *chunk) start(s slot) {
	c.offset, c.time = s.offset, int64(s.state)
	if c.wide = nil; c.narrow == nil {
		c.narrow = new([chunkSize]uint64)
	}
	c.finished, c.attempted = 0, 0
	c.set(0, s)
}

func (c *chunk) get(n uint64) slot {
	if c.wide != nil {
		return c.wide[n&chunkMask]
	}
	v := c.narrow[n&chunkMask]
	at := int64(v&(1<<narrowTime-1)) - 1<<(narrowTime-1)
	s := slot{c.offset + int64(v>>narrowTime&(1<<narrowOffset-1)), uint64(c.time + at)}
	if v&finishedBit != 0 {
		s.offset = ^s.offset
	}
	return s
}

func (c *chunk) set(n uint64, s slot) {
	if c.wide == nil {
		if v, ok := c.pack(s); ok {
			c.narrow[n&chunkMask] = v
			return
		}
		wide := new([chunkSize]slot)
		for i := range wide {
			wide[i] = c.get(uint64(i))
		}
		c.wide, c.narrow = wide, nil
	}
	c.wide[n&chunkMask] = s
}

// pack returns a narrow event; ok is false if it does not fit.
func (c *chunk) pack(s slot) (v uint64, ok bool) {
	offset := s.offset
	if offset < 0 {
		offset, v = ^offset, finishedBit
	}
	offset -= c.offset
	at := int64(s.state) - c.time + 1<<(narrowTime-1)
	ok = offset>>narrowOffset == 0 && at>>narrowTime == 0
	return v | uint64(offset)<<narrowTime | uint64(at), ok
}
