// Package letters knows what became of the dead letters of a topic. It folds the topic's records, letters and resolutions, into the state of
// each letter: open, parked, replayed or discarded.
//
// It does not read the topic (consumer.Client.Scan does), and writes nothing to it. It is pure: no goroutine, no clock, no I/O.
//
// It promises that no record that somebody else has written there makes it fail: what is neither a letter nor a resolution is counted.
// A letter takes 16 bytes, whatever is in it, so that topics with millions of letters can be folded; who wants the records
// themselves reads the topic twice, and asks for the state of each letter the second time.
//
// Non-obvious:
//   - The states depend on whole topics: a letter is open until a resolution of it is found, which may be its partition's last record.
//   - A letter that was resolved stays so: the first resolution counts, a later one of the same letter changes nothing.
//   - A resolution may be about a letter that retention has deleted. It is no foreign record.
package letters

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"markread/consumer"
)

// ID names a letter within its topic.
type ID struct {
	Partition int
	Offset    int64
}

// IDOf returns the ID of the letter that a record is.
func IDOf(r consumer.Record) ID { return ID{r.Partition, r.Offset} }

// String returns the form that ParseID reads: "0:17".
func (id ID) String() string {
	return strconv.Itoa(id.Partition) + ":" + strconv.FormatInt(id.Offset, 10)
}

// ParseID reads an ID as String writes it.
func ParseID(text string) (id ID, ok bool) {
	partition, offset, _ := strings.Cut(text, ":")
	p, err := strconv.ParseInt(partition, 10, 32)
	if err != nil {
		return ID{}, false
	}
	o, err := strconv.ParseInt(offset, 10, 64)
	if err != nil {
		return ID{}, false
	}
	id = ID{int(p), o}
	return id, p >= 0 && o >= 0 && id.String() == text
}

// State is what became of a letter.
type State uint8

// The states. They exclude each other.
const (
	Open      State = iota
	Parked          // not resolved, and replayed too often already to be replayed like the others
	Replayed        // resolved: its event was published again
	Discarded       // resolved: an operator has given it up
	States    = 4   // how many there are
)

// String returns the state's name.
func (s State) String() string {
	return [States]string{"open", "parked", "replayed", "discarded"}[s]
}

// The headers that tell what a record is; the value of resolution is the name of the state.
const (
	classHeader      = "markread.class"
	codeHeader       = "markread.code"
	resolvesHeader   = "markread.resolves"
	resolutionHeader = "markread.resolution"
)

// Kind is why a letter was written.
type Kind struct{ Class, Code string }

// KindOf returns the kind of the letter that a record is; false: it is none.
func KindOf(r consumer.Record) (kind Kind, ok bool) {
	class, ok := r.Header(classHeader)
	code, _ := r.Header(codeHeader)
	return Kind{class, code}, ok
}

// resolutionOf returns what a record says of a letter; false: it is no resolution.
func resolutionOf(r consumer.Record) (id ID, state State, ok bool) {
	resolves, _ := r.Header(resolvesHeader)
	resolution, _ := r.Header(resolutionHeader)
	id, ok = ParseID(resolves)
	switch resolution {
	case Replayed.String():
		state = Replayed
	case Discarded.String():
		state = Discarded
	default:
		return id, state, false
	}
	return id, state, ok && r.Value == nil && id.Partition == r.Partition && id.Offset < r.Offset
}

// Fold is what is known of a topic's letters so far.
type Fold struct {
	maxReplays int
	partitions map[int][]letter // by offset
	kinds      []Kind
	index      map[Kind]uint32
	foreign    int64
}

// letter is what is kept of one.
type letter struct {
	offset  int64
	kind    uint32 // in Fold.kinds
	replays uint16
	state   State // Open: not resolved
}

// NewFold returns a fold for letters that are parked when they were replayed so often.
func NewFold(maxReplays int) *Fold {
	return &Fold{maxReplays: maxReplays, partitions: map[int][]letter{}, index: map[Kind]uint32{}}
}

// Add takes in a record of the topic: all of them, those of one partition in order.
func (f *Fold) Add(r consumer.Record) {
	if kind, ok := KindOf(r); ok {
		f.partitions[r.Partition] = append(f.partitions[r.Partition], letter{offset: r.Offset, kind: f.number(kind), replays: uint16(r.Replays())})
		return
	}
	id, state, ok := resolutionOf(r)
	if !ok {
		f.foreign++
		return
	}
	if l := f.find(id); l != nil && l.state == Open {
		l.state = state
	}
}

// maxName bounds what is kept of a class or a code, in bytes. Ours are shorter.
const maxName = 60

// number returns the index of a kind.
func (f *Fold) number(kind Kind) uint32 {
	kind = Kind{short(kind.Class), short(kind.Code)}
	n, ok := f.index[kind]
	if !ok {
		n = uint32(len(f.kinds))
		f.kinds = append(f.kinds, kind)
		f.index[kind] = n
	}
	return n
}

func short(name string) string {
	if len(name) > maxName {
		name = name[:maxName]
	}
	return strings.Clone(strings.ToValidUTF8(name, "\uFFFD")) // not to keep a record alive
}

func (f *Fold) find(id ID) *letter {
	all := f.partitions[id.Partition]
	i, ok := slices.BinarySearchFunc(all, id.Offset, func(l letter, offset int64) int { return cmp.Compare(l.offset, offset) })
	if !ok {
		return nil
	}
	return &all[i]
}

func (f *Fold) stateOf(l *letter) State {
	if l.state == Open && int(l.replays) >= f.maxReplays {
		return Parked
	}
	return l.state
}

// State returns what became of a letter; false: there is none of that name.
func (f *Fold) State(id ID) (state State, ok bool) {
	if l := f.find(id); l != nil {
		return f.stateOf(l), true
	}
	return Open, false
}

// Foreign returns how many records were neither letters nor resolutions.
func (f *Fold) Foreign() int64 { return f.foreign }

// Count is how many letters of one kind there are, by state.
type Count struct {
	Kind
	Letters [States]int64
}

// Counts returns the kinds of which there are letters: those with the most open ones first, then parked ones and so on; of equally many, in the
// order of their names.
func (f *Fold) Counts() []Count {
	counts := make([]Count, len(f.kinds))
	for i, kind := range f.kinds {
		counts[i].Kind = kind
	}
	for _, letters := range f.partitions {
		for i := range letters {
			counts[letters[i].kind].Letters[f.stateOf(&letters[i])]++
		}
	}
	slices.SortFunc(counts, func(a, b Count) int {
		return cmp.Or(slices.Compare(b.Letters[:], a.Letters[:]), cmp.Compare(a.Class, b.Class), cmp.Compare(a.Code, b.Code))
	})
	return counts
}
