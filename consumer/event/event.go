package event

import (
	"cmp"
	"slices"
	"strconv"
	"time"

	"markread/consumer/batch"
)

// Lane says which of the two topics an event came from. Live goes before backfill.
type Lane int

// The lanes, the urgent one first.
const (
	Live Lane = iota
	Backfill
)

// String returns the lane's name as metrics, letters and the console show it.
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

// Record is a Kafka record as it was read. Its bytes are valid as long as the function that was
// given it runs, unless that function's doc says otherwise.
type Record batch.Record

// Clone returns a copy of r that shares no bytes with it.
func (r Record) Clone() Record { return Record(batch.Record(r).Clone()) }

// Header returns the value of the last header of that name, as Kafka's own lastHeader does; false:
// there is none.
func (r Record) Header(name string) (value string, ok bool) {
	for _, h := range slices.Backward(r.Headers) {
		if h.Key == name {
			return string(h.Value), true
		}
	}
	return "", false
}

// MaxReplays is the largest count of replays that a record may have.
const MaxReplays = 1000

// Replays returns how often a dead letter of the event was replayed. A producer may have forged
// what is larger than MaxReplays, or no number: it counts as 0.
func (r Record) Replays() int {
	value, _ := r.Header(HeaderReplays)
	if n, err := strconv.Atoi(value); err == nil && len(value) <= 4 && isDigits(value) &&
		n <= MaxReplays {
		return n
	}
	return 0
}

// Ref names one delivered record within its Generation. It is opaque.
type Ref uint64

// Event is a decoded record. When Invalid is set, only Ref, Lane, Record, Replays, Attempts and, if
// the record has a valid one, EventTime mean something.
type Event struct {
	Ref       Ref
	Lane      Lane
	Record    Record
	Report    string    // Report_Account: who has read
	Peer      string    // Peer_Account: whose messages
	ReadTime  int64     // T: read up to this second since 1970
	EventTime time.Time // when the user read; zero: the record has no valid one
	Replays   int       // how often a dead letter of this event was replayed
	Attempts  int       // counted attempts that a former owner of the partition made
	Invalid   error     // why the record is no mark-read event; nil: it is one
}

// Message is a record to publish.
type Message struct {
	Key     []byte // nil: null
	Value   []byte // nil: null
	Headers []Header
	Time    time.Time // zero: now
}

// Topics names the topics of a worker, or some of them.
type Topics struct {
	Live       string
	Backfill   string // "": no backfill lane
	DeadLetter string
}

func (t Topics) Consumed() []string {
	if t.Backfill == "" {
		return []string{t.Live}
	}
	return []string{t.Live, t.Backfill}
}

// All are those that have a name.
func (t Topics) All() []string {
	return slices.DeleteFunc([]string{t.Live, t.Backfill, t.DeadLetter},
		func(name string) bool { return name == "" })
}

// Flag returns what names the topic on markread's command line.
func (t Topics) Flag(topic string) string {
	switch topic {
	case t.Backfill:
		return "--backfill-topic"
	case t.DeadLetter:
		return "--dead-letter-topic"
	}
	return "--topic"
}

// TopicPartition names a partition.
type TopicPartition struct {
	Topic     string
	Partition int
}

// Compare orders by topic, then by number.
func (a TopicPartition) Compare(b TopicPartition) int {
	return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
}
