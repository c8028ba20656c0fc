package offsets

import (
	"encoding/base64"
	"errors"
	"maps"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// known is the state of a partition's events: which offsets have finished, and the attempts of the
// others.
type known struct {
	finished map[int64]bool
	attempts map[int64]int
}

func (k known) clone() known { return known{maps.Clone(k.finished), maps.Clone(k.attempts)} }

// A sequence of owners, each after a crash of the previous one. An owner knows what the previous
// one committed: all of it when it fit into the metadata, and never more.
func TestInherit(t *testing.T) {
	begin := time.UnixMilli(1_700_000_000_000)
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 2))
		var log []int64
		for offset := int64(r.IntN(1000)); len(log) < 1+r.IntN(3*chunkSize); offset++ {
			if r.IntN(20) == 0 {
				offset += int64(r.IntN(10)) // compacted away, or a marker
			}
			log = append(log, offset)
		}
		limit := 4000
		if seed%3 == 0 {
			limit = 10 + r.IntN(60)
		}
		var committed Commit
		committed.Offset = log[0]
		truth := known{map[int64]bool{}, map[int64]int{}}
		for owner := range 6 {
			tr := New(committed.Offset, committed.Offset)
			if err := tr.Inherit(committed.Metadata); err != nil {
				t.Fatalf("seed %d, owner %d: %v", seed, owner, err)
			}
			now := truth.clone() // what this owner knows
			var refs []uint64
			var offsets []int64
			next := 0
			for log[next] < committed.Offset {
				if next++; next == len(log) {
					break
				}
			}
			whole := limit == 4000 && len(committed.Metadata) < limit-40
			for range r.IntN(60) {
				switch r.IntN(4) {
				case 0: // it continues reading
					for range min(r.IntN(1+len(log)/4), len(log)-next) {
						offset := log[next]
						n, attempts, finished := tr.Add(offset,
							begin.Add(time.Duration(offset)*time.Millisecond))
						if finished && !truth.finished[offset] || attempts > 0 &&
							attempts != truth.attempts[offset] {
							t.Fatalf("seed %d, owner %d: offset %d finished %v, %d attempts; "+
								"this is wrong", seed, owner, offset, finished, attempts)
						}
						if whole && (finished != truth.finished[offset] || !finished &&
							attempts != truth.attempts[offset]) {
							t.Fatalf("seed %d, owner %d: offset %d finished %v, %d attempts; "+
								"want %v, %d", seed, owner, offset, finished, attempts,
								truth.finished[offset], truth.attempts[offset])
						}
						if !finished {
							delete(now.finished, offset)
							refs, offsets = append(refs, n), append(offsets, offset)
						}
						next++
					}
				case 1, 2: // events finish, or fail
					few := r.IntN(3) == 0
					for i := range refs {
						if few && r.IntN(50) > 0 || r.IntN(3) > 0 || now.finished[offsets[i]] {
							continue
						}
						if r.IntN(4) == 0 {
							now.attempts[offsets[i]]++
							tr.Attempted(refs[i], now.attempts[offsets[i]])
						} else {
							tr.Finish(refs[i])
							now.finished[offsets[i]] = true
						}
					}
				case 3: // it commits
					c, changed := tr.Commit(limit)
					if len(c.Metadata) > limit {
						t.Fatalf("seed %d: %d bytes, the limit is %d", seed, len(c.Metadata), limit)
					}
					if !changed && c.Offset != committed.Offset {
						t.Fatalf("seed %d: not changed, but another commit", seed)
					}
					tr.Accept(c)
					if _, changed = tr.Commit(limit); changed {
						t.Fatalf("seed %d: changed after an accepted commit", seed)
					}
					committed, truth = c, now.clone()
				}
			}
		}
	}
}

// Metadata has space for about 700 unfinished events, half of them with attempts, with finished
// events between them: stuck conversations in live traffic.
func TestMetadataHoldsManyGaps(t *testing.T) {
	tr := New(1_000_000, 1_000_000)
	const gaps = 700
	for n := range uint64(gaps * 20) {
		tr.Add(int64(1_000_000+n), time.UnixMilli(1_700_000_000_000))
		if n%20 != 0 {
			tr.Finish(n)
		} else if n%40 == 0 {
			tr.Attempted(n, 5)
		}
	}
	c, _ := tr.Commit(4000)
	_, spans, ok := decode(c.Metadata, c.Offset)
	last := spans[len(spans)-1]
	t.Logf("%d bytes; %d spans reach %d gaps far", len(c.Metadata), len(spans),
		(last.to-c.Offset)/20)
	if !ok || (last.to-c.Offset)/20 < 600 {
		t.Errorf("they reach %d gaps far", (last.to-c.Offset)/20)
	}
}

