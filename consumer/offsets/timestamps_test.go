package offsets

import (
	"math/rand/v2"
	"testing"
	"time"
)

// Against the latest timestamp of all records so far: never later, and at most 1/100 of the time
// that the samples span earlier, whatever the timestamps.
func TestTimestamps(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 3))
		var stamps Timestamps
		var latest []int64
		pace, finished := int64(1)<<r.IntN(18), 0
		now := int64(1_700_000_000_000)
		for offset := range 5000 {
			now += r.Int64N(2 * pace)
			at := now
			switch r.IntN(50) {
			case 0:
				at = r.Int64N(now) // any time in the past
			case 1:
				at = now + 100*pace
			}
			latest = append(latest, at)
			if offset > 0 {
				latest[offset] = max(at, latest[offset-1])
			}
			if r.IntN(3) == 0 {
				finished = max(finished, offset-r.IntN(2000))
			}
			stamps.Add(int64(offset), time.UnixMilli(at), int64(finished))
			if len(stamps.samples) > maxTimestamps {
				t.Fatalf("seed %d: %d samples", seed, len(stamps.samples))
			}
			asked := finished + r.IntN(offset-finished+1)
			got := stamps.At(int64(asked)).UnixMilli()
			slack := max(firstStep, (latest[offset]-latest[finished])/100, 100*pace)
			if got > latest[asked] || got < latest[asked]-slack {
				t.Fatalf("seed %d: offset %d of %d to %d: %d, want at most %d, and no earlier "+
					"than %d", seed, asked, finished, offset, got, latest[asked],
					latest[asked]-slack)
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
