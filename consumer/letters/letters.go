// Package letters knows the dead letters of a topic: what a record says of itself, what became of each letter (open, parked, replayed or
// discarded), which of them somebody asks for, and what is to be written so that they are replayed or discarded.
//
// It does not read the topic, and writes nothing to it: letters/office does. It is pure: no goroutine, no clock, no I/O.
//
// It promises that no record that somebody else has written there makes it fail: what is neither a letter nor a resolution is counted.
// A letter takes 56 bytes, whatever is in it, so that topics with millions of letters can be folded; who wants the records
// themselves reads the topic twice, and knows what became of each letter the second time.
//
// # Files
//
//	letters.go    IDs, states, and the headers that tell what a record is
//	fold.go       what became of all letters of a topic, and how many there are of each kind
//	filter.go     which letters somebody asks for
//	find.go       those, oldest first, in parts that fit into memory
//	letter.go     what one letter says
//	json.go       the same as a line of JSON
//	plan.go       which letters a replay publishes, and which are covered by them
//	replay.go     what is published when letters are replayed, and what resolves them
//	mend.go       a letter's event, to be mended by hand
//
// Non-obvious:
//   - The states depend on whole topics: a letter is open until a resolution of it is found, which may be its partition's last record.
//   - A letter that was resolved stays so: the first resolution counts, a later one of the same letter changes nothing.
//   - A resolution may be about a letter that retention has deleted. It is no foreign record.
//   - What is replayed has the event time of the letter, not that of its replay: T must not move. A letter without one is replayed only if its event
//     has a MsgReadTime.
package letters

import (
	"strconv"
	"strings"
	"time"

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

	stateCount = 4
)

// String returns the state's name.
func (s State) String() string {
	return [stateCount]string{"open", "parked", "replayed", "discarded"}[s]
}

// AllStates returns every state, in the order in which they matter to an operator.
func AllStates() []State { return []State{Open, Parked, Replayed, Discarded} }

// The headers of letters and resolutions; the value of resolution is the name of the state.
const (
	classHeader      = "markread.class"
	codeHeader       = "markread.code"
	eventTimeHeader  = "markread.event-time"
	failedAtHeader   = "markread.failed-at"
	collapsedHeader  = "markread.collapsed"
	replaysHeader    = "markread.replays"
	laneHeader       = "markread.lane"
	omittedHeader    = "markread.value-omitted"
	resolvesHeader   = "markread.resolves"
	resolutionHeader = "markread.resolution"

	originHeader   = "__dlq.errors." // followed by topic, partition, offset, group
	attemptsHeader = "__dlq.errors.delivery.count"
	messageHeader  = "__dlq.errors.message"
)

// The classes of letters that markread writes.
const (
	ClassInvalid   = "invalid"   // the record is no event
	ClassRejected  = "rejected"  // the server does not want it
	ClassExhausted = "exhausted" // it failed too often
)

// Kind is why a letter was written.
type Kind struct{ Class, Code string }

// KindOf returns the kind of the letter that a record is; false: it is none.
func KindOf(r consumer.Record) (kind Kind, ok bool) {
	class, ok := r.Header(classHeader)
	code, _ := r.Header(codeHeader)
	return Kind{class, code}, ok
}

// failedAt is when the event failed; of a letter that does not say so, or says nonsense, the time of its record.
func failedAt(r consumer.Record) time.Time {
	text, _ := r.Header(failedAtHeader)
	if t, err := time.Parse(time.RFC3339Nano, text); err == nil {
		return t
	}
	return r.Time
}

// ResolutionOf returns what a record says of a letter; false: it is no resolution.
func ResolutionOf(r consumer.Record) (id ID, state State, ok bool) {
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
