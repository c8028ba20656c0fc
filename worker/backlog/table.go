package backlog

import (
	"bytes"
	"hash/maphash"
)

// table finds conversations by ID. A map would need its own copy of each ID, because a conversation
// overwrites its payload. It has shards, so that growing one takes less than a millisecond with a
// million conversations.
type table struct {
	seed   maphash.Seed
	shards [1 << shardBits]shard
	n      int
}

const shardBits = 6

// shard is a hash table with open addressing: a conversation is in the slot of its hash, or in one
// of the used slots that follow it without a gap.
type shard struct {
	slots []*Conversation // a power of two, at most three quarters used
	n     int
}

const fewestSlots = 8

func (t *table) shard(hash uint64) *shard { return &t.shards[hash>>(64-shardBits)] }

// find returns the conversation with this ID, or nil.
func (t *table) find(id []byte, hash uint64) *Conversation {
	s := t.shard(hash)
	if s.n == 0 {
		return nil
	}
	for i := s.home(hash); ; i = s.next(i) {
		if c := s.slots[i]; c == nil || bytes.Equal(c.id(), id) {
			return c
		}
	}
}

// insert adds a conversation that the table does not have. hash is the hash of its ID.
func (t *table) insert(c *Conversation, hash uint64) {
	t.n++
	s := t.shard(hash)
	if s.n++; 4*s.n > 3*len(s.slots) {
		s.resize(max(fewestSlots, 2*len(s.slots)), t.seed)
	}
	s.put(c, hash)
}

// remove removes a conversation that the table has.
func (t *table) remove(c *Conversation) {
	t.n--
	hash := maphash.Bytes(t.seed, c.id())
	s := t.shard(hash)
	gap := s.home(hash)
	for s.slots[gap] != c {
		gap = s.next(gap)
	}
	// Move those back that would no longer be found beyond the gap.
	for i := s.next(gap); s.slots[i] != nil; i = s.next(i) {
		mask := len(s.slots) - 1
		distance := (i - s.home(maphash.Bytes(t.seed, s.slots[i].id()))) & mask
		if distance >= (i-gap)&mask {
			s.slots[gap], gap = s.slots[i], i
		}
	}
	s.slots[gap] = nil
	if s.n--; s.n == 0 {
		s.slots = nil
	} else if len(s.slots) > fewestSlots && 8*s.n < len(s.slots) {
		s.resize(len(s.slots)/2, t.seed)
	}
}

func (s *shard) home(hash uint64) int { return int(hash) & (len(s.slots) - 1) }
func (s *shard) next(i int) int       { return (i + 1) & (len(s.slots) - 1) }

func (s *shard) put(c *Conversation, hash uint64) {
	i := s.home(hash)
	for s.slots[i] != nil {
		i = s.next(i)
	}
	s.slots[i] = c
}

func (s *shard) resize(size int, seed maphash.Seed) {
	old := s.slots
	s.slots = make([]*Conversation, size)
	for _, c := range old {
		if c != nil {
			s.put(c, maphash.Bytes(seed, c.id()))
		}
	}
}
