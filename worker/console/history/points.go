package history

import (
	"math"
	"time"

	"markread/worker/console/sample"
)

// Points returns the points of a range after a time in Unix seconds; 0: all. The last point is
// complete. If the time is after the last point, the clock was set back, and all points are
// returned.
func (h *History) Points(r Range, after int64) Points {
	ring := &h.rings[0]
	if r == Day {
		ring = &h.rings[1]
	}
	step := int64(ring.Step / time.Second)
	last := ring.number(h.at.Add(-settled)) - 1
	first := ring.first(last)
	if after > 0 && after <= last*step {
		first = max(first, after/step+1)
	}
	p := Points{Step: int(step), First: first * step, Series: map[string][]*float64{}}
	slots := make([]*slot, 0, max(0, last-first+1))
	for n := first; n <= last; n++ {
		s := *ring.at(n)
		for i := range s.oldest { // an event that finished in it was last seen in it, or just before
			for before := n - 1; before >= n-2 && before > ring.last-int64(len(ring.slots)); before-- {
				s.oldest[i] = max(s.oldest[i], ring.at(before).oldest[i])
			}
		}
		slots = append(slots, &s)
	}
	for name, value := range series {
		p.Series[name] = column(slots, func(s *slot) float64 { return value(s, ring.Step) })
	}
	return p
}

// first returns the number of the first slot up to last that has something; after last if none has.
func (r *ring) first(last int64) int64 {
	n := r.last - int64(len(r.slots)) + 1
	if r.last == 0 {
		return last + 1
	}
	for ; n <= last; n++ {
		if s := r.at(n); s.gauged || s.covered > 0 {
			return n
		}
	}
	return n
}

// column returns one series; what is not a number is a gap.
func column(slots []*slot, value func(*slot) float64) []*float64 {
	numbers, points := make([]float64, len(slots)), make([]*float64, len(slots))
	for i, s := range slots {
		if v := value(s); !math.IsNaN(v) && !math.IsInf(v, 0) {
			numbers[i] = round(v)
			points[i] = &numbers[i]
		}
	}
	return points
}

// series computes the value of each series in a slot.
var series = func() map[string]func(*slot, time.Duration) float64 {
	all := map[string]func(*slot, time.Duration) float64{"letters": rate(letters)}
	for i, result := range sample.Results {
		all["calls."+result] = rate(callsFrom + i)
	}
	for i, outcome := range sample.Outcomes {
		all["out."+outcome] = rate(outFrom + i)
	}
	for i, lane := range []string{"live", "backfill"} {
		all["in."+lane] = rate(inFrom + i)
		all["backlog."+lane] = gauge(backlogFrom + i)
		all["age."+lane+".p50"] = age(.5, i)
		all["age."+lane+".p99"] = age(.99, i)
	}
	all["backlog.max"] = positive(backlogBound)
	all["quota.rate"], all["quota.limit"] = positive(quotaRate), positive(quotaLimit)
	return all
}()

// rate returns an increase a second. Less than half of a step says too little about it.
func rate(i int) func(*slot, time.Duration) float64 {
	return func(s *slot, step time.Duration) float64 {
		covered, whole := float64(s.covered), step.Seconds()
		if covered < whole/2 {
			return math.NaN()
		}
		return float64(s.values[i]) / min(covered, whole)
	}
}

func gauge(i int) func(*slot, time.Duration) float64 {
	return func(s *slot, _ time.Duration) float64 {
		if !s.gauged {
			return math.NaN()
		}
		return float64(s.values[i])
	}
}

// positive is gauge for a bound: 0 means that there is none, or that it is not known.
func positive(i int) func(*slot, time.Duration) float64 {
	return func(s *slot, _ time.Duration) float64 {
		if !s.gauged || s.values[i] <= 0 {
			return math.NaN()
		}
		return float64(s.values[i])
	}
}

func age(q float64, lane int) func(*slot, time.Duration) float64 {
	return func(s *slot, _ time.Duration) float64 {
		var ages sample.Ages
		for i := range ages {
			ages[i] = float64(s.values[agesFrom+lane*agesOf+i])
		}
		return ages.QuantileUpTo(q, float64(s.oldest[lane]))
	}
}

// round rounds to 4 significant digits: an hour of points stays below 150 KB.
func round(v float64) float64 {
	if v == 0 {
		return 0
	}
	exponent := 3 - int(math.Floor(math.Log10(math.Abs(v))))
	if exponent < 0 {
		unit := math.Pow10(-exponent)
		return math.Round(v/unit) * unit
	}
	scale := math.Pow10(exponent)
	if math.IsInf(scale, 0) {
		return 0
	}
	return math.Round(v*scale) / scale
}
