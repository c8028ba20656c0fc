package overview

import (
	"math"
	"slices"
	"time"

	"markread/worker/console/sample"
)

// builder builds overviews from successive inputs. It remembers what a single input can't say:
// rates, trends, and since when something is so.
type builder struct {
	scope, group string
	begun        time.Time // of the first input
	members      map[string]*track
	trends       map[partitionID]*trend
	ticks        []tick    // of the last minute, oldest first
	tickNames    string    // the members of the ticks
	dead         []counted // dead letters by the minute, of the last hour, oldest first
	seen         []aged    // the oldest live event, of the last minute and a half, oldest first
	happened     []Happening
	workers      []Worker // of the latest overview

	shown      Sentence  // the latest
	outSince   time.Time // of cut-off, out, none or silent
	lastActive time.Time // when an event was received or a call was made
	losses     map[string]*loss
	troubles   map[string]*trouble // by the key of their sentence

	behind, overload, grows, catchingUp, blocked, delayed latch
	blockedAt                                             partitionID
}

func newBuilder(scope, group string) *builder {
	return &builder{scope: scope, group: group, members: map[string]*track{},
		trends: map[partitionID]*trend{}, losses: map[string]*loss{},
		troubles:   map[string]*trouble{},
		behind:     latch{on: time.Minute, off: 15 * time.Second},
		overload:   latch{on: 25 * time.Second, off: 15 * time.Second},
		grows:      latch{on: 5 * time.Second, off: 15 * time.Second},
		catchingUp: latch{on: 10 * time.Second, off: 15 * time.Second},
		blocked:    latch{on: 10 * time.Second},
		delayed:    latch{on: 30 * time.Second}}
}

// empty returns the overview before the first input.
func (b *builder) empty() Overview {
	return Overview{Scope: b.scope, Group: b.group, Workers: []Worker{}, Partitions: []Partition{},
		Happened: []Happening{}, Errors: []string{},
		Sentence: Sentence{"starting", warn, map[string]any{}}}
}

// view is one moment while its overview is built.
type view struct {
	Input
	members    []member
	partitions []Partition
	now        Now
	waiting    float64 // conversations
	median     float64 // age of the oldest events of the live lane's partitions
	saturated  bool    // the quota is used up
	growing    bool    // the backlog, for a while
	aging      bool    // the live lane: it is older than it should be, and becomes older
	backlog    string  // the key of its sentence; "": there is none
}

type member struct {
	Member
	*track
	held []Hold
}

func (b *builder) build(in Input) Overview {
	in.At = in.At.UTC()
	if b.begun.IsZero() || b.begun.After(in.At) {
		b.begun = in.At
	}
	v := &view{Input: in}
	b.observe(v)
	o := b.empty()
	o.At, o.Replay = in.At, in.Replay
	if in.Kafka != nil {
		o.Errors = append(o.Errors, in.Kafka.Errors...)
		o.DeadLetters = in.Kafka.DeadLetters
	}
	v.partitions = b.partitions(v)
	o.Partitions = append(o.Partitions, v.partitions[:min(len(v.partitions), MaxPartitions)]...)
	o.MorePartitions = len(v.partitions) - len(o.Partitions)
	for _, m := range v.members {
		o.Workers = append(o.Workers, m.worker())
	}
	b.workers = o.Workers
	b.addNow(v)
	o.Now = v.now
	o.Sentence = b.sentence(v)
	finite(o.Sentence.Params)
	o.Happened = append(o.Happened, b.happened...)
	return o
}

// observe updates what is remembered of the members, and records what happened to them.
func (b *builder) observe(v *view) {
	tracks := make(map[string]*track, len(v.Members))
	for _, m := range v.Members {
		if tracks[m.Name] != nil {
			continue
		}
		t := b.members[m.Name]
		if t == nil {
			t = &track{codes: map[string]noted{}}
		}
		tracks[m.Name] = t
		if m.Silent != "" {
			m.Sample = nil
		}
		before := t.last
		base := t.update(v.At, m.Sample)
		b.compare(v, m, t, before, base)
		if base != nil {
			b.countLetters(v.At, base, t.now)
		}
		if base != nil && (received(base) < received(t.now) || calls(base) < calls(t.now)) {
			b.active(t.now.At)
		}
		if t.now != nil {
			b.active(t.now.LastSuccess)
		}
		v.members = append(v.members, member{m, t, b.holds(v, m, t)})
	}
	b.members = tracks
}

