package terminal

import (
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"markread/consumer/deadletter"
	"markread/consumer/event"
	"markread/consumer/kafkaclient"
	"markread/worker/format"
)

// progress shows on one line of a terminal how far a topic has been read, from one second on. If
// the output is not a terminal, it shows nothing.
type progress struct {
	out       io.Writer // nil: not a terminal
	what      string
	offsets   kafkaclient.TopicOffsets
	positions []int64 // offsets that were read, by partition
	done      atomic.Int64
	records   atomic.Int64
}

// NewProgress returns a progress line for out; what describes the activity.
func NewProgress(out io.Writer, what string) *progress {
	p := &progress{what: what}
	if Is(out) {
		p.out = Unfiltered(out)
	}
	return p
}

// start shows the line every second. The returned function stops that and clears the line.
func (p *progress) start(offsets kafkaclient.TopicOffsets) (stop func()) {
	p.offsets, p.positions = offsets, make([]int64, len(offsets.Partitions))
	p.done.Store(0)
	p.records.Store(0)
	if p.out == nil {
		return func() {}
	}
	return Every(time.Second, func() { fmt.Fprint(p.out, ClearLine+p.String()) },
		func() { fmt.Fprint(p.out, ClearLine) })
}

// Reading shows how far a dead-letter store has been read; it is for the field OnFind of
// deadletter.Store.
func (p *progress) Reading(offsets kafkaclient.TopicOffsets) (add func(event.Record), stop func()) {
	return p.add, p.start(offsets)
}

// String returns the line.
func (p *progress) String() string {
	return fmt.Sprintf("%s: %d %%, %s records", p.what, 100*p.done.Load()/max(1, p.offsets.Size()),
		format.Thousands(p.records.Load()))
}

// add counts a record that was read. It must not be called concurrently.
func (p *progress) add(r event.Record) {
	read := r.Offset + 1 - p.offsets.Partitions[r.Partition].First
	p.done.Add(read - p.positions[r.Partition])
	p.positions[r.Partition] = read
	p.records.Add(1)
}

// CountProgress returns functions that show on a terminal's line how many dead letters are done,
// and that clear it. If out is not a terminal, they do nothing.
func CountProgress(out io.Writer, done string, of int) (show func(deadletter.Done), end func()) {
	if !Is(out) {
		return func(deadletter.Done) {}, func() {}
	}
	out = Unfiltered(out)
	return func(d deadletter.Done) {
		fmt.Fprintf(out, ClearLine+"%s %s of %s", done, format.Thousands(d.Letters),
			format.CountOf(of, "dead letter"))
	}, func() { fmt.Fprint(out, ClearLine) }
}
