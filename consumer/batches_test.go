package consumer

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/segmentio/kafka-go/compress"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// rawBatch is a batch as brokers send it: from base to last, with records at the offsets. A record's value is its offset, and so is its time.
type rawBatch struct {
	base, last int64
	producer   int64
	attributes protocol.Attributes
	appended   int64
	offsets    []int64
	cut        int // bytes that are missing at its end
	lies       int // more records are promised than there are
	crc        int32
}

func (b rawBatch) bytes(t testing.TB) []byte {
	t.Helper()
	var records []byte
	for _, o := range b.offsets {
		r := kmsg.Record{TimestampDelta64: o - 1000, OffsetDelta: int32(o - b.base), Value: []byte{byte(o)}}
		body := r.AppendTo(nil)
		r.Length = int32(len(body) - 1) // less the varint of the length 0
		records = r.AppendTo(records)
	}
	if codec := b.attributes.Compression().Codec(); codec != nil {
		var compressed bytes.Buffer
		w := codec.NewWriter(&compressed)
		if _, err := w.Write(records); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		records = compressed.Bytes()
	}
	k := kmsg.RecordBatch{
		FirstOffset: b.base, PartitionLeaderEpoch: 7, Magic: 2, Attributes: int16(b.attributes), LastOffsetDelta: int32(b.last - b.base),
		FirstTimestamp: 1000, MaxTimestamp: b.appended, ProducerID: b.producer, NumRecords: int32(len(b.offsets) + b.lies), Records: records,
	}
	k.Length = int32(len(k.AppendTo(nil)) - 12)
	k.CRC = int32(crc32.Checksum(k.AppendTo(nil)[21:], crc32.MakeTable(crc32.Castagnoli))) + b.crc
	all := k.AppendTo(nil)
	return all[:len(all)-b.cut]
}

// setOf is what the answer with these batches is decoded to.
func setOf(t testing.TB, batches ...rawBatch) recordSet {
	t.Helper()
	var all []byte
	for _, b := range batches {
		all = append(all, b.bytes(t)...)
	}
	return setOfBytes(t, all)
}

func setOfBytes(t testing.TB, all []byte) (set recordSet) {
	t.Helper()
	all = append(binary.BigEndian.AppendUint32(nil, uint32(len(all))), all...)
	if n, err := set.ReadFrom(io.MultiReader(bytes.NewReader(all), strings.NewReader("what follows"))); n != int64(len(all)) || err != nil {
		t.Fatalf("read %d bytes of %d, %v", n, len(all), err)
	}
	return set
}

func data(base int64, offsets ...int64) rawBatch {
	last := base
	if len(offsets) > 0 {
		last = offsets[len(offsets)-1]
	}
	return rawBatch{base: base, last: last, producer: -1, offsets: offsets}
}

// until is the batch with another last offset: the records before it were compacted away.
func (b rawBatch) until(last int64) rawBatch { b.last = last; return b }

func tx(producer, base int64, offsets ...int64) rawBatch {
	b := data(base, offsets...)
	b.producer, b.attributes = producer, protocol.Transactional
	return b
}

func marker(producer, offset int64) rawBatch {
	return rawBatch{base: offset, last: offset, producer: producer, attributes: protocol.Transactional | protocol.Control, offsets: []int64{offset}}
}

