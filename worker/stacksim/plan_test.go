package stacksim

import (
	"fmt"
	"math"
	"time"
)

// seed is the source of all choices of a simulation. Each choice is keyed by its subject, never by
// the order in which choices are made: so a seed means the same load and the same faults whatever
// the scheduler does.
type seed uint64

// unit returns a number in [0, 1) for a purpose and the keys of the choice.
func (s seed) unit(purpose string, keys ...int) float64 {
	return float64(s.bits(purpose, keys...)>>11) / (1 << 53)
}

func (s seed) bits(purpose string, keys ...int) uint64 {
	h := uint64(14695981039346656037) ^ scramble(uint64(s))
	for i := range len(purpose) {
		h = (h ^ uint64(purpose[i])) * 1099511628211
	}
	for _, k := range keys {
		h = scramble(h ^ uint64(k))
	}
	return scramble(h)
}

// scramble is splitmix64.
func scramble(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// below returns a number in [0, n).
func (s seed) below(n int, purpose string, keys ...int) int {
	return int(s.unit(purpose, keys...) * float64(n))
}

// between returns a duration whose logarithm is evenly distributed: short ones are as likely as
// long ones.
func (s seed) between(from, to time.Duration, purpose string, keys ...int) time.Duration {
	return time.Duration(float64(from) * math.Pow(float64(to)/float64(from),
		s.unit(purpose, keys...)))
}

// pick returns one element of list.
func pick[T any](s seed, list []T, purpose string, keys ...int) T {
	return list[s.below(len(list), purpose, keys...)]
}

// plan is what a seed means.
type plan struct {
	seed
	minutes         int // of faults
	workers         int
	partitions      int
	rate            int
	pending         int     // worker.Options.MaxPending
	perSecond       float64 // events
	conversations   int
	unknownAccounts float64 // share of the conversations that the server rejects
	invalid         float64 // share of the records that are invalid
	backfill        float64 // share of the events
	burst           int     // events of the backfill at the beginning
	kinds           []kind  // the faults
	// no fault may lose an acknowledgement, so none explains a repetition
	noRepeats bool
}

func newPlan(s seed, minutes int) plan {
	p := plan{
		seed: s, minutes: minutes,
		workers:         1 + s.below(4, "workers"),
		partitions:      pick(s, []int{1, 3, 4, 4}, "partitions"),
		rate:            pick(s, []int{20, 40, 100, 200}, "rate"),
		pending:         pick(s, []int{20, 200, 100_000}, "pending"),
		conversations:   pick(s, []int{5, 200, 1000, 5000}, "conversations"),
		backfill:        pick(s, []float64{0, 0.2, 0.8}, "backfill"),
		unknownAccounts: pick(s, []float64{0, 0.02, 0.1}, "nobody"),
		invalid:         pick(s, []float64{0, 0.02, 0.1}, "invalid"),
		burst:           pick(s, []int{0, 200, 2000}, "burst"),
	}
	p.perSecond = float64(p.rate) * pick(s, []float64{0.05, 0.2, 0.5, 0.9}, "load")
	for i, k := range kinds {
		// Swarm testing: each kind occurs in about half of the seeds, so that faults don't always
		// hide each other.
		on := s.unit("kind", i) < 0.4
		if p.noRepeats = s.unit("calm") < 0.25; p.noRepeats {
			on = k.noRepeats && on || k.name == "stopped"
		}
		if on {
			p.kinds = append(p.kinds, k)
		}
	}
	return p
}

func (p plan) String() string {
	names := ""
	for _, k := range p.kinds {
		names += " " + k.name
	}
	return fmt.Sprintf("%d workers, %d partitions, rate %d, %.0f events/s of %d conversations, "+
		"%d in memory, backfill %.0f %% and a burst of %d, faults:%s", p.workers, p.partitions,
		p.rate, p.perSecond, p.conversations, p.pending, 100*p.backfill, p.burst, names)
}

// event returns the n-th event to be published at a time.
func (p plan) event(n int, now time.Time) (e published, lane string, keyed bool) {
	lane = topics.Live
	if p.unit("lane", n) < p.backfill {
		lane = topics.Backfill
	}
	// The square makes some conversations busier than others.
	u := p.unit("conversation", n)
	c := int(u * u * float64(p.conversations))
	e.conversation = conversation{fmt.Sprintf("r%d", c), fmt.Sprintf("p%d", c%7)}
	if p.unit("nobody", c) < p.unknownAccounts {
		e.report = "nobody" + e.report
	}
	e.readTime = now.Unix() - int64(p.below(10, "age", n))
	switch {
	case p.unit("invalid", n) < p.invalid:
		e.invalid = true
		e.value = pick(p.seed,
			[]string{"", "{", `{"Report_Account":"a"}`, `{"Report_Account":"a","Peer_Account":7}`,
				"\xff", `[]`}, "wrong", n)
	case p.unit("timeless", n) < 0.2:
		e.readTime = now.Unix()
		e.value = fmt.Sprintf(`{"Report_Account":%q,"Peer_Account":%q}`, e.report, e.peer)
	default:
		e.value = fmt.Sprintf(`{"Report_Account":%q,"Peer_Account":%q,"MsgReadTime":%d}`, e.report,
			e.peer, e.readTime)
	}
	return e, lane, p.unit("keyless", n) > 0.05
}