func (b *builder) active(at time.Time) {
	if at.After(b.lastActive) {
		b.lastActive = at
	}
}

// holds returns a member's active holds: its own console's know more than its metrics. Of a pause
// that was sent from here, the command knows who and why.
func (b *builder) holds(v *view, m Member, t *track) []Hold {
	held := []Hold{}
	if t.now == nil {
		return held
	}
	if v.Details != nil {
		return append(held, v.Details.Holds...)
	}
	for _, h := range t.now.Held {
		hold := Hold{Reason: h.Reason, Lane: h.Lane, Since: h.Since}
		if d := m.hold(hold); d != nil {
			hold.Detail, hold.Code, hold.Do, hold.NextProbeAt = d.Detail, d.Code, d.Do, d.NextProbeAt
			hold.By, hold.Why = d.By, d.Why
		}
		if by, why := b.paused(m.Address, h.Since); h.Reason == "paused" && by != "" {
			hold.By, hold.Why = by, why
		}
		held = append(held, hold)
	}
	return held
}

// hold returns what is known of a hold in detail; nil: nothing.
func (m *Member) hold(h Hold) *Hold {
	if m.Details == nil {
		return nil
	}
	for i := range m.Details.Holds {
		d := &m.Details.Holds[i]
		if d.Reason == h.Reason && d.Lane == h.Lane && d.Since.Sub(h.Since).Abs() < time.Second {
			return d
		}
	}
	return nil
}

// paused returns by whom and why a worker was paused; "" if it was not from here. The clocks of
// two machines differ.
func (b *builder) paused(worker string, since time.Time) (by, why string) {
	const apart = 10 * time.Second
	for _, h := range b.happened { // the newest command counts
		if h.Kind != "command" || h.Worker != worker {
			continue
		}
		if h.Params["what"] == "pause" && h.At.Sub(since).Abs() < apart {
			by, _ = h.Params["by"].(string)
			why, _ = h.Params["why"].(string)
		}
		break
	}
	return by, why
}

// worker returns the member as the page shows it.
func (m *member) worker() Worker {
	w := m.Worker
	w.Held, w.State = m.held, "ready"
	if m.last != nil {
		w.Version, w.StartedAt = m.last.Version, m.last.Started
	}
	s := m.now
	if s == nil {
		w.State = "silent"
		return w
	}
	if !s.Ready {
		w.State = "not-ready"
	}
	w.Share, w.Limit, w.Calls, w.InFlight = opt(s.Share), opt(s.Limit), opt(m.rate(calls)),
		opt(s.InFlight)
	w.Conversations, w.Events = opt(conversations(s)), opt(events(s))
	if oldest := oldest(s); oldest > 0 {
		w.OldestSeconds = &oldest
	}
	if !math.IsNaN(s.Assigned) {
		w.Partitions = new(int(s.Assigned))
	}
	return w
}

// oldest returns the age of a member's oldest unfinished event; 0: none.
func oldest(m *sample.Member) float64 {
	oldest := 0.0
	for _, p := range m.Partitions {
		oldest = max(oldest, known(p.Oldest))
	}
	return oldest
}