func TestReadBatches(t *testing.T) {
	aborted := func(pairs ...int64) (all []abortedTransaction) {
		for i := 0; i < len(pairs); i += 2 {
			all = append(all, abortedTransaction{ProducerID: pairs[i], FirstOffset: pairs[i+1]})
		}
		return all
	}
	for name, c := range map[string]struct {
		offset  int64
		batches []rawBatch
		aborted []abortedTransaction
		want    []int64
		next    int64
	}{
		"nothing":                            {offset: 7, next: 7},
		"one batch":                          {7, []rawBatch{data(7, 7, 8, 9)}, nil, []int64{7, 8, 9}, 10},
		"begins before":                      {8, []rawBatch{data(7, 7, 8, 9)}, nil, []int64{8, 9}, 10},
		"holes":                              {7, []rawBatch{data(5, 6, 9), data(20, 22)}, nil, []int64{9, 22}, 23},
		"compacted tail":                     {8, []rawBatch{data(5, 5, 7).until(11)}, nil, nil, 12},
		"compacted tails":                    {5, []rawBatch{data(5, 5, 7).until(11), data(12, 13).until(20)}, nil, []int64{5, 7, 13}, 21},
		"emptied batch":                      {8, []rawBatch{data(5).until(8)}, nil, nil, 9},
		"emptied batch behind":               {8, []rawBatch{data(20).until(22)}, nil, nil, 23},
		"emptied batches between":            {8, []rawBatch{data(8), data(12), data(13), data(20, 21)}, nil, []int64{21}, 22},
		"emptied batch at the end":           {8, []rawBatch{data(8, 8), data(12).until(19)}, nil, []int64{8}, 20},
		"the last is cut off":                {7, []rawBatch{data(7, 7, 8, 9), {base: 10, last: 11, offsets: []int64{10, 11}, cut: 1}}, nil, []int64{7, 8, 9}, 10},
		"hardly anything of the last":        {7, []rawBatch{data(7, 7, 8, 9), {base: 10, last: 10, offsets: []int64{10}, cut: 65}}, nil, []int64{7, 8, 9}, 10},
		"marker":                             {5, []rawBatch{marker(1, 5)}, nil, nil, 6},
		"marker at the end":                  {5, []rawBatch{data(5, 5), marker(1, 6)}, nil, []int64{5}, 7},
		"committed":                          {5, []rawBatch{tx(1, 5, 5, 6), marker(1, 7)}, nil, []int64{5, 6}, 8},
		"aborted":                            {5, []rawBatch{tx(1, 5, 5, 6), marker(1, 7)}, aborted(1, 5), nil, 8},
		"aborted, compacted":                 {5, []rawBatch{tx(1, 5, 7).until(9), marker(1, 12)}, aborted(1, 6), nil, 13},
		"aborted, the answer begins within":  {6, []rawBatch{tx(1, 6, 6), marker(1, 7), tx(1, 8, 8)}, aborted(1, 2), []int64{8}, 9},
		"aborted, the answer ends within":    {5, []rawBatch{tx(1, 5, 5, 6)}, aborted(1, 5), nil, 7},
		"aborted, then committed":            {5, []rawBatch{tx(1, 5, 5), marker(1, 6), tx(1, 7, 7), marker(1, 8)}, aborted(1, 5), []int64{7}, 9},
		"committed, then aborted":            {5, []rawBatch{tx(1, 5, 5), marker(1, 6), tx(1, 7, 7), marker(1, 8)}, aborted(1, 7), []int64{5}, 9},
		"aborted twice":                      {5, []rawBatch{tx(1, 5, 5), marker(1, 6), tx(1, 7, 7), marker(1, 8), data(9, 9)}, aborted(1, 7, 1, 5), []int64{9}, 10},
		"two producers":                      {5, []rawBatch{tx(1, 5, 5), tx(2, 6, 6), data(7, 7), marker(2, 8), tx(1, 9, 9), marker(1, 10)}, aborted(1, 5), []int64{6, 7}, 11},
		"no transaction of that producer":    {5, []rawBatch{data(5, 5), {base: 6, last: 6, producer: 1, offsets: []int64{6}}}, aborted(1, 5), []int64{5, 6}, 7},
		"another producer's commit":          {5, []rawBatch{tx(1, 5, 5), marker(2, 6), tx(1, 7, 7), marker(1, 8)}, aborted(1, 5), nil, 9},
		"an aborted one that is not in here": {5, []rawBatch{tx(1, 5, 5)}, aborted(1, 6), []int64{5}, 6},
	} {
		t.Run(name, func(t *testing.T) {
			b, err := readBatches(setOf(t, c.batches...), c.aborted, "topic", 3, c.offset)
			if err != nil {
				t.Fatal(err)
			}
			var got []int64
			for _, r := range b.records {
				got = append(got, r.Offset)
				if r.Topic != "topic" || r.Partition != 3 || string(r.Value) != string([]byte{byte(r.Offset)}) || r.Time.UnixMilli() != r.Offset || r.Key != nil {
					t.Errorf("record %+v", r)
				}
			}
			if !slices.Equal(got, c.want) || b.next != c.next {
				t.Errorf("got %v, next %d; want %v, next %d", got, b.next, c.want, c.next)
			}
		})
	}
}

