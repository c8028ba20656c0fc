package backlog

import (
	"strings"
	"time"
)

const (
	rememberFor  = 10 * time.Minute
	rememberMost = 1_000_000
)

// Memory knows what was last applied, so that an event that is covered already costs no call. It is
// bounded, and it forgets: a deliberate repair, which needs the call, must not be suppressed for
// long. The zero value is not ready; use NewMemory.
type Memory struct {
	applied map[string]success
	order   []remembered // oldest first; entries that a later success replaced are skipped
	head    int
	most    int
}

type success struct {
	readTime int64
	at       time.Time
}

type remembered struct {
	id string
	at time.Time
}

// NewMemory returns an empty memory.
func NewMemory() *Memory { return &Memory{applied: map[string]success{}, most: rememberMost} }

// Remember notes that readTime was applied for the conversation.
func (m *Memory) Remember(now time.Time, id string, readTime int64) {
	m.forget(now)
	id = strings.Clone(id) // a part of the payload, which must go
	m.applied[id] = success{readTime, now}
	m.order = append(m.order, remembered{id, now})
}

// Covers reports whether readTime or a later time was applied for the conversation recently.
func (m *Memory) Covers(now time.Time, id string, readTime int64) bool {
	s, ok := m.applied[id]
	return ok && readTime <= s.readTime && now.Sub(s.at) < rememberFor
}

// forget drops what is too old, and the oldest when there is too much.
func (m *Memory) forget(now time.Time) {
	for m.head < len(m.order) {
		oldest := m.order[m.head]
		if now.Sub(oldest.at) < rememberFor && len(m.order)-m.head < m.most {
			break
		}
		if s := m.applied[oldest.id]; s.at.Equal(oldest.at) {
			delete(m.applied, oldest.id)
		}
		m.order[m.head] = remembered{}
		m.head++
	}
	if m.head > len(m.order)/2 {
		m.order = append(m.order[:0], m.order[m.head:]...)
		m.head = 0
	}
}
