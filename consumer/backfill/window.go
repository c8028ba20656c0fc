package backfill

import (
	"bytes"
	"hash/maphash"
)

// Sizes of the window. A conversation takes 7 bytes, its two accounts, and its share of the table: five million of 28 bytes, such as
// "user0001234567" and "user0007654321", fit; two and a half million of the longest accounts that there are.
const (
	chunkBits = 18 // a chunk is what is published, and let go, at a time: some 7,000 conversations
	chunkSize = 1 << chunkBits
	maxChunks = 736 // 184 MiB
	maxSlots  = 1 << 23
	minSlots  = 1 << 12

	offsetBits = 28 // of a slot: the place of an entry; the other four are of its hash
	offsetMask = 1<<offsetBits - 1
)

// Parts of an entry: T, five bytes, which is enough until the year 36812; the lengths of both accounts; both accounts.
const (
	timeBytes  = 5
	keyHeader  = 2
	longestKey = keyHeader + 2*255
)

// window holds the conversations that were read and not yet published, each with its largest T. When it is full, the
// oldest must go: those of the chunk that was filled first. It is pure.
//
// It is not a map of strings because of the memory: that would take five times as much, and the collector would have to look at each. Here a
// few large blocks hold the entries one behind the other, and a table with linear probing has the place of each in four bytes.
type window struct {
	seed   maphash.Seed
	slots  []uint32 // 0: empty
	count  int      // conversations
	chunks []*chunk // the oldest first
	places [maxChunks]*chunk
	free   []int // places without a chunk
	limit  int   // of chunks
	most   int   // of conversations, because of the table
	key    [longestKey]byte
}

// chunk is a block of entries.
type chunk struct {
	place   int // in window.places
	bytes   []byte
	entries int
	begins  Mark // before the row that its first entry came from: rows before it have no entry here
}

// newWindow makes a window of at most so many chunks, at least two.
func newWindow(limit int) *window {
	limit = max(2, min(limit, maxChunks))
	w := &window{seed: maphash.MakeSeed(), slots: make([]uint32, minSlots), limit: limit, most: maxSlots / 4 * 3}
	for place := limit - 1; place >= 0; place-- {
		w.free = append(w.free, place)
	}
	return w
}

// full reports whether the next conversation that is new needs the oldest chunk's place.
func (w *window) full() bool { return w.count >= w.most || len(w.free) == 0 && !w.room() }

func (w *window) room() bool {
	return len(w.chunks) > 0 && len(w.chunks[len(w.chunks)-1].bytes)+timeBytes+longestKey <= chunkSize
}

// add notes a row: its conversation, its T, and where it was read. The window must not be full.
func (w *window) add(report, peer []byte, t int64, at Mark) {
	key := append(w.key[:0], byte(len(report)), byte(len(peer)))
	key = append(append(key, report...), peer...)
	hash := maphash.Bytes(w.seed, key)
	mask := uint64(len(w.slots) - 1)
	i := hash & mask
	for ; w.slots[i] != 0; i = (i + 1) & mask {
		if w.slots[i]&^offsetMask != tag(hash) {
			continue
		}
		if e := w.entry(w.slots[i]); bytes.Equal(e[timeBytes:], key) {
			if t > timeOf(e) {
				putTime(e, t)
			}
			return
		}
	}
	if !w.room() {
		w.open(at)
	}
	c := w.chunks[len(w.chunks)-1]
	w.slots[i] = tag(hash) | uint32(c.place<<chunkBits|len(c.bytes))
	c.bytes = append(append(c.bytes, 0, 0, 0, 0, 0), key...)
	putTime(c.bytes[len(c.bytes)-len(key)-timeBytes:], t)
	c.entries++
	if w.count++; w.count > len(w.slots)/4*3 && len(w.slots) < maxSlots {
		w.grow()
	}
}

// open begins a chunk.
func (w *window) open(at Mark) {
	place := w.free[len(w.free)-1]
	w.free = w.free[:len(w.free)-1]
	c := w.places[place]
	if c == nil {
		c = &chunk{place: place, bytes: make([]byte, 0, chunkSize)}
		w.places[place] = c
	}
	c.bytes = append(c.bytes[:0], 0) // so that no entry's place is 0
	c.entries, c.begins = 0, at
	w.chunks = append(w.chunks, c)
}

// oldest takes the oldest chunk out, and gives each of its conversations with its T to each, in the order in which they came. The accounts are
// valid within the call. rest is the Mark before which no row is in the window any more; ok is false when nothing is. The window must not be empty.
func (w *window) oldest(each func(report, peer []byte, t int64)) (rest Mark, ok bool) {
	c := w.chunks[0]
	last := len(w.chunks) == 1
	for at := 1; at < len(c.bytes); {
		e := entryAt(c.bytes, at)
		report := e[timeBytes+keyHeader:][:e[timeBytes]]
		each(report, e[timeBytes+keyHeader+len(report):], timeOf(e))
		if !last {
			w.remove(e, uint32(c.place<<chunkBits|at))
		}
		at += len(e)
	}
	w.count -= c.entries
	w.chunks = w.chunks[1:]
	w.free = append(w.free, c.place)
	if last {
		clear(w.slots)
		return Mark{}, false
	}
	return w.chunks[0].begins, true
}

// remove takes an entry out of the table, and moves those behind it up, so that each is still found from where its hash points.
func (w *window) remove(e []byte, place uint32) {
	mask := uint64(len(w.slots) - 1)
	hole := maphash.Bytes(w.seed, e[timeBytes:]) & mask
	for w.slots[hole]&offsetMask != place {
		hole = (hole + 1) & mask
	}
	for next := (hole + 1) & mask; w.slots[next] != 0; next = (next + 1) & mask {
		home := maphash.Bytes(w.seed, w.entry(w.slots[next])[timeBytes:]) & mask
		if (next-home)&mask >= (next-hole)&mask { // its home is not behind the hole
			w.slots[hole] = w.slots[next]
			hole = next
		}
	}
	w.slots[hole] = 0
}

// grow doubles the table.
func (w *window) grow() {
	old := w.slots
	w.slots = make([]uint32, 2*len(old))
	mask := uint64(len(w.slots) - 1)
	for _, slot := range old {
		if slot == 0 {
			continue
		}
		i := maphash.Bytes(w.seed, w.entry(slot)[timeBytes:]) & mask
		for w.slots[i] != 0 {
			i = (i + 1) & mask
		}
		w.slots[i] = slot
	}
}

// tag is the part of a hash that a slot keeps, so that most entries of another conversation need not be looked at.
func tag(hash uint64) uint32 { return uint32(hash>>60) << offsetBits }

func (w *window) entry(slot uint32) []byte {
	place := int(slot & offsetMask)
	return entryAt(w.places[place>>chunkBits].bytes, place&(chunkSize-1))
}

func entryAt(b []byte, at int) []byte {
	b = b[at:]
	return b[:timeBytes+keyHeader+int(b[timeBytes])+int(b[timeBytes+1])]
}

func timeOf(e []byte) int64 {
	return int64(e[0]) | int64(e[1])<<8 | int64(e[2])<<16 | int64(e[3])<<24 | int64(e[4])<<32
}

func putTime(e []byte, t int64) {
	e[0], e[1], e[2], e[3], e[4] = byte(t), byte(t>>8), byte(t>>16), byte(t>>24), byte(t>>32)
}