// Metadata that was not written by markread, is damaged, or is about another log is ignored.
func TestMetadataOfOthersIsIgnored(t *testing.T) {
	at := time.UnixMilli(1_700_000_000_000)
	one := New(100, 100)
	for n := range uint64(50) {
		one.Add(100+int64(n), at.Add(time.Duration(n)*time.Millisecond))
		if n%7 != 0 {
			one.Finish(n)
		}
	}
	c, _ := one.Commit(4000)
	for i := range c.Metadata {
		changed := c.Metadata[:i] + string(c.Metadata[i]^1) + c.Metadata[i+1:]
		for _, text := range []string{c.Metadata[:i], changed} {
			if text == "" {
				continue
			}
			next := New(100, 100)
			if err := next.Inherit(text); !errors.Is(err, ErrMetadata) {
				t.Fatalf("%q: %v", text, err)
			}
			if _, _, finished := next.Add(101, at); finished {
				t.Fatalf("%q is used", text)
			}
		}
	}
	for _, text := range []string{"", "some note", strings.Repeat("A", 4000),
		base64.RawStdEncoding.EncodeToString([]byte{2, 0, 0, 0, 0}), "\uFFFD\uFFFD"} {
		next := New(100, 100)
		if err := next.Inherit(text); (text == "") != (err == nil) {
			t.Errorf("%.20q: %v", text, err)
		}
	}
	otherOffset := New(101, 101)
	if err := otherOffset.Inherit(c.Metadata); !errors.Is(err, ErrMetadata) {
		t.Errorf("metadata that was copied to another offset: %v", err)
	}
	other := New(100, 100)
	if err := other.Inherit(c.Metadata); err != nil {
		t.Fatal(err)
	}
	if offset, when, ok := other.Fingerprint(); !ok || offset != 148 ||
		!when.Equal(at.Add(48*time.Millisecond)) {
		t.Errorf("the fingerprint is %d at %v, %v", offset, when, ok)
	}
	other.DiscardInherited()
	other.Add(100, at)
	if _, _, finished := other.Add(101, at); finished {
		t.Error("discarded metadata is used")
	}
	if c, _ := other.Commit(4000); c.Metadata != "" {
		t.Errorf("discarded metadata is committed: %q", c.Metadata)
	}
}

// The fingerprint is the last event that the metadata is about, even if an owner has not read that
// far, or the metadata has no space for all spans.
func TestFingerprint(t *testing.T) {
	at := func(offset int64) time.Time { return time.UnixMilli(1_700_000_000_000 + offset) }
	add := func(tr *Tracker, n int64) {
		for offset := tr.Position(); offset < n; offset++ {
			tr.Add(offset, at(offset))
		}
	}
	one := New(0, 0)
	add(&one, 9000)
	if c, _ := one.Commit(4000); c.Metadata != "" {
		t.Errorf("nothing is known, and %q is committed", c.Metadata)
	}
	for _, step := range []struct {
		finish, attempt int64
		want            int64
	}{{5, -1, 5}, {8999, -1, 8999}, {-1, 3, 8999}} {
		if step.finish >= 0 {
			one.Finish(uint64(step.finish))
		} else {
			one.Attempted(uint64(step.attempt), 2)
		}
		for _, limit := range []int{4000, 20} {
			c, _ := one.Commit(limit)
			next := New(c.Offset, c.Offset)
			if err := next.Inherit(c.Metadata); err != nil {
				t.Fatal(err)
			}
			add(&next, 1000) // not as far as the fingerprint
			if c, _ = next.Commit(4000); limit == 20 {
				continue // it has read all spans
			}
			third := New(c.Offset, c.Offset)
			_ = third.Inherit(c.Metadata)
			if offset, when, ok := third.Fingerprint(); !ok || offset != step.want &&
				step.want > 1000 || !when.Equal(at(offset)) {
				t.Errorf("%+v, limit %d: the fingerprint is %d at %v, %v", step, limit, offset,
					when, ok)
			}
		}
	}
	tried := New(0, 0)
	add(&tried, 100)
	tried.Attempted(7, 1)
	c, _ := tried.Commit(4000)
	next := New(0, 0)
	_ = next.Inherit(c.Metadata)
	if offset, _, ok := next.Fingerprint(); !ok || offset != 7 {
		t.Errorf("of an event with attempts: %d, %v", offset, ok)
	}
}

// The metadata of one commit while eight million events wait behind one.
func BenchmarkMetadata(b *testing.B) {
	tr := New(0, 0)
	for n := range uint64(8_000_000) {
		tr.Add(int64(n), time.UnixMilli(1_700_000_000_000))
		if n >= 7_900_000 {
			tr.Finish(n)
		}
	}
	for b.Loop() {
		tr.metadata(4000)
	}
}
