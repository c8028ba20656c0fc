package consumer

import (
	"cmp"
	"maps"
	"slices"

	"markread/consumer/event"
)

// candidate is a member that may be given partitions.
type candidate struct {
	id string
	memberData
}

// assign assigns the partition numbers, to as many of the members as then have a share of the rate.
// The others are spares: rather those without partitions already.
func assign(o quotaTerms, members []candidate,
	share func(all, owned []event.TopicPartition) int) map[string][]int {
	numbers := slices.Max(append(slices.Collect(maps.Values(o.Partitions)), 0))
	all := o.all()
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

// assignNumbers gives the partition numbers from 0 to numbers-1 to the members: each gets as many
// as the others, or one more, and keeps what it can of those that it had. The order of the members
// means nothing. A number stands for the partitions of all topics: with the recommended key and
// equally many partitions a conversation is in one worker, whatever the lane.
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
	// Who has more than the others anyway gets what is over.
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

// lastOwners returns which member has owned each number last, -1: none. What a member says of that
// may be wrong: it decides which numbers it keeps, never how many.
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
