// Package brokertest runs the embedded broker in a synctest bubble, over in-memory connections, and
// has helpers that inspect and disturb it. Only tests import it.
//
// It promises that none of its goroutines and connections outlives the test, and that no test
// depends on the machine's speed: time is virtual, and starts in 2026.
//
// Non-obvious: times that a test takes before its bubble come from the real clock, which may be
// ahead of the clock in the bubble.
package brokertest

import (
	"testing"
	"testing/synctest"
	"time"
)

// Bubble runs a test in a synctest bubble whose clock starts in 2026. synctest's own clock starts
// in 2000, and no event may be that old.
func Bubble(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(time.Date(2026, time.January, 1, 0, 0, 0, 0, time.UTC)))
		test(t)
	})
}
