package letters

import (
	"cmp"
	"iter"
	"slices"

	"markread/consumer"
)

// Found is a letter of a fold.
type Found struct {
	ID
	State        State
	obstacle     Obstacle
	size, brief  uint32
	failedAt     int64
	conversation uint64
}

// Find returns the letters that the filter is for and that are in one of the states, oldest first, by the time when they failed.
func (f *Fold) Find(states ...State) []Found {
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
	found := make([]Found, 0, n)
	for partition, letters := range f.partitions {
		for i := range letters {
			l := &letters[i]
			if state := f.stateOf(l); l.matches && wanted[state] {
				found = append(found, Found{ID{partition, l.offset}, state, l.obstacle, l.size, l.brief, l.failedAt, l.conversation})
			}
		}
	}
	slices.SortFunc(found, func(a, b Found) int {
		return cmp.Or(cmp.Compare(a.failedAt, b.failedAt), cmp.Compare(a.Partition, b.Partition), cmp.Compare(a.Offset, b.Offset))
	})
	return found
}

// Oldest returns the first so many; 0: all.
func Oldest(found []Found, limit int) []Found {
	if limit > 0 && limit < len(found) {
		return found[:limit]
	}
	return found
}

// Parts cuts letters into parts of at most so many, and so many bytes (but one letter at least), in their order. The bytes are those of whole records.
func Parts(found []Found, letters, bytes int) iter.Seq[[]Found] {
	return parts(found, letters, bytes, func(l *Found) uint32 { return l.size })
}

// BriefParts is Parts, but the bytes are those that a Shelf needs.
func BriefParts(found []Found, letters, bytes int) iter.Seq[[]Found] {
	return parts(found, letters, bytes, func(l *Found) uint32 { return l.brief })
}

func parts(found []Found, letters, bytes int, sizeOf func(*Found) uint32) iter.Seq[[]Found] {
	return func(yield func([]Found) bool) {
		for len(found) > 0 {
			n, size := 0, 0
			for ; n < min(len(found), letters); n++ {
				if size += int(sizeOf(&found[n])); n > 0 && size > bytes {
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
func Around(found []Found, topic string, partitions int) consumer.Extent {
	e := consumer.Extent{Topic: topic, Partitions: make([]consumer.Bounds, partitions)}
	for _, l := range found {
		b := &e.Partitions[l.Partition]
		if b.End == 0 {
			b.First = l.Offset
		}
		b.First, b.End = min(b.First, l.Offset), max(b.End, l.Offset+1)
	}
	return e
}

// Plan is what a replay would do.
type Plan struct {
	Letters       []Found // to be replayed, those of one conversation behind each other, the conversations by their oldest letter
	Conversations int
	Obstacles     [obstacleCount]int // letters that stay open, by the reason
}

// PlanOf looks through letters, oldest first, for so many that can be replayed; 0: all. The fold must have judged them.
func PlanOf(found []Found, limit int) Plan {
	var p Plan
	numbers := map[uint64]int{} // of the conversations, by their oldest letter
	var taken []Found
	var sizes []int // of the conversations, in letters
	for _, l := range found {
		if limit > 0 && len(taken) == limit {
			break
		}
		if l.obstacle != Replayable {
			p.Obstacles[l.obstacle]++
			continue
		}
		n, ok := numbers[l.conversation]
		if !ok {
			n = len(sizes)
			numbers[l.conversation] = n
			sizes = append(sizes, 0)
		}
		sizes[n]++
		taken = append(taken, l)
	}
	p.Conversations = len(sizes)
	next := make([]int, len(sizes)) // where the next letter of each goes
	for n := 1; n < len(sizes); n++ {
		next[n] = next[n-1] + sizes[n-1]
	}
	p.Letters = make([]Found, len(taken))
	for _, l := range taken {
		n := numbers[l.conversation]
		p.Letters[next[n]] = l
		next[n]++
	}
	return p
}

// Stuck returns how many letters can't be replayed.
func (p Plan) Stuck() int { return p.Obstacles[Invalid] + p.Obstacles[Omitted] }
