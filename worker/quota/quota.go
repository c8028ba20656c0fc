// Package quota keeps the promise that everything else is built around: in no window of one second,
// wherever it starts, do more than N calls reach the server.
//
// A limiter of send times can't promise that: between sending and arriving the network may delay
// one call and not the next, so that calls sent far apart arrive together. Permits depend on the
// response instead. There are N of them. A call takes one before it is sent and returns it one
// Window after its response, or after a timeout closed its connection.
//
// Proof. A request arrives at some time a, sent <= a <= responded. Take any window [t, t+1s). Each
// request that arrives in it was sent before t+1s and responded to at or after t, so just before
// t+1s it still holds its permit. There are N permits, so at most N requests arrived. The proof
// assumes nothing about the network's jitter or about pauses of this process, and needs no common
// clock, only clocks that run at the same speed (Window allows for 0.5 %).
//
// The price is throughput: N/(Window + latency) calls per second, 194/s of 200 at 25 ms.
//
// Permits alone would let calls go in bursts: N at once, then none for a second. A rate.Limiter
// spreads them; the promise doesn't depend on it. Its pace is the number of permits available for
// the next Window: the free and the cooling ones, which are all that are not in flight. (It is 1 %
// more: see paceFactor.) A pace of N would use them up before the first one returns, and a live
// event would have to wait out that gap, as long as the latency, in every second: with a full
// backfill at a latency of 100 ms 119 ms for one event in a hundred, 17 ms at this pace, for the
// same throughput.
//
// Several workers share the N permits by the partitions that they own (Share). A partition's next
// owner can't know when the last one called: Reset makes all permits cool for a Window.
//
// The server may allow less than we believe: other programs use the same app's quota. When it
// refuses a call as one too many, the permits shrink to a fraction of the share (Shrink), then grow
// back, so that after each refusal we run a little below what the server allows. Shrinking keeps
// the proof: a later call was sent with fewer permits held than there are then. So does growing.
//
// It has no clock and no goroutine: time is an argument, and must not go back between two calls. It
// is not safe for concurrent use; its owner holds the lock.
package quota

import (
	"math"
	"time"

	"golang.org/x/time/rate"
)

// Window is the server's second, plus what two clocks may differ by over it.
const Window = 1005 * time.Millisecond

// paceFactor makes the pace a little faster than the permits return: at the same pace both would
// limit the calls, and permits would wait for tokens.
const paceFactor = 1.01

// burstDivisor sets the burst: a fortieth of a second's calls, 25 ms of them, may go together.
const burstDivisor = 40

const (
	// shrinkTo is the fraction of the permits that remains after a refusal. Growth then needs some
	// seconds to meet the server's limit again: at a limit of 120 the calls are 92 % of it on
	// average, 0.3 % of them refused.
	shrinkTo = 0.85
	// growAll is how long the permits would take to grow from none to the whole share.
	growAll = 80 * time.Second
)

// Quota decides when the next call may be sent.
type Quota struct {
	permits    permits
	pace       *rate.Limiter
	share      int       // set by Reset
	fraction   float64   // of the share, usable at fractionAt; it grows from then on
	fractionAt time.Time // zero: the whole share is usable
	shrunk     time.Time // when the permits last shrank
}

// New returns a quota without permits: Reset sets them.
func New() *Quota {
	return &Quota{permits: permits{window: Window}, pace: rate.NewLimiter(0, 0)}
}

// Uncapped returns a quota that only bounds how many calls are in flight: it does not pace or
// shrink, and a permit is free as soon as its call has ended.
func Uncapped(maxInFlight int) *Quota {
	pace := rate.NewLimiter(rate.Inf, 1)
	return &Quota{permits: permits{n: maxInFlight}, share: maxInFlight, pace: pace}
}

