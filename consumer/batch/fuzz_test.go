package batch

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"testing"

	"github.com/klauspost/compress/snappy"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// FuzzRecord replaces one record between two good ones by arbitrary bytes.
func FuzzRecord(f *testing.F) {
	for _, r := range []record{good(1, "b"), {value: "b", delta: 1, keyLen: -1, headers: 1,
		tail: []byte{2, 'k', 2, 'v'}}, {value: "b", delta: 9, keyLen: 1 << 40}} {
		b := r.append(nil)
		f.Add(b[1:])
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		if len(body) < minBody || len(body) > MaxRecord {
			return
		}
		raw := good(0, "a").append(nil)
		raw = append(binary.AppendVarint(raw, int64(len(body))), body...)
		raw = good(2, "c").append(raw)
		got := decode(t, seal(0, 3, 2, raw), 0)
		if len(got) != 3 || got[0] != "100=a" || got[2] != "102=c" {
			t.Errorf("the neighbours of % x: %q", body, got)
		}
	})
}

// FuzzBatch decodes batches with a correct checksum, and any payload and header fields.
func FuzzBatch(f *testing.F) {
	three := payload(good(0, "a"), good(1, "b"), good(2, "c"))
	for codec := range int16(6) {
		f.Add(codec, int32(3), int32(2), compressed(f, codec%5, three), int64(101))
	}
	f.Add(int16(0), int32(1<<31-1), int32(1<<31-2), three, int64(0))
	f.Fuzz(func(t *testing.T, attributes int16, count, last int32, payload []byte, skip int64) {
		raw := sealBatch(kmsg.RecordBatch{Attributes: attributes &^ 0x30, NumRecords: count,
			LastOffsetDelta: last, Records: payload})
		b, size, err := Parse(raw)
		if err != nil || size != len(raw) {
			t.Fatalf("size %d, %v", size, err)
		}
		var d Decoder
		d.Reset(b, skip)
		next, sum := max(100, skip), int64(0)
		var decoded []Record
		for records := d.Next(); len(records) > 0; records = d.Next() {
			for _, r := range records {
				stands := int64(1)
				if r.Damage != nil {
					stands = int64(r.Damage.Count)
				}
				sum += stands
				if r.Offset < next || r.End() > b.Last+1 || r.End() <= r.Offset || stands < 1 ||
					stands > r.End()-r.Offset {
					t.Fatalf("offset %d, end %d, for %d, behind %d, within %d", r.Offset, r.End(),
						stands, next, b.Last)
				}
				next = r.End()
				if len(decoded) < 1000 {
					decoded = append(decoded, r.Clone())
				}
			}
		}
		if sum > b.Last-100+1 {
			t.Fatalf("%d records at %d offsets", sum, b.Last-100+1)
		}
		compareWithKafkaGo(t, raw, decoded, skip, int(count))
	})
}

// compareWithKafkaGo checks that kafka-go reads the same records from a batch without damage. On a
// damaged batch kafka-go may panic, or allocate any size.
func compareWithKafkaGo(t *testing.T, raw []byte, decoded []Record, skip int64, count int) {
	for _, r := range decoded {
		if r.Damage != nil {
			return
		}
	}
	if skip > 100 || len(decoded) == 0 || len(decoded) != count {
		return
	}
	var set protocol.RecordSet
	framed := append(binary.BigEndian.AppendUint32(nil, uint32(len(raw))), raw...)
	if _, err := set.ReadFrom(bytes.NewReader(framed)); err != nil {
		return // kafka-go fails, for example on bytes after the last record
	}
	for i, r := range decoded {
		k, err := set.Records.ReadRecord()
		if err != nil {
			return
		}
		key, _ := protocol.ReadAll(k.Key)
		value, _ := protocol.ReadAll(k.Value)
		if k.Offset != r.Offset || !bytes.Equal(key, r.Key) || !bytes.Equal(value, r.Value) ||
			len(k.Headers) != len(r.Headers) ||
			(key == nil) != (r.Key == nil) || (value == nil) != (r.Value == nil) {
			t.Fatalf("record %d is %+v, for kafka-go %d %q %q %v", i, r, k.Offset, key, value,
				k.Headers)
		}
		for j, h := range k.Headers {
			if h.Key != r.Headers[j].Key || !bytes.Equal(h.Value, r.Headers[j].Value) {
				t.Fatalf("header %d of record %d is %+v, for kafka-go %+v", j, i, r.Headers[j], h)
			}
		}
	}
}

// FuzzParse parses arbitrary bytes.
func FuzzParse(f *testing.F) {
	f.Add(seal(0, 1, 0, payload(good(0, "a"))), true)
	f.Add(oldMessage(5, 1, 0, 77, []byte("b")), true)
	f.Fuzz(func(t *testing.T, raw []byte, repair bool) {
		if repair && len(raw) > 21 { // otherwise hardly any input passes the checksum
			if raw[16] < 2 {
				binary.BigEndian.PutUint32(raw[8:], uint32(len(raw)-prefixSize))
				binary.BigEndian.PutUint32(raw[12:], crc32.ChecksumIEEE(raw[16:]))
			} else {
				binary.BigEndian.PutUint32(raw[17:], crc32.Checksum(raw[21:], castagnoli))
			}
		}
		b, size, err := Parse(raw)
		if err != nil {
			if !errors.Is(err, ErrTruncated) && !errors.Is(err, ErrChecksum) &&
				!errors.Is(err, ErrFormat) {
				t.Fatalf("%v", err)
			}
			return
		}
		if size < messageHeader || size > len(raw) || b.Base < 0 || b.Last < b.Base {
			t.Fatalf("size %d, offsets %d to %d", size, b.Base, b.Last)
		}
		var d Decoder
		d.Reset(b, 0)
		least := int64(0)
		for records := d.Next(); len(records) > 0; records = d.Next() {
			for _, r := range records {
				if r.Offset < least || r.End() > b.Last+1 {
					t.Fatalf("offset %d behind %d, within %d", r.Offset, least, b.Last)
				}
				least = r.End()
			}
		}
	})
}

// FuzzSnappy compares the stream with the library's decoder of whole blocks.
func FuzzSnappy(f *testing.F) {
	f.Add(snappy.Encode(nil, bytes.Repeat([]byte("abcdefgh"), 1000)))
	f.Fuzz(func(t *testing.T, block []byte) {
		size, err := snappy.DecodedLen(block)
		if err != nil || size > 1<<20 || bytes.HasPrefix(block, xerial) {
			return
		}
		want, wantErr := snappy.Decode(nil, block)
		var d Decoder
		s := d.snappy(nil).(*snappyReader)
		_, n := binary.Uvarint(block)
		s.block, s.left = block[n:], size // as a large block
		got, gotErr := io.ReadAll(s)
		if size == 0 {
			return // an empty block is never started
		}
		if (wantErr == nil) != (gotErr == nil) || wantErr == nil && !bytes.Equal(got, want) {
			t.Errorf("got %d bytes, %v; want %d, %v", len(got), gotErr, len(want), wantErr)
		}
	})
}
