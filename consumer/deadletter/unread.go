package deadletter

import (
	"cmp"
	"slices"
	"time"

	"markread/consumer/event"
	"markread/consumer/kafkaclient"
)

// Unread is a part of the topic that can't be read, or records of others that can't be decoded.
type Unread struct {
	kafkaclient.UnreadRange
	Damaged bool // the records can't be decoded: no letter and no resolution is among them
}

// unread is what could not be read since Find.
type unread struct {
	ranges  map[int]kafkaclient.UnreadRange // by partition
	damaged []Unread
	more    int // that are left out of damaged
}

// maxDamaged bounds what is kept of damaged records: others may write any number.
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

// fail notes where reading a partition ended; the first such offset counts.
func (u *unread) fail(r kafkaclient.UnreadRange) {
	if u.ranges == nil {
		u.ranges = map[int]kafkaclient.UnreadRange{}
	}
	if before, known := u.ranges[r.Partition]; !known || r.From < before.From {
		u.ranges[r.Partition] = r
	}
}

// has reports whether the letter is in a part that can't be read.
func (u *unread) has(id ID) bool {
	r, some := u.ranges[id.Partition]
	return some && id.Offset >= r.From
}

// Unread returns what could not be read since Find, by partition, and how many damaged parts it
// leaves out.
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

// CutShort reports whether the partition of a letter could not be read to its end: the letter may
// be resolved, or may not be there.
func (s *Store) PartlyRead(id ID) bool {
	_, some := s.unread.ranges[id.Partition]
	return some
}

// Known returns those of the letters that Find found whose state is known, and how many it leaves
// out: those of partitions that are cut short, unless they are named. To replay or discard a
// resolved letter once more does no harm.
func (s *Store) WithKnownState(found []Entry, named map[ID]bool) (known []Entry, left int) {
	known = slices.DeleteFunc(found,
		func(l Entry) bool { return s.PartlyRead(l.ID) && !named[l.ID] })
	return known, len(found) - len(known)
}
