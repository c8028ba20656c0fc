package consumer

import (
	"encoding/json"
	"maps"
	"slices"
	"sync"

	"github.com/segmentio/kafka-go"
)

// balancer gives partition p of every topic to the same member, so that with the recommended key and equally
// many partitions a conversation is in one worker, whatever the lane.
//
// kafka-go calls it within a join: UserData at the start of each, AssignGroups only on the leader.
type balancer struct {
	rate int
	// partitions lists what exists, for when kafka-go could not: one missing topic leaves it with nothing, and
	// then every member would get nothing, of any topic.
	partitions func() []TopicPartition
	warn       func(message string)

	mu     sync.Mutex
	counts map[string]int // as the leader of the last join: how many partitions each topic had
}

// memberData is what a member publishes when it joins. Later versions add fields.
type memberData struct {
	Rate int `json:"rate"` // calls a second of the whole group
}

func (b *balancer) ProtocolName() string { return "markread" }

func (b *balancer) UserData() ([]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.counts = nil // not the leader, until AssignGroups says so
	return json.Marshal(memberData{Rate: b.rate})
}

func (b *balancer) AssignGroups(members []kafka.GroupMember, found []kafka.Partition) kafka.GroupMemberAssignments {
	var all []TopicPartition
	for _, p := range found {
		all = append(all, TopicPartition{p.Topic, p.ID})
	}
	if len(all) == 0 {
		all = b.partitions()
	}
	counts := map[string]int{}
	for _, p := range all {
		counts[p.Topic]++
	}
	b.mu.Lock()
	b.counts = counts
	b.mu.Unlock()
	for _, m := range members {
		var data memberData
		if json.Unmarshal(m.UserData, &data) != nil || data.Rate != b.rate {
			b.warn("the members of the group go by different rates: together they may call too often")
			break
		}
	}
	return assign(members, all)
}

// led returns the partition counts that this member, as the leader, has just assigned; nil: it is not.
func (b *balancer) led() map[string]int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.counts
}

// assign deals the partition numbers to the members in turn, both sorted. A partition of a topic that its
// member does not subscribe to goes to the next that does.
func assign(members []kafka.GroupMember, all []TopicPartition) kafka.GroupMemberAssignments {
	assignments := kafka.GroupMemberAssignments{}
	members = slices.SortedFunc(slices.Values(members), func(a, b kafka.GroupMember) int {
		if a.ID < b.ID {
			return -1
		}
		return 1
	})
	for _, m := range members {
		assignments[m.ID] = map[string][]int{}
	}
	numbers := map[int]bool{}
	for _, p := range all {
		numbers[p.Partition] = true
	}
	turn := map[int]int{}
	for i, number := range slices.Sorted(maps.Keys(numbers)) {
		turn[number] = i
	}
	slices.SortFunc(all, TopicPartition.Compare)
	for _, p := range all {
		for i := range members {
			m := members[(turn[p.Partition]+i)%len(members)]
			if slices.Contains(m.Topics, p.Topic) {
				assignments[m.ID][p.Topic] = append(assignments[m.ID][p.Topic], p.Partition)
				break
			}
		}
	}
	return assignments
}
