package batch

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// maxLegacy is how many decompressed bytes a message of an old format may contain. The producers
// that wrote these messages had a limit of 1 MB.
const maxLegacy = 8 << 20

// openMessages returns the concatenated messages of a batch of format 0 or 1, and the number to add
// to their offsets. A compressed message contains others.
func (d *Decoder) openMessages(b *Batch) (all []byte, shift int64, err error) {
	r, ok := decodeMessage(b.payload)
	switch codec := int(b.Attributes & codecMask); {
	case !ok:
		return nil, 0, errors.New("a truncated message")
	case codec == codecNone:
		return b.payload, 0, nil
	default:
		return d.decompressMessages(codec, r.Value, b)
	}
}

// nextMessages adds the next messages to the chunk. It decodes them only now: a message of a few KB
// may contain 300,000, and a Record needs more memory than the smallest message.
func (d *Decoder) nextMessages() {
	b := &d.batch
	for len(d.legacy) > 0 && len(d.records) < chunkRecords {
		size := prefixSize + int(binary.BigEndian.Uint32(d.legacy[8:]))
		r, _ := decodeMessage(d.legacy[:size])
		d.legacy = d.legacy[size:]
		if r.Offset += d.shift; r.Offset < d.skip {
			continue
		}
		if b.Attributes&logAppendTime != 0 && b.payload[16] == 1 {
			r.Time = milliseconds(int64(binary.BigEndian.Uint64(b.payload[18:])))
		}
		if len(r.Key)+len(r.Value) > MaxRecord {
			size := int64(len(r.Key) + len(r.Value))
			r = Record{Offset: r.Offset, Time: r.Time,
				Damage: &Damage{Last: r.Offset, Count: 1, Size: size,
					Err: fmt.Errorf(
						"the record has %d bytes, more than the maximum of %d",
						size, MaxRecord)}}
		}
		d.records = append(d.records, r)
	}
	if d.ended != nil && b.Last >= d.skip {
		// Of the messages within a compressed one, only the last one's offset is known.
		d.records = append(d.records, Record{Offset: b.Last,
			Damage: &Damage{Last: b.Last, Count: 1, Size: int64(len(b.payload)), Err: d.ended}})
	}
	d.ended = nil
}

// decompressMessages decompresses and checks the messages within a compressed one. In format 1
// their offsets are relative to the first; the outer message has the offset of the last.
func (d *Decoder) decompressMessages(codec int, compressed []byte, b *Batch) (all []byte,
	shift int64, err error) {
	from, err := d.open(codec, compressed)
	if err != nil {
		return nil, 0, err
	}
	all, err = io.ReadAll(io.LimitReader(from, maxLegacy+1))
	switch {
	case err != nil:
		return nil, 0, err
	case len(all) > maxLegacy:
		return nil, 0, fmt.Errorf("the message decompresses to more than %d bytes", maxLegacy)
	}
	first, last := int64(-1), int64(-1)
	for rest := all; len(rest) > 0; {
		if len(rest) < messageHeader {
			return nil, 0, errors.New("a truncated message")
		}
		size := prefixSize + int(int32(binary.BigEndian.Uint32(rest[8:])))
		if size < messageHeader || size > len(rest) || rest[16] > 1 ||
			crc32.ChecksumIEEE(rest[16:size]) != binary.BigEndian.Uint32(rest[12:]) {
			return nil, 0, errors.New("a damaged message within a compressed one")
		}
		r, ok := decodeMessage(rest[:size])
		if !ok || r.Offset <= last {
			return nil, 0, errors.New("a damaged message within a compressed one")
		}
		if first < 0 {
			first = r.Offset
		}
		last, rest = r.Offset, rest[size:]
	}
	if first < 0 {
		return nil, 0, errors.New("a compressed message without messages in it")
	}
	shift = b.Last - last
	if b.payload[16] == 0 && shift != 0 || first+shift < 0 {
		return nil, 0, errors.New("a compressed message with inconsistent offsets in it")
	}
	return all, shift, nil
}

// decodeMessage decodes one message: offset, size, checksum, format, attributes, time (format 1
// only), key, value. raw must have at least messageHeader bytes.
func decodeMessage(raw []byte) (r Record, ok bool) {
	r.Offset = int64(binary.BigEndian.Uint64(raw))
	in := raw[18:]
	if raw[16] == 1 {
		r.Time = milliseconds(int64(binary.BigEndian.Uint64(in)))
		in = in[8:]
	}
	if r.Key, in, ok = lengthPrefixed(in); ok {
		r.Value, in, ok = lengthPrefixed(in)
	}
	return r, ok && len(in) == 0 && r.Offset >= 0
}

// lengthPrefixed splits off bytes that follow their length; length -1 means null.
func lengthPrefixed(in []byte) (b, rest []byte, ok bool) {
	if len(in) < 4 {
		return nil, nil, false
	}
	n := int(int32(binary.BigEndian.Uint32(in)))
	if in = in[4:]; n == -1 {
		return nil, in, true
	}
	if n < 0 || n > len(in) {
		return nil, nil, false
	}
	return in[:n:n], in[n:], true
}
