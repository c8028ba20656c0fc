package consumer

import (
	"hash/maphash"

	"markread/consumer/batch"
)

// landmark is the last record that was delivered of a partition, by which its log is recognized.
//
// The protocol that kafka-go speaks has no ids of topics: a fetch names the topic, and is answered from a log
// that was deleted and made again as soon as that has grown beyond the old position. So a fetch that follows a
// failure or a pause begins one record earlier, at the landmark, and must find it there.
type landmark struct {
	known  bool
	offset int64
	print  uint64
}

var landmarkSeed = maphash.MakeSeed()

func landmarkAt(r batch.Record) landmark {
	var h maphash.Hash
	h.SetSeed(landmarkSeed)
	maphash.WriteComparable(&h, r.Time.UnixMilli())
	_, _ = h.Write(r.Key)
	_, _ = h.Write(r.Value)
	return landmark{known: true, offset: r.Offset, print: h.Sum64()}
}

// recognize takes what lies before position out of the first records that were fetched, and reports
// whether it is of the same log: the landmark and nothing else. The landmark itself may be gone, by
// compaction.
func (l landmark) recognize(records []batch.Record, position int64) (rest []batch.Record, same bool) {
	for len(records) > 0 && records[0].Offset < position {
		if landmarkAt(records[0]) != l {
			return nil, false
		}
		records = records[1:]
	}
	return records, true
}