// Take takes a permit for one call that is sent now. If it can't, it returns when to ask again; a
// zero time means not before the next Return or Reset.
func (q *Quota) Take(now time.Time) (ok bool, again time.Time) {
	q.grow(now)
	if ok, again = q.permits.free(now); !ok {
		return false, again
	}
	if q.permits.window > 0 { // the pace follows the calls in flight
		free := float64(q.permits.n - q.permits.inFlight)
		q.pace.SetLimitAt(now, rate.Limit(paceFactor*free/q.permits.window.Seconds()))
	}
	if !q.pace.AllowN(now, 1) {
		missing := 1 - q.pace.TokensAt(now)
		wait := time.Duration(math.Ceil(missing / float64(q.pace.Limit()) * float64(time.Second)))
		return false, now.Add(max(wait, time.Microsecond))
	}
	q.permits.inFlight++
	return true, time.Time{}
}

// Slack returns how much later than the time that Take returned the next Take may be, at most
// 12.5 ms, so that several calls share a wake-up. It costs 0.2 % of the calls: tokens accumulate
// meanwhile, half of a burst, but a permit that nobody takes is lost, so after the first permit it
// is a tenth of a burst.
func (q *Quota) Slack(now time.Time) time.Duration {
	if q.permits.window == 0 || q.permits.n == 0 {
		return 0
	}
	// At the pace without calls in flight: while most calls hang, half of a burst takes seconds.
	slack := time.Duration(q.pace.Burst()-1) * q.permits.window / time.Duration(2*q.permits.n)
	if free, _ := q.permits.free(now); !free {
		slack /= 5
	}
	return slack
}

// Return returns the permit of a call that got a response, or whose connection is certainly closed.
func (q *Quota) Return(now time.Time) { q.permits.giveBack(now) }

// Reset sets the number of permits, all of them cooling: another worker, or this one before a
// restart, may have used them just before. Permits of calls in flight stay with these calls. The
// usable fraction stays, too: what the server allows is not forgotten.
func (q *Quota) Reset(share int, now time.Time) {
	q.share = share
	q.permits.reset(q.usable(now), share, now)
	q.pace = rate.NewLimiter(rate.Limit(q.permits.n), burst(q.permits.n))
}

// Shrink notes that the server refused a call, sent at sent, as one too many. A burst of refusals
// counts once: only a call sent after the last Shrink shows that there are still too many permits.
func (q *Quota) Shrink(now, sent time.Time) {
	if q.permits.window == 0 || q.share == 0 || !sent.After(q.shrunk) {
		return
	}
	q.fraction, q.fractionAt, q.shrunk = shrinkTo*float64(q.usable(now))/float64(q.share), now, now
	q.grow(now)
}

// grow updates the permits and the burst to what may be used now.
func (q *Quota) grow(now time.Time) {
	if n := q.usable(now); n != q.permits.n {
		q.permits.n = n
		q.pace.SetBurstAt(now, burst(n))
	}
}

// usable returns how many permits may be used: the whole share, or less after the server refused
// calls.
func (q *Quota) usable(now time.Time) int {
	if q.fractionAt.IsZero() || q.share == 0 {
		return q.share
	}
	fraction := q.fraction + float64(now.Sub(q.fractionAt))/float64(growAll)
	if fraction >= 1 {
		q.fractionAt = time.Time{}
		return q.share
	}
	return max(1, int(fraction*float64(q.share)))
}

func burst(n int) int { return max(1, n/burstDivisor) }

// Share returns how many permits there are when the server allows them all.
func (q *Quota) Share() int { return q.share }

// Limit returns how many permits may be used now.
func (q *Quota) Limit(now time.Time) int {
	q.grow(now)
	return q.permits.n
}

// InFlight returns how many calls are in flight.
func (q *Quota) InFlight() int { return q.permits.inFlight }

// Cooling returns how many permits wait for their Window to pass.
func (q *Quota) Cooling(now time.Time) int {
	q.permits.expireCooling(now)
	return len(q.permits.cooling)
}
