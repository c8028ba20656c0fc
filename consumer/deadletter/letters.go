package deadletter

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"

	"markread/consumer/event"
)

// Letter is a dead letter of the topic, with its state.
type Letter struct {
	ID
	State State
	event.Letter
}

// Parse parses the record of a dead letter.
func Parse(r event.Record, state State) Letter {
	return Letter{ID: IDOf(r), State: state, Letter: event.ReadLetter(r)}
}

// ID identifies a dead letter within its topic.
type ID struct {
	Partition int
	Offset    int64
}

// IDOf returns the ID of the dead letter in record r.
func IDOf(r event.Record) ID { return ID{r.Partition, r.Offset} }

// String returns the form that ParseID reads: "0:17".
func (id ID) String() string { return fmt.Sprintf("%d:%d", id.Partition, id.Offset) }

// Compare orders by partition, then by offset.
func (id ID) Compare(other ID) int {
	return cmp.Or(cmp.Compare(id.Partition, other.Partition), cmp.Compare(id.Offset, other.Offset))
}

// ParseID parses an ID as String formats it.
func ParseID(text string) (id ID, ok bool) {
	partition, offset, _ := strings.Cut(text, ":")
	p, err := strconv.ParseInt(partition, 10, 32)
	o, err2 := strconv.ParseInt(offset, 10, 64)
	id = ID{int(p), o}
	return id, err == nil && err2 == nil && p >= 0 && o >= 0 && id.String() == text
}

// State is the state of a dead letter.
type State uint8

// The states. They are mutually exclusive.
const (
	Open      State = iota
	Parked          // not resolved, and replayed too often to be replayed by default
	Replayed        // resolved: its event was published again
	Discarded       // resolved: an operator has discarded it

	stateCount = 4
)

// String returns the state's name.
func (s State) String() string {
	return [stateCount]string{"open", "parked", "replayed", "discarded"}[s]
}

// AllStates returns all states, the most important to an operator first.
func AllStates() []State { return []State{Open, Parked, Replayed, Discarded} }

// ResolutionOf returns which dead letter a record resolves, and its new state. ok is false if the
// record is not a resolution.
func ResolutionOf(r event.Record) (id ID, state State, ok bool) {
	resolves, _ := r.Header(event.HeaderResolves)
	resolution, _ := r.Header(event.HeaderResolution)
	_, isLetter := event.KindOf(r)
	id, ok = ParseID(resolves)
	if state = Replayed; resolution == Discarded.String() {
		state = Discarded
	}
	return id, state, ok && !isLetter && r.Value == nil && resolution == state.String() &&
		id.Partition == r.Partition && id.Offset < r.Offset
}

// ResolutionMessage returns the record that resolves a dead letter: the same key and no value. It
// must be written to the partition of the dead letter.
func ResolutionMessage(letter event.Record, how State) event.Message {
	return event.Message{Key: letter.Key, Headers: []event.Header{
		{Key: event.HeaderResolves, Value: []byte(IDOf(letter).String())},
		{Key: event.HeaderResolution, Value: []byte(how.String())},
	}}
}
