package deadletter

import (
	"cmp"
	"hash/maphash"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"markread/consumer/event"
	"markread/consumer/kafkaclient"
	"markread/consumer/printable"
)

// Index holds what is known about the dead letters of a topic.
type Index struct {
	maxReplays  int
	filter      Filter
	replayAt    time.Time       // zero: don't check whether dead letters can be replayed
	partitions  map[int][]Entry // ordered by offset
	kinds       []event.Kind
	kindNumbers map[event.Kind]uint16
	unknown     int64
	seeds       [2]maphash.Seed
	logs        map[int]readLog // by partition, of those that Store.Find has read records of
	resets      int
	accounts    map[int][]accounts // like partitions; nil: not kept
}

// readLog is what Store.Find has read of a partition.
type readLog struct {
	first int64 // the log's first offset at that time
	last  fingerprint
}

// fingerprint is the last record that was read from a log. In a recreated topic another record, or
// none, has its offset.
type fingerprint struct {
	offset, at int64 // at: milliseconds since 1970
	size       uint32
}

func fingerprintOf(r event.Record) fingerprint {
	return fingerprint{r.Offset, r.Time.UnixMilli(), sizeOf(r)}
}

// Entry is what an index keeps of one dead letter.
type Entry struct {
	ID
	failedAt int64 // microseconds since 1970
	// conversation and readTime are set only if the dead letter was checked and can be replayed.
	conversation conversation
	readTime     int64  // T
	size         uint32 // approximate memory of the whole record, in bytes
	kind         uint16 // index into Index.kinds
	replays      uint16
	// mostReplays is the largest replays of its conversation in a plan: none is replayed forever.
	mostReplays uint16
	State       State
	obstacle    Obstacle
	matches     bool
}

// NewIndex returns an empty index. A dead letter that was replayed maxReplays times or more is
// parked. The index holds all dead letters; Counts and Find use only the ones that match the
// filter.
func NewIndex(maxReplays int, filter Filter) *Index {
	return &Index{
		maxReplays: maxReplays, filter: filter, partitions: map[int][]Entry{},
		kindNumbers: map[event.Kind]uint16{},
		seeds:       [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()},
		logs:        map[int]readLog{},
	}
}

// reset empties the index, to read the topic from its beginning again.
func (x *Index) reset() {
	empty := NewIndex(x.maxReplays, x.filter)
	empty.replayAt, empty.resets = x.replayAt, x.resets+1
	if x.accounts != nil {
		empty.KeepAccounts()
	}
	*x = *empty
}

// Resets returns how often Store.Find had to read the topic from its beginning again. Counts from
// before and after a reset can't be compared.
func (x *Index) Resets() int { return x.resets }

// continues reports whether logs with these offsets continue what was read: they are neither
// recreated, as far as their ends show, nor has retention deleted records of the index.
func (x *Index) continues(extent kafkaclient.TopicOffsets) bool {
	for partition, log := range x.logs {
		if partition >= len(extent.Partitions) {
			return false
		}
		b := extent.Partitions[partition]
		if b.Err == nil && (b.First != log.first || b.End <= log.last.offset) {
			return false
		}
	}
	return true
}

// rest returns the offsets that were not read yet, and before them the last record that was, whose
// fingerprint shows whether the log is the same.
func (x *Index) rest(extent kafkaclient.TopicOffsets) kafkaclient.TopicOffsets {
	extent.Partitions = slices.Clone(extent.Partitions)
	for partition, log := range x.logs {
		extent.Partitions[partition].First = log.last.offset
	}
	return extent
}

// CheckReplayableAt makes Add check for each dead letter that matches the filter whether it can be
// replayed at time now. It must be called before the first Add.
func (x *Index) CheckReplayableAt(now time.Time) { x.replayAt = now }

