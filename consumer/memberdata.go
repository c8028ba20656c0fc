package consumer

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"markread/consumer/event"
)

// What the members of a group write for each other passes through the coordinator as it is: anybody
// who may join may write anything. It is decoded only here, with kmsg: that compares lengths with
// what remains, where kafka-go allocates according to them.
const (
	// maxGroupBytes limits a member's metadata and its assignment. Kafka stores a group in one
	// record of at most 1 MiB: above that (seen with 4.4), every SyncGroup of the group fails with
	// "unexpected server error" until the member has left.
	maxGroupBytes = 1 << 20
	// maxUserData limits the JSON in them: room for two topics and 9,000 owned partition numbers.
	maxUserData = 64 << 10
	// maxViewed is more partitions, and more calls a second, than there can be.
	maxViewed = 200_000

	maxTopics = 2 // that a worker consumes
)

var (
	errTruncated = errors.New("its bytes are malformed or truncated")
	errNotOurs   = errors.New("it is not written by markread, or by another version of it")
)

// decodeMember reads what a member sends when it joins: of that, what the user data says counts.
func decodeMember(b []byte) (memberData, error) {
	var m kmsg.ConsumerMemberMetadata
	data, err := readUserData[memberData](b, &m, &m.UserData)
	if err == nil {
		err = data.check()
	}
	if err != nil {
		return memberData{}, err
	}
	return data, nil
}

// decodeAssignment reads what the group's leader has assigned to a member, sorted by topic and
// number, and the leader's quota terms. The partitions may not exist, and may repeat.
func decodeAssignment(b []byte) (assigned []event.TopicPartition, leaders quotaTerms, err error) {
	var m kmsg.ConsumerMemberAssignment
	leaders, err = readUserData[quotaTerms](b, &m, &m.UserData)
	if err == nil {
		err = leaders.check()
	}
	if err != nil {
		return nil, quotaTerms{}, err
	}
	for _, t := range m.Topics {
		for _, p := range t.Partitions {
			assigned = append(assigned, event.TopicPartition{Topic: t.Topic, Partition: int(p)})
		}
	}
	slices.SortFunc(assigned, event.TopicPartition.Compare)
	return assigned, leaders, nil
}

// readUserData decodes m from b, and from its user data what encode has written.
func readUserData[T any](b []byte, m interface{ ReadFrom([]byte) error }, user *[]byte) (data T,
	err error) {
	switch {
	case len(b) > maxGroupBytes:
		return data, fmt.Errorf("it has %d bytes, more than %d: the coordinator may be unable to "+
			"store the group", len(b), maxGroupBytes)
	case m.ReadFrom(b) != nil:
		return data, errTruncated
	case len(*user) > maxUserData:
		return data, fmt.Errorf("its user data has %d bytes, more than %d", len(*user), maxUserData)
	case json.Unmarshal(*user, &data) != nil: // the error could quote all of it
		return *new(T), errNotOurs
	}
	return data, nil
}

// memberData is what a member publishes when it joins: its quota terms, and what it had before.
type memberData struct {
	quotaTerms
	Owned      []int `json:"owned,omitempty"`      // partition numbers
	Generation int32 `json:"generation,omitempty"` // in which it owned them
}

// published leaves out what the member had before where that would be too long for the leader: then
// the member may keep less of it.
func (d memberData) published() []byte {
	b := encode(d)
	if len(b) > maxUserData {
		d.Owned = nil
		return encode(d)
	}
	return b
}

func encode(data any) []byte {
	b, _ := json.Marshal(data) // numbers and names can be written
	return b
}
