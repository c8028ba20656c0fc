package deadletter

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"markread/consumer/event"
	"markread/consumer/kafkaclient"
)

// Unread is an offset range that can't be read, or records that can't be decoded.
type Unread struct {
	kafkaclient.UnreadRange
	Damaged bool // the records can't be decoded: they contain no dead letter and no resolution
}

// Place returns the topic, partition and offsets, as text for people.
func (u Unread) Place() string {
	if u.From < 0 {
		return fmt.Sprintf("topic %q, partition %d", u.Topic, u.Partition)
	}
	return fmt.Sprintf("topic %q, partition %d, offsets %d to %d", u.Topic, u.Partition, u.From,
		u.To-1)
}

// Do returns the remedy, as text for people.
func (u Unread) Do() string {
	if u.Damaged {
		return "find out what wrote it; markread did not, so no dead letter is lost"
	}
	return u.UnreadRange.Do()
}

// unread holds what could not be read since Find.
type unread struct {
	ranges  map[int]kafkaclient.UnreadRange // by partition
	damaged []Unread
	more    int // number omitted from damaged
}

// maxDamaged bounds the kept ranges of damaged records: other programs may write any number of
// them.
const maxDamaged = 100

func (u *unread) damage(r event.Record) {
	if len(u.damaged) == maxDamaged {
		u.more++
		return
	}
	u.damaged = append(u.damaged, Unread{kafkaclient.UnreadRange{
		TopicPartition: event.TopicPartition{Topic: r.Topic, Partition: r.Partition},
		From:           r.Offset, To: r.Damage.Last + 1, Err: event.Decode(r, time.Time{}).Invalid,
	}, true})
}

// fail records where the read of a partition ended; the lowest offset counts.
func (u *unread) fail(r kafkaclient.UnreadRange) {
	if u.ranges == nil {
		u.ranges = map[int]kafkaclient.UnreadRange{}
	}
	if before, known := u.ranges[r.Partition]; !known || r.From < before.From {
		u.ranges[r.Partition] = r
	}
}

// has reports whether the dead letter is in a range that can't be read.
func (u *unread) has(id ID) bool {
	r, some := u.ranges[id.Partition]
	return some && id.Offset >= r.From
}

// Unread returns what could not be read since Find, sorted by partition and offset, and the number
// of omitted ranges of damaged records.
func (s *Store) Unread() (all []Unread, more int) {
	for _, r := range s.unread.ranges {
		all = append(all, Unread{UnreadRange: r})
	}
	all = append(all, s.unread.damaged...)
	slices.SortFunc(all, func(a, b Unread) int {
		return cmp.Or(cmp.Compare(a.Partition, b.Partition), cmp.Compare(a.From, b.From))
	})
	return all, s.unread.more
}

// PartlyRead reports whether the partition of a dead letter could not be read to its end. The dead
// letter may then be resolved, or may not exist.
func (s *Store) PartlyRead(id ID) bool {
	_, some := s.unread.ranges[id.Partition]
	return some
}

// WithKnownState returns the dead letters of found, a result of Find, whose state is known, and the
// number of omitted ones: those in partitions that were read in part, unless named has their ID. It
// does no harm to replay or discard a resolved dead letter again.
func (s *Store) WithKnownState(found []Entry, named map[ID]bool) (known []Entry, left int) {
	known = slices.DeleteFunc(found,
		func(l Entry) bool { return s.PartlyRead(l.ID) && !named[l.ID] })
	return known, len(found) - len(known)
}
