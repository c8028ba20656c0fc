package deadletter

import (
	"strings"
	"testing"
	"unsafe"

	"markread/consumer/event"
)

// record returns a record at partition p, offset o, with headers as pairs of name and value. The
// value "null" stands for a null value.
func record(p int, o int64, value string, headers ...string) event.Record {
	r := event.Record{Topic: "letters", Partition: p, Offset: o, Key: []byte("k"),
		Value: []byte(value)}
	if value == "null" {
		r.Value = nil
	}
	for i := 0; i < len(headers); i += 2 {
		r.Headers = append(r.Headers, event.Header{Key: headers[i], Value: []byte(headers[i+1])})
	}
	return r
}

func written(p int, o int64, class, code, replays string) event.Record {
	return record(p, o, "{}", "own", "x", "markread.class", class, "markread.code", code,
		"markread.replays", replays)
}

func resolved(p int, o int64, id, how string) event.Record {
	return record(p, o, "null", "markread.resolves", id, "markread.resolution", how)
}

func TestStates(t *testing.T) {
	index := NewIndex(3, Filter{})
	for _, r := range []event.Record{
		written(0, 0, "rejected", "90048", "0"),
		written(0, 1, "rejected", "90048", "3"),
		written(0, 2, "rejected", "90048", "2"),
		written(0, 5, "rejected", "90048", "0"), // after a hole
		written(0, 6, "exhausted", "timeout", "4"),
		written(0, 7, "invalid", "", "forged"),
		written(1, 0, "rejected", "90048", "0"), // the same offset in another partition
		resolved(0, 8, "0:5", "replayed"),
		resolved(0, 9, "0:6", "discarded"),
		// too late: already discarded
		resolved(0, 10, "0:6", "replayed"),
		// too late: already replayed
		resolved(0, 11, "0:5", "discarded"),
		// retention has deleted that dead letter
		resolved(0, 12, "0:3", "replayed"),
		// the replayed one failed again
		written(0, 13, "exhausted", "timeout", "1"),
		// unknown records from here on
		record(0, 14, "{}", "markread.resolves", "0:13"),
		// in another partition
		resolved(1, 3, "0:0", "replayed"),
		resolved(0, 15, "0:13", "lost"),     //
		resolved(0, 16, "0:16", "replayed"), // itself
		// a later offset
		resolved(0, 17, "0:99", "replayed"),
		resolved(0, 18, "0:+13", "replayed"), //
		record(0, 19, "x"),                   //
		record(0, 20, "null"),                //
		// empty, not null
		record(0, 21, "", "markread.resolves", "0:13", "markread.resolution", "replayed"),
	} {
		index.Add(r)
	}
	for id, want := range map[ID]State{
		{0, 0}: Open, {0, 1}: Parked, {0, 2}: Open, {0, 5}: Replayed, {0, 6}: Discarded,
		{0, 7}: Open, {1, 0}: Open, {0, 13}: Open,
	} {
		if got, ok := index.State(id); !ok || got != want {
			t.Errorf("%s is %s %t, want %s", id, got, ok, want)
		}
	}
	for _, id := range []ID{{0, 3}, {0, 8}, {0, 99}, {2, 0}} {
		if got, ok := index.State(id); ok {
			t.Errorf("%s is %s, but there is no such dead letter", id, got)
		}
	}
	if index.Unknown() != 9 {
		t.Errorf("%d unknown records", index.Unknown())
	}
	want := []Count{
		{Kind: event.Kind{Class: "rejected", Code: "90048"},
			Letters: [stateCount]int64{3, 1, 1, 0}},
		{Kind: event.Kind{Class: "exhausted", Code: "timeout"},
			Letters: [stateCount]int64{1, 0, 0, 1}},
		{Kind: event.Kind{Class: "invalid", Code: ""}, Letters: [stateCount]int64{1, 0, 0, 0}},
	}
	got := index.Counts()
	if len(got) != len(want) {
		t.Fatalf("%+v", got)
	}
	for i := range want {
		if got[i].Kind != want[i].Kind || got[i].Letters != want[i].Letters {
			t.Errorf("%+v, want %+v", got[i], want[i])
		}
	}
}

// A class makes a record a dead letter, whatever other headers it has: a resolution must not hide
// it.
func TestAClassMakesALetter(t *testing.T) {
	index := NewIndex(1, Filter{})
	index.Add(written(0, 0, "rejected", "1", "0"))
	index.Add(record(0, 1, "null", "markread.class", "", "markread.resolves", "0:0",
		"markread.resolution", "replayed"))
	if first, _ := index.State(ID{0, 0}); first != Open {
		t.Errorf("the first is %s", first)
	}
	if second, ok := index.State(ID{0, 1}); !ok || second != Open {
		t.Errorf("the second is %s %t", second, ok)
	}
}

// Whoever can write to the topic can write anything; it must not take much memory.
func TestNamesAreShort(t *testing.T) {
	index := NewIndex(3, Filter{})
	index.Add(written(0, 0, strings.Repeat("\u00fc", 1000), strings.Repeat("1", 1<<20), "0"))
	if c := index.Counts()[0]; len(c.Class) > maxName+3 || len(c.Code) != maxName ||
		!strings.HasPrefix(c.Class, "\u00fc\u00fc") {
		t.Errorf("%d and %d bytes", len(c.Class), len(c.Code))
	}
	if size := unsafe.Sizeof(Entry{}); size != 64 {
		t.Errorf("an entry takes %d bytes", size)
	}
}

func TestIDs(t *testing.T) {
	for _, id := range []ID{{}, {3, 17}, {1<<31 - 1, 1<<63 - 1}} {
		if got, ok := ParseID(id.String()); !ok || got != id {
			t.Errorf("%s is read as %v %t", id, got, ok)
		}
	}
	for _, text := range []string{"", ":", "1", "1:", ":1", "-1:1", "1:-1", "01:1", "1:+1", "1:1 ",
		"1:1:1", "a:b", "4294967296:0", "0:9223372036854775808"} {
		if id, ok := ParseID(text); ok {
			t.Errorf("%q is read as %v", text, id)
		}
	}
}
