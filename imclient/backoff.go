package imclient

import (
	"time"

	"github.com/cenkalti/backoff/v4"
)

// Backoff computes how long to wait before a call is retried: full jitter under a ceiling that
// doubles with each failure. It is a value without state, and the caller supplies the randomness,
// so that a simulation can repeat it. The zero Backoff never waits.
type Backoff struct {
	// after 1, 2, … failures; the last one is also for all further failures
	ceilings []time.Duration
}

// NewBackoff returns the policy whose ceiling is initial after the first failure and doubles up to
// max. An initial above max counts as max; if initial or max is not positive, there is no wait.
func NewBackoff(initial, max time.Duration) Backoff {
	if initial <= 0 || max <= 0 {
		return Backoff{}
	}
	growth := backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(min(initial, max)),
		backoff.WithMaxInterval(max),
		backoff.WithMultiplier(2),
		backoff.WithRandomizationFactor(0), // the caller supplies the jitter
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

// Delay returns how long to wait after failures consecutive failures (fewer than 1 count as 1): the
// ceiling times jitter, which is uniformly distributed in [0, 1).
func (b Backoff) Delay(failures int, jitter float64) time.Duration {
	if len(b.ceilings) == 0 {
		return 0
	}
	ceiling := b.ceilings[min(max(failures, 1), len(b.ceilings))-1]
	return time.Duration(float64(ceiling) * jitter)
}
