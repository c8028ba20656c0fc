package letters

import (
	"slices"
	"testing"

	"markread/consumer/deadletter"
)

// The command of a conversation has the console's flags, and lists dead letters of all states.
func TestCommandOfAConversation(t *testing.T) {
	l := New(Options{Flags: []string{"--brokers", "kafka:9092"}})
	const want = "markread dead-letters ls --brokers kafka:9092 --state all --report alice --peer=-bob"
	if got := l.Command("alice", "-bob"); got != want {
		t.Errorf("%s", got)
	}
	if got := l.Command("a\x1b[31m", "b"); got != "" {
		t.Errorf("an account that nobody should paste: %q", got)
	}
}

// What may hide dead letters comes before what is only damaged.
func TestDamagedLast(t *testing.T) {
	list := []deadletter.Unread{{Damaged: true}, {}, {Damaged: true}, {}}
	slices.SortStableFunc(list, damagedLast)
	for i, u := range list {
		if u.Damaged != (i >= 2) {
			t.Errorf("%d: %+v", i, u)
		}
	}
}
