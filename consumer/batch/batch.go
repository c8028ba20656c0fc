// Package batch decodes the batches of records that a fetch returns. Anyone who may write to a
// topic chooses their bytes, so every length is checked against the bytes that remain, and memory
// is bounded whatever the compression ratio: a [Decoder] holds one chunk of records.
//
// The checksum decides who damaged a batch. If it is wrong, the broker's disk or the network
// damaged the batch: [Parse] fails, and no part of the batch may be skipped. If it is correct, the
// producer wrote the batch that way: what can't be decoded becomes a [Record] with a [Damage].
//
// The package uses no clock and no goroutines, and does not fetch anything.
//
// Non-obvious:
//   - The batch header is the authority for offsets and for the number of records, because the
//     broker assigned them. The records inside only claim theirs.
//   - Compaction leaves holes, and batches without any record.
//   - A producer may compress with any window size. A zstd frame that requests more than 8 MiB is
//     decoded with 8 MiB: see limitWindow.
package batch

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
)

// Attributes is the attributes field of a batch's header, with bits as in Kafka's documentation.
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
	prefixSize    = 8 + 4 // base offset, size of the rest
	headerSize    = 61    // of format 2
	checked       = 21    // in format 2, where the bytes that the checksum covers begin
	messageHeader = 26    // of format 0, the smaller one of formats 0 and 1

	// maxOffset keeps every sum of an offset and a batch's range from overflowing.
	maxOffset = math.MaxInt64 - math.MaxInt32 - 1
)

// Batch is one batch, or one message of the formats before Kafka 0.11. It refers to Parse's input.
type Batch struct {
	Base, Last int64 // the offsets that it occupies, including offsets that compaction has emptied
	Producer   int64 // -1: none
	Attributes Attributes

	legacy    bool
	large     int64 // size in bytes of a payload that was not kept; 0: it was kept
	checksum  uint32
	count     int   // of records, according to the header; not set with legacy
	firstTime int64 // milliseconds; the records' times are relative to it
	// when the broker appended the batch, in milliseconds; -1: the records have their own times
	appended int64
	payload  []byte
}

// Control reports whether the batch holds a marker of a transaction and no records.
func (b *Batch) Control() bool { return b.Attributes&control != 0 }

// Transactional reports whether the batch belongs to a transaction.
func (b *Batch) Transactional() bool { return b.Attributes&transactional != 0 }

// Errors of Parse. They are not the producer's fault: the batch must be fetched again.
var (
	// ErrTruncated means that the batch is longer than the given bytes.
	ErrTruncated = errors.New("the batch is truncated")
	// ErrChecksum means that the batch was damaged after its producer wrote it.
	ErrChecksum = errors.New("the batch's checksum is wrong: it was damaged after its producer " +
		"wrote it, on the broker's disk or in transit")
	// ErrFormat means that the format is unknown, so that the checksum can't be located.
	ErrFormat = errors.New("the batch has an unknown format")
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Parse returns the batch at the start of raw, and its size in bytes. It does not decode the
// payload. The error is ErrTruncated, ErrChecksum or ErrFormat.
func Parse(raw []byte) (b Batch, size int, err error) {
	b, size, err = parseHeader(raw)
	switch {
	case err != nil:
		return b, 0, err
	case size > len(raw):
		return b, 0, ErrTruncated
	}
	raw = raw[:size]
	if b.legacy {
		return b, size, b.parseMessage(raw)
	}
	if crc32.Checksum(raw[checked:], castagnoli) != b.checksum {
		return b, 0, ErrChecksum
	}
	b.payload = raw[headerSize:]
	return b, size, nil
}

// ParseLarge reads from r a batch that is too large to be kept. It only verifies the checksum; a
// Decoder returns the batch as one Damage. The error is one of r or of Parse.
func ParseLarge(r io.Reader) (Batch, error) {
	header := make([]byte, headerSize)
	if _, err := io.ReadFull(r, header); err != nil {
		return Batch{}, err
	}
	b, size, err := parseHeader(header)
	if err != nil {
		return b, err
	}
	if b.legacy { // brokers have never accepted one that large
		return b, fmt.Errorf("%w: a message of %d bytes", ErrFormat, size)
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

// parseHeader parses the header of a batch, and returns the size of the whole batch in bytes. The
// payload may be truncated.
func parseHeader(raw []byte) (b Batch, size int, err error) {
	if len(raw) < messageHeader {
		return b, 0, ErrTruncated
	}
	size = prefixSize + int(int32(binary.BigEndian.Uint32(raw[8:])))
	b.Base = int64(binary.BigEndian.Uint64(raw))
	if size < messageHeader || b.Base < 0 || b.Base > maxOffset {
		return b, 0, fmt.Errorf("%w: offset %d, size %d", ErrFormat, b.Base, size)
	}
	b.Last, b.Producer, b.appended = b.Base, -1, -1
	switch magic := raw[16]; {
	case magic < 2:
		b.legacy = true
		return b, size, nil
	case magic > 2:
		return b, 0, fmt.Errorf("%w: %d", ErrFormat, int8(magic))
	case size < headerSize:
		return b, 0, fmt.Errorf("%w: size %d", ErrFormat, size)
	case len(raw) < headerSize:
		return b, 0, ErrTruncated
	}
	at := func(i int) int64 { return int64(binary.BigEndian.Uint64(raw[i:])) }
	b.checksum = binary.BigEndian.Uint32(raw[17:])
	b.Attributes = Attributes(binary.BigEndian.Uint16(raw[checked:]))
	// Brokers refuse a negative delta. If a broker did not, the batch has at least its base offset.
	b.Last += max(0, int64(int32(binary.BigEndian.Uint32(raw[23:]))))
	b.firstTime = at(27)
	if b.Attributes&logAppendTime != 0 {
		b.appended = at(35) // the largest time of the batch
	}
	b.Producer = at(43)
	b.count = int(int32(binary.BigEndian.Uint32(raw[57:])))
	return b, size, nil
}

// parseMessage parses a message of format 0 or 1. A compressed message contains others, and has the
// offset of the last one.
func (b *Batch) parseMessage(raw []byte) error {
	if crc32.ChecksumIEEE(raw[16:]) != binary.BigEndian.Uint32(raw[12:]) {
		return ErrChecksum
	}
	// codec and timestamp type; the other bits have no meaning here
	b.Attributes = Attributes(raw[17] & 0x0f)
	b.payload = raw
	return nil
}
