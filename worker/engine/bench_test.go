package engine

import (
	"fmt"
	"testing"

	"markread/consumer/event"
)

// The cost of receiving one event, most of which collapse: a backlog's speed.
func BenchmarkReceive(b *testing.B) {
	r := newRig(nil)
	r.options.MaxEvents = 1 << 62
	batch := make([]event.Event, 512)
	readers := make([][]byte, 10_000)
	for i := range readers {
		readers[i] = fmt.Append(nil, "reader", i)
	}
	n := 0
	b.ReportAllocs()
	for b.Loop() {
		for i := range batch {
			n++
			batch[i] = event.Event{Ref: event.Ref(n), Report: readers[n%len(readers)], Peer: []byte("peer"),
				ReadTime: int64(n / 20_000), EventTime: start}
		}
		r.Receive(start, batch)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/event")
}
