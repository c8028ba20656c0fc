package offsets

import (
	"math"
	"math/rand/v2"
	"testing"
)

// Whatever the offsets, times and attempts: a chunk returns what was set.
func TestChunk(t *testing.T) {
	const year = 366 * 24 * 3600 * 1000
	wide := 0
	for seed := range uint64(2000) {
		r := rand.New(rand.NewPCG(seed, 9))
		var c chunk
		var want []slot
		offset, at := r.Int64N(1<<40), 1_700_000_000_000+r.Int64N(year)
		kinds := r.IntN(12) // the unusual kinds of steps that this chunk may have
		for i := range uint64(chunkSize) {
			offset++
			switch step := r.IntN(300); {
			case step == 0 && kinds&1 != 0:
				offset += r.Int64N(1 << 28)
			case step == 1 && kinds&2 != 0:
				at = r.Int64N(3 * year)
			case step == 2 && kinds&4 != 0:
				at = []int64{0, maxTime}[r.IntN(2)]
			default:
				at += r.Int64N(10_000) - 4000
			}
			at = min(max(at, 0), maxTime)
			s := slot{offset, uint64(at)}
			if i == 0 {
				c.start(s)
			} else {
				c.set(i, s)
			}
			want = append(want, s)
			for range r.IntN(3) { // an older one changes
				n := r.IntN(len(want))
				switch {
				case want[n].offset >= 0:
					want[n].offset = ^want[n].offset
				case kinds&8 != 0:
					want[n].state |= uint64(1+r.IntN(maxAttempts)) << timeBits
				}
				c.set(uint64(n), want[n])
			}
		}
		for i, s := range want {
			if got := c.get(uint64(i)); got != s {
				t.Fatalf("seed %d: event %d is %+v, want %+v", seed, i, got, s)
			}
		}
		if (c.wide == nil) == (c.narrow == nil) {
			t.Fatalf("seed %d: the chunk has both forms, or none", seed)
		}
		if c.wide != nil {
			wide++
		}
		c.start(slot{math.MaxInt64 - 1, 5})
		if c.get(0) != (slot{math.MaxInt64 - 1, 5}) || c.wide != nil {
			t.Fatalf("seed %d: reused, it has %+v", seed, c.get(0))
		}
	}
	if wide < 200 || wide > 1800 {
		t.Errorf("%d of 2000 chunks are wide: one of the two forms is hardly tested", wide)
	}
}
