package offsets

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math"
	"time"
)

// The commit metadata is a text that is committed with the offset. It saves the next owner repeated
// work: it lists which events beyond the offset have finished, and how many attempts the others
// had. It is base64, because Kafka treats metadata as text, of
//
//	version (1 byte), CRC-32 of offset and rest (4, big endian), fingerprint (2 uvarints), spans
//
// The fingerprint is the last event that the metadata is about: the distance of its offset from the
// committed one, and its time in milliseconds. A recreated topic, or a log that was truncated and
// written again, has a different event there; the metadata must then be ignored. A span is two
// uvarints: gap<<1 and length for a run of finished events, gap<<1|1 and attempts for an unfinished
// event. The gap is in offsets, from the end of the previous span or the committed offset. Spans
// that don't fit are omitted, from the highest offset down; their events are repeated.
const (
	metadataVersion = 1
	headerLength    = 1 + 4
	maxText         = 4096 // Kafka's default limit (offset.metadata.max.bytes)
)

// span is a run of finished events, or one event that has not finished and has had attempts.
type span struct {
	from, to int64 // offsets; to is exclusive
	attempts int   // 0: finished
}

// fingerprint is an event that identifies a log.
type fingerprint struct{ offset, at int64 } // milliseconds since 1970

// ErrMetadata is returned for metadata that was not written by this package, is damaged, or is
// impossible.
var ErrMetadata = errors.New("the commit metadata can't be read")

// Inherit decodes the metadata that was committed with the offset at which t starts. It must be
// called before Add; the caller must then check Fingerprint. Unreadable metadata is ignored and
// ErrMetadata returned: more events are repeated, none is lost.
func (t *Tracker) Inherit(text string) error {
	if text == "" {
		return nil
	}
	seen, spans, ok := decode(text, t.position)
	if !ok {
		return ErrMetadata
	}
	t.fingerprint, t.inherited = seen, spans
	return nil
}

// Fingerprint returns an event of the log that the inherited metadata is about; ok is false without
// any. If the log has a different event at this offset, or none, DiscardInherited must be called.
func (t *Tracker) Fingerprint() (offset int64, at time.Time, ok bool) {
	return t.fingerprint.offset, time.UnixMilli(t.fingerprint.at), len(t.inherited) > 0
}

// DiscardInherited drops the inherited metadata, because it is about another log.
func (t *Tracker) DiscardInherited() { t.inherited = nil }

// inherit returns what the previous owner knew of the next record.
func (t *Tracker) inherit(offset int64) (attempts int, finished bool) {
	for len(t.inherited) > 0 && t.inherited[0].to <= offset {
		t.inherited = t.inherited[1:]
	}
	if len(t.inherited) == 0 || offset < t.inherited[0].from {
		return 0, false
	}
	attempts = t.inherited[0].attempts
	return attempts, attempts == 0
}

// lastKnown returns the last event that metadata has a span for; zero: none.
func (t *Tracker) lastKnown() fingerprint {
	if n := len(t.inherited); n > 0 && t.inherited[n-1].to > t.position {
		return t.fingerprint
	}
	for n := t.end; n > t.first; {
		c := t.chunk(n - 1)
		from := max((n-1)&^chunkMask, t.first)
		for ; n > from && c.finished+c.attempted > 0; n-- {
			switch s := c.get(n - 1); {
			case s.offset < 0:
				return fingerprint{^s.offset, int64(s.state & maxTime)}
			case s.attempts() > 0:
				return fingerprint{s.offset, int64(s.state & maxTime)}
			}
		}
		n = from
	}
	return fingerprint{}
}

// metadata encodes what is known of the events beyond the committable offset, in at most limit
// bytes. It returns "" if nothing is known.
func (t *Tracker) metadata(limit int) string {
	e := encoder{end: t.Committable(), limit: base64.RawStdEncoding.DecodedLen(limit)}
	e.b = make([]byte, headerLength, headerLength+2*binary.MaxVarintLen64)
	last := t.lastKnown()
	e.b = binary.AppendUvarint(binary.AppendUvarint(e.b, uint64(max(0, last.offset-e.end))),
		uint64(last.at))
	head := len(e.b)
	for n := t.first; n < t.end && !e.full; {
		c := t.chunk(n)
		last := min(n|chunkMask+1, t.end) // end of the chunk, exclusive
		switch {
		case n&chunkMask == 0 && c.finished == int(last-n):
			e.addRun(^c.get(0).offset, ^c.get(last-1).offset+1)
		case c.finished > 0 || c.attempted > 0:
			for ; n < last; n++ {
				e.slot(c.get(n))
			}
		default:
			e.flush()
		}
		n = last
	}
	for _, s := range t.inherited {
		if s.from = max(s.from, t.position); s.from < s.to {
			e.add(s)
		}
	}
	e.flush()
	if len(e.b) == head {
		return ""
	}
	e.b[0] = metadataVersion
	binary.BigEndian.PutUint32(e.b[1:], checksum(t.Committable(), e.b[headerLength:]))
	return base64.RawStdEncoding.EncodeToString(e.b)
}

