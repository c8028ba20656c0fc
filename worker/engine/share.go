package engine

import (
	"markread/consumer/event"
	"markread/worker/quota"
)

// Share returns how many of rate calls a second belong to a worker that owns some of all the group's partitions, which are sorted by topic and
// number. What is not among them counts for nothing.
func Share(rate int, all, owned []event.TopicPartition) int {
	index := make(map[event.TopicPartition]int, len(all))
	for i, p := range all {
		index[p] = i
	}
	indexes := make([]int, 0, len(owned))
	for _, p := range owned {
		if i, ok := index[p]; ok {
			indexes = append(indexes, i)
		}
	}
	return quota.Share(rate, max(1, len(all)), indexes)
}