// What comes before a broken batch is delivered; then the fetch fails, and goes on failing: nothing is skipped.
func TestBrokenBatch(t *testing.T) {
	good := data(5, 5, 6)
	for name, broken := range map[string]rawBatch{
		"cut off":             {base: 7, last: 9, offsets: []int64{7, 8, 9}, cut: 3},
		"only a header":       {base: 7, last: 9, offsets: []int64{7, 8, 9}, cut: 24},
		"hardly a header":     {base: 7, last: 9, offsets: []int64{7, 8, 9}, cut: 60},
		"checksum":            {base: 7, last: 9, offsets: []int64{7, 8, 9}, crc: 1},
		"fewer than promised": {base: 7, last: 9, lies: 1},
		"unknown compression": {base: 7, last: 9, attributes: 7, offsets: []int64{7, 8, 9}},
	} {
		t.Run(name, func(t *testing.T) {
			if b, err := readBatches(setOf(t, good, broken), nil, "t", 0, 5); err != nil || len(b.records) != 2 || b.next != 7 {
				t.Errorf("got %d records, next %d, %v", len(b.records), b.next, err)
			}
			if b, err := readBatches(setOf(t, broken), nil, "t", 0, 7); err == nil || len(b.records) != 0 || b.next != 7 {
				t.Errorf("got %d records, next %d, %v", len(b.records), b.next, err)
			}
		})
	}
	// Of a batch that ends too early, what there is comes first; then it fails.
	early := rawBatch{base: 7, last: 9, offsets: []int64{7, 8}, lies: 1}
	if b, err := readBatches(setOf(t, good, early), nil, "t", 0, 5); err != nil || len(b.records) != 4 || b.next != 9 {
		t.Errorf("got %d records, next %d, %v", len(b.records), b.next, err)
	}
	if b, err := readBatches(setOf(t, early), nil, "t", 0, 9); err == nil || b.next != 9 {
		t.Errorf("next %d, %v", b.next, err)
	}
	if b, err := readBatches(setOf(t, good), nil, "t", 0, 9); err == nil || b.next != 9 {
		t.Errorf("an answer with nothing but what comes before: next %d, %v", b.next, err)
	}
}

// An answer without records, and one that ends before its records do.
func TestRecordSetSizes(t *testing.T) {
	for raw, fine := range map[string]bool{
		"\x00\x00\x00\x00": true, "\xff\xff\xff\xff": true, "": false, "\x00\x00": false, "\x00\x00\x00\x05abc": false, "\x7f\xff\xff\xff": false,
	} {
		var set recordSet
		if n, err := set.ReadFrom(strings.NewReader(raw)); (err == nil) != fine || n != int64(len(raw)) || len(set.batches) != 0 || set.err != nil {
			t.Errorf("%q: read %d, %v, %+v", raw, n, err, set)
		}
	}
}

// Headers that lie neither panic nor hide what comes before them.
func TestLyingHeaders(t *testing.T) {
	good, whole := data(5, 5, 6), data(7, 7, 8, 9)
	change := func(at int, with ...byte) []byte {
		raw := whole.bytes(t)
		copy(raw[at:], with)
		binary.BigEndian.PutUint32(raw[17:], crc32.Checksum(raw[21:], crc32.MakeTable(crc32.Castagnoli)))
		return raw
	}
	for name, lie := range map[string][]byte{
		"negative size":          change(8, 0xff, 0xff, 0xff, 0xf0),
		"smallest size":          change(8, 0x80, 0, 0, 0),
		"size 0":                 change(8, 0, 0, 0, 0),
		"size within the header": change(8, 0, 0, 0, 40),
		"largest size":           change(8, 0x7f, 0xff, 0xff, 0xff),
		"unknown format":         change(16, 3),
		"negative format":        change(16, 0xff),
		"last before first":      change(23, 0xff, 0xff, 0xff, 0xff),
		"negative count":         change(57, 0xff, 0xff, 0xff, 0xff),
		"count beyond last":      change(57, 0x7f, 0xff, 0xff, 0xff),
		"ends in the header":     change(8, 0, 0, 0, 40)[:52],
		"negative size, old":     slices.Concat(rawMessage(7, 1, 0, 77, nil)[:8], []byte{0xff, 0xff, 0xff, 0xf0}, rawMessage(7, 1, 0, 77, nil)[12:]),
	} {
		t.Run(name, func(t *testing.T) {
			for _, behind := range [][]byte{nil, whole.bytes(t)} {
				b, err := readBatches(setOfBytes(t, slices.Concat(good.bytes(t), lie, behind)), nil, "t", 0, 5)
				if err != nil || len(b.records) != 2 || b.next != 7 {
					t.Errorf("got %d records, next %d, %v", len(b.records), b.next, err)
				}
				b, err = readBatches(setOfBytes(t, slices.Concat(lie, behind)), nil, "t", 0, 7)
				if err == nil || len(b.records) != 0 || b.next != 7 {
					t.Errorf("got %d records, next %d, %v", len(b.records), b.next, err)
				}
			}
		})
	}
}

// Any bytes at all are an answer or an error. A checksum saves kafka-go from most of them.
func FuzzRecordSet(f *testing.F) {
	f.Add(slices.Concat(data(5, 5, 6).bytes(f), tx(1, 7, 7).bytes(f), marker(1, 8).bytes(f)))
	f.Add(rawMessage(5, 1, 0, 77, []byte("b")))
	f.Fuzz(func(t *testing.T, raw []byte) {
		b, err := readBatches(setOfBytes(t, raw), nil, "t", 0, 5)
		if b.next < 5 || err != nil && len(b.records) > 0 {
			t.Errorf("next %d, %d records, %v", b.next, len(b.records), err)
		}
	})
}

