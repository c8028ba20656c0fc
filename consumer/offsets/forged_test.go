package offsets

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"testing"
	"time"
)

// seal returns metadata with the payload and a correct checksum.
func seal(offset int64, payload []byte) string {
	b := append(make([]byte, headerLength), payload...)
	b[0] = metadataVersion
	binary.BigEndian.PutUint32(b[1:], checksum(offset, payload))
	return base64.RawStdEncoding.EncodeToString(b)
}

func uvarints(numbers ...uint64) (b []byte) {
	for _, n := range numbers {
		b = binary.AppendUvarint(b, n)
	}
	return b
}

// The checksum is not a secret. Metadata about offsets beyond the fingerprint is ignored. Otherwise
// events that were not even written yet would be skipped without being counted.
func TestForgedMetadata(t *testing.T) {
	const offset, at = 100, 1_700_000_000_000
	for name, c := range map[string]struct {
		offset int64
		text   string
		ok     bool
	}{
		"the fingerprint and those before": {offset, seal(offset, uvarints(9, at, 0, 10)), true},
		"attempts at the fingerprint": {offset,
			seal(offset, uvarints(9, at, 9<<1|1, maxAttempts)), true},
		"one more than the fingerprint": {offset, seal(offset, uvarints(9, at, 0, 11)), false},
		"beyond the fingerprint": {offset, seal(offset, uvarints(9, at, 10<<1, 1)),
			false},
		"attempts beyond the fingerprint": {offset, seal(offset, uvarints(9, at, 10<<1|1, 1)),
			false},
		"a second run beyond the fingerprint": {offset, seal(offset, uvarints(9, at, 0, 5, 2, 5)),
			false},
		"a huge run": {offset, seal(offset, uvarints(0, at, 0, 1<<46)),
			false},
		"the largest run": {offset, seal(offset, uvarints(0, at, 0, 1<<63)),
			false},
		"a run that wraps around": {offset,
			seal(offset, uvarints(9, at, 0, math.MaxUint64)), false},
		"a gap that wraps around": {offset,
			seal(offset, uvarints(9, at, math.MaxUint64-1, 1)), false},
		"a fingerprint that wraps around": {offset, seal(offset, uvarints(1<<63, at, 0, 1)),
			false},
		"many gaps that wrap around": {offset,
			seal(offset, uvarints(1<<62, at, 1<<63-2, 1<<62, 1<<63-2, 1<<62)), false},
		"too many attempts": {offset, seal(offset, uvarints(0, at, 1, 1<<40)),
			false},
		"no attempts":  {offset, seal(offset, uvarints(0, at, 1, 0)), false},
		"an empty run": {offset, seal(offset, uvarints(9, at, 0, 0)), false},
		"an impossible time": {offset,
			seal(offset, uvarints(0, math.MaxUint64, 0, 1)), false},
		"truncated":      {offset, seal(offset, uvarints(0, at, 0)), false},
		"no fingerprint": {offset, seal(offset, nil), false},
		"longer than Kafka accepts": {offset,
			seal(offset, slices.Repeat(uvarints(2, 1), 2000)), false},
		"before the first offset": {-1, seal(-1, uvarints(9, at, 2, 5)), false},
		"long before the first offset": {math.MinInt64,
			seal(math.MinInt64, uvarints(9, at, 2, 5)), false},
		"at the largest offset": {math.MaxInt64,
			seal(math.MaxInt64, uvarints(0, at, 0, 1)), false},
		"up to the largest offset": {math.MaxInt64 - 10,
			seal(math.MaxInt64-10, uvarints(9, at, 0, 10)), true},
	} {
		t.Run(name, func(t *testing.T) {
			tr := New(c.offset, c.offset)
			if err := tr.Inherit(c.text); (err == nil) != c.ok || err != nil &&
				!errors.Is(err, ErrMetadata) {
				t.Fatalf("%v, want ok: %v", err, c.ok)
			}
			if c.ok {
				return
			}
			if _, _, inherited := tr.Fingerprint(); inherited {
				t.Error("some of it is used")
			}
			if n := (Commit{Offset: c.offset, Metadata: c.text}).Finished(math.MaxInt64); n != 0 {
				t.Errorf("%d have finished", n)
			}
		})
	}
}

// With any metadata: the decoded spans lie between the offset and the fingerprint, in order.
// Finished counts no more offsets than the range has. The next owner commits the spans unchanged.
func FuzzCommitMetadata(f *testing.F) {
	one := New(100, 100)
	for n := range uint64(20) {
		one.Add(100+int64(n), time.UnixMilli(1_700_000_000_000))
		if n%3 != 0 {
			one.Finish(n)
		} else {
			one.Attempted(n, int(n))
		}
	}
	c, _ := one.Commit(4000)
	f.Add(c.Metadata, []byte(nil), int64(100), int64(110))
	f.Add("", uvarints(9, 1_700_000_000_000, 0, 5, 1, 3, 2, 1), int64(100), int64(103))
	f.Add("", uvarints(1<<62, 0, 0, 1<<46), int64(math.MaxInt64-1), int64(math.MaxInt64))
	f.Fuzz(func(t *testing.T, text string, payload []byte, offset, end int64) {
		if text == "" {
			text = seal(offset, payload)
		}
		seen, spans, ok := decode(text, offset)
		if !ok && len(spans) > 0 {
			t.Fatal("spans of invalid metadata")
		}
		last := offset
		for _, s := range spans {
			if s.from < last || s.to <= s.from || s.to-1 > seen.offset || s.attempts < 0 ||
				s.attempts > maxAttempts || s.attempts > 0 && s.to-s.from != 1 {
				t.Fatalf("%+v after %d, the fingerprint is %d", s, last, seen.offset)
			}
			last = s.to
		}
		if n := (Commit{Offset: offset, Metadata: text}).Finished(end); n < 0 || n > 0 &&
			n > end-offset {
			t.Fatalf("%d of %d to %d have finished", n, offset, end)
		}
		next := New(offset, offset)
		if err := next.Inherit(text); (err == nil) != ok || len(spans) == 0 {
			if (err == nil) != ok {
				t.Fatal(err)
			}
			return
		}
		again, _ := next.Commit(4000)
		seenAgain, spansAgain, ok := decode(again.Metadata, again.Offset)
		if !ok || again.Offset != offset || seenAgain != seen {
			t.Fatalf("committed again as %+v, the fingerprint %+v as %+v", again, seen, seenAgain)
		}
		want := joinRuns(spans)
		if len(text) < 3900 && len(spansAgain) != len(want) ||
			!slices.Equal(spansAgain, want[:len(spansAgain)]) {
			t.Fatalf("%v committed again as %v", want, spansAgain)
		}
	})
}

// joinRuns joins adjacent runs, as a tracker writes them.
func joinRuns(spans []span) (joined []span) {
	for _, s := range spans {
		if n := len(joined); n > 0 && s.attempts == 0 && joined[n-1].attempts == 0 &&
			joined[n-1].to == s.from {
			joined[n-1].to = s.to
			continue
		}
		joined = append(joined, s)
	}
	return joined
}
