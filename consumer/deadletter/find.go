package deadletter

import (
	"cmp"
	"iter"
	"slices"

	"markread/consumer/event"
	"markread/consumer/kafkaclient"
)

// Entry is a letter of an index.
type Entry struct {
	ID
	State    State
	obstacle Obstacle
	replays  uint16
	// replays of its conversation's letters in a plan: none of them must go round for ever
	highest      uint16
	size         uint32
	failedAt     int64
	conversation conversation
	readTime     int64
}

// Find returns the letters that the filter is for and that are in one of the states, oldest first,
// by the time when they failed.
func (f *Index) Find(states ...State) []Entry {
	var wanted [stateCount]bool
	for _, s := range states {
		wanted[s] = true
	}
	n := 0
	for _, letters := range f.partitions {
		for i := range letters {
			if letters[i].matches && wanted[f.stateOf(&letters[i])] {
				n++
			}
		}
	}
	found := make([]Entry, 0, n)
	for partition, letters := range f.partitions {
		for i := range letters {
			l := &letters[i]
			if state := f.stateOf(l); l.matches && wanted[state] {
				found = append(found, Entry{
					ID: ID{partition, l.offset}, State: state, obstacle: l.obstacle,
					replays: l.replays,
					size:    l.size, failedAt: l.failedAt, conversation: l.conversation,
					readTime: l.readTime,
				})
			}
		}
	}
	slices.SortFunc(found, func(a, b Entry) int {
		return cmp.Or(cmp.Compare(a.failedAt, b.failedAt), cmp.Compare(a.Partition, b.Partition),
			cmp.Compare(a.Offset, b.Offset))
	})
	return found
}

// Still returns those of the letters, which an earlier index found, that this one would find, too:
// still there, and in the same state. They are kept in their order and in their place.
func (f *Index) Still(found []Entry) []Entry {
	return slices.DeleteFunc(found, func(l Entry) bool {
		now := f.find(l.ID)
		return now == nil || !now.matches || f.stateOf(now) != l.State || now.size != l.size ||
			now.failedAt != l.failedAt
	})
}

// Is reports whether a record is the letter that was found: in a topic that was made anew another
// may have its offset.
func (l *Entry) Is(r event.Record) bool {
	_, letter := event.KindOf(r)
	return letter && IDOf(r) == l.ID && sizeOf(r) == l.size &&
		nanoseconds(event.FailedAt(r)) == l.failedAt
}

// Oldest returns the first so many; 0: all.
func Oldest(found []Entry, limit int) []Entry {
	if limit > 0 && limit < len(found) {
		return found[:limit]
	}
	return found
}

// Parts cuts letters into parts of at most so many, and so many bytes (but one letter at least), in
// their order.
func Parts(found []Entry, letters, bytes int) iter.Seq[[]Entry] {
	return func(yield func([]Entry) bool) {
		for len(found) > 0 {
			n, size := 0, 0
			for ; n < min(len(found), letters); n++ {
				if size += int(found[n].size); n > 0 && size > bytes {
					break
				}
			}
			if !yield(found[:n]) {
				return
			}
			found = found[n:]
		}
	}
}

// Around returns that part of a topic's extent in which the letters are.
func Around(found []Entry, topic string, partitions int) kafkaclient.TopicOffsets {
	e := kafkaclient.TopicOffsets{Topic: topic,
		Partitions: make([]kafkaclient.OffsetRange, partitions)}
	for _, l := range found {
		b := &e.Partitions[l.Partition]
		if b.End == 0 {
			b.First = l.Offset
		}
		b.First, b.End = min(b.First, l.Offset), max(b.End, l.Offset+1)
	}
	return e
}
