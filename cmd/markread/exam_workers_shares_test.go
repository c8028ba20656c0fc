//go:build exam && unix

package main

import (
	"fmt"
	"slices"
	"syscall"
	"testing"
	"time"
)

// TestExamWorkersShares: with 1 to 6 workers the shares add up to exactly the rate, also where there are more workers than calls a second. Nobody
// has partitions and no share; who has none says so.
func TestExamWorkersShares(t *testing.T) {
	t.Parallel()
	rates, most := []int{1, 2, 7}, 6
	if testing.Short() {
		rates, most = []int{7}, 3
	}
	for _, partitions := range []int{8, 12} {
		for _, rate := range rates {
			t.Run(fmt.Sprintf("rate %d, %d partitions", rate, partitions), func(t *testing.T) {
				t.Parallel()
				k := examStartBrokerOf(t, partitions)
				im := examStartRecorder(t, "-rate", "200")
				c := examCrewOf(k, im, rate)
				var shown []string
				for n := range most {
					c.start(t, fmt.Sprint("w", n))
					shown = append(shown, c.addUp(t, partitions))
				}
				for len(c.running()) > 1 {
					c.running()[0].stop(t, syscall.SIGTERM, examStopLimit)
					c.addUp(t, partitions)
				}
				examFigure(t, "workers-shares", "--rate %d, %d partitions of both topics, 1 to %d workers: %v", rate, partitions, most, shown)
			})
		}
	}
}

// addUp waits until the shares of those that run are what they must be, and returns them, the largest first.
func (c *examCrew) addUp(t *testing.T, partitions int) string {
	t.Helper()
	var shares []int
	wrong := "nothing seen"
	defer func() {
		if t.Failed() {
			t.Logf("at last: %s", wrong)
		}
	}()
	examWait(t, "the shares add up", 40*time.Second, func() bool {
		shares, wrong = nil, ""
		sum, assigned := 0, 0
		for _, m := range c.running() {
			state := m.state()
			if state == nil || state.Group.Generation == nil {
				wrong = m.account + " is no member"
				return false
			}
			share, owned := state.Quota.Share, state.Group.Assigned
			if held := m.isHeld(t, "quota"); held != (share == 0) || (owned == 0) != (share == 0) {
				wrong = fmt.Sprintf("%s has %d partitions and a share of %d; it says that it has none: %v", m.account, owned, share, held)
				return false
			}
			shares, sum, assigned = append(shares, share), sum+share, assigned+owned
		}
		if sum != c.rate || assigned != 2*partitions {
			wrong = fmt.Sprintf("shares %v of %d, %d partitions of %d", shares, c.rate, assigned, 2*partitions)
		}
		return wrong == ""
	})
	slices.SortFunc(shares, func(a, b int) int { return b - a })
	return fmt.Sprint(shares)
}
