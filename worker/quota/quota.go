// Package quota keeps the promise that everything else is built around: in no window of one second,
// wherever it starts, do more than N calls reach the server.
//
// A limiter that looks at send times can't promise that: between sending and arriving the network
// may hold one call back and let the next one through, so that calls sent far apart arrive
// together. Permits look at the response instead. There are N of them. A call takes one before it
// is sent and gives it back one Window after its response, or after a timeout closed its
// connection.
//
// Proof. A request arrives at some a, sent <= a <= answered. Take any window [t, t+1s). Each
// request that arrives in it was sent before t+1s and answered at or after t, so just before t+1s
// it still holds its permit. There are N permits, so at most N requests arrived. Nothing in it
// speaks of the network's jitter or of pauses of this process, and it needs no common clock, only
// clocks that tick alike (Window allows for 0.5 %).
//
// The price is throughput: N/(Window + latency) calls a second, 194/s of 200 at 25 ms.
//
// Permits alone would let calls go in volleys: N at once, then nothing for a second. A rate.Limiter
// spreads them; the promise doesn't rest on it. Its pace is what the next Window has permits for:
// those that are free and those that come back, which are all that are not in flight. A pace of N
// would use them up before the first comes back, and a live event would have to wait out that gap,
// as long as the latency, in every second: with a full backfill at a latency of 100 ms 119 ms for
// one in a hundred, 17 ms at this pace, for the same throughput.
//
// Several workers share the N permits by the partitions that they own (Share). A partition's next
// owner can't know when the last one called: Reset lets all permits cool for a Window.
//
// The server may allow less than we believe: other programs use the same app's quota. When it
// refuses a call as one too many, the permits shrink to a part of the share (Shrink), then grow
// back, so that after each refusal we run a little below what it allows. Shrinking keeps the proof:
// a call that is sent later was sent with fewer permits held than there are then. So does growing.
//
// It has no clock and no goroutine: time comes in, and must not go back between two calls. It is
// not safe for concurrent use; its owner holds the lock.
package quota

import (
	"math"
	"time"

	"golang.org/x/time/rate"
)

// Window is the server's second, plus what two clocks may disagree on over it.
const Window = 1005 * time.Millisecond

// burstDivisor is which part of a second's calls may go at once: 25 ms of them.
const burstDivisor = 40

const (
	// shrinkTo is what is left of the permits after a refusal. Growth then needs some seconds to
	// meet the server's limit again: at a limit of 120 the calls are 92 % of it in the mean, 0.3 %
	// of them refused.
	shrinkTo = 0.85
	// growAll is how long the permits would need to grow from none to the whole share.
	growAll = 80 * time.Second
)

// Quota decides when the next call may be sent.
type Quota struct {
	permits    permits
	pace       *rate.Limiter
	share      int       // as Reset set it
	fraction   float64   // of the share that could be used at since; it has grown from then on
	fractionAt time.Time // zero: all of it
	shrunk     time.Time // when it shrank last
}

// New returns a quota without any permit: Reset gives it some.
func New() *Quota {
	return &Quota{permits: permits{window: Window}, pace: rate.NewLimiter(0, 0)}
}

// Uncapped returns a quota that only bounds how many calls are in flight: no pacing, no shrinking,
// and a permit is free as soon as its call was answered.
func Uncapped(maxInFlight int) *Quota {
	pace := rate.NewLimiter(rate.Inf, 1)
	return &Quota{permits: permits{n: maxInFlight}, share: maxInFlight, pace: pace}
}

// Take takes a permit for one call that is sent now. When it can't, it returns when to ask again; a
// zero time means not before the next Return or Reset.
func (q *Quota) Take(now time.Time) (ok bool, again time.Time) {
	q.grow(now)
	if ok, again = q.permits.free(now); !ok {
		return false, again
	}
	if q.permits.window > 0 { // the pace follows the calls that are in flight
		free := float64(q.permits.n - q.permits.inFlight)
		q.pace.SetLimitAt(now, rate.Limit(free/q.permits.window.Seconds()))
	}
	if !q.pace.AllowN(now, 1) {
		missing := 1 - q.pace.TokensAt(now)
		wait := time.Duration(math.Ceil(missing / float64(q.pace.Limit()) * float64(time.Second)))
		return false, now.Add(max(wait, time.Microsecond))
	}
	q.permits.inFlight++
	return true, time.Time{}
}

// Return gives back the permit of a call that was answered, or that is certainly dead.
func (q *Quota) Return(now time.Time) { q.permits.giveBack(now) }

// Reset sets how many permits there are, all of them cooling: another worker, or this one before a
// restart, may have used them a moment ago. Permits of calls that are still in flight stay with
// them. What the server allows is not forgotten: the part that may be used stays.
func (q *Quota) Reset(share int, now time.Time) {
	q.share = share
	q.permits.reset(q.usable(now), share, now)
	q.pace = rate.NewLimiter(rate.Limit(q.permits.n), burst(q.permits.n))
}

// Shrink notes that the server refused a call, sent at sent, as one too many. A burst of refusals
// counts once: only a call that was sent after the last Shrink shows that there are still too many
// permits.
func (q *Quota) Shrink(now, sent time.Time) {
	if q.permits.window == 0 || q.share == 0 || !sent.After(q.shrunk) {
		return
	}
	q.fraction, q.fractionAt, q.shrunk = shrinkTo*float64(q.usable(now))/float64(q.share), now, now
	q.grow(now)
}

// grow lets the permits and the pace follow what may be used now.
func (q *Quota) grow(now time.Time) {
	if n := q.usable(now); n != q.permits.n {
		q.permits.n = n
		q.pace.SetBurstAt(now, burst(n))
	}
}

// usable is how many permits may be used: the whole share, or less after the server refused calls.
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

// Share is how many permits there are when the server allows them all.
func (q *Quota) Share() int { return q.share }

// Limit is how many permits may be used now.
func (q *Quota) Limit(now time.Time) int {
	q.grow(now)
	return q.permits.n
}

// InFlight is how many calls are in flight.
func (q *Quota) InFlight() int { return q.permits.inFlight }

// Cooling is how many permits wait for their Window to pass.
func (q *Quota) Cooling(now time.Time) int {
	q.permits.expireCooling(now)
	return len(q.permits.cooling)
}
