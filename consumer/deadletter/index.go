package deadletter

import (
	"cmp"
	"hash/maphash"
	"maps"
	"slices"
	"strings"
	"time"

	"markread/consumer/event"
	"markread/consumer/printable"
)

// Index is what is known of a topic's letters so far.
type Index struct {
	maxReplays  int
	filter      Filter
	replayAt    time.Time       // zero: whether letters can be replayed is not asked
	partitions  map[int][]Entry // in the order of their offsets
	kinds       []event.Kind
	kindNumbers map[event.Kind]uint16
	unknown     int64
	seeds       [2]maphash.Seed
}

// Entry is what an index keeps of a letter.
type Entry struct {
	ID
	failedAt     int64        // microseconds since 1970
	conversation conversation // like readTime only of those that are judged and can be replayed
	readTime     int64        // T
	size         uint32       // of the whole record, in bytes
	kind         uint16       // in Index.kinds
	replays      uint16
	mostReplays  uint16 // of its conversation in a plan: none may go round for ever
	State        State
	obstacle     Obstacle
	matches      bool
}

// NewIndex returns an index for letters that are parked when they were replayed so often. All are
// indexed; those that the filter is for can be counted and found.
func NewIndex(maxReplays int, filter Filter) *Index {
	return &Index{
		maxReplays: maxReplays, filter: filter, partitions: map[int][]Entry{},
		kindNumbers: map[event.Kind]uint16{},
		seeds:       [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()},
	}
}

// Judge has each letter that the filter is for judged: can it be replayed at this time? It comes
// before the first Add.
func (x *Index) CheckReplayableAt(now time.Time) { x.replayAt = now }

// Add takes in a record of the topic: all of them, those of one partition in order.
func (x *Index) Add(r event.Record) {
	if kind, ok := event.KindOf(r); ok {
		x.partitions[r.Partition] = append(x.partitions[r.Partition], x.entryOf(r, kind))
	} else if id, state, ok := ResolutionOf(r); !ok {
		x.unknown++
	} else if l := x.find(id); l != nil && l.State <= Parked {
		l.State = state
	}
}

func (x *Index) entryOf(r event.Record, kind event.Kind) Entry {
	at := event.FailedAt(r)
	l := Entry{ID: IDOf(r), failedAt: microseconds(at), size: sizeOf(r), kind: x.kindNumber(kind),
		replays: uint16(r.Replays()), matches: x.filter.matches(r, kind, at)}
	if int(l.replays) >= x.maxReplays {
		l.State = Parked
	}
	if l.matches && !x.replayAt.IsZero() {
		event, obstacle := CheckReplay(r, x.replayAt)
		if l.obstacle = obstacle; obstacle == Replayable {
			l.conversation, l.readTime = x.conversationOf(event), event.ReadTime
		}
	}
	return l
}

// conversation tells conversations apart, in 16 bytes: a hash whose seed is another each time, so
// that nobody can make two of them collide, and chance does not.
type conversation [2]uint64

func (x *Index) conversationOf(e event.Event) conversation {
	// no account has a zero in it; a record's key is the same for "a|b", "c" and "a", "b|c"
	both := e.Report + "\x00" + e.Peer
	return conversation{maphash.String(x.seeds[0], both), maphash.String(x.seeds[1], both)}
}

// microseconds is a time as it is kept: a header may have any year up to 9999.
func microseconds(t time.Time) int64 { return max(0, t.UnixMicro()) }

// sizeOf is about how much memory a record takes.
func sizeOf(r event.Record) uint32 {
	size := 200 + len(r.Key) + len(r.Value)
	for _, h := range r.Headers {
		size += 60 + len(h.Key) + len(h.Value)
	}
	return uint32(size)
}

const (
	// maxKinds bounds how many kinds are told apart: whoever may write to the topic may invent
	// them. The last stands for those beyond.
	maxKinds = 1 << 12
	// maxName bounds what is kept of a class or a code, in bytes. Ours are shorter.
	maxName = 60
)

// number returns the index of a kind.
func (x *Index) kindNumber(kind event.Kind) uint16 {
	if n, ok := x.kindNumbers[kind]; ok { // the usual one, without a copy
		return n
	}
	// copies, which keep no record alive
	kind = event.Kind{Class: strings.Clone(printable.Truncate(kind.Class, maxName)),
		Code: strings.Clone(printable.Truncate(kind.Code, maxName))}
	if _, ok := x.kindNumbers[kind]; !ok && len(x.kinds) >= maxKinds-1 {
		kind = event.Kind{Code: "of other kinds"}
	}
	n, ok := x.kindNumbers[kind]
	if !ok {
		n = uint16(len(x.kinds))
		x.kinds, x.kindNumbers[kind] = append(x.kinds, kind), n
	}
	return n
}

func (x *Index) find(id ID) *Entry {
	all := x.partitions[id.Partition]
	i, ok := slices.BinarySearchFunc(all, id.Offset,
		func(l Entry, offset int64) int { return cmp.Compare(l.Offset, offset) })
	if !ok {
		return nil
	}
	return &all[i]
}

