package overview

import (
	"cmp"
	"math"
	"slices"
	"time"
)

const (
	maxMerged = 20_000           // partitions of all members
	nearlyGo  = float64(60 * 60) // seconds of retention that are nearly over
)

type partitionID struct {
	topic  string
	number int
}

func (p *Partition) id() partitionID { return partitionID{p.Topic, p.Partition} }

// trend is how the age of a partition's oldest event changed.
type trend struct {
	ages        []aged    // of the last minute, oldest first
	unreadable  time.Time // since when; zero: it can be read
	born, since time.Time // when its oldest event happened, and since when it is this one
}

// sameEvent is how much the time of an event may seem to change: the metrics of a worker are up to
// a round older than the overview.
const sameEvent = 3 * time.Second

type aged struct {
	at      time.Time
	seconds float64
}

// partitions merges what Kafka, the members and the worker's own process know, worst first.
func (b *builder) partitions(v *view) []Partition {
	merged, owners := map[partitionID]*Partition{}, map[partitionID]string{}
	if v.Kafka != nil {
		for _, p := range v.Kafka.Partitions {
			if len(merged) == maxMerged {
				break
			}
			p.Lag, p.RetentionLeft, p.Trend = sane(p.Lag), sane(p.RetentionLeft), nil
			p.OldestSeconds = known(p.OldestSeconds)
			merged[p.id()], owners[p.id()] = &p, p.Worker
		}
	}
	for _, owned := range []bool{false, true} { // Kafka knows the owner best
		for _, m := range v.members {
			m.addPartitions(merged, owners, owned)
		}
	}
	if v.Details != nil {
		for _, d := range v.Details.Partitions {
			if p := merged[d.id()]; p != nil {
				p.Unreadable, p.Oldest = cmp.Or(d.Unreadable, p.Unreadable), d.Oldest
			}
		}
	}
	for _, m := range v.members {
		m.describe(merged)
	}
	list := make([]Partition, 0, len(merged))
	trends := make(map[partitionID]*trend, len(merged))
	for id, p := range merged {
		t := b.trends[id]
		if t == nil {
			t = &trend{}
		}
		trends[id] = t
		t.update(v.At, p)
		list = append(list, *p)
	}
	b.trends = trends
	slices.SortFunc(list, worseFirst)
	return list
}

// addPartitions adds what a member knows of the partitions that Kafka says it owns, or of the
// others. Of two members that report one of the others, the one whose event is older is believed.
func (m *member) addPartitions(merged map[partitionID]*Partition, owners map[partitionID]string,
	owned bool) {
	if m.now == nil {
		return
	}
	for _, s := range m.now.Partitions {
		id := partitionID{s.Topic, s.Number}
		p := merged[id]
		if p == nil {
			if len(merged) >= maxMerged {
				continue
			}
			p = &Partition{Topic: s.Topic, Partition: s.Number}
			merged[id] = p
		}
		if (owners[id] == m.Name) != owned || !owned && p.OldestSeconds > known(s.Oldest) {
			continue
		}
		p.Worker = cmp.Or(owners[id], m.Name)
		for i, l := range m.now.Lanes {
			if l.Topic == s.Topic {
				p.Lane = []string{"live", "backfill"}[i]
			}
		}
		p.OldestSeconds = known(s.Oldest)
		p.Lag = cmp.Or(p.Lag, opt(s.Lag))
		p.RetentionLeft = opt(s.RetentionLeft)
		if math.IsInf(s.RetentionLeft, 1) {
			p.RetentionLeft = new(-1.0)
		}
		p.Unreadable = nil
		if s.Unreadable {
			p.Unreadable = &Unreadable{}
		}
	}
}

// describe adds the details that are known of a member's partitions. They may be older than its
// metrics: the event may be another one meanwhile, which is younger.
func (m *member) describe(merged map[partitionID]*Partition) {
	if m.now == nil || m.Details == nil {
		return
	}
	for i := range m.Details.Partitions {
		d := &m.Details.Partitions[i]
		p := merged[d.id()]
		if p == nil || p.Worker != m.Name {
			continue
		}
		if d.Oldest != nil && p.OldestSeconds+1 >= d.OldestSeconds {
			p.Oldest = d.Oldest
		}
		if d.Unreadable != nil && p.Unreadable != nil {
			p.Unreadable = d.Unreadable
		}
	}
}

// nearlyGone reports whether retention soon deletes an unfinished event.
func (p *Partition) nearlyGone() bool {
	left := p.RetentionLeft
	return left != nil && *left >= 0 && *left < nearlyGo && p.OldestSeconds > 0
}

// sane returns nil for a number that JSON can't have.
func sane(v *float64) *float64 {
	if v == nil {
		return nil
	}
	return opt(*v)
}

// update adds an age, and completes the partition by what is remembered of it.
func (t *trend) update(at time.Time, p *Partition) {
	if n := len(t.ages); n > 0 && (at.Before(t.ages[n-1].at) ||
		at.Sub(t.ages[n-1].at) > staleAt+thinnedTo) {
		t.ages, t.born = nil, time.Time{}
	}
	if born := at.Add(-seconds(p.OldestSeconds)); born.Sub(t.born).Abs() > sameEvent {
		t.born, t.since = born, at
	}
	for len(t.ages) > 0 && at.Sub(t.ages[0].at) > trendOver+thinnedTo {
		t.ages = t.ages[1:]
	}
	if n := len(t.ages); n == 0 || at.Sub(t.ages[n-1].at) >= thinnedTo {
		t.ages = append(t.ages, aged{at, p.OldestSeconds})
	}
	if over := at.Sub(t.ages[0].at); over >= trendOver/2 {
		p.Trend = opt((p.OldestSeconds - t.ages[0].seconds) / over.Seconds())
	}
	switch {
	case p.Unreadable == nil:
		t.unreadable = time.Time{}
	case !p.Unreadable.Since.IsZero():
		t.unreadable = p.Unreadable.Since
	default:
		if t.unreadable.IsZero() {
			t.unreadable = at
		}
		u := *p.Unreadable
		u.Since = t.unreadable
		p.Unreadable = &u
	}
}

// seconds returns a duration in seconds.
func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// worseFirst sorts partitions that can't be read first, then by the retention left where it is
// nearly over, then by age; of equal ones by topic and number, so that rows keep their places.
func worseFirst(a, b Partition) int {
	rank := func(p *Partition) float64 {
		switch {
		case p.Unreadable != nil:
			return -1
		case p.nearlyGone():
			return math.Floor(*p.RetentionLeft / 60)
		}
		return nearlyGo
	}
	return cmp.Or(cmp.Compare(rank(&a), rank(&b)),
		cmp.Compare(math.Round(b.OldestSeconds), math.Round(a.OldestSeconds)),
		cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
}
