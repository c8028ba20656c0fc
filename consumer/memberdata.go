package consumer

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"markread/consumer/event"
)

// What the members of a group write for each other passes through the coordinator as it is: anybody
// who may join may write anything. It is decoded only here: kafka-go allocates according to the
// lengths that it reads.
const (
	// maxGroupBytes limits a member's metadata and its assignment. Kafka stores a group in one
	// record of at most 1 MiB: above that (seen with 4.4), every SyncGroup of the group fails with
	// "unexpected server error" until the member has left.
	maxGroupBytes = 1 << 20
	// maxUserData limits the JSON in them: room for two topics and 9,000 owned partition numbers.
	maxUserData = 64 << 10
	// maxViewed is more partitions, and more calls a second, than there can be.
	maxTermsNumber = 200_000

	maxTopics = 2 // that a worker consumes
)

var (
	errTruncated = errors.New("its bytes are malformed or truncated")
	errNotOurs   = errors.New("it is not written by markread, or by another version of it")
)

// decodeMember reads what a member sends when it joins.
func decodeMember(b []byte) (memberData, error) {
	r := groupBytes{b: b}
	r.number(2) // version: later ones append fields
	for range r.count(2) {
		r.take(r.number(2)) // the topics: what the user data says counts
	}
	data, err := readUserData[memberData](&r, len(b))
	if err == nil {
		err = data.check()
	}
	if err != nil {
		return memberData{}, err
	}
	return data, nil
}

// decodeAssignment reads what the group's leader has assigned to a member: the partitions, sorted
// by topic and number, and the leader's quota terms. They may be of other topics, may not exist,
// and may repeat.
func decodeAssignment(b []byte) (assigned []event.TopicPartition, leaderTerms quotaTerms,
	err error) {
	r := groupBytes{b: b[:min(len(b), maxGroupBytes)]}
	r.number(2) // version
	for range r.count(6) {
		topic := string(r.take(r.number(2)))
		for range r.count(4) {
			assigned = append(assigned, event.TopicPartition{Topic: topic, Partition: r.number(4)})
		}
	}
	leaderTerms, err = readUserData[quotaTerms](&r, len(b))
	if err == nil {
		err = leaderTerms.check()
	}
	if err != nil {
		return nil, quotaTerms{}, err
	}
	slices.SortFunc(assigned, event.TopicPartition.Compare)
	return assigned, leaderTerms, nil
}

// readUserData reads what encode has written, from a message of so many bytes.
func readUserData[T any](r *groupBytes, size int) (data T, err error) {
	user := r.take(r.length())
	switch {
	case size > maxGroupBytes:
		return data, fmt.Errorf("it has %d bytes, more than %d: the coordinator may be unable to "+
			"store the group", size, maxGroupBytes)
	case r.bad:
		return data, errTruncated
	case len(user) > maxUserData:
		return data, fmt.Errorf("its user data has %d bytes, more than %d", len(user), maxUserData)
	case json.Unmarshal(user, &data) != nil: // the error could quote all of it
		return *new(T), errNotOurs
	}
	return data, nil
}

// groupBytes reads the encoding of what members of a group write. Every length is checked against
// what remains; after the first wrong one it is bad, and reads nothing.
type groupBytes struct {
	b   []byte
	bad bool
}

// take returns the next n bytes; nil if n is wrong.
func (r *groupBytes) take(n int) []byte {
	if n < 0 || n > len(r.b) {
		r.b, r.bad = nil, true
		return nil
	}
	taken := r.b[:n]
	r.b = r.b[n:]
	return taken
}

func (r *groupBytes) number(size int) int {
	b := r.take(size)
	switch {
	case b == nil:
		return 0
	case size == 2:
		return int(int16(binary.BigEndian.Uint16(b)))
	default:
		return int(int32(binary.BigEndian.Uint32(b)))
	}
}

// length reads a length of 4 bytes, of which -1 stands for nothing.
func (r *groupBytes) length() int {
	n := r.number(4)
	if n == -1 {
		return 0
	}
	return n
}

// count reads the length of a list whose elements have at least so many bytes.
func (r *groupBytes) count(minSize int) int {
	n := r.length()
	if n < 0 || n > len(r.b)/minSize {
		r.b, r.bad = nil, true
		return 0
	}
	return n
}

// memberData is what a member publishes when it joins: its quota terms, and what it had before.
type memberData struct {
	quotaTerms
	Owned      []int `json:"owned,omitempty"`      // partition numbers
	Generation int32 `json:"generation,omitempty"` // in which it owned them
}

// published leaves out what the member had before where that would be too long for the leader: then
// the member may keep less of it.
func (d memberData) userData() []byte {
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
