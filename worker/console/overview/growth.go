package overview

import (
	"slices"
	"strings"
	"time"
)

// tick is the backlog at one moment.
type tick struct {
	at              time.Time
	waiting, median float64
}

// tick keeps a tick. Ticks of other members can't be compared, nor those before or during a hold
// with what follows it.
func (b *builder) tick(v *view, names []string) {
	slices.Sort(names)
	joined := strings.Join(names, "\n")
	held := slices.ContainsFunc(v.members, func(m member) bool {
		return slices.ContainsFunc(m.held, func(h Hold) bool { return h.Reason != "quota" })
	})
	n := len(b.ticks)
	if held || joined != b.tickNames || n > 0 && (v.At.Before(b.ticks[n-1].at) ||
		v.At.Sub(b.ticks[n-1].at) > staleAt) {
		b.ticks, b.tickNames = nil, joined
	}
	for len(b.ticks) > 0 && v.At.Sub(b.ticks[0].at) > trendOver+thinnedTo {
		b.ticks = b.ticks[1:]
	}
	b.ticks = append(b.ticks, tick{v.At, v.waiting, v.median})
}

// growth returns by how many conversations a second the backlog grows, over a span of time.
func (b *builder) growth(span time.Duration) (float64, bool) {
	if len(b.ticks) == 0 {
		return 0, false
	}
	last := b.ticks[len(b.ticks)-1]
	first := last
	for _, t := range slices.Backward(b.ticks) {
		if last.at.Sub(t.at) > span+thinnedTo {
			break
		}
		first = t
	}
	over := last.at.Sub(first.at)
	if over < 20*time.Second {
		return 0, false
	}
	return (last.waiting - first.waiting) / over.Seconds(), true
}

// growing reports whether in each half of the last 20 s conversations became more, or the live
// events older; and steady, whether the latest seconds have not reduced the backlog: after a burst
// they do. One old event makes no lane old.
func (b *builder) growing(v *view) (more, older, steady bool) {
	now := tick{v.At, v.waiting, v.median}
	latest, half, whole := b.ago(v.At, 5*time.Second), b.ago(v.At, 10*time.Second),
		b.ago(v.At, 20*time.Second)
	if whole == nil {
		return false, false, false
	}
	least := 10 * max(.5, .01*deref(v.now.Limit))
	more = now.waiting-half.waiting > least && half.waiting-whole.waiting > least
	older = now.median-half.median >= 1 && half.median-whole.median >= 1
	return more, older, now.waiting >= latest.waiting
}

// ago returns the tick of so long ago; nil: there is none.
func (b *builder) ago(at time.Time, age time.Duration) (found *tick) {
	for i := range b.ticks {
		if at.Sub(b.ticks[i].at) >= age {
			found = &b.ticks[i]
		}
	}
	return found
}
