package consumer

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/segmentio/kafka-go/protocol"
	fetchapi "github.com/segmentio/kafka-go/protocol/fetch"
)

func recordsAt(offsets ...int64) protocol.RecordReader {
	var records []protocol.Record
	for _, o := range offsets {
		records = append(records, protocol.Record{Offset: o, Time: time.UnixMilli(o), Value: protocol.NewBytes([]byte{byte(o)})})
	}
	return protocol.NewRecordReader(records...)
}

func data(base int64, offsets ...int64) protocol.RecordReader {
	return &protocol.RecordBatch{BaseOffset: base, ProducerID: -1, Records: recordsAt(offsets...)}
}

func tx(producer, base int64, offsets ...int64) protocol.RecordReader {
	return &protocol.RecordBatch{BaseOffset: base, ProducerID: producer, Attributes: protocol.Transactional, Records: recordsAt(offsets...)}
}

func marker(producer, offset int64, kind int16) protocol.RecordReader {
	b := protocol.NewControlBatch(protocol.ControlRecord{Offset: offset, Type: kind})
	b.BaseOffset, b.ProducerID = offset, producer
	return b
}

func TestReadBatches(t *testing.T) {
	const abort, commit = 0, 1
	aborted := func(pairs ...int64) (all []fetchapi.ResponseTransaction) {
		for i := 0; i < len(pairs); i += 2 {
			all = append(all, fetchapi.ResponseTransaction{ProducerID: pairs[i], FirstOffset: pairs[i+1]})
		}
		return all
	}
	for name, c := range map[string]struct {
		offset  int64
		batches []protocol.RecordReader
		aborted []fetchapi.ResponseTransaction
		want    []int64
		next    int64
	}{
		"nothing":                            {offset: 7, next: 7},
		"one batch":                          {7, []protocol.RecordReader{data(7, 7, 8, 9)}, nil, []int64{7, 8, 9}, 10},
		"begins before":                      {8, []protocol.RecordReader{data(7, 7, 8, 9)}, nil, []int64{8, 9}, 10},
		"holes":                              {7, []protocol.RecordReader{data(5, 6, 9), data(20, 22)}, nil, []int64{9, 22}, 23},
		"compacted tail":                     {8, []protocol.RecordReader{data(5, 5, 7)}, nil, nil, 9},
		"emptied batch before":               {8, []protocol.RecordReader{data(5)}, nil, nil, 9},
		"emptied batch behind":               {8, []protocol.RecordReader{data(20)}, nil, nil, 21},
		"emptied batches between":            {8, []protocol.RecordReader{data(8), data(12), data(13), data(20, 21)}, nil, []int64{21}, 22},
		"emptied batch at the end":           {8, []protocol.RecordReader{data(8, 8), data(12)}, nil, []int64{8}, 13},
		"old format":                         {2, []protocol.RecordReader{&protocol.MessageSet{BaseOffset: 1, Records: recordsAt(1, 2, 3)}}, nil, []int64{2, 3}, 4},
		"marker":                             {5, []protocol.RecordReader{marker(1, 5, commit)}, nil, nil, 6},
		"marker before":                      {6, []protocol.RecordReader{marker(1, 5, commit)}, nil, nil, 7},
		"committed":                          {5, []protocol.RecordReader{tx(1, 5, 5, 6), marker(1, 7, commit)}, nil, []int64{5, 6}, 8},
		"aborted":                            {5, []protocol.RecordReader{tx(1, 5, 5, 6), marker(1, 7, abort)}, aborted(1, 5), nil, 8},
		"aborted, the answer begins within":  {6, []protocol.RecordReader{tx(1, 6, 6), marker(1, 7, abort), tx(1, 8, 8)}, aborted(1, 2), []int64{8}, 9},
		"aborted, the answer ends within":    {5, []protocol.RecordReader{tx(1, 5, 5, 6)}, aborted(1, 5), nil, 7},
		"aborted, then committed":            {5, []protocol.RecordReader{tx(1, 5, 5), marker(1, 6, abort), tx(1, 7, 7), marker(1, 8, commit)}, aborted(1, 5), []int64{7}, 9},
		"committed, then aborted":            {5, []protocol.RecordReader{tx(1, 5, 5), marker(1, 6, commit), tx(1, 7, 7), marker(1, 8, abort)}, aborted(1, 7), []int64{5}, 9},
		"aborted twice":                      {5, []protocol.RecordReader{tx(1, 5, 5), marker(1, 6, abort), tx(1, 7, 7), marker(1, 8, abort), data(9, 9)}, aborted(1, 7, 1, 5), []int64{9}, 10},
		"two producers":                      {5, []protocol.RecordReader{tx(1, 5, 5), tx(2, 6, 6), data(7, 7), marker(2, 8, commit), tx(1, 9, 9), marker(1, 10, abort)}, aborted(1, 5), []int64{6, 7}, 11},
		"no transaction of that producer":    {5, []protocol.RecordReader{data(5, 5), &protocol.RecordBatch{BaseOffset: 6, ProducerID: 1, Records: recordsAt(6)}}, aborted(1, 5), []int64{5, 6}, 7},
		"another producer's commit":          {5, []protocol.RecordReader{tx(1, 5, 5), marker(2, 6, commit), tx(1, 7, 7), marker(1, 8, abort)}, aborted(1, 5), nil, 9},
		"an aborted one that is not in here": {5, []protocol.RecordReader{tx(1, 5, 5)}, aborted(1, 6), []int64{5}, 6},
	} {
		t.Run(name, func(t *testing.T) {
			var set protocol.RecordSet
			if c.batches != nil {
				set.Records = &protocol.RecordStream{Records: c.batches}
			}
			b, err := readBatches(set, c.aborted, "topic", 3, c.offset)
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

// failing is a batch that breaks after some records.
type failing struct {
	protocol.RecordReader
	left int
}

var errBroken = errors.New("broken")

func (f *failing) ReadRecord() (*protocol.Record, error) {
	if f.left--; f.left < 0 {
		return nil, errBroken
	}
	return f.RecordReader.ReadRecord()
}

// What comes before a broken batch is delivered; then the fetch fails, and goes on failing: nothing is skipped.
func TestBrokenBatch(t *testing.T) {
	broken := func(left int) protocol.RecordSet {
		return protocol.RecordSet{Records: &protocol.RecordStream{Records: []protocol.RecordReader{
			&protocol.RecordBatch{BaseOffset: 5, Records: &failing{recordsAt(5, 6, 7), left}},
		}}}
	}
	if b, err := readBatches(broken(2), nil, "t", 0, 5); err != nil || len(b.records) != 2 || b.next != 7 {
		t.Errorf("got %d records, next %d, %v", len(b.records), b.next, err)
	}
	if b, err := readBatches(broken(0), nil, "t", 0, 5); !errors.Is(err, errBroken) || b.next != 5 {
		t.Errorf("next %d, %v", b.next, err)
	}
}

// A record without a timestamp (-1) has none; 1970 is one.
func TestTimestamps(t *testing.T) {
	for ms, none := range map[int64]bool{-1: true, 0: false, 1: false} {
		set := protocol.RecordSet{Records: &protocol.RecordStream{Records: []protocol.RecordReader{
			&protocol.RecordBatch{Records: protocol.NewRecordReader(protocol.Record{Time: time.UnixMilli(ms)})},
		}}}
		b, err := readBatches(set, nil, "t", 0, 0)
		if err != nil || b.records[0].Time.IsZero() != none {
			t.Errorf("%d: %v, %v", ms, b.records, err)
		}
	}
}
