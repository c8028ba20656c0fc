package backfill

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// The window agrees with a naive model: conversations in the order in which they were added, each
// with the largest T since then, and the oldest chunk is popped first.
func TestWindowAgainstAModel(t *testing.T) {
	for seed := range uint64(20) {
		random := rand.New(rand.NewPCG(seed, 1))
		w := newWindow(2 + random.IntN(3))
		if hash := w.hash; seed%2 == 0 { // otherwise hardly any two hashes are the same
			w.hash = func(key []byte) uint32 { return hash(key) | 0xffff0000 }
		}
		type entry struct {
			t    int64
			from int64 // the row that added it
		}
		model := map[string]*entry{}
		var order []string
		left := 0
		leave := func() {
			n := 0
			rest, ok := w.popOldest(func(report, peer []byte, readTime int64) {
				key := string(report) + "|" + string(peer)
				if n >= len(order) || order[n] != key {
					t.Fatalf("seed %d: %s left, out of turn", seed, key)
				}
				if model[key].t != readTime {
					t.Fatalf("seed %d: %s left with %d, not %d", seed, key, readTime, model[key].t)
				}
				delete(model, key)
				n++
			})
			order = order[n:]
			left += n
			if ok != (len(order) > 0) || ok && rest.Rows != model[order[0]].from {
				t.Fatalf("seed %d: what is left begins at row %d, %t", seed, rest.Rows, ok)
			}
		}
		for i := range int64(60_000) {
			report := fmt.Sprintf("u%d", random.IntN(40_000))
			peer := "p"
			if random.IntN(3) == 0 {
				peer = "longer-peer-of-thirty-two-bytes!"
			}
			if w.full() {
				leave()
			}
			at := int64(1) + random.Int64N(1<<32-1)
			w.add([]byte(report), []byte(peer), at, Position{Rows: i})
			key := report + "|" + peer
			if e := model[key]; e == nil {
				model[key] = &entry{at, i}
				order = append(order, key)
			} else {
				e.t = max(e.t, at)
			}
			if w.count() != len(order) {
				t.Fatalf("seed %d: %d conversations, not %d", seed, w.count(), len(order))
			}
		}
		for w.count() > 0 {
			leave()
		}
		if left == 0 || len(order) > 0 {
			t.Fatalf("seed %d: %d left, %d remain", seed, left, len(order))
		}
		// The window can be used again.
		w.add([]byte("a"), []byte("b"), 1, Position{})
		w.add([]byte("a"), []byte("b"), 2, Position{})
		if w.count() != 1 {
			t.Fatalf("seed %d: what left is still found", seed)
		}
	}
}

// The boundary between the two accounts counts.
func TestWindowTellsAccountsApart(t *testing.T) {
	w := newWindow(2)
	for _, c := range [][2]string{{"ab", "c"}, {"a", "bc"}, {"a|b", "c"}, {"a", "b|c"}} {
		w.add([]byte(c[0]), []byte(c[1]), 1, Position{})
	}
	if w.count() != 4 {
		t.Errorf("%d conversations, not 4", w.count())
	}
}

// Entries are found in every chunk, whatever its place and age.
func TestWindowOfTheLargestSize(t *testing.T) {
	if testing.Short() {
		t.Skip("skipped: it takes 220 MB")
	}
	w := newWindow(maxChunks)
	n := int64(0)
	name := func(i int64) []byte { return fmt.Appendf(nil, "%032d", i) }
	for ; !w.full(); n++ {
		w.add(name(n), name(n), n+1, Position{})
	}
	if n < 2_500_000 {
		t.Errorf("%d conversations of the longest accounts fit", n)
	}
	seen := int64(0)
	for w.count() > 0 {
		w.popOldest(func(report, _ []byte, readTime int64) {
			if string(report) != string(name(seen)) || readTime != seen+1 {
				t.Fatalf("number %d is %s with %d", seen, report, readTime)
			}
			seen++
		})
	}
	if seen != n {
		t.Errorf("%d of %d came out", seen, n)
	}
}

func BenchmarkWindow(b *testing.B) {
	w := newWindow(maxChunks)
	report, peer := []byte("user0000000000"), []byte("user0000000000")
	random := rand.New(rand.NewPCG(1, 1))
	for b.Loop() {
		if w.full() {
			w.popOldest(func(_, _ []byte, _ int64) {})
		}
		n := random.Uint32N(5_000_000)
		for i := 13; i > 6; i-- {
			report[i] = '0' + byte(n%10)
			n /= 10
		}
		w.add(report, peer, 1_700_000_000, Position{})
	}
}
