package offsets

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// naive is a simple model of the Tracker: a list of all events ever added.
type naive struct {
	events    []naiveEvent
	from      int // all events before it are done
	position  int64
	committed int64
}

type naiveEvent struct {
	offset int64
	at     time.Time
	done   bool
}

func (m *naive) oldest() int {
	for ; m.from < len(m.events); m.from++ {
		if !m.events[m.from].done {
			return m.from
		}
	}
	return -1
}

func (m *naive) committable() int64 {
	if i := m.oldest(); i >= 0 {
		return m.events[i].offset
	}
	return m.position
}

// play runs the operations encoded in history on the Tracker and on the model, and compares them.
func play(history []byte) error {
	const begin = 1000
	t := New(begin, -1)
	m := naive{position: begin, committed: -1}
	at := time.UnixMilli(1_700_000_000_000)
	for i := 0; i < len(history); i++ {
		op := history[i]
		arg := int(op >> 3)
		switch op & 7 {
		case 0, 1, 2: // records, in bursts, with holes
			for range 1 + arg*arg*8 {
				offset := m.position + int64(arg&1)*int64(arg)
				switch at = at.Add(time.Millisecond); arg {
				case 5: // a producer with another clock
					at = at.AddDate(2, 0, 0)
				case 6:
					at = time.UnixMilli(1_700_000_000_000)
				}
				if n, _, _ := t.Add(offset, at); n != uint64(len(m.events)) {
					return fmt.Errorf("op %d: arrival number %d, want %d", i, n, len(m.events))
				}
				m.events = append(m.events, naiveEvent{offset: offset, at: at})
				m.position = offset + 1
			}
		case 3: // the oldest ones finish
			for range 1 + arg*arg*8 {
				if n := m.oldest(); n >= 0 {
					t.Finish(uint64(n))
					m.events[n].done = true
				}
			}
		case 4, 5: // any event finishes, perhaps for the second time, perhaps an unknown one
			n := len(m.events)
			if n > 0 {
				n -= 1 + arg*len(m.events)/32
			}
			t.Finish(uint64(max(n, 0)))
			if n >= 0 && n < len(m.events) {
				m.events[n].done = true
			}
		case 6: // an empty end of the log, or an offset before the position
			to := m.position + int64(arg) - 8
			t.Skip(to)
			m.position = max(m.position, to)
		case 7:
			if arg == 31 { // another log
				t.Reset(int64(i))
				for n := range m.events {
					m.events[n].done = true
				}
				m.position, m.committed = int64(i), -1
			} else { // a commit
				c, _ := t.Commit(100)
				t.Accept(c)
				m.committed = m.committable()
			}
		}
		if got, want := t.Committable(), m.committable(); got != want {
			return fmt.Errorf("op %d: committable %d, want %d", i, got, want)
		}
		if t.position != m.position || t.committed != m.committed {
			return fmt.Errorf("op %d: position %d, committed %d, want %d and %d", i, t.position,
				t.committed, m.position, m.committed)
		}
		n, offset, when, ok := t.Oldest()
		if want := m.oldest(); ok != (want >= 0) || ok && (n != uint64(want) ||
			offset != m.events[want].offset || !when.Equal(m.events[want].at)) {
			return fmt.Errorf("op %d: oldest %d at %d (%v), want %d", i, n, offset, ok, want)
		}
		if kept := len(t.chunks); kept > int(t.end-t.first)/chunkSize+2 {
			return fmt.Errorf("op %d: %d chunks for %d events", i, kept, t.end-t.first)
		}
	}
	return nil
}

func TestTrackerAgainstNaive(t *testing.T) {
	for seed := range uint64(150) {
		r := rand.New(rand.NewPCG(seed, 1))
		history := make([]byte, 1+r.IntN(120))
		for i := range history {
			history[i] = byte(r.Uint32())
			if r.IntN(3) == 0 { // finish more often: otherwise the backlog only grows
				history[i] = history[i]&^7 | 3
			}
		}
		if err := play(history); err != nil {
			t.Fatalf("seed %d: %v\n%v", seed, err, history)
		}
	}
}

func FuzzTracker(f *testing.F) {
	f.Add([]byte{0xf8, 0x0b, 0xfb, 0x24, 0xf6, 0xff, 0x07})
	f.Fuzz(func(t *testing.T, history []byte) {
		if len(history) > 60 {
			t.Skip()
		}
		if err := play(history); err != nil {
			t.Error(err)
		}
	})
}

// A commit of the old log that is accepted after the Reset has no effect on the new log.
func TestTrackerAcceptsNothingOfAnotherLog(t *testing.T) {
	tr := New(0, -1)
	for range 10 {
		n, _, _ := tr.Add(tr.position, time.Now())
		tr.Finish(n)
	}
	old, _ := tr.Commit(100)
	tr.Reset(30)
	if tr.Accept(old); tr.committed != -1 {
		t.Errorf("committed %d", tr.committed)
	}
	again, _ := tr.Commit(100)
	if tr.Accept(again); tr.committed != 30 {
		t.Errorf("committed %d, want 30", tr.committed)
	}
}

// A steady flow with a bounded backlog allocates nothing.
func TestTrackerReusesMemory(t *testing.T) {
	tr := New(0, -1)
	at := time.Now()
	next := uint64(0)
	flow := func() {
		for range 3 * chunkSize {
			tr.Add(tr.position, at)
			if tr.end-tr.first > 100 {
				tr.Finish(next)
				next++
			}
		}
	}
	flow()
	// The slice of chunks moves through its array, and is reallocated now and then.
	if n := testing.AllocsPerRun(20, flow); n > 3 {
		t.Errorf("%.1f allocations for %d events", n, 3*chunkSize)
	}
}

// Events that finish or fail while a commit is in flight are changes for the next commit, even if
// the offset stays the same.
func TestChangesWhileACommitIsInFlight(t *testing.T) {
	tr := New(0, 0)
	for n := range int64(4) {
		tr.Add(n, time.UnixMilli(1_700_000_000_000))
	}
	tr.Finish(1)
	c, changed := tr.Commit(4000)
	if !changed || c.Offset != 0 {
		t.Fatalf("offset %d, changed %v", c.Offset, changed)
	}
	tr.Finish(2)
	tr.Attempted(3, 2)
	tr.Accept(c)
	later, changed := tr.Commit(4000)
	if !changed || later.Offset != 0 {
		t.Fatalf("after the changes: offset %d, changed %v", later.Offset, changed)
	}
	tr.Accept(later)
	if _, changed = tr.Commit(4000); changed {
		t.Error("changed without a change of an event")
	}
	next := New(0, 0)
	if err := next.Inherit(later.Metadata); err != nil {
		t.Fatal(err)
	}
	for n := range int64(4) {
		_, attempts, finished := next.Add(n, time.UnixMilli(1_700_000_000_000))
		if finished != (n == 1 || n == 2) || attempts != []int{0, 0, 0, 2}[n] {
			t.Errorf("offset %d: finished %v, %d attempts", n, finished, attempts)
		}
	}
}

// The cost of one event from its delivery to its end, in a backlog.
func BenchmarkTracker(b *testing.B) {
	tr := New(0, -1)
	at := time.UnixMilli(1_700_000_000_000)
	for range 100_000 {
		tr.Add(tr.Position(), at)
	}
	n := uint64(0)
	b.ReportAllocs()
	for b.Loop() {
		tr.Add(tr.Position(), at)
		tr.Finish(n)
		n++
	}
}
