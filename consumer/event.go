package consumer

import (
	"time"
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

// Header is one header of a record. Names may repeat.
type Header struct {
	Key   string
	Value []byte
}

// Record is a Kafka record as it was read. Key and Value are nil when the record's are null; all bytes
// belong to the record and stay valid.
type Record struct {
	Topic     string
	Partition int
	Offset    int64
	Key       []byte
	Value     []byte
	Headers   []Header
	Time      time.Time // the producer's timestamp, or the broker's on a topic with message.timestamp.type=LogAppendTime; zero: none
	Damage    *Damage   // nil: the record could be decoded; else it has only Topic, Partition, Offset and, if known, Time
}

// Damage describes bytes that can't be decoded as records, or a record too large to be kept. The
// batch's checksum is correct: the producer wrote them that way.
type Damage struct {
	Last  int64 // the last offset of the range that can't be told apart; Record.Offset is the first
	Count int   // how many records it stands for, at least 1 and at most the offsets of the range
	Size  int64 // bytes that were not kept
	Err   error // why
}

// Ref names one delivered record within its Generation. It is opaque.
type Ref uint64

// Event is a decoded record. When Invalid is set, only Ref, Lane, Record, Replays, Attempts and, if the record
// has a valid one, EventTime mean something.
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
