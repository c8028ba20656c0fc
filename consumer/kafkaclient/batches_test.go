package kafkaclient

import (
	"bytes"
	"cmp"
	"hash/crc32"
	"slices"
	"testing"

	"github.com/segmentio/kafka-go/protocol"
	"github.com/twmb/franz-go/pkg/kmsg"

	"markread/consumer/batch"
	"markread/consumer/event"
)

// rawBatch is a batch as brokers send it, from base to last, with records at the offsets. Each
// record's value and time are its offset.
type rawBatch struct {
	base, last int64
	producer   int64
	attributes protocol.Attributes
	appended   int64
	offsets    []int64
	cut        int // bytes missing at the end
	extraCount int // records that the header claims beyond the existing ones
	crc        int32
}

func (b rawBatch) bytes(t testing.TB) []byte {
	t.Helper()
	var records []byte
	for _, o := range b.offsets {
		r := kmsg.Record{TimestampDelta64: o - 1000, OffsetDelta: int32(o - b.base),
			Value: []byte{byte(o)}}
		body := r.AppendTo(nil)
		r.Length = int32(len(body) - 1) // minus the varint of the length 0
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
		FirstOffset: b.base, PartitionLeaderEpoch: 7, Magic: 2, Attributes: int16(b.attributes),
		LastOffsetDelta: int32(b.last - b.base),
		FirstTimestamp:  1000, MaxTimestamp: b.appended, ProducerID: b.producer,
		NumRecords: int32(len(b.offsets) + b.extraCount), Records: records,
	}
	k.Length = int32(len(k.AppendTo(nil)) - 12)
	k.CRC = int32(crc32.Checksum(k.AppendTo(nil)[21:], crc32.MakeTable(crc32.Castagnoli))) + b.crc
	all := k.AppendTo(nil)
	return all[:len(all)-b.cut]
}

// fetchOf returns a fetch at offset that found these batches.
func fetchOf(t testing.TB, offset int64, aborted []abortedTransaction,
	batches ...rawBatch) *Fetched {
	t.Helper()
	var all []byte
	for _, b := range batches {
		all = append(all, b.bytes(t)...)
	}
	return fetchOfBytes(offset, aborted, all)
}

func fetchOfBytes(offset int64, aborted []abortedTransaction, all []byte) *Fetched {
	aborted = slices.SortedFunc(slices.Values(aborted),
		func(a, b abortedTransaction) int { return cmp.Compare(a.firstOffset, b.firstOffset) })
	return &Fetched{TopicPartition: event.TopicPartition{Topic: "topic", Partition: 3},
		fetchResponse: &fetchResponse{Records: all, aborted: aborted},
		lease:         &lease{memory: NewMemory(1<<20, 0)}, offset: offset, Next: offset,
		aborting: map[int64]bool{}}
}

// readAll returns all records of a fetch, and the offset to fetch next.
func readAll(f *Fetched) (records []event.Record, next int64, err error) {
	var d batch.Decoder
	for {
		chunk, err := f.Chunk(&d)
		if err != nil || len(chunk) == 0 {
			return records, f.Next, err
		}
		for _, r := range chunk {
			records = append(records, event.Record(r.Clone()))
		}
	}
}

func data(base int64, offsets ...int64) rawBatch {
	last := base
	if len(offsets) > 0 {
		last = offsets[len(offsets)-1]
	}
	return rawBatch{base: base, last: last, producer: -1, offsets: offsets}
}

// until returns the batch with another last offset: its last records were compacted away.
func (b rawBatch) until(last int64) rawBatch { b.last = last; return b }

func tx(producer, base int64, offsets ...int64) rawBatch {
	b := data(base, offsets...)
	b.producer, b.attributes = producer, protocol.Transactional
	return b
}

func marker(producer, offset int64) rawBatch {
	return rawBatch{base: offset, last: offset, producer: producer,
		attributes: protocol.Transactional | protocol.Control, offsets: []int64{offset}}
}

