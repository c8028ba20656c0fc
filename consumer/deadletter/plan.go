package deadletter

import (
	"cmp"
	"slices"
	"time"

	"markread/consumer/event"
)

// Plan is what a replay does: of the dead letters of each conversation it publishes one, and then
// resolves all. It publishes the one with the largest T, and of equal T the later one. Both lists
// are in topic order, so that the topic is read once for each.
type Plan struct {
	Events    []Entry            // for each conversation the dead letter to publish
	Covered   []Entry            // the other dead letters
	Obstacles [obstacleCount]int // number of dead letters that stay open, by reason
}

// PlanOf plans the replay of the first limit replayable dead letters of found, which must be
// sorted, oldest first; 0: of all. The index must have checked them: see CheckReplayableAt.
func PlanOf(found []Entry, limit int) (p Plan) {
	index := map[conversation]int{} // conversation to its index in p.Events
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

// isBefore reports whether other, a dead letter of the same conversation, is to be published
// instead of l.
func (l *Entry) isBefore(other *Entry) bool {
	later := cmp.Compare(l.failedAt, other.failedAt)
	if l.Partition == other.Partition {
		later = cmp.Compare(l.Offset, other.Offset)
	}
	return cmp.Or(cmp.Compare(l.readTime, other.readTime), later) < 0
}

// Letters returns the number of dead letters that the plan replays.
func (p *Plan) Letters() int { return len(p.Events) + len(p.Covered) }

// All returns the dead letters that the plan replays.
func (p *Plan) All() []Entry { return slices.Concat(p.Events, p.Covered) }

// CoveredBy returns the covered dead letters that belong to the conversation of one of the events,
// which must be from the plan.
func (p *Plan) CoveredBy(events []Entry) []Entry {
	conversations := make(map[conversation]bool, len(events))
	for i := range events {
		conversations[events[i].conversation] = true
	}
	return slices.DeleteFunc(slices.Clone(p.Covered),
		func(l Entry) bool { return !conversations[l.conversation] })
}

// Obstacle is a reason why a dead letter can't be replayed.
type Obstacle uint8

// The obstacles.
const (
	Replayable Obstacle = iota // no obstacle
	Invalid                    // its record is not a valid event
	Omitted                    // its value was too large for the topic and was omitted

	obstacleCount = 3
)

// CheckReplay returns the event of a dead letter as a worker would decode it if it were replayed at
// time now, and whether it can be replayed. The decoded record has no timestamp: without an event
// time, T must not become the time of the replay.
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

// ReplayMessage returns the record to publish for an event of a plan; r is the record of its dead
// letter.
func (l *Entry) ReplayMessage(r event.Record) event.Message {
	// A count above MaxReplays would be read as 0: never replayed.
	return event.Message{Key: r.Key, Value: r.Value,
		Headers: r.ReplayHeaders(min(int(l.mostReplays)+1, event.MaxReplays))}
}