// checksum covers the offset, too: metadata that was copied to another offset, for instance from
// another cluster, is invalid.
func checksum(offset int64, b []byte) uint32 {
	return crc32.Update(crc32.ChecksumIEEE(binary.BigEndian.AppendUint64(nil, uint64(offset))),
		crc32.IEEETable, b)
}

// encoder writes spans in the order of their offsets, and joins runs without an unfinished event
// between them.
type encoder struct {
	b     []byte
	limit int
	end   int64 // of the last written span
	run   span  // a run not written yet; from == to: none
	full  bool
}

func (e *encoder) slot(s slot) {
	switch {
	case s.offset < 0:
		e.addRun(^s.offset, ^s.offset+1)
	case s.attempts() > 0:
		e.add(span{s.offset, s.offset + 1, s.attempts()})
	default:
		e.flush()
	}
}

// addRun appends a run of finished events to the previous run. Offsets between them hold no events.
func (e *encoder) addRun(from, to int64) {
	if e.run.from == e.run.to {
		e.run.from = from
	}
	e.run.to = to
}

func (e *encoder) add(s span) {
	if s.attempts == 0 {
		if e.run.to < s.from {
			e.flush() // an unfinished event may lie between
		}
		e.addRun(s.from, s.to)
		return
	}
	e.flush()
	e.write(s)
}

func (e *encoder) flush() {
	if e.run.from < e.run.to {
		e.write(e.run)
	}
	e.run = span{}
}

func (e *encoder) write(s span) {
	gap, value := uint64(s.from-e.end)<<1, uint64(s.to-s.from)
	if s.attempts > 0 {
		gap, value = gap|1, uint64(s.attempts)
	}
	before := len(e.b)
	e.b = binary.AppendUvarint(binary.AppendUvarint(e.b, gap), value)
	if e.full = e.full || len(e.b) > e.limit; e.full {
		e.b = e.b[:before]
	}
	e.end = s.to
}

// decode decodes metadata that was committed with an offset; ok is false if it is invalid.
//
// The checksum is not a secret: anyone who may commit for the group can write any metadata. So no
// span may lie beyond the fingerprint, and the fingerprint must be an event of the log
// (Fingerprint). Events that were written later are therefore never taken for finished.
func decode(text string, offset int64) (seen fingerprint, spans []span, ok bool) {
	if offset < 0 || len(text) > maxText {
		return fingerprint{}, nil, false
	}
	b, err := base64.RawStdEncoding.Strict().DecodeString(text)
	if err != nil || len(b) < headerLength || b[0] != metadataVersion ||
		binary.BigEndian.Uint32(b[1:]) != checksum(offset, b[headerLength:]) {
		return fingerprint{}, nil, false
	}
	b = b[headerLength:]
	next := func() uint64 {
		v, n := binary.Uvarint(b)
		if n <= 0 {
			b, ok = nil, false
			return 0
		}
		b = b[n:]
		return v
	}
	ok = true
	distance, at := next(), next()
	if !ok || at > maxTime || distance >= math.MaxInt64-uint64(offset) {
		return fingerprint{}, nil, false
	}
	limit := uint64(offset) + distance + 1
	for end := uint64(offset); len(b) > 0; {
		gap, value := next(), next()
		length, attempts := value, uint64(0)
		if gap&1 == 1 {
			length, attempts = 1, value
		}
		// These comparisons can't overflow.
		if !ok || value == 0 || attempts > maxAttempts || gap>>1 > limit-end ||
			length > limit-end-gap>>1 {
			return fingerprint{}, nil, false
		}
		from := end + gap>>1
		end = from + length
		spans = append(spans, span{int64(from), int64(end), int(attempts)})
	}
	return fingerprint{offset + int64(distance), int64(at)}, spans, true
}

// Finished returns how many offsets from c.Offset to end (exclusive) have finished, according to
// the metadata. It returns 0 for invalid metadata. Holes inside a run of finished events count.
func (c Commit) Finished(end int64) int64 {
	if c.Metadata == "" || c.Offset < 0 {
		return 0
	}
	_, spans, _ := decode(c.Metadata, c.Offset)
	return finished(spans, end)
}

// KnownFinished returns how many offsets from Position to end (exclusive), which were not read yet,
// are known to have finished.
func (t *Tracker) KnownFinished(end int64) int64 {
	return finished(t.inherited, end) - finished(t.inherited, t.position)
}

// finished returns how many offsets before end have finished, according to the spans.
func finished(spans []span, end int64) (n int64) {
	for _, s := range spans {
		if s.attempts == 0 && s.from < end {
			n += min(s.to, end) - s.from
		}
	}
	return n
}
