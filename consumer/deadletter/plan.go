package deadletter

import "slices"

// Plan is what a replay would do: of the letters of a conversation one is published, and then all
// of them are resolved. Both are in the order of the topic, so that it is read once for each.
type Plan struct {
	// of each conversation the letter to publish: with the largest T, of equally large ones the
	// later
	Events    []Entry
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
		l.highest = l.replays
		i, ok := index[l.conversation]
		if !ok {
			index[l.conversation] = len(p.Events)
			p.Events = append(p.Events, l)
			continue
		}
		event := &p.Events[i]
		highest := max(event.highest, l.highest)
		if event.isBefore(&l) {
			*event, l = l, *event
		}
		event.highest = highest
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
	switch {
	case l.readTime != other.readTime:
		return l.readTime < other.readTime
	case l.Partition == other.Partition:
		return l.Offset < other.Offset
	}
	return l.failedAt < other.failedAt
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
