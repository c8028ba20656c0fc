package deadletter

import (
	"cmp"
	"hash/maphash"
	"slices"
	"strings"
	"time"

	"markread/consumer/event"
	"markread/consumer/printable"
)

// Index is what is known of a topic's letters so far.
type Index struct {
	maxReplays int
	filter     Filter
	judge      time.Time // zero: whether letters can be replayed is not asked
	partitions map[int][]entry
	kinds      []event.Kind
	index      map[event.Kind]uint16
	foreign    int64
	seeds      [2]maphash.Seed
}

// entry is what is kept of a letter.
type entry struct {
	offset       int64
	failedAt     int64        // nanoseconds since 1970
	conversation conversation // like readTime only of those that are judged and can be replayed
	readTime     int64        // T
	size         uint32       // of the whole record, in bytes
	kind         uint16       // in Index.kinds
	replays      uint16
	state        State // Open: not resolved
	obstacle     Obstacle
	matches      bool
}

// NewIndex returns an index for letters that are parked when they were replayed so often. All are
// indexed; those that the filter is for can be counted and found.
func NewIndex(maxReplays int, filter Filter) *Index {
	return &Index{
		maxReplays: maxReplays, filter: filter, partitions: map[int][]entry{},
		index: map[event.Kind]uint16{},
		seeds: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()},
	}
}

// Judge has each letter that the filter is for judged: can it be replayed at this time? It comes
// before the first Add.
func (f *Index) Judge(now time.Time) { f.judge = now }

// Add takes in a record of the topic: all of them, those of one partition in order.
func (f *Index) Add(r event.Record) {
	if kind, ok := event.KindOf(r); ok {
		f.partitions[r.Partition] = append(f.partitions[r.Partition], f.entryOf(r, kind))
		return
	}
	id, state, ok := ResolutionOf(r)
	if !ok {
		f.foreign++
		return
	}
	if l := f.find(id); l != nil && l.state == Open {
		l.state = state
	}
}

func (f *Index) entryOf(r event.Record, kind event.Kind) entry {
	at := event.FailedAt(r)
	l := entry{offset: r.Offset, failedAt: nanoseconds(at), size: sizeOf(r), kind: f.number(kind),
		replays: uint16(r.Replays())}
	l.matches = f.filter.matches(r, kind, at)
	if l.matches && !f.judge.IsZero() {
		event, obstacle := CheckReplay(r, f.judge)
		if l.obstacle = obstacle; obstacle == Replayable {
			l.conversation, l.readTime = f.conversationOf(event), event.ReadTime
		}
	}
	return l
}

// conversation tells conversations apart, in 16 bytes: a hash whose seed is another each time, so
// that nobody can make two of them collide, and chance does not.
type conversation [2]uint64

func (f *Index) conversationOf(e event.Event) conversation {
	// no account has a zero in it; a record's key is the same for "a|b", "c" and "a", "b|c"
	both := e.Report + "\x00" + e.Peer
	return conversation{maphash.String(f.seeds[0], both), maphash.String(f.seeds[1], both)}
}

// nanoseconds is a time as it is kept: any time at all, for a header may have any.
func nanoseconds(t time.Time) int64 {
	switch {
	case t.Year() < 1700:
		return 0
	case t.Year() > 2200:
		return time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano()
	}
	return t.UnixNano()
}

// sizeOf is about how much memory a record takes.
func sizeOf(r event.Record) uint32 {
	size := 200 + len(r.Key) + len(r.Value)
	for _, h := range r.Headers {
		size += 60 + len(h.Key) + len(h.Value)
	}
	return uint32(size)
}

// maxKinds bounds how many kinds are told apart: whoever may write to the topic may invent them.
// Those beyond have the last number.
const maxKinds = 1 << 12

// maxName bounds what is kept of a class or a code, in bytes. Ours are shorter.
const maxName = 60

