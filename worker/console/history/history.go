// Package history keeps what a worker or a group did in fixed rings: 5 s for an hour and 1 min for
// a day, about 0.5 MB. Counters are stored as increases and ages as counts by bucket, so that the
// quantiles of a group, and of a minute, are correct: they can be added up.
//
// It is pure, and not safe for concurrent use.
package history

import "time"

// A Range is a span of time that a plot shows.
type Range struct {
	Step  time.Duration
	Count int // points
}

// The ranges.
var (
	Hour = Range{5 * time.Second, 720}
	Day  = Range{time.Minute, 1440}
)

// Points is a part of the history, as the page receives it. Series have one value for each time;
// nil is a gap: nothing is known of that time. Rates are per second, ages are seconds.
//
// The series are: calls.ok calls.transient calls.throttled calls.held calls.rejected (calls/s);
// quota.rate quota.limit (calls/s, sums of workers for the limit); in.live in.backfill (events/s);
// out.applied out.collapsed out.superseded out.dead_lettered (events/s, both lanes);
// age.live.p50 age.live.p99 age.backfill.p50 age.backfill.p99; backlog.live backlog.backfill
// backlog.max (conversations); letters (dead letters written a second).
type Points struct {
	Step   int                   `json:"step"`  // seconds
	First  int64                 `json:"first"` // Unix seconds of the first point
	Series map[string][]*float64 `json:"series"`
}
