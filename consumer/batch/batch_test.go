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
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/segmentio/kafka-go/compress"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// record describes a record to encode, with correct or wrong lengths.
type record struct {
	value                    string
	delta                    int64
	headers, keyLen, lenDiff int64
	length                   int64 // 0: the correct one
	tail                     []byte
}

func good(delta int64,
	value string) record {
	return record{value: value, delta: delta, keyLen: -1}
}

func (r record) append(b []byte) []byte {
	body := []byte{0}
	for _, v := range []int64{r.delta, r.delta, r.keyLen, int64(len(r.value)) + r.lenDiff} {
		body = binary.AppendVarint(body, v)
	}
	body = append(body, r.value...)
	body = append(binary.AppendVarint(body, r.headers), r.tail...)
	length := int64(len(body))
	if r.length != 0 {
		length = r.length
	}
	return append(binary.AppendVarint(b, length), body...)
}

func payload(records ...record) (b []byte) {
	for _, r := range records {
		b = r.append(b)
	}
	return b
}

// seal encodes a batch whose first offset is 100 and whose checksum is correct.
func seal(codec int16, count, last int32, payload []byte) []byte {
	return sealBatch(kmsg.RecordBatch{Attributes: codec, NumRecords: count, LastOffsetDelta: last,
		Records: payload})
}

func sealBatch(k kmsg.RecordBatch) []byte {
	k.FirstOffset, k.Magic, k.ProducerID, k.FirstTimestamp = 100, 2, -1, 1000
	raw := k.AppendTo(nil)
	binary.BigEndian.PutUint32(raw[8:], uint32(len(raw)-prefixSize))
	binary.BigEndian.PutUint32(raw[17:], crc32.Checksum(raw[21:], castagnoli))
	return raw
}

// decode returns the records of a batch from offset skip, as short texts: "100=a" for a record,
// "101-103:2 reason" for damage.
func decode(t testing.TB, raw []byte, skip int64) (all []string) {
	t.Helper()
	b, size, err := Parse(raw)
	if err != nil || size != len(raw) {
		t.Fatalf("size %d of %d, %v", size, len(raw), err)
	}
	var d Decoder
	d.Reset(b, skip)
	for {
		records := d.Next()
		if len(records) == 0 {
			return all
		}
		for _, r := range records {
			if r.Damage != nil {
				all = append(all, fmt.Sprintf("%d-%d:%d %v", r.Offset, r.Damage.Last,
					r.Damage.Count, r.Damage.Err))
			} else {
				all = append(all, fmt.Sprintf("%d=%s", r.Offset, r.Value))
			}
		}
	}
}

