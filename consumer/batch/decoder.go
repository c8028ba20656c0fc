package batch

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

const (
	// MaxRecord is the size of the largest record that is kept, encoded. No event is that large.
	MaxRecord = 1 << 20
	// MaxHeaders is how many headers a record may have. Each needs 40 bytes beside its content.
	MaxHeaders = 10_000

	chunkRecords = 512
	// the size of a chunk's records, including headers, unless it is a single record
	chunkBytes  = 1 << 20
	windowBytes = 64 << 10 // how much is decompressed at a time, unless a record is larger
	// of one batch: more would cost seconds of CPU time for a few KB of input
	maxInflated = 1 << 30
	maxLength   = 5 // bytes of the varint with a record's length
	// attributes, time and offset: the part of a too large record that is read
	minBody = 1 + 1 + 1
	maxBody = 1 + 10 + 5
)

// Decoder decodes the records of one batch after the other. The zero value is ready. It keeps a
// buffer and the last batch's decompressor, at most 14 MiB or so. It isn't safe for concurrent use.
type Decoder struct {
	// Extra is how many bytes beyond MaxRecord a record may have.
	Extra int

	batch Batch
	skip  int64 // lower offsets are skipped
	index int   // of the next record in the batch
	next  int64 // the lowest offset that the next record may have

	buf      []byte // the payload, or its decompressed part
	at       int    // where in buf the next record begins
	stream   io.Reader
	inflated int64
	ended    error // why stream has no more bytes: io.EOF, or an error

	window  []byte // buf's memory, for compressed batches
	records []Record
	headers []Header // of the chunk's records
	keys    []Header // of the last record with headers; only their keys are used
	legacy  []byte   // messages of an old format
	shift   int64    // to be added to their offsets

	src   bytes.Reader // the decompressor's input
	codec int          // of the decompressor that is kept
	gz    *gzip.Reader
	zs    *zstd.Decoder
	lz    *lz4.Reader
	sn    snappyReader
}

// Reset starts decoding b, from the record at offset skip.
func (d *Decoder) Reset(b Batch, skip int64) {
	d.batch, d.skip, d.index, d.next = b, skip, 0, b.Base
	d.buf, d.at, d.stream, d.inflated, d.ended = b.payload, 0, nil, 0, io.EOF
	d.legacy = nil
	if b.legacy {
		d.legacy, d.shift, d.ended = d.openMessages(&b)
		return
	}
	if b.large > 0 {
		d.ended = fmt.Errorf("the batch has %d bytes: too large to be decoded", b.large+headerSize)
		return
	}
	codec := int(b.Attributes & codecMask)
	if codec == codecNone {
		return
	}
	d.buf = d.window[:0]
	if d.stream, d.ended = d.open(codec, b.payload); d.ended != nil {
		d.stream = nil
	}
}

// Release forgets the batch and its records, so that d keeps none of their bytes alive.
func (d *Decoder) Release() {
	d.batch, d.buf, d.stream, d.legacy = Batch{}, nil, nil, nil
	clear(d.records[:cap(d.records)])
	clear(d.headers[:cap(d.headers)])
	d.records, d.headers, d.keys = d.records[:0], d.headers[:0], nil
	d.src.Reset(nil)
	d.sn.src, d.sn.block = nil, nil
}

// Next returns the next chunk of records, in the order of their offsets. It returns none at the end
// of the batch. The records and their bytes are valid until the next call of a method.
func (d *Decoder) Next() []Record {
	d.records, d.headers = d.records[:0], d.headers[:0]
	if d.batch.legacy {
		d.nextMessages()
		return d.records
	}
	for size := 0; d.index < d.count() && len(d.records) < chunkRecords && size < chunkBytes; {
		n, ok := d.decodeNext()
		if !ok {
			break
		}
		if len(d.records) > 0 { // skipped records need no memory
			size += n
		}
	}
	unread := d.index < d.count() || d.batch.count <= 0 && d.next <= d.batch.Last &&
		len(d.batch.payload)+int(d.batch.large) > 0
	if len(d.records) == 0 && unread {
		d.addRest()
	}
	return d.records
}

// count returns how many records the batch can have: each needs its own offset.
func (d *Decoder) count() int {
	return int(min(int64(d.batch.count), d.batch.Last-d.batch.Base+1))
}

