package overview

import (
	"maps"
	"math"
	"slices"
	"time"

	"markread/consumer/printable"
	"markread/worker/console/sample"
)

const (
	silentAfter   = 5 * time.Second  // one lost response is not worth a line
	coalesced     = 15 * time.Second // a group's workers see a rebalance one after the other
	recoveredAt   = time.Minute      // of the whole share
	lossEvery     = time.Minute
	losingFor     = 10 * time.Minute // after the last lost event
	maxCommandLen = 200
	maxLosing     = 100 // topics
)

// happen records what happened. The list is sorted by time, newest first: a hold or a process may
// have begun before it was seen.
func (b *builder) happen(at time.Time, kind, worker string, params map[string]any) {
	if b.scope == "worker" {
		worker = ""
	}
	finite(params)
	at = at.UTC().Truncate(time.Millisecond)
	i, _ := slices.BinarySearchFunc(b.happened, at,
		func(h Happening, at time.Time) int { return at.Compare(h.At) })
	for _, h := range b.happened[i:] {
		if !h.At.Equal(at) {
			break
		}
		if h.Kind == kind && h.Worker == worker && maps.Equal(h.Params, params) {
			return // seen before: the member was missing for a while
		}
	}
	if i < MaxHappened {
		b.happened = slices.Insert(b.happened, i, Happening{at, kind, worker, params})
	}
	b.happened = b.happened[:min(len(b.happened), MaxHappened)]
}

func (b *builder) record(c Command) {
	line := func(s string) string { return printable.Line(printable.Truncate(s, maxCommandLen)) }
	b.happen(c.At, "command", c.Worker, map[string]any{"what": c.What,
		"what_key": "happening.command." + c.What, "by": line(c.By), "why": line(c.Why)})
}

// compare records what happened to a member between two samples. base is the sample from which its
// counters increased; nil: not known.
func (b *builder) compare(v *view, m Member, t *track, before, base *sample.Member) {
	b.compareSilence(v.At, m, t)
	now := t.now
	if now == nil {
		return
	}
	restarted := before != nil && !now.Continues(before)
	if before == nil || restarted {
		b.started(v.At, m.Name, now, restarted)
	}
	b.compareHolds(v, m.Name, now, before)
	if base == nil {
		return
	}
	if now.Generations > base.Generations {
		b.rebalanced(now.At, m.Name, now)
	}
	b.compareLimit(m.Name, t)
	for topic, n := range now.Lost {
		if lost := sample.Increase(base.Lost[topic], n); lost > 0 {
			b.lost(now.At, m.Name, topic, lost)
		}
	}
}

func (b *builder) compareSilence(at time.Time, m Member, t *track) {
	if t.now != nil {
		if t.silentShown {
			b.happen(at, "responding", m.Name,
				map[string]any{"seconds": at.Sub(t.silentSince).Seconds()})
		}
		t.silentSince, t.silentShown = time.Time{}, false
		return
	}
	if t.silentSince.IsZero() || t.silentSince.After(at) {
		t.silentSince = at
	}
	if !t.silentShown && at.Sub(t.silentSince) >= silentAfter {
		t.silentShown = true
		b.happen(t.silentSince, "silent", m.Name, map[string]any{"reason": m.Silent})
	}
}

// started records a process. Of a restarted one whose start is not known it is the time of the
// first sample.
func (b *builder) started(at time.Time, name string, m *sample.Member, restarted bool) {
	params := map[string]any{"version": m.Version}
	switch {
	case !m.Started.IsZero() && !m.Started.After(at):
		b.happen(m.Started, "started", name, params)
	case restarted:
		b.happen(m.At, "started", name, params)
	}
}

// compareHolds records holds by their reason and lane. Those of the first sample began before it.
func (b *builder) compareHolds(v *view, name string, now, before *sample.Member) {
	var earlier []sample.Held
	if before != nil {
		earlier = before.Held
	}
	find := func(list []sample.Held, h sample.Held) bool {
		return slices.ContainsFunc(list, func(o sample.Held) bool {
			return o.Reason == h.Reason && o.Lane == h.Lane && o.Since.Equal(h.Since)
		})
	}
	for _, h := range earlier {
		if !find(now.Held, h) {
			params := holdParams(h.Reason, h.Lane)
			params["seconds"] = nil
			if !h.Since.IsZero() {
				params["seconds"] = max(0, now.At.Sub(h.Since).Seconds())
			}
			b.happen(now.At, "hold-ended", name, params)
		}
	}
	for _, h := range now.Held {
		if find(earlier, h) {
			continue
		}
		at := h.Since
		if at.IsZero() || at.After(v.At) {
			at = now.At
		}
		b.happen(at, "hold-began", name, holdParams(h.Reason, h.Lane))
	}
}

// holdParams returns parameters that name a hold: words of the contract, and keys of their texts.
func holdParams(reason, lane string) map[string]any {
	if lane == "" {
		lane = "all"
	}
	return map[string]any{"reason": reason, "reason_key": "hold." + reason,
		"lane": lane, "lane_key": "ui.lane." + lane}
}

// rebalanced records a new generation, in a group once for all its workers.
func (b *builder) rebalanced(at time.Time, name string, m *sample.Member) {
	params := map[string]any{"partitions": nil}
	if b.scope == "group" {
		for _, h := range b.happened {
			if h.Kind == "rebalanced" && at.Sub(h.At).Abs() < coalesced {
				return
			}
		}
		name = ""
	} else {
		params["partitions"] = opt(m.Assigned)
	}
	b.happen(at, "rebalanced", name, params)
}

// compareLimit records that the server refuses calls, and that it has accepted the whole share
// again for a while: a limit just below the share would otherwise be a line every few seconds.
func (b *builder) compareLimit(name string, t *track) {
	m := t.now
	if math.IsNaN(m.Limit) || math.IsNaN(m.Share) {
		return
	}
	if m.Limit >= m.Share {
		if t.fullSince.IsZero() {
			t.fullSince = m.At
		}
		if t.slowed && m.At.Sub(t.fullSince) >= recoveredAt {
			t.slowed = false
			b.happen(t.fullSince, "recovered", name, map[string]any{"limit": m.Limit})
		}
		return
	}
	t.fullSince = time.Time{}
	if !t.slowed && m.Calls[2] > 0 {
		t.slowed = true
		b.happen(m.At, "slowed", name, map[string]any{"limit": m.Limit, "share": m.Share})
	}
}

// loss is a topic whose events are being lost to retention.
type loss struct {
	since, last, shown time.Time
	count, pending     float64
}

// lost records lost events, at most once in lossEvery for each topic.
func (b *builder) lost(at time.Time, name, topic string, n float64) {
	l := b.losses[topic]
	if l == nil && len(b.losses) >= maxLosing {
		return // a worker's topics are its own claim
	}
	if l == nil || at.Sub(l.last) > losingFor {
		l = &loss{since: at}
		b.losses[topic] = l
	}
	l.last, l.count, l.pending = at, l.count+n, l.pending+n
	if l.shown.IsZero() || at.Sub(l.shown) >= lossEvery {
		b.happen(at, "lost", name, map[string]any{"topic": topic, "count": l.pending})
		l.shown, l.pending = at, 0
	}
}
