package backlog

import (
	"fmt"
	"hash/maphash"
	"iter"
	"math/rand/v2"
	"slices"
	"testing"
)

// Random histories of the table are compared with a map's.
func TestTableAgainstAMap(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 5))
		b := table{seed: maphash.MakeSeed()}
		model := map[string]*Conversation{}
		ids := 1 + r.IntN(5000)
		growing := true
		for step := range 40_000 {
			if step%10_000 == 0 {
				growing = !growing
			}
			id := fmt.Append(nil, r.IntN(ids))
			hash := maphash.Bytes(b.seed, id)
			c := b.find(id, hash)
			if c != model[string(id)] {
				t.Fatalf("seed %d, step %d: %s is %p, want %p", seed, step, id, c,
					model[string(id)])
			}
			switch add := growing == (r.IntN(4) > 0); {
			case c == nil && add:
				c = &Conversation{payload: id, idLen: uint8(len(id))}
				b.insert(c, hash)
				model[string(id)] = c
			case c != nil && !add:
				b.remove(c)
				delete(model, string(id))
			}
		}
		n := 0
		for c := range b.all() {
			if n++; model[c.ID()] != c {
				t.Fatalf("seed %d: %s should not be there", seed, c.ID())
			}
		}
		if n != len(model) || b.n != n {
			t.Fatalf("seed %d: %d conversations, counted %d, want %d", seed, n, b.n, len(model))
		}
	}
}

// Where many thousands waited once, nothing must stay in memory.
func TestTableShrinks(t *testing.T) {
	b := table{seed: maphash.MakeSeed()}
	var all []*Conversation
	for i := range 100_000 {
		id := fmt.Append(nil, i)
		c := &Conversation{payload: id, idLen: uint8(len(id))}
		b.insert(c, maphash.Bytes(b.seed, id))
		all = append(all, c)
	}
	slots := func() (n int) {
		for i := range b.shards {
			n += len(b.shards[i].slots)
		}
		return n
	}
	if most := slots(); most > 3*len(all) {
		t.Errorf("%d slots for %d conversations", most, len(all))
	}
	for _, c := range all[10:] {
		b.remove(c)
	}
	if few := slots(); few > 64*fewestSlots {
		t.Errorf("%d slots for 10 conversations", few)
	}
}

func TestRefs(t *testing.T) {
	for _, want := range [][]uint64{
		nil, {0}, {1 << 63}, {5, 6, 7, 1000, 1001}, {1 << 48, 3, 2<<48 | 7, 1},
		{0, 1<<64 - 1, 0, 1 << 63}, {7, 7},
	} {
		var r Refs
		for _, ref := range want {
			r.add(ref)
		}
		if got := list(r); !slices.Equal(got, want) || r.Len() != len(want) {
			t.Errorf("%d: got %d", want, got)
		}
		var both Refs
		both.addAll(r)
		both.addAll(r)
		if got := list(both); !slices.Equal(got, slices.Concat(want, want)) {
			t.Errorf("%d twice: got %d", want, got)
		}
	}
}

// A conversation of a million events must not need megabytes for them.
func TestRefsAreSmall(t *testing.T) {
	var r Refs
	for i := range uint64(1000) {
		r.add(3<<48 | i*40)
	}
	if len(r.deltas) > 2000 {
		t.Errorf("%d bytes for 1000 refs", len(r.deltas))
	}
}

// all returns the conversations, in no particular order.
func (t *table) all() iter.Seq[*Conversation] {
	return func(yield func(*Conversation) bool) {
		for i := range t.shards {
			for _, c := range t.shards[i].slots {
				if c != nil && !yield(c) {
					return
				}
			}
		}
	}
}
