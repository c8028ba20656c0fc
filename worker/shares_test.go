package worker_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"markread/worker"
	"markread/worker/console"
)

// However many workers join and leave, their shares add up to the rate, and a worker without a
// share reports that. No worker has partitions but no share: their events would wait forever.
func TestSharesAddUp(t *testing.T) {
	rates := []int{1, 2, 7, 200}
	if testing.Short() {
		rates = []int{7}
	}
	for _, rate := range rates {
		for _, partitions := range []int{8, 12} {
			t.Run(fmt.Sprintf("%d calls a second, %d partitions", rate, partitions),
				func(t *testing.T) {
					inBubbleOf(t, partitions, func(s *stack) {
						var members []*member
						for range 6 {
							members = append(members,
								s.start(func(o *worker.Options) { o.Rate = rate }))
							time.Sleep(10 * time.Second)
							s.mustAddUp(members, rate, partitions)
						}
						for len(members) > 1 {
							s.mustStop(members[0])
							members = members[1:]
							time.Sleep(10 * time.Second)
							s.mustAddUp(members, rate, partitions)
						}
					})
				})
		}
	}
}

func (s *stack) mustAddUp(members []*member, rate, partitions int) {
	s.t.Helper()
	sum, owned := 0, map[string]int{}
	var sizes []int // of the workers that have partitions
	for i, m := range members {
		state := m.State()
		share := *state.Quota.Share
		sum += share
		reported := slices.ContainsFunc(state.Held,
			func(h console.Hold) bool { return h.Reason == "quota" })
		if reported != (share == 0) || (share == 0) != (len(state.Partitions) == 0) {
			s.t.Errorf("worker %d of %d has %d partitions and a share of %d, and reports that it "+
				"has none: %v", i, len(members), len(state.Partitions), share, reported)
		}
		numbers := map[int]int{}
		for _, p := range state.Partitions {
			owned[fmt.Sprint(p.Topic, p.Partition)]++
			numbers[p.Partition]++
		}
		for number, topics := range numbers {
			if topics != 2 {
				s.t.Errorf("worker %d of %d has partition %d of one topic only", i, len(members),
					number)
			}
		}
		if len(numbers) > 0 {
			sizes = append(sizes, len(numbers))
		}
	}
	if slices.Max(sizes)-slices.Min(sizes) > 1 || rate >= partitions*2 &&
		len(sizes) != len(members) {
		s.t.Errorf("%d workers have %v partition numbers of %d", len(members), sizes, partitions)
	}
	if sum != rate {
		s.t.Errorf("the shares of %d workers add up to %d, the rate is %d", len(members), sum, rate)
	}
	if len(owned) != 2*partitions {
		s.t.Errorf("%d workers own %d partitions of %d", len(members), len(owned), 2*partitions)
	}
	for partition, n := range owned {
		if n != 1 {
			s.t.Errorf("%s has %d owners", partition, n)
		}
	}
}
