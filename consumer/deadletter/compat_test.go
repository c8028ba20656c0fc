package deadletter

import (
	"bytes"
	"encoding/json"
	"os"
	"reflect"
	"testing"
	"time"

	"markread/consumer/event"
)

// The dead letters of an older version keep their meaning: the same states, the same contents, and
// the same records when replayed.
//
// Programs of commit 4a19850 wrote testdata/deadletters-4a19850.ndjson on the embedded broker, to a
// topic with max.message.bytes=2000. A worker (`markread run --attempts 2`, with `markread sandbox`
// as IM server) read four invalid events, two whose calls failed with 90994 and 502 until they were
// exhausted, and others that were rejected because sandbox has no accounts that begin with
// "nobody". One of these dead letters stands for three events, and two records were too large.
// `dead-letters replay` replayed one conversation, which was rejected again, and `dead-letters
// discard` discarded a dead letter. Each line is a record of the topic. "shown" is what
// `dead-letters ls --json --state all` printed for it, and "replayed" what a last replay of all
// open dead letters published for it.
func TestDeadLettersOfAnOlderVersion(t *testing.T) {
	text, err := os.ReadFile("testdata/deadletters-4a19850.ndjson")
	if err != nil {
		t.Fatal(err)
	}
	type line struct {
		event.Record
		Shown    map[string]json.RawMessage // nil: a resolution
		Replayed event.Message
	}
	lines := map[ID]line{}
	index := NewIndex(3, Filter{})
	index.CheckReplayableAt(time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC))
	for text := range bytes.Lines(text) {
		var l line
		if err := json.Unmarshal(text, &l); err != nil {
			t.Fatal(err)
		}
		lines[IDOf(l.Record)] = l
		index.Add(l.Record)
	}
	if index.Unknown() != 0 {
		t.Errorf("%d unknown records", index.Unknown())
	}
	for id, l := range lines {
		state, found := index.State(id)
		if found != (l.Shown != nil) {
			t.Errorf("%s: a dead letter: %t", id, found)
		}
		letter := Parse(l.Record, state)
		var shown map[string]json.RawMessage
		if err := json.Unmarshal(letter.AppendJSON(nil, false), &shown); err != nil {
			t.Fatal(err)
		}
		for name, want := range l.Shown {
			if string(shown[name]) != string(want) {
				t.Errorf("%s: %s is %s, want %s", id, name, shown[name], want)
			}
		}
	}
	plan := PlanOf(index.Find(Open), 0)
	for _, l := range plan.Events {
		want := lines[l.ID].Replayed
		if got := l.ReplayMessage(lines[l.ID].Record); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: replayed as %+v, want %+v", l.ID, got, want)
		}
	}
	obstacles := [...]int{Invalid: 3, Omitted: 2}
	if len(plan.Events) != 5 || len(plan.Covered) != 1 || plan.Obstacles != obstacles {
		t.Errorf("%d events, %d covered, %v", len(plan.Events), len(plan.Covered), plan.Obstacles)
	}
}