func TestReadBatches(t *testing.T) {
	aborted := func(pairs ...int64) (all []abortedTransaction) {
		for i := 0; i < len(pairs); i += 2 {
			all = append(all, abortedTransaction{producer: pairs[i], firstOffset: pairs[i+1]})
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
		"nothing": {offset: 7, next: 7},
		"one batch": {7, []rawBatch{data(7, 7, 8, 9)}, nil,
			[]int64{7, 8, 9}, 10},
		"begins before": {8, []rawBatch{data(7, 7, 8, 9)}, nil, []int64{8, 9},
			10},
		"holes": {7, []rawBatch{data(5, 6, 9), data(20, 22)}, nil,
			[]int64{9, 22}, 23},
		"compacted tail": {8, []rawBatch{data(5, 5, 7).until(11)}, nil, nil,
			12},
		"compacted tails": {5, []rawBatch{data(5, 5, 7).until(11), data(12, 13).
			until(20)}, nil, []int64{5, 7, 13}, 21},
		"emptied batch":        {8, []rawBatch{data(5).until(8)}, nil, nil, 9},
		"emptied batch behind": {8, []rawBatch{data(20).until(22)}, nil, nil, 23},
		"emptied batches between": {8,
			[]rawBatch{data(8), data(12), data(13), data(20, 21)}, nil, []int64{21}, 22},
		"emptied batch at the end": {8, []rawBatch{data(8, 8), data(12).until(19)}, nil,
			[]int64{8}, 20},
		"the last is truncated": {7, []rawBatch{data(7, 7, 8, 9),
			{base: 10, last: 11, offsets: []int64{10, 11}, cut: 1}}, nil, []int64{7, 8, 9}, 10},
		"hardly anything of the last": {7, []rawBatch{data(7, 7, 8, 9),
			{base: 10, last: 10, offsets: []int64{10}, cut: 65}}, nil, []int64{7, 8, 9}, 10},
		"marker": {5, []rawBatch{marker(1, 5)}, nil, nil, 6},
		"marker at the end": {5, []rawBatch{data(5, 5), marker(1, 6)}, nil,
			[]int64{5}, 7},
		"committed": {5, []rawBatch{tx(1, 5, 5, 6), marker(1, 7)}, nil,
			[]int64{5, 6}, 8},
		"aborted": {5, []rawBatch{tx(1, 5, 5, 6), marker(1, 7)},
			aborted(1, 5), nil, 8},
		"aborted, compacted": {5, []rawBatch{tx(1, 5, 7).until(9), marker(1, 12)},
			aborted(1, 6), nil, 13},
		"aborted, the response begins within": {6,
			[]rawBatch{tx(1, 6, 6), marker(1, 7), tx(1, 8, 8)}, aborted(1, 2), []int64{8}, 9},
		"aborted, the response ends within": {5, []rawBatch{tx(1, 5, 5, 6)}, aborted(1, 5), nil,
			7},
		"aborted, then committed": {5, []rawBatch{tx(1, 5, 5), marker(1, 6), tx(1, 7, 7),
			marker(1, 8)}, aborted(1, 5), []int64{7}, 9},
		"committed, then aborted": {5, []rawBatch{tx(1, 5, 5), marker(1, 6), tx(1, 7, 7),
			marker(1, 8)}, aborted(1, 7), []int64{5}, 9},
		"aborted twice": {5, []rawBatch{tx(1, 5, 5), marker(1, 6), tx(1, 7, 7),
			marker(1, 8), data(9, 9)}, aborted(1, 7, 1, 5), []int64{9}, 10},
		"two producers": {5, []rawBatch{tx(1, 5, 5), tx(2, 6, 6), data(7, 7),
			marker(2, 8), tx(1, 9, 9), marker(1, 10)}, aborted(1, 5), []int64{6, 7}, 11},
		"no transaction of that producer": {5, []rawBatch{data(5, 5),
			{base: 6, last: 6, producer: 1, offsets: []int64{6}}}, aborted(1, 5), []int64{5, 6}, 7},
		"another producer's commit": {5, []rawBatch{tx(1, 5, 5), marker(2, 6), tx(1, 7, 7),
			marker(1, 8)}, aborted(1, 5), nil, 9},
		"an aborted one that is not in the response": {5, []rawBatch{tx(1, 5, 5)}, aborted(1, 6),
			[]int64{5}, 6},
	} {
		t.Run(name, func(t *testing.T) {
			records, next, err := readAll(fetchOf(t, c.offset, c.aborted, c.batches...))
			if err != nil {
				t.Fatal(err)
			}
			var got []int64
			for _, r := range records {
				got = append(got, r.Offset)
				if r.Topic != "topic" || r.Partition != 3 ||
					string(r.Value) != string([]byte{byte(r.Offset)}) ||
					r.Time.UnixMilli() != r.Offset || r.Key != nil {
					t.Errorf("record %+v", r)
				}
			}
			if !slices.Equal(got, c.want) || next != c.next {
				t.Errorf("got %v, next %d; want %v, next %d", got, next, c.want, c.next)
			}
		})
	}
}

// BenchmarkReadBatches decodes as many records as one fetch returns.
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
	var d batch.Decoder
	for b.Loop() {
		n := 0
		for f := fetchOfBytes(0, nil, raw); ; {
			records, err := f.Chunk(&d)
			if err != nil {
				b.Fatal(err)
			}
			if n += len(records); len(records) == 0 {
				break
			}
		}
		if n != 2000 {
			b.Fatal(n)
		}
	}
}
