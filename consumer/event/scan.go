package event

import (
	"encoding/binary"
	"math/bits"
)

// scan is a fast parseStrict for what nearly all producers write: one object whose names and values
// are strings of printable ASCII without escapes, or integers. It reads each byte once. It returns
// false for any other value, valid or not, and may then have set some of the fields.
func (raw *rawEvent) scan(value []byte) bool {
	s := scanner{value}
	if !s.accept('{') {
		return false
	}
	for {
		if !s.accept('"') {
			return false
		}
		name, ok := s.text()
		if !ok || !s.accept(':') {
			return false
		}
		member, ok := s.value()
		if !ok {
			return false
		}
		raw.set(name, member)
		if s.accept(',') {
			continue
		}
		if !s.accept('}') {
			return false
		}
		s.skipSpace()
		return len(s.rest) == 0
	}
}

// scanner reads tokens from the front of rest.
type scanner struct{ rest []byte }

// accept skips white space and then c. It returns false if something else is next.
func (s *scanner) accept(c byte) bool {
	if len(s.rest) == 0 || s.rest[0] != c {
		s.skipSpace()
		if len(s.rest) == 0 || s.rest[0] != c {
			return false
		}
	}
	s.rest = s.rest[1:]
	return true
}

func (s *scanner) skipSpace() {
	for len(s.rest) > 0 && (s.rest[0] == ' ' || s.rest[0] == '\n' || s.rest[0] == '\t' ||
		s.rest[0] == '\r') {
		s.rest = s.rest[1:]
	}
}

// text reads the rest of a string, without its first quote.
func (s *scanner) text() (text []byte, ok bool) {
	n := plainLength(s.rest)
	if n == len(s.rest) || s.rest[n] != '"' {
		return nil, false
	}
	text, s.rest = s.rest[:n], s.rest[n+1:]
	return text, true
}

// value reads a string, which it returns with its quotes, or an integer.
func (s *scanner) value() (value []byte, ok bool) {
	s.skipSpace()
	all := s.rest
	if s.accept('"') {
		text, ok := s.text()
		return all[:len(text)+2], ok
	}
	n := 0
	if len(all) > 0 && all[0] == '-' {
		n = 1
	}
	first := n
	for n < len(all) && all[n]-'0' < 10 {
		n++
	}
	if n == first || all[first] == '0' && n > first+1 {
		return nil, false
	}
	s.rest = all[n:]
	return all[:n], true
}

// plainLength returns how many bytes at the beginning of b are printable ASCII and represent
// themselves in a JSON string: no quotes or backslashes. It examines 8 bytes at a time.
func plainLength(b []byte) int {
	const ones, highBits = 0x0101010101010101, 0x8080808080808080
	n := 0
	for ; len(b)-n >= 8; n += 8 {
		w := binary.LittleEndian.Uint64(b[n:])
		quote, backslash, del := w^('"'*ones), w^('\\'*ones), w^(0x7f*ones)
		// In each term, the high bit of a byte is set if the byte is below 0x20, or zero. A borrow
		// may also set it for later bytes, but only the first one counts.
		special := (w | (w-0x20*ones)&^w | (quote-ones)&^quote | (backslash-ones)&^backslash |
			(del-ones)&^del) & highBits
		if special != 0 {
			return n + bits.TrailingZeros64(special)/8
		}
	}
	for n < len(b) && b[n] >= 0x20 && b[n] < 0x7f && b[n] != '"' && b[n] != '\\' {
		n++
	}
	return n
}
