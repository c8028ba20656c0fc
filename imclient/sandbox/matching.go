package sandbox

import (
	"hash/fnv"
	"io"
	"math"
	"time"
)

// activeFaults are the faults since a time. They are immutable.
type activeFaults struct {
	Faults
	since time.Time
}

// match returns the rule that applies to a call, or nil.
func (f *activeFaults) match(number int64, c conversation) *Rule {
	if len(f.Rules) == 0 {
		return nil
	}
	age := time.Since(f.since)
	for i := range f.Rules {
		r := &f.Rules[i]
		if r.activeAt(age) && r.matches(f.Seed, uint64(i), number, c) {
			return r
		}
	}
	return nil
}

// activeAt reports whether the rule is active at an age of the faults.
func (r *Rule) activeAt(age time.Duration) bool {
	if r.Every > 0 {
		age %= r.Every
	}
	return r.For == 0 || age < r.For
}

// matches reports whether the rule affects this call of this conversation.
func (r *Rule) matches(seed, index uint64, number int64, c conversation) bool {
	if r.Report != "" && r.Report != c.report || r.Peer != "" && r.Peer != c.peer {
		return false
	}
	if r.Conversations > 0 && uniform(seed, index, c.hash()) >= r.Conversations {
		return false
	}
	return r.Share == 0 || uniform(seed, index, uint64(number)) < r.Share
}

// delay returns the latency of a call's response.
func (f *activeFaults) delay(number int64) time.Duration {
	l := f.Latency
	u := uniform(f.Seed, maxRules, uint64(number)) // a stream that no rule uses
	if l.P50 > 0 {
		// The logarithm of the delay has a normal distribution; 2.326… is the 99th percentile of
		// the standard normal distribution.
		sigma := math.Log(float64(l.P99)/float64(l.P50)) / 2.3263478740408408
		d := float64(l.P50) * math.Exp(sigma*math.Sqrt2*math.Erfinv(2*u-1))
		limit := maxLatency
		if l.Max > 0 {
			limit = l.Max
		}
		return time.Duration(min(d, float64(limit)))
	}
	return l.Min + time.Duration(u*float64(max(0, l.Max-l.Min)))
}

// uniform hashes three numbers to a number in [0, 1), deterministically and evenly spread.
func uniform(seed, stream, x uint64) float64 {
	return float64(mix(mix(mix(seed)^stream)^x)>>11) / (1 << 53)
}

// mix is the finalizer of splitmix64, preceded by its increment, so that 0 is not mapped to 0.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// hash hashes both accounts, each followed by a byte that no account contains.
func (c conversation) hash() uint64 {
	h := fnv.New64a()
	_, _ = io.WriteString(h, c.report+"\xff"+c.peer+"\xff") // a hash never fails
	return h.Sum64()
}
