package backlog

import (
	"strings"
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
	successes map[string]success
	order     []remembered // oldest first; entries that a later success replaced are skipped
	head      int
	limit     int
}

type success struct {
	readTime int64
	at       time.Time
}

type remembered struct {
	id string
	at time.Time
}

// NewAppliedTimes returns AppliedTimes that remember nothing.
func NewAppliedTimes() *AppliedTimes {
	return &AppliedTimes{successes: map[string]success{}, limit: rememberMost}
}

// Remember notes that readTime was applied for the conversation.
func (m *AppliedTimes) Remember(now time.Time, id string, readTime int64) {
	m.forget(now)
	id = strings.Clone(id) // id is part of the payload, which must not stay in memory
	m.successes[id] = success{readTime, now}
	m.order = append(m.order, remembered{id, now})
}

// Covers reports whether readTime or a later time was applied for the conversation recently.
func (m *AppliedTimes) Covers(now time.Time, id string, readTime int64) bool {
	s, ok := m.successes[id]
	return ok && readTime <= s.readTime && now.Sub(s.at) < rememberFor
}

// forget removes entries that are too old, and the oldest entries when there are too many.
func (m *AppliedTimes) forget(now time.Time) {
	for m.head < len(m.order) {
		oldest := m.order[m.head]
		if now.Sub(oldest.at) < rememberFor && len(m.order)-m.head < m.limit {
			break
		}
		if s := m.successes[oldest.id]; s.at.Equal(oldest.at) {
			delete(m.successes, oldest.id)
		}
		m.order[m.head] = remembered{}
		m.head++
	}
	if m.head > len(m.order)/2 {
		m.order = append(m.order[:0], m.order[m.head:]...)
		m.head = 0
	}
}
