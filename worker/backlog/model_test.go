package backlog

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// model is a backlog without regard for time and memory: a list of events, and for each
// conversation what was applied.
type model struct {
	events  map[uint64]Event
	sent    map[string]int64           // T of the call in flight
	waited  map[string]map[uint64]bool // events that it was sent for
	applied map[string]int64
}

// eventsOf returns how many events of a conversation there are, and the one that a dead letter
// would contain.
func (m *model) eventsOf(id string) (n int, largest Event) {
	for _, e := range m.events {
		if string(e.id()) == id {
			n++
			if e.ReadTime > largest.ReadTime || e.ReadTime == largest.ReadTime &&
				e.Ref > largest.Ref {
				largest = e
			}
		}
	}
	return n, largest
}

// Random histories: what is settled, sent and left must be equal to the model, step by step.
func TestAgainstTheModel(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 7))
		b := New(NewAppliedTimes(), start)
		m := model{map[uint64]Event{}, map[string]int64{}, map[string]map[uint64]bool{},
			map[string]int64{}}
		var inFlight []*Conversation
		now := start
		conversations := 1 + r.IntN(12)
		for step := range uint64(400) {
			fail := func(format string, args ...any) {
				t.Helper()
				t.Fatalf("seed %d, step %d: %s", seed, step, fmt.Sprintf(format, args...))
			}
			now = now.Add(time.Duration(r.IntN(100)) * time.Millisecond)
			switch action := r.IntN(10); {
			case action < 5:
				e := Event{Payload: fmt.Append(nil, r.IntN(conversations), "#", 1<<r.IntN(60), "#",
					step), Lane: r.IntN(2),
					ReadTime: 1 + r.Int64N(50), Ref: step + 1}
				e.IDLen = uint8(bytes.IndexByte(e.Payload, '#'))
				kept := b.Add(now, e)
				if covered := m.applied[string(e.id())] >= e.ReadTime; kept == covered {
					fail("event at %d kept: %v; %d was applied", e.ReadTime, kept,
						m.applied[string(e.id())])
				}
				if kept {
					m.events[e.Ref] = e
				}
			case action < 8:
				c := b.Take(now, all, 100)
				if c == nil {
					continue
				}
				if _, already := m.sent[c.ID()]; already {
					fail("two calls of conversation %s are in flight", c.ID())
				}
				largest, waited := int64(0), map[uint64]bool{}
				for _, e := range m.events {
					if string(e.id()) == c.ID() {
						largest = max(largest, e.ReadTime)
						waited[e.Ref] = true
					}
				}
				if c.ReadTime() != largest {
					fail("sends %d, the largest T is %d", c.ReadTime(), largest)
				}
				m.sent[c.ID()], m.waited[c.ID()] = largest, waited
				inFlight = append(inFlight, c)
			default:
				if len(inFlight) == 0 {
					continue
				}
				i := r.IntN(len(inFlight))
				c := inFlight[i]
				id := c.ID()
				inFlight = append(inFlight[:i], inFlight[i+1:]...)
				sent := m.sent[id]
				delete(m.sent, id)
				switch r.IntN(4) {
				case 0:
					b.Retry(c, now.Add(time.Duration(r.IntN(1000))*time.Millisecond))
				case 1:
					d := b.Drop(c)
					n, largest := m.eventsOf(id)
					if d.Refs.Len() != n || !bytes.Equal(d.Payload, largest.Payload) ||
						d.ReadTime != largest.ReadTime {
						fail("dropped %d events with payload %v of %d, want %d with %v",
							d.Refs.Len(), d.Payload, d.ReadTime, n, largest)
					}
					for ref := range d.Refs.All() {
						if string(m.events[ref].id()) != id {
							fail("dropped event %d of conversation %q", ref, string(m.events[ref].id()))
						}
						delete(m.events, ref)
					}
				default:
					s := b.Succeeded(now, c)
					for j, ref := range list(s.Refs) {
						e, ok := m.events[ref]
						if !ok || string(e.id()) != id || e.ReadTime > sent {
							fail("settled %+v, which a call up to %d doesn't cover", e, sent)
						}
						if m.waited[id][ref] != (j < s.Sent) {
							fail("event %d: waited for the call: %v", ref, j >= s.Sent)
						}
						delete(m.events, ref)
					}
					for _, e := range m.events {
						if string(e.id()) == id && e.ReadTime <= sent {
							fail("event %+v is covered by %d and was not settled", e, sent)
						}
					}
					if !m.waited[id][s.Applied] {
						fail("event %d is said to be applied", s.Applied)
					}
					m.applied[id] = max(m.applied[id], sent)
				}
			}
			if events(b) != len(m.events) {
				fail("%d events, the model has %d", events(b), len(m.events))
			}
			flying := map[*Conversation]bool{}
			for _, c := range b.flying {
				flying[c] = c.InFlight()
			}
			for _, c := range inFlight {
				if !flying[c] || len(b.flying) != len(inFlight) {
					fail("%d calls are in flight, the model has %d", len(b.flying), len(inFlight))
				}
			}
			ids := map[string]bool{}
			for _, e := range m.events {
				ids[string(e.id())] = true
			}
			bytes := 0
			for id := range ids {
				_, largest := m.eventsOf(id)
				bytes += len(largest.Payload)
			}
			if b.Bytes(0)+b.Bytes(1) != bytes || b.Bytes(0) < 0 || b.Bytes(1) < 0 {
				fail("%d and %d bytes of payloads, the model has %d", b.Bytes(0), b.Bytes(1), bytes)
			}
			if b.Len() != len(ids) || b.Conversations(0)+b.Conversations(1) != len(ids) {
				fail("%d conversations (%d, %d), the model has %d", b.Len(), b.Conversations(0),
					b.Conversations(1), len(ids))
			}
		}
	}
}
