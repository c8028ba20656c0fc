// Package batch decodes the batches of records that a fetch returns. Anyone who may write to a
// topic chooses their bytes, so every length is checked against the bytes that remain, and memory
// is bounded whatever the compression ratio: a [Decoder] holds one chunk of records.
//
// The checksum decides whose fault damage is. When it is wrong, the broker's disk or the network
// damaged the batch: [Parse] fails, and nothing of the batch may be skipped. When it is correct,
// the producer wrote the batch that way: what can't be decoded becomes a [Record] with a [Damage].
//
// Non-obvious:
//   - The header is the authority for offsets and for the number of records. The broker assigned
//     them; the records inside only claim theirs.
//   - Compaction leaves holes, and batches without any record.
//   - A producer may compress with any window. A zstd frame that asks for more than 8 MiB is
//     decoded with 8 MiB: see limitWindow.
package batch

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"slices"
	"time"
)

// Attributes are the bits of a batch's header, as Kafka's documentation numbers them.
type Attributes int16

const (
	codecMask     Attributes = 7
	logAppendTime Attributes = 1 << 3
	transactional Attributes = 1 << 4
	control       Attributes = 1 << 5
)

// Codecs, as Kafka numbers them.
const (
	codecNone = iota
	codecGzip
	codecSnappy
	codecLZ4
	codecZstd
)

const (
	prefixSize = 8 + 4 // base offset, size of the rest
	magic      = 16    // where the number of the format is
	checked    = 21    // where the bytes begin that the checksum covers
	headerSize = 61

	// maxOffset keeps every sum of an offset and a batch's range from overflowing.
	maxOffset = math.MaxInt64 - math.MaxInt32 - 1
)

// Batch is one batch. Its bytes are those that Parse was given.
type Batch struct {
	Base, Last int64 // the offsets that it occupies, emptied ones too
	Producer   int64 // -1: none
	Attributes Attributes

	large     int64 // bytes of a payload that was not kept; 0: it was
	checksum  uint32
	count     int   // of records, as the header says
	firstTime int64 // milliseconds; the records' times are relative to it
	appended  int64 // by the broker, in milliseconds; -1: the records have their own times
	payload   []byte
}

// Control reports whether the batch holds a marker of a transaction and no records.
func (b *Batch) Control() bool { return b.Attributes&control != 0 }

// Transactional reports whether the batch belongs to a transaction.
func (b *Batch) Transactional() bool { return b.Attributes&transactional != 0 }

// Errors of Parse. They say nothing about the producer: the batch must be fetched again.
var (
	ErrTruncated = errors.New("the batch is cut off")
	ErrChecksum  = errors.New("the batch's checksum is wrong: it was damaged after its producer " +
		"wrote it, on the broker's disk or on the way")
	// ErrFormat means that the batch's checksum can't be found. Formats 0 and 1 are of producers
	// before Kafka 0.11; brokers have converted their records since Kafka 3.0.
	ErrFormat = errors.New("the batch has a format that markread does not know")
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Parse returns the batch that raw begins with and its size in bytes. The payload is not decoded.
// The error is one of ErrTruncated, ErrChecksum and ErrFormat.
func Parse(raw []byte) (b Batch, size int, err error) {
	b, size, err = parseHeader(raw)
	switch {
	case err != nil:
		return b, 0, err
	case size > len(raw):
		return b, 0, ErrTruncated
	case crc32.Checksum(raw[checked:size], castagnoli) != b.checksum:
		return b, 0, ErrChecksum
	}
	b.payload = raw[headerSize:size]
	return b, size, nil
}

// Large reads a batch from r that is too large to be kept. Only its checksum is verified: a Decoder
// makes one Damage of it. The error is one of r's or Parse's.
func Large(r io.Reader) (Batch, error) {
	header := make([]byte, headerSize)
	if _, err := io.ReadFull(r, header); err != nil {
		return Batch{}, err
	}
	b, size, err := parseHeader(header)
	if err != nil {
		return b, err
	}
	sum := crc32.New(castagnoli)
	sum.Write(header[checked:])
	switch n, err := io.CopyN(sum, r, int64(size-headerSize)); {
	case errors.Is(err, io.EOF):
		return b, ErrTruncated
	case err != nil:
		return b, err
	case sum.Sum32() != b.checksum:
		return b, ErrChecksum
	default:
		b.large = n
		return b, nil
	}
}

// parseHeader returns what the header of a batch says. The payload may be cut off.
func parseHeader(raw []byte) (b Batch, size int, err error) {
	if len(raw) <= magic {
		return b, 0, ErrTruncated
	}
	at := func(i int) int64 { return int64(binary.BigEndian.Uint64(raw[i:])) }
	size = prefixSize + int(int32(binary.BigEndian.Uint32(raw[8:])))
	b.Base = at(0)
	switch {
	case raw[magic] != 2:
		return b, 0, fmt.Errorf("%w: %d", ErrFormat, int8(raw[magic]))
	case size < headerSize || b.Base < 0 || b.Base > maxOffset:
		return b, 0, fmt.Errorf("%w: offset %d, size %d", ErrFormat, b.Base, size)
	case len(raw) < headerSize:
		return b, 0, ErrTruncated
	}
	b.Last, b.appended = b.Base, -1
	b.checksum = binary.BigEndian.Uint32(raw[17:])
	b.Attributes = Attributes(binary.BigEndian.Uint16(raw[checked:]))
	// Brokers refuse a negative delta. If one did not, the batch has at least its base offset.
	b.Last += max(0, int64(int32(binary.BigEndian.Uint32(raw[23:]))))
	b.firstTime = at(27)
	if b.Attributes&logAppendTime != 0 {
		b.appended = at(35) // the largest time of the batch
	}
	b.Producer = at(43)
	b.count = int(int32(binary.BigEndian.Uint32(raw[57:])))
	return b, size, nil
}

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
	Time      time.Time // the producer's, or the broker's (LogAppendTime); zero: none
	Damage    *Damage   // nil: decoded; else there are only Topic, Partition, Offset, perhaps Time
}

// Damage describes bytes that can't be decoded as records, or a record too large to be kept. The
// batch's checksum is correct: the producer wrote them that way.
type Damage struct {
	Last  int64 // offset of the range that can't be told apart; Record.Offset is the first
	Count int   // how many records it stands for: from 1 to the number of offsets
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
