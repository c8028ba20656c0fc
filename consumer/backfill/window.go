package backfill

import (
	"bytes"
	"encoding/binary"
	"hash/maphash"
)

// Sizes of the window: 222 MiB at most. A conversation takes 6 bytes, its two accounts, and some 16
// of the index. Four and a half million of 28 bytes, such as "user0001234567" and "user0007654321",
// fit; two and a half million of the longest accounts that there are.
const (
	chunkBits        = 18 // a chunk is published, and dropped, at a time: some 7,000 conversations
	chunkSize        = 1 << chunkBits
	maxChunks        = 672       // 168 MiB
	maxConversations = 4_500_000 // conversations, for which the index takes 74 MiB

	keyHeader  = 2 // the lengths of both accounts, which follow
	longestKey = keyHeader + 2*255
	timeBytes  = 4 // T, behind the key: enough until 2106
)

// window holds the conversations that were read and not yet published, each with its largest T.
// When it is full, the oldest must go: those of the chunk that was filled first. It is pure.
//
// A map of strings would take five times the memory, and the collector would have to look at each.
// Here a few large blocks hold the entries one behind the other, and the map has where each is.
type window struct {
	hash   func(key []byte) uint32
	index  map[uint32]uint32 // by hash, or the next free number: chunk and offset of each entry
	chunks [maxChunks]chunk  // a ring
	limit  int               // of chunks
	first  int               // the oldest chunk
	used   int               // chunks from there on
	spare  []byte            // of the chunk that was taken out last, for the next; nil: none
	key    []byte            // of the row that is added
}

// chunk is a block of entries.
type chunk struct {
	bytes []byte
	// before the row that its first entry came from: rows before it have no entry here
	begins Position
}

func newWindow(limit int) *window {
	seed := maphash.MakeSeed()
	return &window{
		hash:  func(key []byte) uint32 { return uint32(maphash.Bytes(seed, key)) },
		index: map[uint32]uint32{},
		limit: max(2, min(limit, maxChunks)),
	}
}

// count is the number of conversations.
func (w *window) count() int { return len(w.index) }

// full reports whether the next conversation that is new needs the oldest chunk's place.
func (w *window) full() bool {
	return w.count() >= maxConversations || w.used == w.limit && w.newest().full()
}

func (w *window) newest() *chunk { return &w.chunks[(w.first+w.used-1)%w.limit] }

func (c *chunk) full() bool { return len(c.bytes)+longestKey+timeBytes > chunkSize }

// add notes a row: its conversation, its T, and where it was read. The window must not be full.
func (w *window) add(report, peer []byte, t int64, at Position) {
	w.key = append(w.key[:0], byte(len(report)), byte(len(peer)))
	w.key = append(append(w.key, report...), peer...)
	number, e := w.find(w.key)
	if e != nil {
		if e = e[len(w.key):]; t > int64(binary.LittleEndian.Uint32(e)) {
			binary.LittleEndian.PutUint32(e, uint32(t))
		}
		return
	}
	if w.used == 0 || w.newest().full() {
		w.used++
		c := w.newest()
		c.begins, c.bytes, w.spare = at, w.spare, nil
		if c.bytes == nil {
			c.bytes = make([]byte, 0, chunkSize)
		}
	}
	c := w.newest()
	w.index[number] = uint32((w.first+w.used-1)%w.limit<<chunkBits | len(c.bytes))
	c.bytes = binary.LittleEndian.AppendUint32(append(c.bytes, w.key...), uint32(t))
}

// find returns the number that a conversation has in the index, and its entry; nil: it has none
// yet.
func (w *window) find(key []byte) (number uint32, e []byte) {
	for number = w.hash(key); ; number++ {
		place, found := w.index[number]
		if !found {
			return number, nil
		}
		if e = w.entry(place); bytes.HasPrefix(e, key) {
			return number, e
		}
	}
}

// entry returns the entry at a place and all that follow it.
func (w *window) entry(place uint32) []byte {
	return w.chunks[place>>chunkBits].bytes[place&(chunkSize-1):]
}

// keyOf returns the key that an entry begins with.
func keyOf(e []byte) []byte { return e[:keyHeader+int(e[0])+int(e[1])] }

// oldest takes the oldest chunk out, and gives each of its conversations with its T to each, in the
// order in which they came. The accounts are valid within the call. rest is the Mark before which
// no row is in the window any more; ok is false when nothing is. The window must not be empty.
func (w *window) popOldest(each func(report, peer []byte, t int64)) (rest Position, ok bool) {
	for e := w.chunks[w.first].bytes; len(e) > 0; {
		key := keyOf(e)
		report, peer := key[keyHeader:][:key[0]], key[keyHeader+key[0]:]
		each(report, peer, int64(binary.LittleEndian.Uint32(e[len(key):])))
		if w.index != nil {
			w.remove(key)
		}
		e = e[len(key)+timeBytes:]
	}
	w.spare, w.chunks[w.first].bytes = w.chunks[w.first].bytes[:0], nil
	w.first = (w.first + 1) % w.limit
	w.used--
	return w.chunks[w.first].begins, w.used > 0
}

// remove takes a conversation out of the index. Those that have the numbers behind it are added
// again: they may have them only because its own was taken.
func (w *window) remove(key []byte) {
	number, _ := w.find(key)
	delete(w.index, number)
	for number++; ; number++ {
		place, found := w.index[number]
		if !found {
			return
		}
		delete(w.index, number)
		free, _ := w.find(keyOf(w.entry(place)))
		w.index[free] = place
	}
}
