package imclient

import (
	"time"

	"github.com/cenkalti/backoff/v4"
)

// Backoff is how long to wait before a call is repeated: full jitter under a ceiling that doubles
// with each failure. It is a value without state, and takes its randomness from the caller, so that
// a simulation can repeat it. The zero Backoff never waits.
type Backoff struct {
	ceilings []time.Duration // of 1, 2, … failures; the last is of all further ones
}

// NewBackoff returns the policy whose ceiling is initial after the first failure and doubles up to
// max. An initial above max counts as max; without a positive initial there is no wait.
func NewBackoff(initial, max time.Duration) Backoff {
	if initial <= 0 || max <= 0 {
		return Backoff{}
	}
	growth := backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(min(initial, max)),
		backoff.WithMaxInterval(max),
		backoff.WithMultiplier(2),
		backoff.WithRandomizationFactor(0), // ours comes from the caller
		backoff.WithMaxElapsedTime(0),      // attempts are counted, not timed
	)
	var b Backoff
	for {
		ceiling := growth.NextBackOff()
		b.ceilings = append(b.ceilings, ceiling)
		if ceiling >= max {
			return b
		}
	}
}

// Delay returns how long to wait after that many failures in a row (fewer than 1 count as 1): the
// part jitter of the ceiling. jitter is evenly distributed in [0, 1).
func (b Backoff) Delay(failures int, jitter float64) time.Duration {
	if len(b.ceilings) == 0 {
		return 0
	}
	ceiling := b.ceilings[min(max(failures, 1), len(b.ceilings))-1]
	return time.Duration(float64(ceiling) * jitter)
}