// State returns what became of a letter; false: there is none of that name.
func (x *Index) State(id ID) (state State, ok bool) {
	if l := x.find(id); l != nil {
		return l.State, true
	}
	return Open, false
}

// Foreign returns how many records were neither letters nor resolutions.
func (x *Index) Unknown() int64 { return x.unknown }

// Find returns the letters that the filter is for and that are in one of the states, oldest first,
// by the time when they failed.
func (x *Index) Find(states ...State) (found []Entry) {
	for _, letters := range x.partitions {
		for i := range letters {
			if l := &letters[i]; l.matches && slices.Contains(states, l.State) {
				found = append(found, *l)
			}
		}
	}
	slices.SortFunc(found, func(a, b Entry) int {
		return cmp.Or(cmp.Compare(a.failedAt, b.failedAt), a.ID.Compare(b.ID))
	})
	return found
}

// Still returns those of the letters, which an earlier index found, that this one would find, too:
// still there, and in the same state. They are kept in their order and in their place.
func (x *Index) Unchanged(found []Entry) []Entry {
	return slices.DeleteFunc(found, func(l Entry) bool {
		now := x.find(l.ID)
		return now == nil || !now.matches || now.State != l.State || now.size != l.size ||
			now.failedAt != l.failedAt
	})
}

// Is reports whether a record is the letter that was found: in a topic that was recreated another
// may have its offset.
func (l *Entry) Is(r event.Record) bool {
	_, letter := event.KindOf(r)
	return letter && IDOf(r) == l.ID && sizeOf(r) == l.size &&
		microseconds(event.FailedAt(r)) == l.failedAt
}

// Oldest returns the first so many; 0: all.
func Oldest(found []Entry, limit int) []Entry {
	return found[:min(len(found), cmp.Or(limit, len(found)))]
}

// Count is how many letters of one kind there are, by state, and when the first and the last of
// each state failed.
type Count struct {
	event.Kind
	Letters        [stateCount]int64
	Oldest, Newest [stateCount]time.Time // zero: there is none
}

// add counts one letter more.
func (c *Count) add(l *Entry) {
	s, failed := l.State, time.UnixMicro(l.failedAt).UTC()
	if c.Letters[s] == 0 || failed.Before(c.Oldest[s]) {
		c.Oldest[s] = failed
	}
	if failed.After(c.Newest[s]) {
		c.Newest[s] = failed
	}
	c.Letters[s]++
}

// Of returns how many letters there are in any of the states, and when the first and the last of
// them failed.
func (c *Count) Of(states ...State) (n int64, oldest, newest time.Time) {
	for _, s := range states {
		if c.Letters[s] > 0 && (n == 0 || c.Oldest[s].Before(oldest)) {
			oldest = c.Oldest[s]
		}
		if c.Newest[s].After(newest) {
			newest = c.Newest[s]
		}
		n += c.Letters[s]
	}
	return n, oldest, newest
}

// Counts returns the kinds of which there are letters that the filter is for: those with the most
// open ones first, then parked ones and so on; of equally many, in the order of their names.
func (x *Index) Counts() []Count {
	return x.CountsOf(slices.Collect(maps.Values(x.partitions))...)
}

// CountsOf is Counts for some letters of the index.
func (x *Index) CountsOf(some ...[]Entry) []Count {
	counts := make([]Count, len(x.kinds))
	for _, letters := range some {
		for i := range letters {
			if l := &letters[i]; l.matches {
				counts[l.kind].Kind = x.kinds[l.kind]
				counts[l.kind].add(l)
			}
		}
	}
	counts = slices.DeleteFunc(counts,
		func(c Count) bool { return c.Letters == [stateCount]int64{} })
	slices.SortFunc(counts, func(a, b Count) int {
		return cmp.Or(slices.Compare(b.Letters[:], a.Letters[:]), cmp.Compare(a.Class, b.Class),
			cmp.Compare(a.Code, b.Code))
	})
	return counts
}

// Filter says which letters somebody asks for. The zero value is for all.
type Filter struct {
	Class, Code  string      // "": any
	Report, Peer string      // as far as they can be read; "": any
	Since, Until time.Time   // when it failed, both ends included; zero: any
	IDs          map[ID]bool // nil: any
}

// matches reports whether the filter is for a letter.
func (f *Filter) matches(r event.Record, kind event.Kind, failedAt time.Time) bool {
	switch {
	case f.IDs != nil && !f.IDs[IDOf(r)],
		f.Class != "" && f.Class != kind.Class,
		f.Code != "" && f.Code != kind.Code,
		!f.Since.IsZero() && failedAt.Before(f.Since),
		!f.Until.IsZero() && failedAt.After(f.Until):
		return false
	case f.Report == "" && f.Peer == "":
		return true
	}
	fields := event.ParseLenient(r.Value)
	return isAccount(fields.Report, f.Report) && isAccount(fields.Peer, f.Peer)
}

func isAccount(account *string, want string) bool {
	return want == "" || account != nil && *account == want
}
