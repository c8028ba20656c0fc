// Package quota keeps the promise that everything else is built around: in no window of one second,
// wherever it starts, do more than N calls reach the server.
//
// A limiter that looks at send times can't promise that: between sending and arriving the network may
// hold one call back and let the next one through, so that calls sent far apart arrive together.
// Permits look at the answer instead. There are N of them. A call takes one before it is sent and gives
// it back one Window after it was answered, or after its connection was closed on a timeout.
//
// Proof. A request arrives at some a, sent <= a <= answered. Take any window [t, t+1s). Each request
// that arrives in it was sent before t+1s and answered at or after t, so just before t+1s it still holds
// its permit. There are N permits, so at most N requests arrived. Nothing in it speaks of the network's
// jitter or of pauses of this process, and it needs no common clock, only clocks that tick alike
// (Window allows for 0.5 %).
//
// The price is throughput: N/(Window + latency) calls a second, 194/s of 200 at 25 ms.
//
// Permits alone would let calls go in volleys: N at once, then nothing for a second. A rate.Limiter
// spreads them; the promise doesn't rest on it. A volley's permits come back together, so its length is
// also that of a gap in each of the following seconds, which a live event may have to wait out. Measured
// with a full backfill: live p99 of 100 ms with bursts of N/10, 26 ms with N/40, for 0.2 % of the rate.
//
// Several workers share the N permits by the partitions that they own (Share). Who takes a partition
// over can't know when its former owner last called, so Reset lets all permits cool for a Window first.
//
// The package does not know why calls are made, and it has no clock and no goroutine: time comes in, and
// must not go back between two calls. It is not safe for concurrent use; its owner holds the lock.
package quota

import (
	"math"
	"time"

	"golang.org/x/time/rate"
)

// Window is the server's second, plus what two clocks may disagree on over it.
const Window = 1005 * time.Millisecond

// burstPart is which part of a second's calls may go at once: 25 ms of them.
const burstPart = 40

// Quota decides when the next call may be sent.
type Quota struct {
	permits permits
	pace    *rate.Limiter
}

// New returns a quota without any permit: Reset gives it some.
func New() *Quota {
	return &Quota{permits: permits{window: Window}, pace: rate.NewLimiter(0, 0)}
}

// Uncapped returns a quota that only bounds how many calls are out at the same time: no pacing, and a
// permit is free as soon as its call was answered.
func Uncapped(maxInFlight int) *Quota {
	return &Quota{permits: permits{n: maxInFlight}, pace: rate.NewLimiter(rate.Inf, 1)}
}

// Take takes a permit for one call that is sent now. When it can't, it says when to ask again; a zero
// time means not before the next Return or Reset.
func (q *Quota) Take(now time.Time) (ok bool, again time.Time) {
	free, again := q.permits.free(now)
	if !free {
		return false, again
	}
	if !q.pace.AllowN(now, 1) {
		missing := 1 - q.pace.TokensAt(now)
		wait := time.Duration(math.Ceil(missing / float64(q.pace.Limit()) * float64(time.Second)))
		return false, now.Add(max(wait, time.Microsecond))
	}
	q.permits.out++
	return true, time.Time{}
}

// Return gives back the permit of a call that was answered, or that is certainly dead.
func (q *Quota) Return(now time.Time) { q.permits.giveBack(now) }

// Reset sets how many permits there are, all of them cooling: another worker, or this one before a
// restart, may have used them a moment ago. Permits of calls that are still out stay with them.
func (q *Quota) Reset(n int, now time.Time) {
	q.permits.reset(n, now)
	q.pace = rate.NewLimiter(rate.Limit(n), max(1, n/burstPart))
}

// Limit is how many permits there are.
func (q *Quota) Limit() int { return q.permits.n }

// InFlight is how many calls are out.
func (q *Quota) InFlight() int { return q.permits.out }

// Cooling is how many permits wait for their Window to pass.
func (q *Quota) Cooling(now time.Time) int {
	q.permits.thaw(now)
	return len(q.permits.cooling)
}
