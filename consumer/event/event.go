package event

import (
	"cmp"
	"slices"
	"time"

	"markread/consumer/batch"
)

// Lane is which of the two topics an event came from. Live events are processed before backfill
// events.
type Lane int

// The lanes, the most urgent first.
const (
	Live Lane = iota
	Backfill
)

// String returns the lane's name, as in metrics, dead letters and the console.
func (l Lane) String() string {
	if l == Backfill {
		return "backfill"
	}
	return "live"
}

// Header and Damage are parts of a Record.
type (
	Header = batch.Header
	Damage = batch.Damage
)

// Record is a Kafka record as it was read. Its bytes are valid only during the call of the function
// that receives it, unless that function's doc says otherwise.
type Record batch.Record

// Clone returns a copy of r that shares no bytes with it.
func (r Record) Clone() Record { return Record(batch.Record(r).Clone()) }

// Header returns the value of the last header with that name, as Kafka's lastHeader does. ok is
// false if there is none.
func (r Record) Header(name string) (value string, ok bool) {
	last, ok := lastHeader(r.Headers, name)
	return string(last), ok
}

func lastHeader(headers []Header, name string) (value []byte, ok bool) {
	for i := len(headers) - 1; i >= 0; i-- {
		if headers[i].Key == name {
			return headers[i].Value, true
		}
	}
	return nil, false
}

// MaxReplays is the largest valid replay count of a record.
const MaxReplays = 1000

// Replays returns how often a dead letter of the event was replayed. A count that is larger than
// MaxReplays or not a number may be forged, and counts as 0.
func (r Record) Replays() int { return replays(r.Headers) }

func replays(headers []Header) int {
	value, _ := lastHeader(headers, HeaderReplays)
	if n, ok := parseDigits(value); ok && len(value) <= 4 && n <= MaxReplays {
		return int(n)
	}
	return 0
}

// Ref identifies a delivered record within its Generation. It is opaque.
type Ref uint64

// Event is a decoded record. If Invalid is set, only Ref, Lane, Record, Replays and Attempts are
// valid, and EventTime if the record has a valid one.
type Event struct {
	Ref       Ref
	Lane      Lane
	Record    Record
	Report    []byte    // Report_Account: the user who has read; valid as long as Record's bytes
	Peer      []byte    // Peer_Account: the user whose messages were read; the same
	ReadTime  int64     // T: read up to this second since 1970
	EventTime time.Time // when the user read; zero: no valid time
	Replays   int       // how often a dead letter of this event was replayed
	Attempts  int       // counted attempts of former owners of the partition
	Invalid   error     // why the record is not a valid event; nil: it is one
}

// Message is a record to publish.
type Message struct {
	Key     []byte // nil: null
	Value   []byte // nil: null
	Headers []Header
	Time    time.Time // zero: now
}

// Topics holds the names of a worker's topics, or of some of them.
type Topics struct {
	Live       string
	Backfill   string // "": no backfill lane
	DeadLetter string
}

// Consumed returns the topics that a worker reads.
func (t Topics) Consumed() []string {
	if t.Backfill == "" {
		return []string{t.Live}
	}
	return []string{t.Live, t.Backfill}
}

// All returns the names that are set.
func (t Topics) All() []string {
	return slices.DeleteFunc([]string{t.Live, t.Backfill, t.DeadLetter},
		func(name string) bool { return name == "" })
}

// Flag returns the command-line flag that sets the name of a topic.
func (t Topics) Flag(topic string) string {
	switch topic {
	case t.Backfill:
		return "--backfill-topic"
	case t.DeadLetter:
		return "--dead-letter-topic"
	}
	return "--topic"
}

// TopicPartition identifies a partition.
type TopicPartition struct {
	Topic     string
	Partition int
}

// Compare orders by topic, then by number.
func (a TopicPartition) Compare(b TopicPartition) int {
	return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
}
