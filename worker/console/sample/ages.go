package sample

import "math"

// Add adds how many events of each age there were between two samples; an age that is not known
// adds nothing.
func (a *Ages) Add(from, to *Ages) {
	for i := range a {
		a[i] += Increase(from[i], to[i])
	}
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
