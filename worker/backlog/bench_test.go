package backlog

import (
	"fmt"
	"testing"
)

func benchPayloads(n int) [][]byte {
	payloads := make([][]byte, n)
	for i := range payloads {
		payloads[i] = fmt.Appendf(nil, "user%08d\nuser%08d and its record", i, i+7)
	}
	return payloads
}

const benchIDLen = 25

// The cost of one event of a conversation that already waits, among 100,000.
func BenchmarkAdd(b *testing.B) {
	payloads := benchPayloads(100_000)
	backlog := New(NewAppliedTimes(), start)
	n := 0
	add := func() {
		backlog.Add(start, Event{Payload: payloads[n*7919%len(payloads)], IDLen: benchIDLen,
			ReadTime: int64(n), Ref: uint64(n)})
		n++
	}
	for range payloads {
		add()
	}
	b.ReportAllocs()
	for b.Loop() {
		add()
	}
}

// The cost of a conversation from its first event to its success, while 100,000 wait.
func BenchmarkTake(b *testing.B) {
	payloads := benchPayloads(200_000)
	backlog := New(NewAppliedTimes(), start)
	n := 0
	add := func() {
		backlog.Add(start, Event{Payload: payloads[n%len(payloads)], IDLen: benchIDLen,
			ReadTime: int64(n), Ref: uint64(n)})
		n++
	}
	for range len(payloads) / 2 {
		add()
	}
	b.ReportAllocs()
	for b.Loop() {
		add()
		backlog.Succeeded(start, backlog.Take(start, LaneSet{true, true}, 10))
	}
}
