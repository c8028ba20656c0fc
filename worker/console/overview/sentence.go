package overview

import (
	"maps"
	"slices"
	"time"
)

// Severities.
const (
	bad  = "bad"
	warn = "warn"
	good = "good"
)

const (
	joining  = time.Minute     // a process may take to join its group
	idleFor  = 5 * time.Minute // without events and calls
	pausedAt = 30 * time.Second
	// calls succeed: the latest success is not older
	succeeding = 2 * time.Minute
	stale      = 15.0             // seconds: a lane whose events are older is not well
	old        = 30.0             // seconds: an older event means a backlog, or is blocked
	tooOld     = 60.0             // seconds: an older event is said to be old
	sameFor    = 20 * time.Second // a blocked event is its partition's oldest for so long
	soon       = 30 * 60.0        // seconds until retention deletes an event
	veryOld    = 120.0            // seconds: a backlog that does not shrink is behind for any reason
	tooLong    = 30 * 86400.0     // seconds: nobody knows when a backlog is done that takes longer
)

// sentence returns the first sentence that applies. While all members are silent, but not yet for
// long, nothing is known: it stays as it is.
func (b *builder) sentence(v *view) Sentence {
	s := b.first(v)
	if s.Severity == good && v.Kafka != nil && v.Kafka.Unreachable {
		s.Severity = warn // the workers are well, but lag and dead letters are not known
	}
	if since := v.silentSince(); s.Key != "starting" || since.IsZero() || b.shown.Key == "" {
		b.shown = s
	}
	return b.shown
}

// silentSince returns since when no member responds; zero: one does, or there is none.
func (v *view) silentSince() (since time.Time) {
	for _, m := range v.members {
		if m.now != nil {
			return time.Time{}
		}
		if m.silentSince.After(since) {
			since = m.silentSince
		}
	}
	return since
}

func (b *builder) first(v *view) Sentence {
	v.backlog = b.assessBacklog(v)
	onlyBackfill := v.onlyBackfill() && !v.aging
	paused, isPaused := b.fetchingPaused(v)
	delayed, isDelayed := b.findDelayed(v)
	blocked, isBlocked := b.findBlocked(v)
	isDelayed = isDelayed && !(isBlocked && blocked.Params["topic"] == delayed.Params["topic"] &&
		blocked.Params["partition"] == delayed.Params["partition"])
	var found []Sentence // the most urgent first
	add := func(s Sentence, applies bool) {
		if applies {
			found = append(found, s)
		}
	}
	add(b.outside(v))
	hidden := len(found) > 0
	add(v.losingSoon())
	held, isHeld := b.held(v)
	add(held, isHeld)
	hidden = hidden || isHeld
	add(b.losing(v))
	add(paused, isPaused && !onlyBackfill)
	add(blocked, isBlocked)
	add(b.unreadable(v))
	add(b.slowed(v))
	add(Sentence{Key: "behind"}, v.backlog == "behind" && !onlyBackfill)
	add(delayed, isDelayed)
	b.noteTroubles(v.At, found, hidden)
	if len(found) > 0 && found[0].Key != "behind" && found[0].Key != "delayed" {
		return found[0]
	}
	switch {
	case onlyBackfill && (isPaused || v.backlog == "behind" || v.backlog == "backlog"):
		return b.backfilling(v)
	case v.backlog != "":
		return b.backlog(v)
	case isDelayed:
		return delayed
	}
	if s, ok := b.idle(v); ok {
		return s
	}
	if v.now.Calls == nil {
		return Sentence{"starting", warn, map[string]any{}}
	}
	severity := good
	if slices.ContainsFunc(v.partitions, func(p Partition) bool {
		return p.Lane != "backfill" && p.OldestSeconds >= old
	}) {
		severity = warn
	}
	return Sentence{v.limited("keeping-up"), severity, map[string]any{"calls": v.now.Calls,
		"rate": v.now.Rate, "oldest": deref(v.now.OldestSeconds)}}
}

// limited returns the key of a sentence that says the rate; without one it is another.
func (v *view) limited(key string) string {
	if v.now.Rate == nil && v.now.Limit == nil {
		return key + "-unlimited"
	}
	return key
}

// losingSoon returns the sentence of the unfinished event that retention deletes first, if that is
// soon, and most of its retention is over.
func (v *view) losingSoon() (Sentence, bool) {
	var first *Partition
	for i := range v.partitions {
		p := &v.partitions[i]
		if p.OldestSeconds < stale || p.RetentionLeft == nil || *p.RetentionLeft < 0 ||
			*p.RetentionLeft >= min(soon, p.OldestSeconds) {
			continue
		}
		if first == nil || *p.RetentionLeft < *first.RetentionLeft {
			first = p
		}
	}
	if first == nil {
		return Sentence{}, false
	}
	return Sentence{"losing-soon", bad, map[string]any{"topic": first.Topic,
		"partition": first.Partition, "left": *first.RetentionLeft, "age": first.OldestSeconds}}, true
}

// outside returns the sentence of a worker or a group that is not connected: cut-off, out, none,
// silent or starting.
func (b *builder) outside(v *view) (Sentence, bool) {
	key, since := b.whyOutside(v)
	if key == "" || key == "starting" {
		b.outSince = time.Time{}
	} else if b.outSince.IsZero() || b.outSince.After(v.At) {
		b.outSince = v.At
	}
	if since.IsZero() {
		since = b.outSince
	}
	since = since.UTC()
	rebalancing := v.Kafka != nil && v.Kafka.Rebalancing
	switch key {
	case "cut-off":
		return Sentence{key, bad, map[string]any{"since": since}}, true
	case "out":
		return Sentence{key, bad, map[string]any{"since": since, "rebalancing": rebalancing}}, true
	case "none":
		return Sentence{key, bad, map[string]any{}}, true
	case "silent":
		return Sentence{key, bad, map[string]any{"since": since, "workers": len(v.members),
			"reason": v.members[0].Silent}}, true
	case "starting":
		return Sentence{key, warn, map[string]any{}}, true
	}
	return Sentence{}, false
}