// number returns the index of a kind.
func (f *Index) number(kind event.Kind) uint16 {
	if n, ok := f.index[kind]; ok { // the usual one, without a copy
		return n
	}
	kind = event.Kind{Class: short(kind.Class), Code: short(kind.Code)}
	n, ok := f.index[kind]
	if !ok && len(f.kinds) == maxKinds {
		return maxKinds - 1
	}
	if !ok {
		n = uint16(len(f.kinds))
		if n == maxKinds-1 {
			kind = event.Kind{Class: "", Code: "of other kinds"}
		}
		f.kinds = append(f.kinds, kind)
		f.index[kind] = n
	}
	return n
}

// short is a name that keeps no record alive.
func short(name string) string { return strings.Clone(printable.Truncate(name, maxName)) }

func (f *Index) find(id ID) *entry {
	all := f.partitions[id.Partition]
	i, ok := slices.BinarySearchFunc(all, id.Offset,
		func(l entry, offset int64) int { return cmp.Compare(l.offset, offset) })
	if !ok {
		return nil
	}
	return &all[i]
}

func (f *Index) stateOf(l *entry) State {
	if l.state == Open && int(l.replays) >= f.maxReplays {
		return Parked
	}
	return l.state
}

// State returns what became of a letter; false: there is none of that name.
func (f *Index) State(id ID) (state State, ok bool) {
	if l := f.find(id); l != nil {
		return f.stateOf(l), true
	}
	return Open, false
}

// Foreign returns how many records were neither letters nor resolutions.
func (f *Index) Foreign() int64 { return f.foreign }

// Count is how many letters of one kind there are, by state, and when the first and the last of
// each state failed.
type Count struct {
	event.Kind
	Letters        [stateCount]int64
	Oldest, Newest [stateCount]time.Time // zero: there is none
}

// add counts one letter more.
func (c *Count) add(state State, at int64) {
	failed := time.Unix(0, at).UTC()
	if c.Letters[state] == 0 || failed.Before(c.Oldest[state]) {
		c.Oldest[state] = failed
	}
	if c.Letters[state] == 0 || failed.After(c.Newest[state]) {
		c.Newest[state] = failed
	}
	c.Letters[state]++
}

// Of returns how many letters there are in any of the states, and when the first and the last of
// them failed.
func (c *Count) Of(states ...State) (n int64, oldest, newest time.Time) {
	for _, s := range states {
		if c.Letters[s] == 0 {
			continue
		}
		if n == 0 || c.Oldest[s].Before(oldest) {
			oldest = c.Oldest[s]
		}
		if n == 0 || c.Newest[s].After(newest) {
			newest = c.Newest[s]
		}
		n += c.Letters[s]
	}
	return n, oldest, newest
}

// Counts returns the kinds of which there are letters that the filter is for: those with the most
// open ones first, then parked ones and so on; of equally many, in the order of their names.
func (f *Index) Counts() []Count {
	counts := f.noCounts()
	for _, letters := range f.partitions {
		for i := range letters {
			if l := &letters[i]; l.matches {
				counts[l.kind].add(f.stateOf(l), l.failedAt)
			}
		}
	}
	return sorted(counts)
}

// CountsOf is Counts for some letters of the index.
func (f *Index) CountsOf(found []Entry) []Count {
	counts := f.noCounts()
	for _, x := range found {
		counts[f.find(x.ID).kind].add(x.State, x.failedAt)
	}
	return sorted(counts)
}

func (f *Index) noCounts() []Count {
	counts := make([]Count, len(f.kinds))
	for i, kind := range f.kinds {
		counts[i].Kind = kind
	}
	return counts
}

func sorted(counts []Count) []Count {
	counts = slices.DeleteFunc(counts,
		func(c Count) bool { return c.Letters == [stateCount]int64{} })
	slices.SortFunc(counts, func(a, b Count) int {
		return cmp.Or(slices.Compare(b.Letters[:], a.Letters[:]), cmp.Compare(a.Class, b.Class),
			cmp.Compare(a.Code, b.Code))
	})
	return counts
}
