// Package brokertest helps tests that run in virtual time: a synctest bubble in which events can be
// made that are valid. It starts no broker, and nothing but tests imports it.
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
