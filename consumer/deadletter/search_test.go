package deadletter

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"markread/consumer/event"
)

// A search of an index of all dead letters finds what an index with that filter has.
func TestSearchIsTheFilter(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	base := time.Date(2026, 3, 1, 2, 48, 0, 0, time.UTC)
	pick := func(of ...string) string { return of[random.IntN(len(of))] }
	var records []event.Record
	for i := range 300 {
		r := record(i%3, int64(i), pick("{}", "x", `{"Report_Account":"a"}`,
			`{"Report_Account":"a","Peer_Account":"b"}`, `{"Report_Account":"b","Peer_Account":"a"}`),
			"markread.class", pick("rejected", "exhausted", "invalid"),
			"markread.code", pick("90048", "timeout", ""), "markread.replays", pick("0", "3"),
			"markread.failed-at", base.Add(time.Duration(random.IntN(50))*time.Second).
				Format(time.RFC3339Nano))
		if before := i - 3; before >= 0 && random.IntN(4) == 0 {
			r = resolved(i%3, int64(i), IDOf(records[before]).String(),
				pick("replayed", "discarded"))
		}
		records = append(records, r)
	}
	all := NewIndex(3, Filter{})
	all.KeepAccounts()
	all.Add(records[0])
	all.reset() // it keeps accounts after a reset, too
	for _, r := range records {
		all.Add(r)
	}
	for range 300 {
		f := Filter{Class: pick("", "rejected"), Code: pick("", "timeout"),
			Report: pick("", "a", "c"), Peer: pick("", "", "b")}
		if random.IntN(2) == 0 {
			f.Since = base.Add(time.Duration(random.IntN(30)) * time.Second)
		}
		if random.IntN(2) == 0 {
			f.Until = base.Add(time.Duration(20+random.IntN(30)) * time.Second)
		}
		if random.IntN(4) == 0 {
			f.IDs = map[ID]bool{IDOf(records[7]): true, IDOf(records[8]): true}
		}
		filtered, search := NewIndex(3, f), all.Search(f)
		for _, r := range records {
			filtered.Add(r)
		}
		states := AllStates()[random.IntN(4):]
		want, got := ids(filtered.Find(states...)), ids(search.Find(states...))
		if !slices.Equal(got, want) {
			t.Errorf("%+v, %v: %v, want %v", f, states, got, want)
		}
		if got, want := fmt.Sprint(search.Counts()), fmt.Sprint(filtered.Counts()); got != want {
			t.Errorf("%+v: %s, want %s", f, got, want)
		}
		skip, n := random.IntN(30), 1+random.IntN(30)
		slices.Reverse(want)
		want = want[min(skip, len(want)):]
		want = want[:min(n, len(want))]
		if got := ids(search.Newest(skip, n, states...)); !slices.Equal(got, want) {
			t.Errorf("%+v, %v, %d of the newest after %d: %v, want %v", f, states, n, skip, got,
				want)
		}
	}
}

func ids(found []Entry) (ids []ID) {
	for _, l := range found {
		ids = append(ids, l.ID)
	}
	return ids
}
