package letters

import (
	"encoding/binary"
	"time"

	"markread/consumer"
)

// Shelf keeps what a list shows of letters, in little memory: a letter's key and value, some 60 bytes, and what most letters have in common (the message,
// where they come from) once. The headers are not kept.
type Shelf struct {
	places []place
	blocks [][]byte
	shared []string
	index  map[string]uint32
}

// place is where a letter is kept. A size of 0: it is not.
type place struct{ block, from, size uint32 }

// Bounds of a shelf's blocks, and of what is kept once.
const (
	blockBytes = 1 << 20
	maxShared  = 10_000
)

// NewShelf returns a shelf with places for so many letters.
func NewShelf(letters int) *Shelf {
	return &Shelf{places: make([]place, letters), index: map[string]uint32{}}
}

// Put keeps a letter at a place.
func (s *Shelf) Put(i int, l *Letter) {
	need := 200 + len(l.Record.Key) + len(l.Record.Value) + len(l.Message) // about: what is more, append makes room for
	last := len(s.blocks) - 1
	if last < 0 || cap(s.blocks[last])-len(s.blocks[last]) < need {
		s.blocks = append(s.blocks, make([]byte, 0, max(blockBytes, need)))
		last++
	}
	from := len(s.blocks[last])
	s.blocks[last] = s.pack(s.blocks[last], l)
	s.places[i] = place{uint32(last), uint32(from), uint32(len(s.blocks[last]) - from)}
}

// Take returns the letter at a place; false: there is none.
func (s *Shelf) Take(i int) (l Letter, ok bool) {
	p := s.places[i]
	if p.size == 0 {
		return Letter{}, false
	}
	return s.unpack(s.blocks[p.block][p.from : p.from+p.size]), true
}

func (s *Shelf) pack(b []byte, l *Letter) []byte {
	b = binary.AppendVarint(b, int64(l.Partition))
	b = binary.AppendVarint(b, l.Offset)
	b = append(b, byte(l.State))
	for _, text := range []string{l.Class, l.Code, l.Message, l.Origin.Topic, l.Origin.Group, l.Lane, l.Omitted} {
		b = s.packText(b, text)
	}
	for _, n := range []*int64{l.Origin.Partition, l.Origin.Offset} {
		b = packNumber(b, n)
	}
	for _, n := range []int{l.Attempts, l.Collapsed, l.Replays} {
		b = binary.AppendVarint(b, int64(n))
	}
	b = packTime(b, &l.FailedAt)
	b = packTime(b, l.EventTime)
	b = packBytes(b, l.Record.Key)
	return packBytes(b, l.Record.Value)
}

// packText writes the number of a text that is kept once, and after 0 one that is not.
func (s *Shelf) packText(b []byte, text string) []byte {
	n, ok := s.index[text]
	if !ok && len(s.shared) < maxShared {
		s.shared = append(s.shared, text)
		n, ok = uint32(len(s.shared)), true
		s.index[text] = n
	}
	if ok {
		return binary.AppendUvarint(b, uint64(n))
	}
	return packBytes(append(b, 0), []byte(text))
}

func packNumber(b []byte, n *int64) []byte {
	if n == nil {
		return append(b, 0)
	}
	return binary.AppendVarint(append(b, 1), *n)
}

func packTime(b []byte, t *time.Time) []byte {
	if t == nil {
		return append(b, 0)
	}
	return binary.AppendVarint(binary.AppendVarint(append(b, 1), t.Unix()), int64(t.Nanosecond()))
}

// packBytes writes the length and one more, 0 for null, and the bytes.
func packBytes(b, bytes []byte) []byte {
	if bytes == nil {
		return append(b, 0)
	}
	return append(binary.AppendUvarint(b, uint64(len(bytes))+1), bytes...)
}

// unpacker reads what pack wrote.
type unpacker struct {
	b []byte
	s *Shelf
}

func (s *Shelf) unpack(b []byte) Letter {
	u := unpacker{b, s}
	l := Letter{ID: ID{int(u.varint()), u.varint()}, State: State(u.byte())}
	for _, text := range []*string{&l.Class, &l.Code, &l.Message, &l.Origin.Topic, &l.Origin.Group, &l.Lane, &l.Omitted} {
		*text = u.text()
	}
	l.Origin.Partition, l.Origin.Offset = u.number(), u.number()
	for _, n := range []*int{&l.Attempts, &l.Collapsed, &l.Replays} {
		*n = int(u.varint())
	}
	l.FailedAt = *u.time()
	l.EventTime = u.time()
	l.Record = consumer.Record{Partition: l.Partition, Offset: l.Offset, Key: u.bytes()}
	l.Record.Value = u.bytes()
	l.readValue()
	return l
}

func (u *unpacker) byte() byte {
	first := u.b[0]
	u.b = u.b[1:]
	return first
}

func (u *unpacker) varint() int64 {
	n, size := binary.Varint(u.b)
	u.b = u.b[size:]
	return n
}

func (u *unpacker) uvarint() uint64 {
	n, size := binary.Uvarint(u.b)
	u.b = u.b[size:]
	return n
}

func (u *unpacker) text() string {
	if n := u.uvarint(); n > 0 {
		return u.s.shared[n-1]
	}
	return string(u.bytes())
}

func (u *unpacker) number() *int64 {
	if u.byte() == 0 {
		return nil
	}
	n := u.varint()
	return &n
}

func (u *unpacker) time() *time.Time {
	if u.byte() == 0 {
		return nil
	}
	t := time.Unix(u.varint(), u.varint()).UTC()
	return &t
}

func (u *unpacker) bytes() []byte {
	n := u.uvarint()
	if n == 0 {
		return nil
	}
	bytes := u.b[: n-1 : n-1]
	u.b = u.b[n-1:]
	return bytes
}
