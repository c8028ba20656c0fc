package deadletter

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"

	"markread/consumer/event"
)

// Letter is a letter of the topic, and what became of it.
type Letter struct {
	ID
	State State
	event.Letter
}

// Parse reads the record of a letter.
func Parse(r event.Record, state State) Letter {
	return Letter{ID: IDOf(r), State: state, Letter: event.ReadLetter(r)}
}

// ID names a letter within its topic.
type ID struct {
	Partition int
	Offset    int64
}

// IDOf returns the ID of the letter that a record is.
func IDOf(r event.Record) ID { return ID{r.Partition, r.Offset} }

// String returns the form that ParseID reads: "0:17".
func (id ID) String() string { return fmt.Sprintf("%d:%d", id.Partition, id.Offset) }

// Compare orders by partition, then by offset.
func (id ID) Compare(other ID) int {
	return cmp.Or(cmp.Compare(id.Partition, other.Partition), cmp.Compare(id.Offset, other.Offset))
}

// ParseID reads an ID as String writes it.
func ParseID(text string) (id ID, ok bool) {
	partition, offset, _ := strings.Cut(text, ":")
	p, err := strconv.ParseInt(partition, 10, 32)
	o, err2 := strconv.ParseInt(offset, 10, 64)
	id = ID{int(p), o}
	return id, err == nil && err2 == nil && p >= 0 && o >= 0 && id.String() == text
}

// State is what became of a letter.
type State uint8

// The states. They exclude each other.
const (
	Open      State = iota
	Parked          // not resolved, and replayed too often already to be replayed like the others
	Replayed        // resolved: its event was published again
	Discarded       // resolved: an operator has given it up

	stateCount = 4
)

// String returns the state's name.
func (s State) String() string {
	return [stateCount]string{"open", "parked", "replayed", "discarded"}[s]
}

// AllStates returns every state, in the order in which they matter to an operator.
func AllStates() []State { return []State{Open, Parked, Replayed, Discarded} }

// ResolutionOf returns what a record says of a letter; false: it is no resolution.
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

// Resolve makes the record that resolves a letter, to be written to the letter's partition: its
// key, no value.
func ResolutionMessage(letter event.Record, how State) event.Message {
	return event.Message{Key: letter.Key, Headers: []event.Header{
		{Key: event.HeaderResolves, Value: []byte(IDOf(letter).String())},
		{Key: event.HeaderResolution, Value: []byte(how.String())},
	}}
}
