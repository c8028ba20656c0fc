package backlog

import (
	"time"
)

const (
	backfillEvery = 19 // at least one call of so many is for the last lane, if it waits: 5 %
	retryEvery    = 10 // at most one call of so many is a retry while first attempts wait: 10 %
)

// soonest returns the queue of the open lanes whose top may be called soonest: a first attempt,
// otherwise the retry that is due first; nil if nothing waits.
func (b *Backlog) soonest(open LaneSet) (first *queue) {
	for i := range b.lanes {
		l := &b.lanes[i]
		switch {
		case !open[i]:
		case l.fresh.len() > 0:
			return &l.fresh
		case l.retries.len() > 0 && (first == nil || l.retries.top().key < first.top().key):
			first = &l.retries
		}
	}
	return first
}

// TakeProbe is Take for a probe: it ignores due times.
func (b *Backlog) TakeProbe(open LaneSet) *Conversation {
	first := b.soonest(open)
	if first == nil {
		return nil
	}
	return b.send(first.pop())
}

// Take chooses the conversation of the open lanes to call now and marks it as in flight; the result
// must be reported with Succeeded, Retry, Defer or Drop. While first attempts wait, it takes no
// retry if maxRetries are in flight. It returns nil if nothing may be called (see Ready).
func (b *Backlog) Take(now time.Time, open LaneSet, maxRetries int) *Conversation {
	at := int64(now.Sub(b.start))
	first := b.soonest(open)
	firstAttempts := first != nil && !first.top().retrying
	full := firstAttempts && b.retriesInFlight >= maxRetries // of any lane
	chosen := -1
	for i := range b.lanes {
		if !open[i] || !b.lanes[i].waits(at, full) {
			continue
		}
		if chosen < 0 || b.lanes[i].overtaken >= backfillEvery-1 {
			chosen = i
		}
	}
	if chosen < 0 {
		return nil
	}
	for i := chosen + 1; i < Lanes; i++ {
		if open[i] && b.lanes[i].waits(at, full) {
			b.lanes[i].overtaken++
		}
	}
	l := &b.lanes[chosen]
	l.overtaken = 0
	retry := l.retries.len() > 0 && l.retries.top().key <= at
	if retry && (l.fresh.len() == 0 || l.sinceRetry >= retryEvery-1 && !full) {
		l.sinceRetry = 0
		return b.send(l.retries.pop())
	}
	l.sinceRetry++
	return b.send(l.fresh.pop())
}

func (l *lane) waits(at int64, full bool) bool {
	return l.fresh.len() > 0 || !full && l.retries.len() > 0 && l.retries.top().key <= at
}

func (b *Backlog) send(c *Conversation) *Conversation {
	s := c.state()
	s.flight = &flight{sent: s.refs.n, ref: c.best, readTime: c.readTime, lane: c.lane}
	c.index = int32(len(b.flying))
	b.flying = append(b.flying, c)
	if c.retrying {
		b.retriesInFlight++
	}
	return c
}