func (b *builder) whyOutside(v *view) (key string, since time.Time) {
	if v.Kafka != nil && v.Kafka.Unreachable && !slices.ContainsFunc(v.members, connected) {
		return "cut-off", time.Time{}
	}
	responding, ready, young := 0, false, false
	// While some members don't respond, Kafka knows best whether the group has members.
	working := v.Kafka != nil && !v.Kafka.Empty && !v.Kafka.Rebalancing
	for _, m := range v.members {
		if m.now == nil {
			continue
		}
		responding++
		ready = ready || m.now.Ready
		began := m.now.Started
		if began.IsZero() {
			began = b.begun
		}
		young = young || v.At.Sub(began) < joining
	}
	if d := v.Details; d != nil && responding > 0 {
		member := slices.ContainsFunc(d.Holds,
			func(h Hold) bool { return h.Reason == "membership" })
		if d.NoBroker || !d.Outside.IsZero() && member {
			return "cut-off", d.Outside
		}
		since = d.Outside
	}
	switch {
	case responding > 0 && !ready && since.IsZero() && young:
		return "starting", since
	case responding > 0 && !ready && !(working && responding < len(v.members)):
		return "out", since
	case v.Kafka != nil && v.Kafka.Empty && responding == 0:
		return "none", since
	case responding == 0 && len(v.members) > 0 && v.At.Sub(b.begun) >= silentAfter &&
		v.At.Sub(v.silentSince()) >= silentAfter:
		return "silent", v.silentSince()
	case responding == 0:
		return "starting", since
	}
	return "", since
}

// connected reports whether a member has proof of its membership, which only a broker gives: then
// it is this console alone that reaches no broker.
func connected(m member) bool {
	return m.now != nil && m.now.Ready && !slices.ContainsFunc(m.held,
		func(h Hold) bool { return h.Reason == "membership" })
}

func deref(v *float64) float64 {
	if v == nil {
		return 0
	}
	return *v
}

// timeOf returns a time for JSON; nil: not known.
func timeOf(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UTC()
}

// losing returns the sentence of the topic that has lost most events.
func (b *builder) losing(v *view) (Sentence, bool) {
	topic := ""
	for _, name := range slices.Sorted(maps.Keys(b.losses)) {
		l := b.losses[name]
		if v.At.Sub(l.last) > losingFor {
			delete(b.losses, name)
		} else if topic == "" || l.count > b.losses[topic].count {
			topic = name
		}
	}
	if topic == "" {
		return Sentence{}, false
	}
	l := b.losses[topic]
	return Sentence{"losing", bad, map[string]any{"topic": topic, "since": l.since.UTC(),
		"count": l.count}}, true
}

// fetchingPaused counts a pause of the last half minute: at the bound each call that completes
// makes fetching resume for a moment.
func (b *builder) fetchingPaused(v *view) (Sentence, bool) {
	for i, lane := range []string{"live", "backfill"} {
		var waiting, bound total
		paused := 0
		for _, m := range v.members {
			if at := m.paused[i]; m.now != nil && !at.IsZero() && v.At.Sub(at) < pausedAt {
				paused++
				waiting.add(conversations(m.now))
				bound.add(m.now.MaxPending)
			}
		}
		if paused > 0 {
			params := holdParams("", lane)
			delete(params, "reason")
			delete(params, "reason_key")
			params["waiting"], params["bound"] = opt(waiting.value()), opt(bound.value())
			params["workers"], params["lag"] = paused, v.lag(lane)
			return Sentence{"fetching-paused", warn, params}, true
		}
	}
	return Sentence{}, false
}

func (b *builder) unreadable(v *view) (Sentence, bool) {
	count := 0
	for _, p := range v.partitions {
		if p.Unreadable != nil {
			count++
		}
	}
	if count == 0 {
		return Sentence{}, false
	}
	p := v.partitions[0] // they come first
	return Sentence{"unreadable", bad, map[string]any{"topic": p.Topic, "partition": p.Partition,
		"count": count, "since": timeOf(p.Unreadable.Since), "reason": p.Unreadable.Reason,
		"worker": v.elsewhere(p, p.Unreadable.Reason != "")}}, true
}

// slowed returns the sentence of a limit that is well below the share because of refused calls.
func (b *builder) slowed(v *view) (Sentence, bool) {
	slowed := slices.ContainsFunc(v.members,
		func(m member) bool { return m.now != nil && m.slowed })
	limit, share := deref(v.now.Limit), deref(v.now.Share)
	return Sentence{"slowed", warn, map[string]any{"limit": limit, "share": share}},
		slowed && limit < .9*share
}

// idle returns the sentence of a group without events and calls.
func (b *builder) idle(v *view) (Sentence, bool) {
	since := b.lastActive
	for _, m := range v.members {
		if since.IsZero() && m.now != nil {
			since = m.now.Started
		}
	}
	if since.IsZero() {
		since = b.begun
	}
	return Sentence{"idle", good, map[string]any{"since": since.UTC()}},
		v.now.Events == 0 && v.waiting == 0 && v.At.Sub(since) >= idleFor
}
