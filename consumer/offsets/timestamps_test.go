package offsets

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// Against the latest timestamp of all records so far: never later, and earlier by less than two steps
// of 1 s, or of 1/100 of the time that the unfinished records span, whatever the timestamps.
func TestTimestamps(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 3))
		var stamps Timestamps
		var latest []int64
		pace, finished := int64(1)<<r.IntN(18), 0
		now, widest, step := int64(1_700_000_000_000), int64(0), int64(0)
		for offset := range 5000 {
			now += r.Int64N(2 * pace)
			at := now
			switch n := r.IntN(1000); {
			case n < 20:
				at = r.Int64N(now) // any time in the past
			case n < 22:
				at = now + 100*pace
			case n == 22:
				now += 1000 * pace // nothing was written
			}
			latest = append(latest, at)
			if offset > 0 {
				latest[offset] = max(at, latest[offset-1])
			}
			if r.IntN(3) == 0 {
				finished = max(finished, offset-r.IntN(2000))
			}
			widest = max(widest, latest[offset]-latest[finished])
			stamps.Add(int64(offset), time.UnixMilli(at), int64(finished))
			if len(stamps.samples) > maxTimestamps {
				t.Fatalf("seed %d: %d samples", seed, len(stamps.samples))
			}
			from := finished + r.IntN(offset-finished+1)
			to := from
			if stamps.step != step { // samples were dropped: check all
				step, from, to = stamps.step, finished, offset
			}
			for asked := from; asked <= to; asked++ {
				got := stamps.At(int64(asked)).UnixMilli()
				if got > latest[asked] || got <= latest[asked]-2*step {
					t.Fatalf("seed %d: offset %d of %d to %d: %d, want at most %d, and less than "+
						"%d earlier", seed, asked, finished, offset, got, latest[asked], 2*step)
				}
			}
			if stamps.step > max(firstStep, widest/100) {
				t.Fatalf("seed %d: %d ms are a step of %d ms", seed, stamps.step, widest)
			}
		}
		if stamps.Reset(); !stamps.At(4999).IsZero() {
			t.Fatal("Reset left timestamps")
		}
	}
}

func TestTimestampsUnknown(t *testing.T) {
	var stamps Timestamps
	stamps.Add(7, time.Time{}, 0)
	if at := stamps.At(7); !at.IsZero() {
		t.Errorf("a record without a timestamp was written at %v", at)
	}
	stamps.Add(8, time.UnixMilli(0), 0)
	if at := stamps.At(7); !at.IsZero() {
		t.Errorf("an offset before all others was written at %v", at)
	}
	if at := stamps.At(8); at.UnixMilli() != 0 {
		t.Errorf("a timestamp of 0 is %v", at)
	}
}

// A producer may write any timestamp.
func TestTimestampsForged(t *testing.T) {
	var stamps Timestamps
	for offset := range int64(3 * maxTimestamps) {
		at := offset * firstStep
		if offset%2 == 1 {
			at = math.MaxInt64 - 3*maxTimestamps + offset
		}
		stamps.Add(offset, time.UnixMilli(at), 0)
	}
	if at := stamps.At(0); at.UnixMilli() != 0 || len(stamps.samples) > 2 {
		t.Errorf("%v, %d samples", at, len(stamps.samples))
	}
	if at := stamps.At(2); at.Year() < 10_000 {
		t.Errorf("written at %v", at)
	}
}
