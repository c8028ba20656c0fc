package sample

import "math"

// Add adds how many events of each age there were between two samples; an age that is not known
// adds nothing.
func (a *Ages) Add(from, to *Ages) {
	for i := range a {
		a[i] += Increase(from[i], to[i])
	}
}

// capFrom is the lower bound in seconds of the first bucket in which QuantileUpTo trusts the
// largest age that was seen: younger events may come and finish between two samples.
const capFrom = 10

// QuantileUpTo is Quantile for events of which none was older than oldest, in seconds, when it was
// last seen unfinished; NaN: not known. The buckets of large ages are wide: after an outage of 81 s
// Quantile would be 290 s.
func (a *Ages) QuantileUpTo(q, oldest float64) float64 {
	v := a.Quantile(q)
	lower := 0.0
	for _, bound := range AgeBounds {
		if bound < v {
			lower = bound
		}
	}
	if lower < capFrom || !(v > oldest) {
		return v
	}
	return max(lower, oldest)
}

// Quantile interpolates within the bucket of a quantile as Prometheus' histogram_quantile does. It
// is NaN without events, and the largest bound for an event beyond it.
func (a *Ages) Quantile(q float64) float64 {
	total := 0.0
	for _, n := range a {
		total += n
	}
	if !(total > 0) {
		return math.NaN()
	}
	rank, lower := q*total, 0.0
	for i, bound := range AgeBounds {
		if n := a[i]; n > 0 && rank <= n {
			return lower + (bound-lower)*rank/n
		}
		rank, lower = rank-a[i], bound
	}
	return lower
}
