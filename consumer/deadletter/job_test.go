package deadletter

import (
	"fmt"
	"testing"
	"time"
)

// A job reports the dead letters that others resolved between its plan and its run as gone, and
// leaves them alone.
func TestJob(t *testing.T) {
	from := newTopic(2)
	for i := range 4 {
		from.letter(i%2, fmt.Sprint("a", i/2), int64(100+i))
	}
	from.letter(0, "parked", 100, "markread.replays", "3")
	from.letter(0, "no event", 100)
	last := len(from.partitions[0]) - 1
	from.partitions[0][last].Value = []byte("{}")
	s := &Store{Topic: from, Name: from.name}
	selected, err := s.Select(t.Context(), Selection{MaxReplays: 3, Open: true}, clock())
	if err != nil {
		t.Fatal(err)
	}
	job := selected.NewJob(0)
	if got := fmt.Sprintf("%+v", job.Report); job.Planned() != 4 ||
		got != "{Letters:4 Conversations:2 StillOpen:{Invalid:1 ValueOmitted:0 TooLarge:0 "+
			"Refused:0 Unresolved:0} Skipped:{Parked:1 Gone:0 Unread:0}}" {
		t.Error(got)
	}
	from.append(0, ResolutionMessage(from.partitions[0][0], Discarded))
	if err := job.Recheck(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := job.Run(t.Context(), clock, from, from, nil); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprintf("%+v", job.Report); got != "{Letters:3 Conversations:2 "+
		"StillOpen:{Invalid:1 ValueOmitted:0 TooLarge:0 Refused:0 Unresolved:0} "+
		"Skipped:{Parked:1 Gone:1 Unread:0}}" {
		t.Error(got)
	}
	want := "0:0 discarded, 0:1 replayed, 0:2 parked, 0:3 open, 1:0 replayed, 1:1 replayed"
	if got := states(t, s); got != want {
		t.Error(got)
	}
}

// The states of a selection: open ones, parked ones, or both.
func TestSelection(t *testing.T) {
	from := newTopic(1)
	from.letter(0, "open", 100)
	from.letter(0, "parked", 100, "markread.replays", "3")
	s := &Store{Topic: from, Name: from.name}
	for want, c := range map[string]Selection{
		"[0:0] 1":     {MaxReplays: 3, Open: true},
		"[0:1] 0":     {MaxReplays: 3, Parked: true},
		"[0:0 0:1] 0": {MaxReplays: 3, Open: true, Parked: true},
	} {
		selected, err := s.Select(t.Context(), c, time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(ids(selected.Entries), selected.Skipped.Parked); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}
