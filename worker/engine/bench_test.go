package engine

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"markread/consumer/event"
)

// noTracker tracks nothing.
type noTracker struct{}

func (noTracker) Finish(event.Ref) (event.Lane, time.Time) { return event.Live, start }
func (noTracker) Attempted(event.Ref, int)                 {}

func benchRig() *rig {
	r := newRig(nil)
	r.options.MaxEvents = 1 << 62
	r.Begin(start, noTracker{}, 12, 12)
	return r
}

// benchEvents returns n valid events of as many conversations, as they would be decoded.
func benchEvents(n int) []event.Event {
	events := make([]event.Event, n)
	at := time.UnixMilli(1_760_000_000_123)
	for i := range events {
		report, peer := fmt.Sprintf("user%08d", i), fmt.Sprintf("user%08d", i+7)
		e := event.Decode(event.Record{
			Topic: "mark-read", Partition: i % 12, Offset: int64(i), Time: at,
			Key: event.Key(report, peer),
			Value: fmt.Appendf(nil, `{"Report_Account":"%s","Peer_Account":"%s",`+
				`"MsgReadTime":%d}`, report, peer, 1_760_000_000+i%1000),
		}, at.Add(time.Hour))
		e.Ref = event.Ref(uint64(i%12)<<48 | uint64(i/12))
		if e.Invalid != nil {
			panic(e.Invalid)
		}
		events[i] = e
	}
	return events
}

// The cost of one event of a conversation that already waits: the speed of reading a backlog.
func BenchmarkReceive(b *testing.B) {
	r, events := benchRig(), benchEvents(10_240)
	n, ref := 0, event.Ref(0)
	b.ReportAllocs()
	for b.Loop() {
		chunk := events[n*512%len(events):][:512]
		n++
		for i := range chunk {
			ref++
			chunk[i].Ref = ref
		}
		r.Receive(start, chunk)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(512*n), "ns/event")
}

// The memory of conversations that wait with one event each.
func BenchmarkWaiting(b *testing.B) {
	const n = 1_000_000
	events := benchEvents(n)
	var before, after runtime.MemStats
	for b.Loop() {
		r := benchRig()
		runtime.GC()
		runtime.ReadMemStats(&before)
		r.Receive(start, events)
		runtime.GC()
		runtime.ReadMemStats(&after)
		runtime.KeepAlive(r)
	}
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/n, "bytes/conversation")
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/event")
}

// One call from the choice of the conversation to the settled event.
func BenchmarkCall(b *testing.B) {
	r, events := benchRig(), benchEvents(1000)
	n := 0
	b.ReportAllocs()
	for b.Loop() {
		i := n % len(events)
		n++
		events[i].ReadTime++
		events[i].Ref = event.Ref(n)
		r.Receive(start, events[i:i+1])
		todo, _ := r.Next(start)
		r.CallDone(start, todo, nil)
	}
}

// The time under the lock to explain the oldest event of each of 12 partitions while 500,000
// conversations wait: none of the events is among those that Explain checks.
func BenchmarkExplain(b *testing.B) {
	const n, partitions = 500_000, 12
	r := benchRig()
	events := benchEvents(n)
	r.Receive(start, events)
	oldest := map[event.Ref]event.Lane{}
	for _, e := range events[n-partitions:] {
		oldest[e.Ref] = event.Live
	}
	events = nil
	for b.Loop() {
		r.Explain(oldest)
	}
}