// Add adds a record of the topic. It must be called for every record, in offset order within each
// partition.
func (x *Index) Add(r event.Record) {
	if kind, ok := event.KindOf(r); ok {
		x.partitions[r.Partition] = append(x.partitions[r.Partition], x.entryOf(r, kind))
		if x.accounts != nil {
			x.accounts[r.Partition] = append(x.accounts[r.Partition], x.accountsOf(r))
		}
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

// conversation identifies a conversation in 16 bytes: a hash with random seeds, so that nobody can
// construct a collision. Chance collisions are negligible.
type conversation [2]uint64

func (x *Index) conversationOf(e event.Event) conversation {
	// An account contains no NUL. The record key would not do: it is the same for "a|b", "c" and
	// for "a", "b|c".
	both := slices.Concat(e.Report, []byte{0}, e.Peer)
	return conversation{maphash.Bytes(x.seeds[0], both), maphash.Bytes(x.seeds[1], both)}
}

// microseconds converts a time to microseconds since 1970, at least 0. Nanoseconds would overflow:
// a header may have any year up to 9999.
func microseconds(t time.Time) int64 { return max(0, t.UnixMicro()) }

// sizeOf returns about how much memory a record takes, in bytes.
func sizeOf(r event.Record) uint32 {
	size := 200 + len(r.Key) + len(r.Value)
	for _, h := range r.Headers {
		size += 60 + len(h.Key) + len(h.Value)
	}
	return uint32(size)
}

const (
	// maxKinds bounds the number of distinct kinds: whoever can write to the topic can invent
	// kinds. The last one stands for all further kinds.
	maxKinds = 1 << 12
	// maxName bounds the kept length of a class or code, in bytes. Those of markread are shorter.
	maxName = 60
)

// kindNumber returns the index of a kind in kinds.
func (x *Index) kindNumber(kind event.Kind) uint16 {
	if n, ok := x.kindNumbers[kind]; ok { // the usual case: no copy
		return n
	}
	// Cloned so that no record is kept in memory.
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

// State returns the state of a dead letter. ok is false if the index has no such dead letter.
func (x *Index) State(id ID) (state State, ok bool) {
	if l := x.find(id); l != nil {
		return l.State, true
	}
	return Open, false
}

// Unknown returns the number of records that are neither dead letters nor resolutions.
func (x *Index) Unknown() int64 { return x.unknown }

// Find returns the dead letters that match the filter and are in one of the states, sorted by the
// time when they failed, oldest first.
func (x *Index) Find(states ...State) (found []Entry) {
	for _, letters := range x.partitions {
		for i := range letters {
			if l := &letters[i]; l.matches && slices.Contains(states, l.State) {
				found = append(found, *l)
			}
		}
	}
	slices.SortFunc(found, func(a, b Entry) int { return byFailure(&a, &b) })
	return found
}

// Unchanged returns the entries of found, the result of an earlier index, that this index would
// find too: the dead letter is still there, matches the filter, and is in the same state. It keeps
// their order and reuses the slice.
func (x *Index) Unchanged(found []Entry) []Entry {
	return slices.DeleteFunc(found, func(l Entry) bool {
		now := x.find(l.ID)
		return now == nil || !now.matches || now.State != l.State || now.size != l.size ||
			now.failedAt != l.failedAt
	})
}

// Is reports whether the record is the dead letter of this entry. In a recreated topic another
// record may have its offset.
func (l *Entry) Is(r event.Record) bool {
	_, letter := event.KindOf(r)
	return letter && IDOf(r) == l.ID && sizeOf(r) == l.size &&
		microseconds(event.FailedAt(r)) == l.failedAt
}

// Oldest returns the first limit entries of found; 0: all.
func Oldest(found []Entry, limit int) []Entry {
	return found[:min(len(found), cmp.Or(limit, len(found)))]
}

// parts splits found, in order, into parts of at most letters entries and bytes bytes, but at least
// one entry.
func parts(found []Entry, letters, bytes int) iter.Seq[[]Entry] {
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

// rangesOf returns the smallest offset ranges of the topic that contain the dead letters.
func rangesOf(found []Entry, topic string, partitions int) kafkaclient.TopicOffsets {
	ranges := make([]kafkaclient.OffsetRange, partitions)
	for _, l := range found {
		b := &ranges[l.Partition]
		if b.End == 0 {
			b.First = l.Offset
		}
		b.First, b.End = min(b.First, l.Offset), max(b.End, l.Offset+1)
	}
	return kafkaclient.TopicOffsets{Topic: topic, Partitions: ranges}
}

// Count is the number of dead letters of one kind in each state, and when the first and the last of
// each state failed.
type Count struct {
	event.Kind
	Letters        [stateCount]int64
	Oldest, Newest [stateCount]time.Time // zero: no dead letter
}

// add counts one dead letter.
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

// Of returns the number of dead letters in any of the states, and when the first and the last of
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

// Counts returns the counts of the dead letters that match the filter, by kind: kinds with the most
// open dead letters first, then by parked ones and so on, then by name.
func (x *Index) Counts() []Count {
	return x.CountsOf(slices.Collect(maps.Values(x.partitions))...)
}

// CountsOf is Counts restricted to some entries of the index.
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
	return sortCounts(counts)
}

// sortCounts sorts counts as Counts describes, and removes those of no dead letter.
func sortCounts(counts []Count) []Count {
	counts = slices.DeleteFunc(counts,
		func(c Count) bool { return c.Letters == [stateCount]int64{} })
	slices.SortFunc(counts, func(a, b Count) int {
		return cmp.Or(slices.Compare(b.Letters[:], a.Letters[:]), cmp.Compare(a.Class, b.Class),
			cmp.Compare(a.Code, b.Code))
	})
	return counts
}

// Filter selects dead letters. The zero value matches all.
type Filter struct {
	Class, Code  string      // "": any
	Report, Peer string      // compared if the value can be parsed; "": any
	Since, Until time.Time   // bounds of the time when it failed, inclusive; zero: none
	IDs          map[ID]bool // nil: any
}

// matches reports whether a dead letter matches the filter.
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
