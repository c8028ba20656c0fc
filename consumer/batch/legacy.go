package batch

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// maxLegacy is how much a compressed message of an old format may hold. Those who wrote such
// messages had a limit of 1 MB for them.
const maxLegacy = 8 << 20

// messages decodes a message of format 0 or 1, of which a compressed one holds others.
func (d *Decoder) messages(b *Batch) []Record {
	var records []Record
	err := errors.New("a message that is cut off")
	if codec := int(b.Attributes & codecMask); codec == codecNone {
		if r, ok := message(b.payload); ok {
			records, err = []Record{r}, nil
		}
	} else if r, ok := message(b.payload); ok {
		records, err = d.inner(codec, r.Value, b)
	}
	wanted := records[:0]
	for _, r := range records {
		if b.Attributes&logAppendTime != 0 && b.payload[16] == 1 {
			r.Time = milliseconds(int64(binary.BigEndian.Uint64(b.payload[18:])))
		}
		if len(r.Key)+len(r.Value) > MaxRecord {
			size := int64(len(r.Key) + len(r.Value))
			r = Record{Offset: r.Offset, Time: r.Time, Damage: &Damage{Last: r.Offset, Count: 1, Size: size,
				Err: fmt.Errorf("the record has %d bytes, more than the %d that are kept of one", size, MaxRecord)}}
		}
		if r.Offset >= d.skip {
			wanted = append(wanted, r)
		}
	}
	if err != nil && b.Last >= d.skip {
		// A compressed message does not say which offsets the others in it have, but the last.
		return append(wanted, Record{Offset: b.Last, Damage: &Damage{Last: b.Last, Count: 1, Size: int64(len(b.payload)), Err: err}})
	}
	return wanted
}

// inner decodes the messages in a compressed one. Those of format 1 have offsets that are relative
// to the first; the outer one has that of the last.
func (d *Decoder) inner(codec int, compressed []byte, b *Batch) (records []Record, err error) {
	from, err := d.open(codec, compressed)
	if err != nil {
		return nil, err
	}
	all, err := io.ReadAll(io.LimitReader(from, maxLegacy+1))
	switch {
	case err != nil:
		return nil, err
	case len(all) > maxLegacy:
		return nil, fmt.Errorf("the message decompresses to more than %d bytes", maxLegacy)
	}
	for len(all) > 0 {
		if len(all) < messageHeader {
			return nil, errors.New("a message that is cut off")
		}
		size := prefixSize + int(int32(binary.BigEndian.Uint32(all[8:])))
		if size < messageHeader || size > len(all) || all[16] > 1 || crc32.ChecksumIEEE(all[16:size]) != binary.BigEndian.Uint32(all[12:]) {
			return nil, errors.New("a damaged message within a compressed one")
		}
		r, ok := message(all[:size])
		if !ok || len(records) > 0 && r.Offset <= records[len(records)-1].Offset {
			return nil, errors.New("a damaged message within a compressed one")
		}
		records, all = append(records, r), all[size:]
	}
	if len(records) == 0 {
		return nil, errors.New("a compressed message with none in it")
	}
	shift := b.Last - records[len(records)-1].Offset
	if b.payload[16] == 0 && shift != 0 || records[0].Offset+shift < 0 {
		return nil, errors.New("a compressed message with offsets that are not its own")
	}
	for i := range records {
		records[i].Offset += shift
	}
	return records, nil
}

// message decodes one message: offset, size, checksum, format, attributes, in format 1 a time, key,
// value. It has at least messageHeader bytes.
func message(raw []byte) (r Record, ok bool) {
	r.Offset = int64(binary.BigEndian.Uint64(raw))
	in := raw[18:]
	if raw[16] == 1 {
		r.Time = milliseconds(int64(binary.BigEndian.Uint64(in)))
		in = in[8:]
	}
	if r.Key, in, ok = sized(in); ok {
		r.Value, in, ok = sized(in)
	}
	return r, ok && len(in) == 0 && r.Offset >= 0
}

// sized cuts bytes off that follow their length; -1: null.
func sized(in []byte) (b, rest []byte, ok bool) {
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
