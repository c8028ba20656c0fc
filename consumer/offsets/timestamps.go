package offsets

import (
	"slices"
	"time"
)

// Timestamps says since when a record is in the log at most. Kafka deletes the oldest segments
// whose latest timestamp has expired, so what counts is the latest timestamp up to an offset, not a
// record's own one, which a producer may have set to any time. Bounded memory makes it approximate:
// the answer may be too early by less than two steps, never too late.
type Timestamps struct {
	samples []timestamp // ascending by offset, and by time in steps of at least step
	step    int64       // milliseconds
}

type timestamp struct{ offset, at int64 } // at: milliseconds since 1970

const (
	maxTimestamps = 512
	firstStep     = 1000
	latestTime    = 1 << 50 // in 30,000 years; later ones may be forged to overflow
)

// Add notes a record's timestamp; offsets ascend. finished is an offset before which nobody will
// ask.
func (t *Timestamps) Add(offset int64, at time.Time, finished int64) {
	ms, n := min(at.UnixMilli(), latestTime), len(t.samples)
	if at.IsZero() || n > 0 && ms < t.samples[n-1].at+t.step {
		return
	}
	if n == maxTimestamps {
		t.shrink(finished)
	}
	t.step = max(t.step, firstStep)
	t.samples = append(t.samples, timestamp{offset, ms})
}

// shrink drops the samples of finished offsets and, until that frees half of the memory, doubles the
// step.
func (t *Timestamps) shrink(finished int64) {
	t.samples = slices.Delete(t.samples, 0, max(0, t.find(finished)))
	for len(t.samples) > maxTimestamps/2 {
		t.step *= 2
		kept := t.samples[:1]
		for _, s := range t.samples[1:] {
			if s.at >= kept[len(kept)-1].at+t.step {
				kept = append(kept, s)
			}
		}
		t.samples = kept
	}
}

// find returns the index of the last sample up to an offset; -1: there is none.
func (t *Timestamps) find(offset int64) int {
	n, found := slices.BinarySearchFunc(t.samples, offset,
		func(s timestamp, offset int64) int { return int(s.offset - offset) })
	if found {
		return n
	}
	return n - 1
}

// At returns the latest timestamp up to an offset, or an earlier time; zero: none is known.
func (t *Timestamps) At(offset int64) time.Time {
	if n := t.find(offset); n >= 0 {
		return time.UnixMilli(t.samples[n].at)
	}
	return time.Time{}
}

// Reset forgets everything, for another log.
func (t *Timestamps) Reset() { *t = Timestamps{} }
