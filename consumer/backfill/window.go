package backfill

import (
	"bytes"
	"encoding/binary"
	"hash/maphash"
)

// Sizes of the window; it takes at most 222 MiB. A conversation takes 6 bytes, its two accounts,
// and about 16 bytes of the index. 4.5 million conversations of 28 bytes fit, such as
// "user0001234567" and "user0007654321"; of the longest valid accounts 2.5 million.
const (
	chunkBits        = 18 // a chunk is published and dropped as a whole: about 7,000 conversations
	chunkSize        = 1 << chunkBits
	maxChunks        = 672       // 168 MiB
	maxConversations = 4_500_000 // the index of that many takes 74 MiB

	keyHeader  = 2 // lengths of both accounts, which follow
	longestKey = keyHeader + 2*255
	timeBytes  = 4 // T, after the key: sufficient until 2106
)

// window holds the conversations that were read and not yet published, each with its largest T.
// When it is full, the oldest chunk must be published. It is pure: no I/O, no clock.
//
// A map of strings would take five times the memory, and the garbage collector would have to scan
// each. Here a few large chunks hold the entries one after the other, and the index has the place
// of each.
type window struct {
	hash   func(key []byte) uint32
	index  map[uint32]uint32 // hash, or the next free number, to chunk and offset of the entry
	chunks [maxChunks]chunk  // a ring
	limit  int               // length of the ring, in chunks
	first  int               // index of the oldest chunk
	used   int               // number of chunks from first on
	spare  []byte            // memory of the last popped chunk, for reuse; nil: none
	key    []byte            // of the row being added
}

// chunk is a block of entries.
type chunk struct {
	bytes []byte
	// before the row that added its first entry: no earlier row has an entry in it
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

// count returns the number of conversations.
func (w *window) count() int { return len(w.index) }

// full reports whether the oldest chunk must be popped before a new conversation is added.
func (w *window) full() bool {
	return w.count() >= maxConversations || w.used == w.limit && w.newest().full()
}

func (w *window) newest() *chunk { return &w.chunks[(w.first+w.used-1)%w.limit] }

func (c *chunk) full() bool { return len(c.bytes)+longestKey+timeBytes > chunkSize }

// add adds a row: its conversation, its T and its position. The window must not be full.
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

// find returns the number of a conversation in the index, and its entry; nil: it has none yet, and
// number is free.
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

// entry returns the entry at a place, and everything after it in the chunk.
func (w *window) entry(place uint32) []byte {
	return w.chunks[place>>chunkBits].bytes[place&(chunkSize-1):]
}

// keyOf returns the key that an entry begins with.
func keyOf(e []byte) []byte { return e[:keyHeader+int(e[0])+int(e[1])] }

// popOldest removes the oldest chunk, and calls each with its conversations and their T, in the
// order in which they were added. The accounts are valid only during the call. No row before rest
// is in the window any more; ok is false if the window is now empty. The window must not be empty
// before.
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

// remove removes a conversation from the index. It adds those with the following numbers again:
// they may have these only because the number before was taken.
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
