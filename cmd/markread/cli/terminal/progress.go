package terminal

import (
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"markread/consumer/deadletter"
	"markread/consumer/event"
	"markread/consumer/kafkaclient"
	"markread/worker/format"
)

// progress is one line on a terminal that says how far a topic was read, if that takes longer than
// a moment. Elsewhere it says nothing.
type progress struct {
	out       io.Writer // nil: no terminal
	what      string
	offsets   kafkaclient.TopicOffsets
	positions []int64 // offsets that were read, by partition
	done      atomic.Int64
	records   atomic.Int64
}

func NewProgress(out io.Writer, what string) *progress {
	p := &progress{what: what}
	if Is(out) {
		p.out = Unfiltered(out)
	}
	return p
}

// start shows the line every second until the function that it returns is called, which wipes it.
func (p *progress) start(offsets kafkaclient.TopicOffsets) (stop func()) {
	p.offsets, p.positions = offsets, make([]int64, len(offsets.Partitions))
	if p.out == nil {
		return func() {}
	}
	end := make(chan struct{})
	var shown sync.WaitGroup
	shown.Go(func() {
		ticker := time.NewTicker(time.Second)
		defer ticker.Stop()
		defer fmt.Fprint(p.out, ClearLine)
		for {
			select {
			case <-end:
				return
			case <-ticker.C:
				fmt.Fprint(p.out, ClearLine+p.String())
			}
		}
	})
	return func() { close(end); shown.Wait() }
}

// Reading shows how far a dead-letter store is, as its field of that name.
func (p *progress) Reading(offsets kafkaclient.TopicOffsets) (add func(event.Record), stop func()) {
	return p.add, p.start(offsets)
}

// String is the line.
func (p *progress) String() string {
	return fmt.Sprintf("%s: %d %%, %s records", p.what, 100*p.done.Load()/max(1, p.offsets.Size()),
		format.Thousands(p.records.Load()))
}

// add notes that a record was read; one call at a time.
func (p *progress) add(r event.Record) {
	read := r.Offset + 1 - p.offsets.Partitions[r.Partition].First
	p.done.Add(read - p.positions[r.Partition])
	p.positions[r.Partition] = read
	p.records.Add(1)
}

// CountProgress returns functions that show on a terminal's line how many letters are done, and wipe
// it. Elsewhere they do nothing.
func CountProgress(out io.Writer, done string, of int) (show func(deadletter.Done), end func()) {
	if !Is(out) {
		return func(deadletter.Done) {}, func() {}
	}
	out = Unfiltered(out)
	return func(d deadletter.Done) {
		fmt.Fprintf(out, ClearLine+"%s %s of %s", done, format.Thousands(d.Letters),
			format.CountOf(of, "letter"))
	}, func() { fmt.Fprint(out, ClearLine) }
}
