package sandbox

import (
	"hash/fnv"
	"io"
	"math"
	"time"
)

// activeFaults are faults since a time. Nothing here changes after it was made.
type activeFaults struct {
	Faults
	since time.Time
}

// pick returns the rule that a call meets, or nil.
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

// on says whether it is the rule's time.
func (r *Rule) activeAt(age time.Duration) bool {
	if r.Every > 0 {
		age %= r.Every
	}
	return r.For == 0 || age < r.For
}

// meets says whether the rule is for this call of this conversation.
func (r *Rule) matches(seed, index uint64, number int64, c conversation) bool {
	if r.Report != "" && r.Report != c.report || r.Peer != "" && r.Peer != c.peer {
		return false
	}
	if r.Conversations > 0 && uniform(seed, index, c.hash()) >= r.Conversations {
		return false
	}
	return r.Share == 0 || uniform(seed, index, uint64(number)) < r.Share
}

// delay is how long the answer to a call takes.
func (f *activeFaults) delay(number int64) time.Duration {
	l := f.Latency
	u := uniform(f.Seed, maxRules, uint64(number)) // a stream that no rule has
	if l.P50 > 0 {
		// ln of the delay is normal; 2.326… is the 99th percentile of the standard normal
		// distribution.
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

// unit turns three numbers into one in [0, 1): the same three always into the same, and well
// spread.
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

// hash is of both accounts, with a byte behind each that no account has.
func (c conversation) hash() uint64 {
	h := fnv.New64a()
	_, _ = io.WriteString(h, c.report+"\xff"+c.peer+"\xff") // to a hash: can't fail
	return h.Sum64()
}
