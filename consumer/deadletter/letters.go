package deadletter

import (
	"strconv"
	"strings"
	"time"

	"markread/consumer/event"
)

// ID names a letter within its topic.
type ID struct {
	Partition int
	Offset    int64
}

// IDOf returns the ID of the letter that a record is.
func IDOf(r event.Record) ID { return ID{r.Partition, r.Offset} }

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
func KindOf(r event.Record) (kind Kind, ok bool) {
	class, ok := r.Header(classHeader)
	code, _ := r.Header(codeHeader)
	return Kind{class, code}, ok
}

// failedAt is when the event failed; of a letter that does not say so, or says nonsense, the time of its record.
func failedAt(r event.Record) time.Time {
	text, _ := r.Header(failedAtHeader)
	if t, err := time.Parse(time.RFC3339Nano, text); err == nil {
		return t
	}
	return r.Time
}

// ResolutionOf returns what a record says of a letter; false: it is no resolution.
func ResolutionOf(r event.Record) (id ID, state State, ok bool) {
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
