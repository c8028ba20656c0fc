package batch

import (
	"bytes"
	"slices"
	"time"
)

// Header is one header of a record. Names may repeat.
type Header struct {
	Key   string
	Value []byte
}

// Record is a Kafka record as it was read. Key and Value are nil when the record's are null.
type Record struct {
	Topic     string
	Partition int
	Offset    int64
	Key       []byte
	Value     []byte
	Headers   []Header
	// the producer's timestamp, or the broker's on a topic with
	// message.timestamp.type=LogAppendTime; zero: none
	Time time.Time
	// nil: the record could be decoded; else it has only Topic, Partition, Offset and, if known,
	// Time
	Damage *Damage
}

// Damage describes bytes that can't be decoded as records, or a record too large to be kept. The
// batch's checksum is correct: the producer wrote them that way.
type Damage struct {
	Last  int64 // the last offset of the range that can't be told apart; Record.Offset is the first
	Count int   // how many records it stands for, at least 1 and at most the offsets of the range
	Size  int64 // bytes that were not kept
	Err   error // why
}

// Clone returns a copy of r that shares no bytes with it.
func (r Record) Clone() Record {
	r.Key, r.Value, r.Headers = bytes.Clone(r.Key), bytes.Clone(r.Value), slices.Clone(r.Headers)
	for i, h := range r.Headers {
		r.Headers[i].Value = bytes.Clone(h.Value)
	}
	return r
}

// End returns the offset behind the record, or behind the range of its damage.
func (r Record) End() int64 {
	if r.Damage != nil {
		return r.Damage.Last + 1
	}
	return r.Offset + 1
}
