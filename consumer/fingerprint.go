package consumer

import (
	"context"
	"errors"
	"hash/maphash"
	"time"

	"markread/consumer/batch"
	"markread/consumer/event"
	"markread/consumer/kafkaclient"

	"github.com/rs/zerolog"
)

// fingerprint is the last record that was delivered of a partition, by which its log is recognized.
//
// The protocol that kafka-go speaks has no topic ids: a fetch names the topic, and is answered from
// a recreated log as soon as that has grown beyond the old position. So a fetch that follows a
// failure or a pause begins one record earlier, at the fingerprint, and must find it there.
type fingerprint struct {
	known  bool
	offset int64
	hash   uint64
}

var fingerprintSeed = maphash.MakeSeed()

func fingerprintOf(r batch.Record) fingerprint {
	var h maphash.Hash
	h.SetSeed(fingerprintSeed)
	maphash.WriteComparable(&h, r.Time.UnixMilli())
	_, _ = h.Write(r.Key)
	_, _ = h.Write(r.Value)
	return fingerprint{known: true, offset: r.Offset, hash: h.Sum64()}
}

// recognize takes what lies before position out of the first records that were fetched. true: that
// is the fingerprint and nothing else, or it is gone, by compaction.
func (l fingerprint) strip(records []batch.Record, position int64) ([]batch.Record, bool) {
	for len(records) > 0 && records[0].Offset < position {
		if fingerprintOf(records[0]) != l {
			return nil, false
		}
		records = records[1:]
	}
	return records, true
}

// recognize disowns what was committed beside the offset if it is about another log than this.
func (p *partition) checkInherited(ctx context.Context) error {
	p.mu.Lock()
	offset, at, inherited := p.tracker.Fingerprint()
	p.mu.Unlock()
	if !inherited {
		return nil
	}
	same, err := p.hasEvent(ctx, offset, at)
	if err != nil || same {
		return err
	}
	p.mu.Lock()
	p.tracker.DiscardInherited()
	p.mu.Unlock()
	p.logEvent(zerolog.WarnLevel, offset).
		Msg("the log has another event there than when its offset was committed, or none: what " +
			"is committed beside the offset is ignored, and some calls may be repeated")
	return nil
}

// has reports whether the log has, or had until retention deleted it, an event of that time there.
func (p *partition) hasEvent(ctx context.Context, offset int64, at time.Time) (bool, error) {
	r, ok, err := p.g.client.FirstRecord(ctx, p.TopicPartition, offset, kafkaclient.Following)
	if errors.Is(err, kafkaclient.OffsetOutOfRange) {
		first, _, err := p.g.client.LogRange(ctx, p.Topic, p.Partition)
		return offset < first, err
	}
	if err != nil || !ok || r.Offset != offset {
		return false, err
	}
	now := p.g.now()
	return eventTime(event.Decode(r, now), now).UnixMilli() == at.UnixMilli(), nil
}