// decodeNext decodes the next record, and returns its share of the chunk's size in bytes. ok is
// false if the rest can't be split into records, or if the record is not in the buffer and the
// caller has to use the chunk's records first.
func (d *Decoder) decodeNext() (size int, ok bool) {
	length, n, ok := d.length()
	if !ok {
		return 0, false
	}
	if length > MaxRecord+d.Extra {
		return 0, len(d.records) == 0 && d.skipLarge(length, n)
	}
	if !d.ensureBuffered(n + length) {
		return 0, false
	}
	body := d.buf[d.at+n : d.at+n+length]
	d.at += n + length
	r, headers := d.newRecord(), len(d.headers)
	if err := d.decode(r, body); err != nil {
		d.headers = d.headers[:headers]
		d.addDamage(r, int64(length), err)
	} else {
		d.add(r)
	}
	return length + 40*len(r.Headers), true
}

// newRecord returns an empty record in the memory that follows the chunk's records. add makes it
// the chunk's next one.
func (d *Decoder) newRecord() *Record {
	n := len(d.records)
	d.records = slices.Grow(d.records, 1)
	r := &d.records[:n+1][n]
	*r = Record{Offset: d.next, Time: milliseconds(d.batch.appended)}
	return r
}

// length reads the length of the next record, and returns it with the size n of the length field.
func (d *Decoder) length() (length, n int, ok bool) {
	for {
		v, n := binary.Varint(d.buf[d.at:])
		switch {
		case n > 0 && v >= minBody && v <= math.MaxInt32 && n <= maxLength:
			return int(v), n, true
		case n != 0 || len(d.buf)-d.at >= maxLength:
			if d.ended == nil || errors.Is(d.ended, io.EOF) {
				d.ended = errors.New("a record has no valid length")
			}
			d.stream = nil
			return 0, 0, false
		case !d.ensureBuffered(len(d.buf) - d.at + 1):
			return 0, 0, false
		}
	}
}

// ensureBuffered reports whether the next n bytes are in the buffer, after reading them if
// necessary. It never overwrites bytes that the chunk's records refer to: it returns false instead.
func (d *Decoder) ensureBuffered(n int) bool {
	if len(d.buf)-d.at >= n {
		return true
	}
	if d.stream == nil || len(d.records) > 0 {
		return false
	}
	if size := max(n, windowBytes); cap(d.window) < size {
		d.window = append(make([]byte, 0, size+size/4), d.buf[d.at:]...)
		d.buf = d.window
	} else {
		d.buf = d.window[:copy(d.window[:cap(d.window)], d.buf[d.at:])]
	}
	d.at = 0
	for len(d.buf) < n && d.stream != nil {
		d.fill(d.buf[len(d.buf):cap(d.buf)])
	}
	return len(d.buf) >= n
}

// fill reads once from the decompressor, into the memory that follows buf.
func (d *Decoder) fill(into []byte) {
	n, err := d.stream.Read(into)
	d.buf = d.buf[:len(d.buf)+n]
	d.inflated += int64(n)
	if err == nil && d.inflated > maxInflated {
		err = fmt.Errorf("the batch decompresses to more than %d bytes", int64(maxInflated))
	}
	if err != nil {
		d.stream, d.ended = nil, err
	}
}

// skipLarge skips a record that is too large to be kept. false: the batch ends within the record.
func (d *Decoder) skipLarge(length, n int) bool {
	if !d.ensureBuffered(n + maxBody) {
		return false
	}
	r := d.newRecord()
	_, err := d.decodeStart(r, d.buf[d.at+n:])
	left := n + length
	have := min(left, len(d.buf)-d.at)
	d.at, left = d.at+have, left-have
	for left > 0 && d.stream != nil {
		d.at, d.buf = 0, d.window[:0]
		d.fill(d.window[:min(left, cap(d.window))])
		d.at, left = len(d.buf), left-len(d.buf)
	}
	if left > 0 {
		if errors.Is(d.ended, io.EOF) {
			d.ended = errEndsInRecord
		}
		return false
	}
	if err == nil {
		err = fmt.Errorf("the record has %d bytes, more than the maximum of %d", length,
			MaxRecord+d.Extra)
	}
	d.addDamage(r, int64(length), err)
	return true
}

