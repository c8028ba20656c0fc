package overview

import (
	"math"
	"slices"
	"time"
)

// assessBacklog returns the key of the backlog's sentence: behind, it does not shrink although the
// quota is used up; catching-up, it shrinks; backlog, it has begun to grow, or how it develops is
// not known yet. A short burst has no sentence.
func (b *builder) assessBacklog(v *view) string {
	growth, ok := b.growth(trendOver)
	limit, oldest := deref(v.now.Limit), deref(v.now.OldestSeconds)
	backlogged := oldest >= old && v.waiting >= max(1, limit) ||
		v.now.Limit != nil && v.waiting >= max(10, 10*limit)
	shrinks := ok && v.shrinks(growth)
	more, older, steady := b.growing(v)
	v.aging = older && v.median >= stale && v.waiting >= 10
	overloaded := v.saturated && v.waiting > 5*limit && steady && (more || older)
	v.growing = b.grows.update(v.At, overloaded || v.aging) &&
		(v.median >= stale || limit > 0 && v.waiting > limit) // not after its end
	// A member without a rate has no limit; what else limits its calls is not known.
	limited := v.saturated || v.now.Limit == nil || oldest >= veryOld
	behind := b.behind.update(v.At, ok && backlogged && !shrinks && limited)
	overload := b.overload.update(v.At, overloaded)
	catchingUp := b.catchingUp.update(v.At, backlogged && shrinks)
	switch {
	case !backlogged && !v.growing:
		return ""
	case behind, overload:
		if now, ok := b.growth(rateOver); ok && v.shrinks(now) {
			return "backlog" // less arrives than completes, at last
		}
		return "behind"
	case catchingUp && v.now.DrainSeconds != nil && *v.now.DrainSeconds < tooLong:
		return "catching-up"
	case v.growing, oldest >= tooOld:
		return "backlog"
	}
	return ""
}

// shrinks reports whether a growth, in conversations a second, is more than chance.
func (v *view) shrinks(growth float64) bool { return growth <= -max(.5, .01*deref(v.now.Limit)) }

// onlyBackfill reports whether all is well in the live lane, and no partition's retention is nearly
// over: then a backlog is a backfill, which may take hours.
func (v *view) onlyBackfill() bool {
	live := 0.0
	for _, m := range v.members {
		if m.now != nil {
			live += known(m.now.Lanes[0].Conversations)
		}
	}
	return live < max(10, deref(v.now.Limit)) &&
		!slices.ContainsFunc(v.partitions, func(p Partition) bool {
			return p.nearlyGone() || p.Lane != "backfill" && p.OldestSeconds >= old
		})
}

// backfilling returns the sentence of a backfill while nobody knows when it is done: most of it may
// still be in Kafka.
func (b *builder) backfilling(v *view) Sentence {
	waiting, live := 0.0, 0.0
	for _, m := range v.members {
		if m.now != nil {
			waiting += known(m.now.Lanes[1].Conversations)
		}
	}
	for _, p := range v.partitions {
		if p.Lane == "live" {
			live = max(live, p.OldestSeconds)
		}
	}
	return Sentence{"backfilling", good, map[string]any{"out": opt(b.completed(v)),
		"waiting": waiting, "oldest": live}}
}

// completed returns the successful calls a second.
func (b *builder) completed(v *view) float64 {
	var sum total
	for _, m := range v.members {
		if m.now != nil {
			sum.add(m.rate(successes))
		}
	}
	return sum.value()
}

// findDelayed finds the oldest event, if it is too old for a while and no backlog explains it.
func (b *builder) findDelayed(v *view) (Sentence, bool) {
	var worst Partition
	for _, p := range v.partitions {
		if p.OldestSeconds > worst.OldestSeconds {
			worst = p
		}
	}
	return Sentence{"delayed", warn, map[string]any{"topic": worst.Topic,
			"partition": worst.Partition, "age": worst.OldestSeconds, "waiting": v.now.Events}},
		b.delayed.update(v.At, worst.OldestSeconds >= tooOld && v.backlog == "")
}

