package batch

import (
	"bytes"
	"time"
)

// Header is one header of a record. Keys may repeat.
type Header struct {
	Key   string
	Value []byte
}

// Record is a Kafka record as it was read. Key and Value are nil if they are null in the record.
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
	// nil: the record was decoded; else it has only Topic, Partition, Offset and perhaps Time
	Damage *Damage
}

// Damage describes bytes that can't be decoded as records, or a record that is too large to be
// kept. The batch's checksum is correct: the producer wrote them that way.
type Damage struct {
	Last int64 // the last offset of the damaged range; Record.Offset is the first
	// how many records it stands for: at least 1, at most the number of offsets in the range
	Count int
	Size  int64 // bytes that were not kept
	Err   error // why they can't be decoded or kept
}

// Clone returns a copy of r that shares no bytes with it.
func (r Record) Clone() Record {
	r.Key, r.Value = bytes.Clone(r.Key), bytes.Clone(r.Value)
	headers := r.Headers
	r.Headers = nil
	for _, h := range headers {
		r.Headers = append(r.Headers, Header{h.Key, bytes.Clone(h.Value)})
	}
	return r
}

// End returns the offset after the record, or after its damaged range.
func (r Record) End() int64 {
	if r.Damage != nil {
		return r.Damage.Last + 1
	}
	return r.Offset + 1
}