// expect compares results of decode with the wanted texts; of damage, want has the prefix.
func expect(t testing.TB, got []string, want ...string) {
	t.Helper()
	same := slices.EqualFunc(got, want, func(g, w string) bool {
		return g == w || strings.Contains(w, " ") && strings.HasPrefix(g, w)
	})
	if !same {
		t.Errorf("got\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

// A record that its producer wrote wrongly damages only what can't be separated from it.
func TestDamage(t *testing.T) {
	a, c := good(0, "a"), good(2, "c")
	for name, test := range map[string]struct {
		bad  record
		want string
	}{
		"2^31 headers": {record{value: "b", delta: 1, keyLen: -1, headers: 1 << 31},
			"101-101:1 the record claims 2147483648 headers in 0 bytes"},
		"2^60 headers": {record{value: "b", delta: 1, keyLen: -1, headers: 1 << 60},
			"101-101:1 the record claims"},
		"headers below 0": {record{value: "b", delta: 1, keyLen: -1, headers: -1},
			"101-101:1 the record claims -1 headers"},
		"a value of 2^40": {record{value: "b", delta: 1, keyLen: -1, lenDiff: 1 << 40},
			"101-101:1 the record's key or value"},
		"a value of 2^32 more": {record{value: "b", delta: 1, keyLen: -1, lenDiff: 1 << 32},
			"101-101:1 the record's key or value"},
		"a value of -2^40": {record{value: "b", delta: 1, keyLen: -1, lenDiff: -1 << 40},
			"101-101:1 the record's key or value"},
		"a key of 2^62": {record{value: "b", delta: 1, keyLen: 1 << 62},
			"101-101:1 the record's key or value"},
		"a key of -1 + 2^32": {record{value: "b", delta: 1, keyLen: -1 + 1<<32},
			"101-101:1 the record's key or value"},
		"offset 100": {record{value: "b", delta: 100, keyLen: -1},
			"101-101:1 the record claims offset 100"},
		"offset 2^40": {record{value: "b", delta: 1 << 40, keyLen: -1},
			"101-101:1 the record claims offset"},
		"the largest offset": {record{value: "b", delta: math.MaxInt64, keyLen: -1},
			"101-101:1 the record claims offset"},
		"the smallest offset": {record{value: "b", delta: math.MinInt64, keyLen: -1},
			"101-101:1 the record claims offset"},
		"the offset before": {record{value: "b", delta: 0, keyLen: -1},
			"101-101:1 the record claims offset"},
		"the offset behind": {record{value: "b", delta: 2, keyLen: -1},
			"101-101:1 the record claims offset"},
		"bytes behind": {record{value: "b", delta: 1, keyLen: -1, tail: []byte("xyz")},
			"101-101:1 the record's fields"},
		"a header beyond": {record{value: "b", delta: 1, keyLen: -1, headers: 1,
			tail: []byte{20, 20}}, "101-101:1 the record's fields"},
		"too many headers": {record{value: "b", delta: 1, keyLen: -1, headers: 10_001,
			tail: make([]byte, 20_002)}, "101-101:1 the record has 10001 headers"},
		"a record of 1 MiB": {record{value: strings.Repeat("b", 1<<20), delta: 1, keyLen: -1},
			"101-101:1 the record has 1048585 bytes"},
		"a very negative length": {record{value: "b", delta: 1, keyLen: -1, length: -1 << 20},
			"101-102:2 a record has no valid length"},
		"a length below 0": {record{value: "b", delta: 1, keyLen: -1, length: -7},
			"101-102:2 a record has no valid length"},
		"a length of 2^31": {record{value: "b", delta: 1, keyLen: -1, length: 1 << 31},
			"101-102:2 a record has no valid length"},
		"a length of 2^31 - 1": {record{value: "b", delta: 1, keyLen: -1, length: 1<<31 - 1},
			"101-102:2 the batch ends within a record"},
		"longer than the batch": {record{value: "b", delta: 1, keyLen: -1, length: 1000},
			"101-102:2 the batch ends within a record"},
	} {
		t.Run(name, func(t *testing.T) {
			want := []string{"100=a", test.want, "102=c"}
			if strings.HasPrefix(test.want, "101-102") {
				want = want[:2]
			}
			for codec := range int16(5) {
				raw := seal(codec, 3, 2, compressed(t, codec, payload(a, test.bad, c)))
				expect(t, decode(t, raw, 0), want...)
				for skip := int64(100); skip < 103; skip++ { // a fetch may begin anywhere
					expect(t, decode(t, raw, skip), wantFrom(want, skip)...)
				}
			}
		})
	}
}

// wantFrom returns the results of decode that are wanted from offset skip.
func wantFrom(want []string, skip int64) (left []string) {
	for _, w := range want {
		var first, last, count int64
		if n, _ := fmt.Sscanf(w, "%d-%d:%d", &first, &last, &count); n < 3 {
			fmt.Sscanf(w, "%d=", &first)
			last = first
		}
		switch {
		case last < skip:
		case first < skip:
			_, reason, _ := strings.Cut(w, " ")
			left = append(left,
				fmt.Sprintf("%d-%d:%d %s", skip, last, min(count, last-skip+1), reason))
		default:
			left = append(left, w)
		}
	}
	return left
}

func compressed(t testing.TB, codec int16, payload []byte) []byte {
	t.Helper()
	if codec == 0 {
		return payload
	}
	var b bytes.Buffer
	w := compress.Compression(codec).Codec().NewWriter(&b)
	if _, err := w.Write(payload); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// Wrong counts, codecs and streams damage only the records that can't be separated.
func TestDamagedBatches(t *testing.T) {
	three := payload(good(0, "a"), good(1, "b"), good(2, "c"))
	for name, test := range map[string]struct {
		raw  []byte
		want []string
	}{
		"more than there are": {seal(0, 5, 4, three),
			[]string{"100=a", "101=b", "102=c", "103-104:2 the batch claims 5 records and has 3"}},
		"20,000,000": {seal(0, 20_000_000, 19_999_999, payload(good(0, "a"))),
			[]string{"100=a", "101-20000099:19999999 the batch claims"}},
		"2^31 - 1": {seal(0, math.MaxInt32, math.MaxInt32-1, payload(good(0, "a"))),
			[]string{"100=a", "101-2147483746:2147483646 the batch claims"}},
		"more than offsets": {seal(0, 20_000_000, 2, three),
			[]string{"100=a", "101=b", "102=c"}},
		"fewer than there are": {seal(0, 2, 2, three), []string{"100=a", "101=b"}},
		"none, but there are": {seal(0, 0, 2, three),
			[]string{"100-102:3 the batch claims 0 records"}},
		"below 0": {seal(0, -1, 2, three),
			[]string{"100-102:3 the batch claims -1 records"}},
		"below 0, and no offsets": {seal(0, -1, -1, three),
			[]string{"100-100:1 the batch claims -1 records"}},
		"compacted to nothing": {seal(0, 0, 2, nil), nil},
		"compacted": {seal(0, 2, 9, payload(good(3, "d"), good(7, "h"))),
			[]string{"103=d", "107=h"}},
		"codec 5": {seal(5, 3, 2, three),
			[]string{"100-102:3 compression codec 5 is unknown"}},
		"codec 7": {seal(7, 3, 2, three),
			[]string{"100-102:3 compression codec 7 is unknown"}},
		"codec 7, compacted": {seal(7, 2, 9, three),
			[]string{"100-109:2 compression codec 7 is unknown"}},
		"no gzip": {seal(1, 3, 2, three),
			[]string{"100-102:3 gzip: invalid header"}},
		"no snappy": {seal(2, 3, 2, []byte("\xff\xff\xff\xff\xff\xff")),
			[]string{"100-102:3 snappy: corrupt"}},
		"no lz4": {seal(3, 3, 2, three),
			[]string{"100-102:3 lz4: bad magic number"}},
		"no zstd": {seal(4, 3, 2, three),
			[]string{"100-102:3 invalid input: magic number mismatch"}},
		"an empty gzip": {seal(1, 3, 2, nil),
			[]string{"100-102:3 the batch claims 3 records and has 0"}},
		"an empty zstd": {seal(4, 3, 2, nil),
			[]string{"100-102:3 the batch claims 3 records and has 0"}},
		"a gzip that breaks off": {seal(1, 3, 2, compressed(t, 1, three)[:30]), nil},
		"a batch of one byte": {seal(0, 3, 2, []byte{0}),
			[]string{"100-102:3 a record has no valid length"}},
		"a length that breaks off": {seal(0, 3, 2, []byte{0x80}),
			[]string{"100-102:3 the batch ends within a record"}},
		"a length that never ends": {seal(0, 3, 2, bytes.Repeat([]byte{0x80}, 99)),
			[]string{"100-102:3 a record has no valid length"}},
		"garbage behind two records": {seal(0, 4, 3, append(payload(good(0, "a"), good(1, "b")),
			0xff, 0xff, 0xff, 0xff, 0xff, 0xff)),
			[]string{"100=a", "101=b", "102-103:2 a record has no valid length"}},
	} {
		t.Run(name, func(t *testing.T) {
			got := decode(t, test.raw, 0)
			if name == "a gzip that breaks off" {
				if len(got) == 0 || !strings.Contains(got[len(got)-1], "102:") ||
					!strings.Contains(got[len(got)-1], "unexpected EOF") {
					t.Errorf("got %q", got)
				}
				return
			}
			expect(t, got, test.want...)
		})
	}
}

// A batch with a wrong checksum, a truncated one or one of an unknown format is not decoded at all.
func TestParseRefuses(t *testing.T) {
	whole := seal(0, 1, 0, payload(good(0, "a")))
	change := func(at int, with ...byte) []byte {
		raw := bytes.Clone(whole)
		copy(raw[at:], with)
		return raw
	}
	for name, test := range map[string]struct {
		raw  []byte
		want error
	}{
		"nothing":            {nil, ErrTruncated},
		"a byte is missing":  {whole[:len(whole)-1], ErrTruncated},
		"half a header":      {whole[:40], ErrTruncated},
		"checksum":           {change(17, 1, 2, 3, 4), ErrChecksum},
		"attributes":         {change(22, 1), ErrChecksum},
		"the last byte":      {change(len(whole)-1, 77), ErrChecksum},
		"the largest size":   {change(8, 0x7f, 0xff, 0xff, 0xff), ErrTruncated},
		"a negative size":    {change(8, 0xff, 0xff, 0xff, 0xf0), ErrFormat},
		"the smallest size":  {change(8, 0x80, 0, 0, 0), ErrFormat},
		"no size":            {change(8, 0, 0, 0, 0), ErrFormat},
		"ends in the header": {change(8, 0, 0, 0, 40), ErrFormat},
		"format 3":           {change(16, 3), ErrFormat},
		"format -1":          {change(16, 0xff), ErrFormat},
		"format 1":           {change(16, 1), ErrChecksum},
		"a negative offset":  {change(0, 0xff), ErrFormat},
		"the largest offset": {change(0, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff),
			ErrFormat},
	} {
		if _, _, err := Parse(test.raw); !errors.Is(err, test.want) {
			t.Errorf("%s: got %v, want %v", name, err, test.want)
		}
	}
}

// A batch needs one chunk of memory, whatever its compression ratio: one record of 50 MB, or many.
func TestBombs(t *testing.T) {
	large := record{value: strings.Repeat(" ", 50<<20), delta: 1,
		keyLen: -1}.append(payload(good(0, "a")))
	large = good(2, "c").append(large)
	var many []byte
	const n = 100_000
	for i := range int64(n) {
		many = good(i, strings.Repeat("x", 300)).append(many)
	}
	for codec := int16(1); codec < 5; codec++ {
		t.Run(compress.Compression(codec).String(), func(t *testing.T) {
			raw := seal(codec, 3, 2, compressed(t, codec, large))
			expect(t, decode(t, raw, 0), "100=a", "101-101:1 the record has 52428809 bytes",
				"102=c")
			b, _, err := Parse(seal(codec, n, n-1, compressed(t, codec, many)))
			if err != nil {
				t.Fatal(err)
			}
			var d Decoder
			d.Reset(b, 0)
			count := 0
			for records := d.Next(); len(records) > 0; records = d.Next() {
				count += len(records)
				if len(records) > chunkRecords || cap(d.window) > 2*windowBytes {
					t.Fatalf("%d records in a chunk, a window of %d bytes", len(records),
						cap(d.window))
				}
				if r := records[len(records)-1]; r.Offset != int64(99+count) ||
					len(r.Value) != 300 {
					t.Fatalf("record %d: offset %d, %d bytes, %v", count, r.Offset, len(r.Value),
						r.Damage)
				}
			}
			if count != n {
				t.Errorf("%d records of %d", count, n)
			}
		})
	}
}

// Producers other than Java's write snappy as one raw block, which may be large.
func TestRawSnappy(t *testing.T) {
	var b []byte
	const n = 60_000
	for i := range int64(n) {
		b = good(i, fmt.Sprintf(`{"Report_Account":"user%d","Peer_Account":"peer%d"}`, i*7919%1000,
			i)).append(b)
	}
	for name, block := range map[string][]byte{"fast": s2.EncodeSnappy(nil, b),
		"best": s2.EncodeSnappyBest(nil, b)} {
		got := decode(t, seal(2, n, n-1, block), 0)
		if len(got) != n ||
			got[n-1] != fmt.Sprintf(`%d={"Report_Account":"user%d","Peer_Account":"peer%d"}`, 99+n,
				(n-1)*7919%1000, n-1) {
			t.Errorf("%s: %d records, the last %q", name, len(got), got[len(got)-1])
		}
	}
	literal := s2.EncodeSnappy(nil, nil) // and a block that is a single literal
	literal = append(binary.AppendUvarint(literal[:0], uint64(len(b))), 63<<2, byte(len(b)-1),
		byte((len(b)-1)>>8), byte((len(b)-1)>>16), 0)
	if got := decode(t, seal(2, n, n-1, append(literal, b...)), 0); len(got) != n {
		t.Errorf("literal: %d records, %q", len(got), got[len(got)-1])
	}
}

// Windows that are larger than their content, as producers at the highest levels request them.
func TestZstdWindows(t *testing.T) {
	b := payload(good(0, strings.Repeat("a", 1000)), good(1, "b"))
	for _, size := range []int{1 << 10, 8 << 20, 128 << 20, 512 << 20} {
		w, err := zstd.NewWriter(nil, zstd.WithWindowSize(size), zstd.WithSingleSegment(false))
		if err != nil {
			t.Fatal(err)
		}
		var frame bytes.Buffer
		w.Reset(&frame)
		w.Write(b)
		w.Flush()
		w.Close()
		if got := decode(t, seal(4, 2, 1, frame.Bytes()), 0); len(got) != 2 || got[1] != "101=b" {
			t.Errorf("window %d: %q", size, got)
		}
	}
	var d Decoder
	from, err := d.zstd([]byte("\x28\xb5\x2f\xfd\x00\xf8garbage")) // requests 3.75 TB
	if err == nil {
		_, err = io.ReadAll(from)
	}
	if err == nil {
		t.Error("garbage in a huge window is no error")
	}
}

// LZ4 with the largest blocks.
func TestLZ4Blocks(t *testing.T) {
	b := payload(good(0, strings.Repeat("a", 900_000)), good(1, "b"))
	var frame bytes.Buffer
	w := lz4.NewWriter(&frame)
	if err := w.Apply(lz4.BlockSizeOption(lz4.Block4Mb)); err != nil {
		t.Fatal(err)
	}
	w.Write(b)
	w.Close()
	if got := decode(t, seal(3, 2, 1, frame.Bytes()), 0); len(got) != 2 || got[1] != "101=b" {
		t.Errorf("%d records", len(got))
	}
}

// A timestamp of -1 means none; 1970 is a valid one. If the broker sets the time, that one counts.
func TestTimes(t *testing.T) {
	for _, test := range []struct {
		first, appended int64
		attributes      int16
		want            time.Time
	}{
		{-1, 5, 0, time.Time{}},
		{-1 << 62, 5, 0, time.Time{}},
		{math.MinInt64, 5, 0, time.Time{}},
		{0, 5, 0, time.UnixMilli(0)},
		{77, 5, 0, time.UnixMilli(77)},
		{77, 5, 8, time.UnixMilli(5)},
		{77, -1, 8, time.UnixMilli(77)},
		{1 << 62, 5, 0, time.UnixMilli(1 << 62)},
	} {
		raw := sealBatch(kmsg.RecordBatch{Attributes: test.attributes, NumRecords: 1,
			MaxTimestamp: test.appended, Records: payload(good(0, "a"))})
		binary.BigEndian.PutUint64(raw[27:], uint64(test.first))
		binary.BigEndian.PutUint32(raw[17:], crc32.Checksum(raw[21:], castagnoli))
		b, _, err := Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		var d Decoder
		d.Reset(b, 0)
		if got := d.Next(); len(got) != 1 || !got[0].Time.Equal(test.want) {
			t.Errorf("%+v: got %v", test, got)
		}
	}
}

// A batch that is too large to be kept becomes one damage, if its checksum is correct.
func TestLarge(t *testing.T) {
	whole := seal(0, 3, 2, bytes.Repeat([]byte("x"), 1<<20))
	b, err := ParseLarge(bytes.NewReader(append(whole, "behind"...)))
	if err != nil {
		t.Fatal(err)
	}
	var d Decoder
	d.Reset(b, 101)
	got := d.Next()
	if len(got) != 1 || got[0].Offset != 101 || got[0].Damage == nil || got[0].Damage.Last != 102 ||
		got[0].Damage.Count != 2 || got[0].Damage.Size != 1<<20 {
		t.Errorf("got %+v", got)
	}
	whole[1000]++
	for want, raw := range map[error][]byte{
		ErrChecksum: whole, ErrTruncated: whole[:len(whole)-1], io.EOF: nil,
		io.ErrUnexpectedEOF: whole[:60], ErrFormat: oldMessage(1, 1, 0, 0, make([]byte, 99)),
	} {
		if _, err := ParseLarge(bytes.NewReader(raw)); !errors.Is(err, want) {
			t.Errorf("got %v, want %v", err, want)
		}
	}
}
