package engine

import (
	"markread/consumer/event"
	"markread/worker/quota"
)

// Share returns how many of rate calls per second belong to a worker that owns the partitions
// owned. all are the partitions of the group, sorted by topic and number.
func Share(rate int, all, owned []event.TopicPartition) int {
	mine := make(map[event.TopicPartition]bool, len(owned))
	for _, p := range owned {
		mine[p] = true
	}
	var indexes []int
	for i, p := range all {
		if mine[p] {
			indexes = append(indexes, i)
		}
	}
	return quota.Share(rate, max(1, len(all)), indexes)
}