// Batches of any compression, behind one another.
func TestCompressedBatches(t *testing.T) {
	var batches []rawBatch
	for i := range int64(5) {
		b := data(10*i, 10*i, 10*i+2, 10*i+7).until(10*i + 9)
		b.attributes = protocol.Attributes(compress.Compression(i))
		batches = append(batches, b)
	}
	b, err := readBatches(setOf(t, batches...), nil, "t", 0, 2)
	var got []int64
	for _, r := range b.records {
		got = append(got, int64(r.Value[0]))
	}
	if want := []int64{2, 7, 10, 12, 17, 20, 22, 27, 30, 32, 37, 40, 42, 47}; err != nil || !slices.Equal(got, want) || b.next != 50 {
		t.Errorf("got %v, next %d, %v", got, b.next, err)
	}
}

// A record without a timestamp (-1) has none; 1970 is one. Where the broker sets the time, it counts.
func TestTimestamps(t *testing.T) {
	for ms, none := range map[int64]bool{-1: true, 0: false, 1: false} {
		b, err := readBatches(setOf(t, data(ms, ms)), nil, "t", 0, ms)
		if err != nil || b.records[0].Time.IsZero() != none {
			t.Errorf("%d: %v, %v", ms, b.records, err)
		}
		appended := data(5, 5, 6)
		appended.attributes, appended.appended = logAppendTime, ms
		b, err = readBatches(setOf(t, data(4, 4), appended, data(7, 7)), nil, "t", 0, 4)
		if err != nil || len(b.records) != 4 {
			t.Fatal(b, err)
		}
		for i, r := range b.records {
			want := r.Offset
			if (i == 1 || i == 2) && !none {
				want = ms
			}
			if r.Time.UnixMilli() != want {
				t.Errorf("appended at %d: record %d has the time %d, want %d", ms, r.Offset, r.Time.UnixMilli(), want)
			}
		}
	}
}

// rawMessage is a message of the formats 0 and 1.
func rawMessage(offset int64, magic, attributes int8, timestamp int64, value []byte) []byte {
	b := []byte{byte(magic), byte(attributes)}
	if magic > 0 {
		b = binary.BigEndian.AppendUint64(b, uint64(timestamp))
	}
	b = binary.BigEndian.AppendUint32(b, 0xffffffff) // no key
	b = append(binary.BigEndian.AppendUint32(b, uint32(len(value))), value...)
	all := binary.BigEndian.AppendUint64(nil, uint64(offset))
	all = binary.BigEndian.AppendUint32(all, uint32(4+len(b)))
	all = binary.BigEndian.AppendUint32(all, crc32.ChecksumIEEE(b))
	return append(all, b...)
}

// Old brokers send old formats.
func TestOldFormats(t *testing.T) {
	var inner bytes.Buffer
	w := compress.Gzip.Codec().NewWriter(&inner)
	for i := range int64(3) {
		w.Write(rawMessage(i, 1, 0, 100+i, []byte{byte(i)}))
	}
	w.Close()
	raw := slices.Concat(
		rawMessage(4, 0, 0, 0, []byte("a")),
		rawMessage(5, 1, 0, 77, []byte("b")),
		rawMessage(8, 1, 1, 103, inner.Bytes()),    // 6, 7 and 8
		rawMessage(11, 1, 1|8, 900, inner.Bytes()), // 9, 10 and 11
		data(12, 12).bytes(t),
		rawMessage(13, 1, 0, 78, []byte("c"))[:20],
	)
	b, err := readBatches(setOfBytes(t, raw), nil, "t", 0, 4)
	if err != nil || b.next != 13 || len(b.records) != 9 {
		t.Fatalf("%d records, next %d, %v", len(b.records), b.next, err)
	}
	var times []int64
	for i, r := range b.records {
		if r.Offset != int64(4+i) {
			t.Errorf("record %d at %d", i, r.Offset)
		}
		times = append(times, r.Time.UnixMilli())
	}
	if want := []int64{0, 77, 100, 101, 102, 900, 900, 900, 12}; !slices.Equal(times, want) {
		t.Errorf("times %v, want %v", times, want)
	}
}

// As much as one fetch brings.
func BenchmarkReadBatches(b *testing.B) {
	var raw []byte
	for i := range int64(20) {
		var all []int64
		for o := range int64(100) {
			all = append(all, 100*i+o)
		}
		raw = append(raw, data(100*i, all...).bytes(b)...)
	}
	b.ReportAllocs()
	for b.Loop() {
		got, err := readBatches(setOfBytes(b, raw), nil, "t", 0, 0)
		if err != nil || len(got.records) != 2000 {
			b.Fatal(len(got.records), err)
		}
	}
}
