package consumer

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"
)

// memberData is what a member publishes to the leader when it joins. Later versions add fields.
type memberData struct {
	Rate int `json:"rate"` // calls a second, of the whole group
}

func (d memberData) encode() []byte {
	b, err := json.Marshal(d)
	if err != nil {
		panic(err) // an int can be written
	}
	return b
}

func decodeMemberData(b []byte) memberData {
	var d memberData
	if json.Unmarshal(b, &d) != nil {
		return memberData{}
	}
	return d
}

// subscriber is a member as the leader sees it.
type subscriber struct {
	id     string
	topics []string
}

// assign deals the partition numbers to the members in turn, both sorted: partition p of every topic goes to
// the same member, so that with the recommended key and equally many partitions a conversation is in one
// worker, whatever the lane. A partition of a topic that its member does not subscribe to goes to the next
// one that does. Every member gets an assignment, perhaps an empty one.
func assign(members []subscriber, all []TopicPartition) map[string]map[string][]int32 {
	members = slices.SortedFunc(slices.Values(members), func(a, b subscriber) int { return cmp.Compare(a.id, b.id) })
	assignments := map[string]map[string][]int32{}
	for _, m := range members {
		assignments[m.id] = map[string][]int32{}
	}
	numbers := map[int]bool{}
	for _, p := range all {
		numbers[p.Partition] = true
	}
	turn := map[int]int{}
	for i, number := range slices.Sorted(maps.Keys(numbers)) {
		turn[number] = i
	}
	for _, p := range slices.SortedFunc(slices.Values(all), TopicPartition.Compare) {
		for i := range members {
			m := members[(turn[p.Partition]+i)%len(members)]
			if slices.Contains(m.topics, p.Topic) {
				assignments[m.id][p.Topic] = append(assignments[m.id][p.Topic], int32(p.Partition))
				break
			}
		}
	}
	return assignments
}
