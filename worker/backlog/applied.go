package backlog

import (
	"hash/maphash"
	"time"
)

const (
	rememberFor  = 10 * time.Minute
	rememberMost = 1_000_000
)

// AppliedTimes remembers which read time was last applied for each conversation, so that an event
// that is already covered costs no call. It is bounded and forgets: a deliberate repair, which
// needs the call, must not be suppressed for long. The zero value is not ready for use; use
// NewAppliedTimes.
type AppliedTimes struct {
	seeds     [2]maphash.Seed
	successes map[identity]success
	order     []remembered // oldest first; entries that a later success replaced are skipped
	head      int
	limit     int
	start     time.Time // of the first success
}

// identity identifies a conversation in 16 bytes without a pointer: a hash with random seeds, so
// that nobody can construct a collision. Chance collisions are negligible.
type identity [2]uint64

type success struct {
	readTime int64
	at       time.Duration // since start
}

type remembered struct {
	id identity
	at time.Duration // since start
}

// NewAppliedTimes returns AppliedTimes that remember nothing.
func NewAppliedTimes() *AppliedTimes {
	return &AppliedTimes{
		seeds:     [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()},
		successes: map[identity]success{}, limit: rememberMost,
	}
}

// hash returns the first half of the conversation's identity.
func (m *AppliedTimes) hash(id []byte) uint64 { return maphash.Bytes(m.seeds[0], id) }

func (m *AppliedTimes) identify(id []byte, hash uint64) identity {
	return identity{hash, maphash.Bytes(m.seeds[1], id)}
}

// remember notes that readTime was applied for the conversation.
func (m *AppliedTimes) remember(now time.Time, id []byte, readTime int64) {
	if m.start.IsZero() {
		m.start = now
	}
	at := now.Sub(m.start)
	m.forget(at)
	key := m.identify(id, m.hash(id))
	m.successes[key] = success{readTime, at}
	m.order = append(m.order, remembered{key, at})
}

// covers reports whether readTime or a later time was applied for the conversation recently. hash
// is the hash of id.
func (m *AppliedTimes) covers(now time.Time, id []byte, hash uint64, readTime int64) bool {
	if len(m.successes) == 0 {
		return false
	}
	s, ok := m.successes[m.identify(id, hash)]
	return ok && readTime <= s.readTime && now.Sub(m.start)-s.at < rememberFor
}

// Last returns the read time that was last applied for the conversation, and when; ok is false if
// none was, or none that is remembered.
func (m *AppliedTimes) Last(now time.Time, id []byte) (readTime int64, at time.Time, ok bool) {
	s, ok := m.successes[m.identify(id, m.hash(id))]
	if !ok || now.Sub(m.start)-s.at >= rememberFor {
		return 0, time.Time{}, false
	}
	return s.readTime, m.start.Add(s.at), true
}

// forget removes entries that are too old, and the oldest entries when there are too many.
func (m *AppliedTimes) forget(at time.Duration) {
	for m.head < len(m.order) {
		oldest := m.order[m.head]
		if at-oldest.at < rememberFor && len(m.order)-m.head < m.limit {
			break
		}
		if m.successes[oldest.id].at == oldest.at {
			delete(m.successes, oldest.id)
		}
		m.head++
	}
	if m.head > len(m.order)/2 {
		m.order = append(m.order[:0], m.order[m.head:]...)
		m.head = 0
	}
}
