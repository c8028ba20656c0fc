package consumer

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"markread/consumer/event"
)

// The coordinator passes the members' data on without checking it: anyone who may join the group
// may send any bytes. They are decoded only here, with bounds: kafka-go allocates according to the
// lengths that it reads.
const (
	// maxGroupBytes limits a member's metadata, and its assignment. Kafka stores a group in one
	// record of at most 1 MiB. Above that, every SyncGroup of the group fails with "unexpected
	// server error" until the member has left (observed with 4.4).
	maxGroupBytes = 1 << 20
	// maxUserData limits the JSON in them: enough for two topics and 9,000 owned partition
	// numbers.
	maxUserData = 64 << 10
	// maxTermsNumber is more partitions, and more calls a second, than can exist.
	maxTermsNumber = 200_000

	maxTopics = 2 // consumed by a worker
)

var (
	errTruncated = errors.New("its bytes are malformed or truncated")
	errNotOurs   = errors.New("it was not written by markread, or was written by an incompatible " +
		"version of it")
)

// decodeMember decodes and checks the metadata that a member sends when it joins.
func decodeMember(b []byte) (memberData, error) {
	r := groupBytes{b: b}
	r.number(2) // version: later ones append fields
	for range r.count(2) {
		r.take(r.number(2)) // skip the topics: the user data is authoritative
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

// decodeAssignment decodes the assignment that the group's leader sent to a member: the partitions,
// sorted by topic and number, and the leader's quota terms, which are checked. The partitions are
// not: they may be of other topics, may not exist, and may repeat.
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

// readUserData decodes the output of encode from a message of size bytes.
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
	case json.Unmarshal(user, &data) != nil: // its error could quote the whole input
		return *new(T), errNotOurs
	}
	return data, nil
}

// groupBytes reads the binary encoding of members' data. It checks every length against the
// remaining bytes. After the first invalid one it is bad, and reads nothing more.
type groupBytes struct {
	b   []byte
	bad bool
}

// take returns the next n bytes; nil if n is invalid.
func (r *groupBytes) take(n int) []byte {
	if n < 0 || n > len(r.b) {
		r.b, r.bad = nil, true
		return nil
	}
	taken := r.b[:n]
	r.b = r.b[n:]
	return taken
}

// number reads a signed big-endian integer of 2 or 4 bytes; 0 if too few remain.
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

// length reads a length of 4 bytes; -1 means null and counts as 0.
func (r *groupBytes) length() int {
	n := r.number(4)
	if n == -1 {
		return 0
	}
	return n
}

// count reads the length of a list whose elements have at least minSize bytes each.
func (r *groupBytes) count(minSize int) int {
	n := r.length()
	if n < 0 || n > len(r.b)/minSize {
		r.b, r.bad = nil, true
		return 0
	}
	return n
}

// memberData is what a member publishes when it joins: its quota terms, and its previous
// assignment.
type memberData struct {
	quotaTerms
	Owned      []int `json:"owned,omitempty"`      // partition numbers
	Generation int32 `json:"generation,omitempty"` // the generation in which it owned them
}

// userData encodes d. It omits the previous assignment where the leader would not accept that many
// bytes; the member may then keep fewer of its partitions.
func (d memberData) userData() []byte {
	b := encode(d)
	if len(b) > maxUserData {
		d.Owned = nil
		return encode(d)
	}
	return b
}

func encode(data any) []byte {
	b, _ := json.Marshal(data) // can't fail: only numbers and topic names
	return b
}