// decodeStart decodes the first fields of a record, and returns the rest. With an error, the record
// keeps the lowest offset that it may have.
func (d *Decoder) decodeStart(r *Record, body []byte) (rest []byte, err error) {
	in := input{body[min(1, len(body)):]} // skip the attributes, which are unused
	delta, offset := in.varint(), in.varint()
	if in.b == nil {
		return nil, errors.New("the record is truncated")
	}
	if d.batch.appended < 0 {
		r.Time = milliseconds(d.batch.firstTime + delta)
	}
	// Each of the following records needs an offset, too.
	most := d.batch.Last - int64(d.count()-1-d.index)
	if offset > math.MaxInt32 || d.batch.Base+offset < d.next || d.batch.Base+offset > most {
		if d.next < d.skip {
			return nil, errSkipped
		}
		return nil, fmt.Errorf("the record claims offset %d of its batch, outside the "+
			"possible range from %d to %d", offset, d.next-d.batch.Base, most-d.batch.Base)
	}
	r.Offset = d.batch.Base + offset
	return in.b, nil
}

// errSkipped is the error of a damaged record that is skipped. It is allocated once: a small batch
// may have a hundred million of them, each time that it is fetched from its middle.
var errSkipped = errors.New("the record has no valid offset")

// decode decodes a record. A record below skip has no key, value and headers.
func (d *Decoder) decode(r *Record, body []byte) error {
	rest, err := d.decodeStart(r, body)
	if err != nil || r.Offset < d.skip {
		return err
	}
	in := input{rest}
	r.Key, r.Value = in.blob(), in.blob()
	count := in.varint()
	switch {
	case in.b == nil:
		return errors.New("the record's key or value is longer than the record")
	case count < 0 || count > int64(len(in.b)/2):
		return fmt.Errorf("the record claims %d headers in %d bytes", count, len(in.b))
	case count > MaxHeaders:
		return fmt.Errorf("the record has %d headers, more than %d", count, MaxHeaders)
	case count > 0:
		r.Headers = d.readHeaders(&in, int(count))
	}
	if len(in.b) > 0 || in.b == nil {
		return errors.New("the record's fields don't add up to its length")
	}
	return nil
}

// add adds the record that newRecord has returned to the chunk, unless it is skipped.
func (d *Decoder) add(r *Record) {
	d.index++
	d.next = r.Offset + 1
	if r.Offset >= d.skip {
		d.records = d.records[:len(d.records)+1]
	}
}

// addDamage adds the damage of a single record that can't be decoded, or not be kept.
func (d *Decoder) addDamage(r *Record, size int64, err error) {
	*r = Record{Offset: r.Offset, Time: r.Time}
	if r.Offset >= d.skip {
		r.Damage = &Damage{Last: r.Offset, Count: 1, Size: size, Err: err}
	}
	d.add(r)
}

var errEndsInRecord = errors.New("the batch ends within a record")

// addRest adds the rest of the batch as one damage: it can't be split into records.
func (d *Decoder) addRest() {
	err := d.ended
	size := int64(len(d.buf) - d.at)
	switch {
	case d.batch.count <= 0:
		err = fmt.Errorf("the batch claims %d records", d.batch.count)
	case errors.Is(err, io.EOF) && size == 0:
		err = fmt.Errorf("the batch claims %d records and has %d", d.batch.count, d.index)
	case errors.Is(err, io.EOF):
		err = errEndsInRecord
	}
	if d.batch.large > 0 {
		size = d.batch.large
	} else if d.batch.Attributes&codecMask != codecNone {
		size = int64(len(d.batch.payload))
	}
	first, count := max(d.next, d.skip), d.count()-d.index
	d.index, d.next = d.count(), d.batch.Last+1
	if first > d.batch.Last {
		return
	}
	most := d.batch.Last - first + 1
	if count <= 0 {
		count = int(most)
	}
	d.records = append(d.records, Record{
		Offset: first, Time: milliseconds(d.batch.appended),
		Damage: &Damage{Last: d.batch.Last, Count: int(min(int64(count), most)), Size: size,
			Err: err},
	})
}

// milliseconds returns the time of ms since 1970; zero for a negative ms, which means none.
func milliseconds(ms int64) time.Time {
	if ms < 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms)
}
