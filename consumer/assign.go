package consumer

import (
	"cmp"
	"maps"
	"slices"

	"markread/consumer/event"
)

// candidate is a member that may be assigned partitions.
type candidate struct {
	id string
	memberData
}

// assign assigns the partition numbers to the members. It leaves out as many members as necessary
// for each of the others to have a share of the rate above 0. These spares are preferably members
// that had no partitions before.
func assign(terms quotaTerms, members []candidate,
	share func(all, owned []event.TopicPartition) int) map[string][]int {
	numbers := slices.Max(append(slices.Collect(maps.Values(terms.Partitions)), 0))
	all := terms.all()
	hasNoShare := func(owned []int) bool { // owned is sorted
		notOwned := func(p event.TopicPartition) bool {
			_, found := slices.BinarySearch(owned, p.Partition)
			return !found
		}
		return len(owned) > 0 && share(all, slices.DeleteFunc(slices.Clone(all), notOwned)) == 0
	}
	members = slices.SortedFunc(slices.Values(members), func(a, b candidate) int {
		return cmp.Or(cmp.Compare(min(1, len(a.Owned)), min(1, len(b.Owned))),
			cmp.Compare(b.id, a.id))
	})
	var spares []string
	assigned := assignNumbers(members, numbers)
	for share != nil && len(members) > 1 &&
		slices.ContainsFunc(members, func(m candidate) bool { return hasNoShare(assigned[m.id]) }) {
		spares, members = append(spares, members[0].id), members[1:]
		assigned = assignNumbers(members, numbers)
	}
	for _, id := range spares {
		assigned[id] = nil
	}
	return assigned
}

// assignNumbers assigns the partition numbers 0 to numbers-1 to the members. Each gets as many as
// the others or one more, and keeps as many as possible of the numbers that it had. The order of
// the members has no effect. A number stands for the partitions with this number in all topics:
// with the recommended key and equal partition counts, a conversation belongs to one worker in both
// lanes.
func assignNumbers(members []candidate, numbers int) map[string][]int {
	members = slices.SortedFunc(slices.Values(members),
		func(a, b candidate) int { return cmp.Compare(a.id, b.id) })
	assigned := map[string][]int{}
	var free []int
	for n, i := range lastOwners(members, numbers) {
		if i >= 0 {
			assigned[members[i].id] = append(assigned[members[i].id], n)
		} else {
			free = append(free, n)
		}
	}
	// The remainder goes to the members that have the most numbers already.
	slices.SortStableFunc(members, func(a, b candidate) int {
		return cmp.Compare(len(assigned[b.id]), len(assigned[a.id]))
	})
	capacity := func(rank int) int { return (numbers + len(members) - 1 - rank) / len(members) }
	for rank, m := range members {
		kept := assigned[m.id]
		n := min(len(kept), capacity(rank))
		assigned[m.id], free = kept[:n:n], append(free, kept[n:]...)
	}
	slices.Sort(free)
	for rank, m := range members {
		n := capacity(rank) - len(assigned[m.id])
		assigned[m.id], free = append(assigned[m.id], free[:n]...), free[n:]
		slices.Sort(assigned[m.id])
	}
	return assigned
}

// lastOwners returns the index of the member that owned each number last; -1: none. A member's
// claim may be false: it affects which numbers the member keeps, never how many.
func lastOwners(members []candidate, numbers int) []int {
	last := slices.Repeat([]int{-1}, numbers)
	for i, m := range members {
		for _, n := range m.Owned {
			if n >= 0 && n < numbers &&
				(last[n] < 0 || m.Generation > members[last[n]].Generation) {
				last[n] = i
			}
		}
	}
	return last
}
