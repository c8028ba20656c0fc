package deadletter

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"markread/consumer/event"
)

// damage appends a range of records that can't be decoded. The records at its further offsets are
// unknown ones.
func (t *topic) damage(partition, count int) {
	first := int64(len(t.partitions[partition]))
	for range count {
		t.append(partition, event.Message{})
	}
	t.partitions[partition][first].Damage = &event.Damage{Last: first + int64(count) - 1,
		Count: count, Err: errors.New("bad length")}
}

func unreadOf(s *Store) string {
	all, more := s.Unread()
	var texts []string
	for _, u := range all {
		texts = append(texts,
			fmt.Sprintf("%d:%d-%d %v %v", u.Partition, u.From, u.To, u.Damaged, u.Err))
	}
	return strings.Join(texts, "; ") + fmt.Sprint(" +", more)
}

// A record in an unreadable range may resolve an earlier dead letter of its partition. Those are
// neither replayed nor discarded unless their IDs are given. Other partitions are not affected.
func TestLettersBeforeAnUnreadRangeStayOpen(t *testing.T) {
	from, to := newTopic(2), newTopic(1)
	from.letter(0, "a", 100)
	from.letter(1, "b", 100)
	from.letter(1, "c", 100)
	from.append(1, ResolutionMessage(from.partitions[1][0], Replayed))
	from.letter(1, "d", 100)
	from.broken = map[int]int64{1: 2}
	s := &Store{Topic: from, Name: from.name}
	index := find(t, s)
	if got := unreadOf(s); got != "1:2-4 false checksum +0" {
		t.Error(got)
	}
	named := map[ID]bool{{Partition: 1, Offset: 1}: true, {Partition: 1, Offset: 3}: true}
	for _, c := range []struct {
		named map[ID]bool
		want  string
		left  int
	}{{nil, "0:0", 2}, {named, "0:0 1:1", 1}} {
		known, left := s.WithKnownState(index.Find(Open), c.named)
		var got []string
		for _, l := range known {
			got = append(got, l.ID.String())
		}
		if strings.Join(got, " ") != c.want || left != c.left {
			t.Errorf("%v known, want %s; %d left", got, c.want, left)
		}
	}
	known, _ := s.WithKnownState(index.Find(Open), nil)
	done, err := s.Replay(t.Context(), PlanOf(known, 0), clock, to, from, nil)
	if err != nil || done != (Done{Letters: 1, Conversations: 1}) || len(to.published) != 1 {
		t.Errorf("%+v, %v, %d published", done, err, len(to.published))
	}
	if !s.PartlyRead(ID{Partition: 1}) || s.PartlyRead(ID{Partition: 0}) {
		t.Error("the wrong partition is partly read")
	}
}

// A partition that becomes unreadable during a command stops only the work on its dead letters.
func TestPartitionBecomesUnreadable(t *testing.T) {
	for _, command := range []string{"replay", "discard", "list"} {
		t.Run(command, func(t *testing.T) {
			from, to := newTopic(2), newTopic(1)
			for i := range 3 {
				from.letter(0, fmt.Sprint("a", i), 100)
				from.letter(1, fmt.Sprint("b", i), 100)
			}
			from.letter(0, "b2", 50) // covered by the last dead letter of the other partition
			s, plan := planned(t, from)
			from.broken = map[int]int64{1: 1}
			var done Done
			var err error
			want := Done{Letters: 4, Unread: 3, Conversations: 4}
			switch command {
			case "replay":
				done, err = s.Replay(t.Context(), plan, clock, to, from, nil)
			case "discard":
				done, err = s.Discard(t.Context(), plan.All(), from, nil)
				want = Done{Letters: 5, Unread: 2}
			case "list":
				err = s.List(t.Context(), plan.All(),
					func(*Letter) error { done.Letters++; return nil })
				want = Done{Letters: 5}
			}
			if err != nil || done != want {
				t.Errorf("%+v, want %+v; %v", done, want, err)
			}
			if got := unreadOf(s); got != "1:1-3 false checksum +0" {
				t.Error(got)
			}
		})
	}
}

// Records of other programs that can't be decoded are reported, up to a bound, and stop nothing.
func TestDamagedRecordsHideNoLetters(t *testing.T) {
	from, to := newTopic(1), newTopic(1)
	from.letter(0, "a", 100)
	from.damage(0, 3)
	from.letter(0, "b", 100)
	for range maxDamaged + 4 {
		from.damage(0, 1)
	}
	s, plan := planned(t, from)
	if known, left := s.WithKnownState(plan.All(), nil); len(known) != 2 || left != 0 {
		t.Errorf("%d known, %d left", len(known), left)
	}
	unread, more := s.Unread()
	if len(unread) != maxDamaged || more != 5 || !unread[0].Damaged || unread[0].From != 1 ||
		unread[0].To != 4 ||
		unread[0].Err.Error() != "the 3 records at offsets 1 to 3 can't be decoded: bad length" {
		t.Errorf("%d unread, %d more: %+v", len(unread), more, unread[0])
	}
	if done, err := s.Replay(t.Context(), plan, clock, to, from, nil); err != nil ||
		done != (Done{Letters: 2, Conversations: 2}) {
		t.Errorf("%+v, %v", done, err)
	}
	var none *NotFoundError
	if _, err := s.Show(t.Context(), ID{Offset: 1}, 3); !errors.As(err, &none) ||
		!strings.Contains(none.Why, "can't be decoded") {
		t.Error(err)
	}
	if find(t, s).Unknown() != 2 { // the records that fill the range
		t.Error("damaged records are counted as unknown")
	}
}

// It is an error if nothing of the topic can be read, also if the readable partitions are empty.
func TestNothingCanBeRead(t *testing.T) {
	from := newTopic(3)
	from.letter(1, "a", 100)
	from.broken = map[int]int64{1: 0}
	s := &Store{Topic: from, Name: from.name}
	if err := s.Find(t.Context(), NewIndex(3, Filter{})); err == nil ||
		err.Error() != `topic "letters", partition 1: checksum` {
		t.Error(err)
	}
	from.letter(0, "b", 100)
	if find(t, s); unreadOf(s) != "1:0-1 false checksum +0" {
		t.Error(unreadOf(s))
	}
	from.broken = nil
	if find(t, s); unreadOf(s) != " +0" {
		t.Errorf("after the repair: %s", unreadOf(s))
	}
}

// A dead letter before an unreadable range is shown with the note that its state is not known; one
// within the range can't be shown.
func TestShowOfAPartlyReadPartition(t *testing.T) {
	from := newTopic(1)
	from.letter(0, "a", 100)
	from.letter(0, "b", 100)
	from.broken = map[int]int64{0: 1}
	s := &Store{Topic: from, Name: from.name}
	if v, err := s.Show(t.Context(), ID{}, 3); err != nil || *v.Report != "a" ||
		!s.PartlyRead(v.ID) {
		t.Errorf("%+v, %v", v, err)
	}
	if _, err := s.Show(t.Context(), ID{Offset: 1}, 3); err == nil ||
		!strings.Contains(err.Error(), "offset 1: checksum") {
		t.Error(err)
	}
}
