package sample

import "time"

// MaxGap is how far apart two samples of a member may be: nobody knows how the increase of a longer
// time is spread over it.
const MaxGap = 15 * time.Second

// Base returns the sample from which the counters of m increased: prev or, if its process is
// younger than prev and MaxGap, a sample with counters of 0 when it started. It is nil if there is
// none: prev is missing, too old or not older, or the counters began again at an unknown time.
func Base(prev, m *Member) *Member {
	if age := m.At.Sub(m.Started); !m.Started.IsZero() && age > 0 && age <= MaxGap &&
		(prev == nil || prev.At.Before(m.Started)) {
		return &Member{At: m.Started, Started: m.Started}
	}
	if prev == nil || !m.At.After(prev.At) || m.At.Sub(prev.At) > MaxGap || !m.Continues(prev) {
		return nil
	}
	return prev
}

// Continues reports whether the counters of m can be those of prev's process, later.
func (m *Member) Continues(prev *Member) bool {
	// The start is read from a clock in ticks; some systems round it differently each time.
	if !m.Started.IsZero() && !prev.Started.IsZero() &&
		m.Started.Sub(prev.Started).Abs() > time.Second {
		return false
	}
	began := m.Generations < prev.Generations // false if one is not known
	for i := range m.Calls {
		began = began || m.Calls[i] < prev.Calls[i]
	}
	for i := range m.Lanes {
		began = began || m.Lanes[i].Received < prev.Lanes[i].Received
	}
	return !began
}

// Increase returns how much a counter increased; 0 if that is not known.
func Increase(from, to float64) float64 {
	if to > from {
		return to - from
	}
	return 0
}
