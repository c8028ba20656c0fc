package deadletter

import (
	"cmp"
	"slices"
	"time"

	"markread/consumer/event"
)

// Plan is what a replay would do: of the letters of a conversation one is published, and then all
// of them are resolved. Both are in the order of the topic, so that it is read once for each. The
// letter to publish is that with the largest T, of equal ones the later.
type Plan struct {
	Events    []Entry            // of each conversation the letter to publish
	Covered   []Entry            // the others
	Obstacles [obstacleCount]int // letters that stay open, by the reason
}

// PlanOf looks through letters, oldest first, for so many that can be replayed; 0: all. The index
// must have judged them.
func PlanOf(found []Entry, limit int) (p Plan) {
	index := map[conversation]int{} // of conversations, in p.Events
	for _, l := range found {
		if limit > 0 && p.Letters() == limit {
			break
		}
		if l.obstacle != Replayable {
			p.Obstacles[l.obstacle]++
			continue
		}
		l.mostReplays = l.replays
		i, ok := index[l.conversation]
		if !ok {
			index[l.conversation] = len(p.Events)
			p.Events = append(p.Events, l)
			continue
		}
		chosen := &p.Events[i]
		mostReplays := max(chosen.mostReplays, l.mostReplays)
		if chosen.isBefore(&l) {
			*chosen, l = l, *chosen
		}
		chosen.mostReplays = mostReplays
		p.Covered = append(p.Covered, l)
	}
	byPlace := func(a, b Entry) int { return a.ID.Compare(b.ID) }
	slices.SortFunc(p.Events, byPlace)
	slices.SortFunc(p.Covered, byPlace)
	return p
}

// isBefore reports whether the other letter, of the same conversation, is to be published rather
// than this one.
func (l *Entry) isBefore(other *Entry) bool {
	later := cmp.Compare(l.failedAt, other.failedAt)
	if l.Partition == other.Partition {
		later = cmp.Compare(l.Offset, other.Offset)
	}
	return cmp.Or(cmp.Compare(l.readTime, other.readTime), later) < 0
}

// Letters returns how many letters are replayed.
func (p *Plan) Letters() int { return len(p.Events) + len(p.Covered) }

// All returns the letters that are replayed.
func (p *Plan) All() []Entry { return slices.Concat(p.Events, p.Covered) }

// CoveredBy returns those of the covered letters whose conversations have one of the events, which
// are the plan's.
func (p *Plan) CoveredBy(events []Entry) []Entry {
	conversations := make(map[conversation]bool, len(events))
	for i := range events {
		conversations[events[i].conversation] = true
	}
	return slices.DeleteFunc(slices.Clone(p.Covered),
		func(l Entry) bool { return !conversations[l.conversation] })
}

// Obstacle is why a letter can't be replayed.
type Obstacle uint8

// The obstacles.
const (
	Replayable Obstacle = iota // none
	Invalid                    // its record is no event
	Omitted                    // its value was too large for the topic, and is not in it

	obstacleCount = 3
)

// CheckReplay returns a letter's event as a worker would decode it after a replay at this time, and
// whether it can be replayed. The record has no time of its own: without an event time, T must not
// become the time of the replay.
func CheckReplay(r event.Record, now time.Time) (event.Event, Obstacle) {
	if _, omitted := event.ValueOmitted(r); omitted {
		return event.Event{}, Omitted
	}
	event := event.Decode(event.Record{Key: r.Key, Value: r.Value,
		Headers: r.ReplayHeaders(r.Replays())}, now)
	if event.Invalid != nil {
		return event, Invalid
	}
	return event, Replayable
}

// Publication makes the record that is published for the event of a plan, of its letter's record.
func (l *Entry) ReplayMessage(r event.Record) event.Message {
	// Beyond the largest count a record would count as never replayed.
	return event.Message{Key: r.Key, Value: r.Value,
		Headers: r.ReplayHeaders(min(int(l.mostReplays)+1, event.MaxReplays))}
}
