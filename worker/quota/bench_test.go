package quota

import (
	"testing"
	"time"
)

// The quota's share of a call: Take and Return at full speed, with a latency of 25 ms, so that
// nearly all permits cool.
func BenchmarkTakeAndReturn(b *testing.B) {
	const n, latency = 200, 25 * time.Millisecond
	now := time.Unix(0, 0)
	q := New()
	q.Reset(n, now)
	responses := make([]time.Time, 0, n) // of the calls in flight, earliest first
	b.ReportAllocs()
	for b.Loop() {
		for {
			ok, again := q.Take(now)
			if ok {
				break
			}
			for len(responses) > 0 && (again.IsZero() || responses[0].Before(again)) {
				now = later(now, responses[0])
				q.Return(now)
				responses = append(responses[:0], responses[1:]...)
				again = now
			}
			now = later(now, again)
		}
		responses = append(responses, now.Add(latency))
	}
}

// The same without a rate, as in a benchmark of the whole worker.
func BenchmarkUncapped(b *testing.B) {
	now := time.Unix(0, 0)
	q := Uncapped(1)
	b.ReportAllocs()
	for b.Loop() {
		q.Take(now)
		q.Return(now)
	}
}
