package app

import (
	"runtime"
	"runtime/debug"
	"testing"
)

func TestGCPercent(t *testing.T) {
	for live, want := range map[uint64]int{
		0: 400, 4 << 20: 400, 16 << 20: 100, 80 << 20: 20, 1 << 30: 15,
	} {
		if got := gcPercent(live); got != want {
			t.Errorf("%d live bytes: %d %%, want %d", live, got, want)
		}
	}
}

// A deployment may set GOGC to nothing, which Go ignores, too.
func TestEmptyGOGCChoosesNothing(t *testing.T) {
	const other = 1234
	defer debug.SetGCPercent(debug.SetGCPercent(other))
	t.Setenv("GOGC", "")
	tuneGC()
	if debug.SetGCPercent(other) == other {
		t.Error("the collector is not tuned")
	}
}

// The setting follows the live memory in both directions.
func TestGCFollowsTheLiveMemory(t *testing.T) {
	before := debug.SetGCPercent(100)
	defer debug.SetGCPercent(before)
	afterCollection(new(collection))
	current := func() int {
		percent := debug.SetGCPercent(100)
		debug.SetGCPercent(percent)
		return percent
	}
	wait := func(what string, ok func(percent int) bool) {
		t.Helper()
		for range 10_000 {
			if ok(current()) {
				return
			}
			runtime.GC()
		}
		t.Errorf("with %s the garbage percentage is %d", what, current())
	}
	large := make([]byte, 300<<20)
	wait("300 MiB", func(percent int) bool { return percent == garbagePercent })
	runtime.KeepAlive(large)
	wait("little", func(percent int) bool { return percent > 2*garbagePercent })
}
