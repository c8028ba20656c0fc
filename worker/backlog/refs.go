package backlog

import (
	"encoding/binary"
	"iter"
)

// Refs is a list of events, in order of arrival. Events of a conversation usually come from one
// partition, so that the numbers of consecutive ones differ little: one or two bytes are enough for
// each but the first. The zero value is empty.
type Refs struct {
	first, last uint64
	n           int
	deltas      []byte // from each ref to the next, as varints
}

// Len returns how many refs the list has.
func (r *Refs) Len() int { return r.n }

func (r *Refs) add(ref uint64) {
	if r.n == 0 {
		r.first = ref
	} else {
		r.deltas = binary.AppendVarint(r.deltas, int64(ref-r.last)) // modulo 2^64
	}
	r.last = ref
	r.n++
}

func (r *Refs) addAll(more Refs) {
	for ref := range more.All() {
		r.add(ref)
	}
}

// All returns the refs.
func (r Refs) All() iter.Seq[uint64] {
	return func(yield func(uint64) bool) {
		ref, rest := r.first, r.deltas
		for i := range r.n {
			if i > 0 {
				delta, size := binary.Varint(rest)
				ref, rest = ref+uint64(delta), rest[size:]
			}
			if !yield(ref) {
				return
			}
		}
	}
}
