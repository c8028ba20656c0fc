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

// fingerprint identifies a partition's log by the last record that was delivered from it.
//
// The protocol version that kafka-go uses has no topic ids: a fetch names the topic. Once a
// recreated log has grown beyond the old position, a broker returns records of the new log without
// any error. So a fetch after a failure or a pause starts one record earlier, at the fingerprint,
// and must find that record there.
type fingerprint struct {
	known  bool
	offset int64
	hash   uint64
}

var fingerprintSeed = maphash.MakeSeed()

// fingerprintOf returns the fingerprint of a record: a hash of its time, key and value.
func fingerprintOf(r batch.Record) fingerprint {
	var h maphash.Hash
	h.SetSeed(fingerprintSeed)
	maphash.WriteComparable(&h, r.Time.UnixMilli())
	_, _ = h.Write(r.Key)
	_, _ = h.Write(r.Value)
	return fingerprint{known: true, offset: r.Offset, hash: h.Sum64()}
}

// strip removes the records before position from the first fetched records. It returns true if
// these are only the fingerprint, or if compaction has removed the fingerprint; false: another log.
func (l fingerprint) strip(records []batch.Record, position int64) ([]batch.Record, bool) {
	for len(records) > 0 && records[0].Offset < position {
		if fingerprintOf(records[0]) != l {
			return nil, false
		}
		records = records[1:]
	}
	return records, true
}

// checkInherited discards the commit metadata if it is about another log than this one.
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
		Msg("commit metadata is ignored: the partition no longer has the event that was " +
			"committed at this offset; some calls may be repeated")
	return nil
}

// hasEvent reports whether the log has an event with this time at the offset, or had one until
// retention deleted it.
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
	e := event.Decode(r, now)
	return eventTime(&e, now).UnixMilli() == at.UnixMilli(), nil
}