// addNow sums the members, and keeps a tick of the sums.
func (b *builder) addNow(v *view) {
	var share, limit, called, in, out, bound total
	var ages sample.Ages
	busy, used := 0.0, 0.0 // of members with more than a second's calls waiting
	rate := math.NaN()
	age := 0.0
	var names []string
	for _, m := range v.members {
		if m.now == nil {
			continue
		}
		names = append(names, m.Name)
		if m.now.Rate > 0 {
			rate = m.now.Rate
		}
		share.add(m.now.Share)
		limit.add(m.now.Limit)
		called.add(m.rate(calls))
		in.add(m.rate(received))
		out.add(m.rate(finished))
		bound.add(m.now.MaxPending)
		waiting := known(conversations(m.now))
		v.waiting += waiting
		v.now.Events += known(events(m.now))
		age = max(age, oldest(m.now))
		if base := m.since(trendOver, thinnedTo); base != nil {
			ages.Add(&base.Lanes[0].Ages, &m.now.Lanes[0].Ages)
		}
		if waiting > known(m.now.Limit) {
			busy += known(m.now.Limit)
			// A call has its permit for a second longer than it is in flight.
			used += known(m.rateOf(calls, 10*time.Second)) + known(m.now.InFlight)
		}
	}
	for _, p := range v.partitions {
		age = max(age, p.OldestSeconds)
	}
	v.saturated = busy > 0 && used >= .9*busy
	n := &v.now
	n.Rate, n.Share, n.Limit = opt(rate), opt(share.value()), opt(limit.value())
	n.Calls, n.In, n.Out = opt(called.value()), opt(in.value()), opt(out.value())
	n.MaxPending, n.Conversations, n.Events = opt(bound.value()), known(v.waiting), known(n.Events)
	seen := b.oldestSeen(v)
	n.P50, n.P99 = opt(ages.QuantileUpTo(.5, seen)), opt(ages.QuantileUpTo(.99, seen))
	if age > 0 {
		n.OldestSeconds = &age
	}
	if ages := v.sortedAges("live"); len(ages) > 0 {
		v.median = ages[len(ages)/2]
	}
	b.tick(v, names)
	// While fetching is paused most of the backlog is still in Kafka.
	if growth, ok := b.growth(trendOver); ok && v.shrinks(growth) && v.waiting > 0 && !v.paused() {
		n.DrainSeconds = opt(v.waiting / -growth)
	}
}

// counted is how much there was in the minute that begins at a time.
type counted struct {
	at time.Time
	n  float64
}

// countLetters counts the dead letters that a worker has written since a sample.
func (b *builder) countLetters(at time.Time, base, now *sample.Member) {
	n := 0.0
	for code, count := range now.Letters {
		n += known(sample.Increase(base.Letters[code], count))
	}
	minute := at.Truncate(time.Minute)
	b.dead = slices.DeleteFunc(b.dead, func(c counted) bool {
		return c.at.After(minute) || minute.Sub(c.at) >= time.Hour
	})
	if last := len(b.dead) - 1; last >= 0 && b.dead[last].at.Equal(minute) {
		b.dead[last].n += n
	} else if n > 0 {
		b.dead = append(b.dead, counted{minute, n})
	}
}

// deadLettered returns how many dead letters were written in the last hour, as far as it was seen.
func (b *builder) deadLettered() (n float64) {
	for _, c := range b.dead {
		n += c.n
	}
	return n
}

// oldestSeen returns the largest age of an unfinished live event in the time that P50 and P99 are
// of, and just before it.
func (b *builder) oldestSeen(v *view) (oldest float64) {
	now := aged{v.At, 0}
	for _, m := range v.members {
		if m.now == nil {
			continue
		}
		for _, p := range m.now.Partitions {
			if p.Topic == m.now.Lanes[0].Topic {
				now.seconds = max(now.seconds, known(p.Oldest))
			}
		}
	}
	b.seen = slices.DeleteFunc(append(b.seen, now), func(a aged) bool {
		return a.at.After(v.At) || v.At.Sub(a.at) > trendOver+4*thinnedTo
	})
	for _, a := range b.seen {
		oldest = max(oldest, a.seconds)
	}
	return oldest
}

// paused reports whether a member has paused fetching in the last half minute.
func (v *view) paused() bool {
	return slices.ContainsFunc(v.members, func(m member) bool {
		return slices.ContainsFunc(m.paused[:], func(at time.Time) bool {
			return !at.IsZero() && v.At.Sub(at) < pausedAt
		})
	})
}