// backlog returns the sentence of a backlog. What arrives and completes is conversations: events
// that collapse don't need a call.
func (b *builder) backlog(v *view) Sentence {
	out, in := b.completed(v), math.NaN()
	if growth, ok := b.growth(rateOver); ok {
		in = max(0, out+growth)
	}
	oldest := deref(v.now.OldestSeconds)
	params := map[string]any{"in": opt(in), "out": opt(out), "waiting": v.waiting,
		"oldest": oldest, "limit": v.now.Limit}
	if v.backlog != "catching-up" {
		key := v.backlog
		if key == "behind" {
			key = v.limited(key)
		}
		params["trend_key"] = "sentence.backlog.unknown"
		if v.growing && in >= out {
			params["trend_key"] = "sentence.backlog.growing"
		}
		return Sentence{key, warn, params}
	}
	done := v.At.Add(time.Duration(*v.now.DrainSeconds * float64(time.Second)))
	params["done"] = done.UTC().Round(10 * time.Second)
	if v.aging || oldest >= tooOld && !v.onlyBackfill() {
		return Sentence{v.backlog, warn, params}
	}
	return Sentence{v.backlog, good, params}
}

// findBlocked finds a partition whose oldest event does not finish while other partitions move on.
// An old event behind a backlog is not blocked.
func (b *builder) findBlocked(v *view) (Sentence, bool) {
	ages := map[string][]float64{"live": v.sortedAges("live"), "backfill": v.sortedAges("backfill")}
	var candidate *Partition
	for i := range v.partitions {
		p := &v.partitions[i]
		if p.Unreadable == nil && p.OldestSeconds >= old &&
			v.At.Sub(b.trends[p.id()].since) >= sameFor &&
			(candidate == nil || p.OldestSeconds > candidate.OldestSeconds) &&
			v.stuck(p, ages[p.Lane]) {
			candidate = p
		}
	}
	if candidate == nil || candidate.id() != b.blockedAt {
		b.blocked = latch{on: b.blocked.on}
	}
	if candidate == nil {
		return Sentence{}, false
	}
	b.blockedAt = candidate.id()
	o := candidate.Oldest
	params := map[string]any{"topic": candidate.Topic, "partition": candidate.Partition,
		"age": candidate.OldestSeconds, "waits_key": "waits.unknown", "worker": ""}
	if o == nil {
		for _, name := range []string{"offset", "attempts", "attempts_of", "waits_for", "code",
			"message", "retry_at", "report", "peer"} {
			params[name] = nil
		}
		params["worker"] = v.elsewhere(*candidate, false)
		return Sentence{"blocked", bad, params}, b.blocked.update(v.At, true)
	}
	params["offset"], params["attempts"], params["attempts_of"] = o.Offset, o.Attempts, o.AttemptsOf
	params["waits_for"], params["waits_key"] = o.WaitsFor, "waits."+o.WaitsFor
	params["code"], params["message"], params["retry_at"] = o.Code, o.Message, o.RetryAt
	params["report"], params["peer"] = o.Report, o.Peer
	return Sentence{"blocked", bad, params}, b.blocked.update(v.At, true)
}

// elsewhere returns the address of the worker whose page says more about a partition; "": this page
// says it, or the address is not known.
func (v *view) elsewhere(p Partition, said bool) string {
	for _, m := range v.members {
		if m.Name == p.Worker && !said {
			return m.Address
		}
	}
	return ""
}

// sortedAges returns the ages of a lane's partitions, youngest first.
func (v *view) sortedAges(lane string) []float64 {
	var ages []float64
	for _, p := range v.partitions {
		if p.Lane == lane {
			ages = append(ages, p.OldestSeconds)
		}
	}
	slices.Sort(ages)
	return ages
}

// stuck reports whether a partition's oldest event is much older than the median of its lane's
// other partitions, whose ages are sorted with its own, and no backlog or hold explains it.
func (v *view) stuck(p *Partition, ages []float64) bool {
	median := 0.0
	if others := len(ages) - 1; others > 0 {
		i := others / 2
		if own, _ := slices.BinarySearch(ages, p.OldestSeconds); own <= i {
			i++
		}
		median = ages[i]
	}
	if p.OldestSeconds < median+old {
		return false
	}
	i := slices.IndexFunc(v.members, func(m member) bool { return m.Name == p.Worker })
	if i < 0 || v.members[i].now == nil {
		return false
	}
	if p.Oldest != nil && p.Oldest.WaitsFor != "" { // its failure is known
		return p.Oldest.WaitsFor != "quota" && p.Oldest.WaitsFor != "hold"
	}
	if v.At.Sub(v.members[i].now.LastSuccess) > succeeding {
		return false
	}
	m := v.members[i].now
	waiting := conversations(m)
	if p.Lane == "live" {
		waiting = m.Lanes[0].Conversations // backfill waits for live, not the other way round
	}
	return known(waiting) < 10*max(1, known(m.Limit))
}
