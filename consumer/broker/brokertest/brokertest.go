// Package brokertest is the virtual Kafka of our tests: the embedded broker in a synctest bubble,
// over in-memory connections, with what looks at it from outside. Nothing but tests imports it.
//
// It promises that nothing of it outlives the test, and that no test of it depends on the machine's
// speed: time is virtual, and begins in 2026.
//
// Non-obvious: whatever a test makes before its bubble has times of the real clock, which may be
// ahead of those in the bubble.
package brokertest

import (
	"testing"
	"testing/synctest"
	"time"
)

// Bubble runs a test in a synctest bubble whose clock begins in 2026. The clock of synctest itself
// begins in 2000, and no event may be that old.
func Bubble(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(time.Date(2026, time.January, 1, 0, 0, 0, 0, time.UTC)))
		test(t)
	})
}
