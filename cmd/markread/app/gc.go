package app

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// Garbage may grow to garbagePercent of live memory before it is collected, because a full backlog
// is hundreds of megabytes, but always to leastGarbage: collecting a small heap more often would
// cost more CPU than the calls.
const (
	garbagePercent = 15
	leastGarbage   = 16 << 20
)

// tuneGC adapts the collector's GOGC to the live memory after each collection, unless the
// environment sets GOGC.
func tuneGC() {
	if os.Getenv("GOGC") == "" {
		afterCollection(new(collection))
	}
}

// collection becomes garbage with the next collection.
type collection struct{ _ *byte }

// afterCollection is the finalizer of a collection: so it runs after each.
func afterCollection(c *collection) {
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(sample)
	debug.SetGCPercent(gcPercent(sample[0].Value.Uint64()))
	runtime.SetFinalizer(c, afterCollection)
}

// gcPercent returns the GOGC for a heap with so many live bytes.
func gcPercent(live uint64) int {
	live = max(live, 4<<20) // less counts as 4 MiB for the collector
	return max(garbagePercent, int(leastGarbage*100/live))
}
