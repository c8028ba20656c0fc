package imclient

import (
	"bytes"
	"unicode"
)

// view is a text as it reads after unescaping.
type view struct {
	text []byte
	at   []int32 // byte i stands for the original bytes from at[i] to at[i+1]; nil: for itself
}

// origin returns where byte i begins in the original text.
func (v view) origin(i int) int {
	if v.at == nil {
		return i
	}
	return int(v.at[i])
}

// unescaped undoes one level of escapes of ASCII characters, whatever their
// kind: %2A, \u002a, \x2a, \/, &#42;, &#x2a;. The secrets have no others.
func (v view) unescaped() (view, bool) {
	if !bytes.ContainsAny(v.text, `%\&`) {
		return v, false
	}
	out := view{text: make([]byte, 0, len(v.text)), at: make([]int32, 0, len(v.text)+1)}
	for i := 0; i < len(v.text); {
		char, length := unescape(v.text[i:])
		out.text, out.at = append(out.text, char), append(out.at, int32(v.origin(i)))
		i += length
	}
	out.at = append(out.at, int32(v.origin(len(v.text))))
	return out, len(out.text) != len(v.text)
}

// maxEscape is the length of the longest escape of a character.
const maxEscape = 10

// unescape returns the first character of text and how many bytes it takes.
func unescape(text []byte) (char byte, length int) {
	switch {
	case text[0] == '%' && len(text) >= 3:
		if n, ok := number(text[1:3], 16); ok {
			return n, 3
		}
	case text[0] == '\\' && len(text) >= 6 && text[1] == 'u':
		if n, ok := number(text[2:6], 16); ok {
			return n, 6
		}
	case text[0] == '\\' && len(text) >= 4 && text[1] == 'x':
		if n, ok := number(text[2:4], 16); ok {
			return n, 4
		}
	case text[0] == '\\' && len(text) >= 2 && !isAlphanumeric(text[1]):
		return text[1], 2
	case text[0] == '&' && len(text) >= 4 && text[1] == '#':
		end := bytes.IndexByte(text[:min(len(text), maxEscape)], ';')
		if end < 3 {
			break
		}
		digits, base := text[2:end], 10
		if digits[0] == 'x' || digits[0] == 'X' {
			digits, base = digits[1:], 16
		}
		if n, ok := number(digits, base); ok {
			return n, end + 1
		}
	}
	return text[0], 1
}

// number reads digits as the number of an ASCII character.
func number(digits []byte, base int) (byte, bool) {
	n := 0
	for _, d := range digits {
		value := bytes.IndexByte([]byte("0123456789abcdef"), d|0x20) // '0'|0x20 is '0'
		if value < 0 || value >= base {
			return 0, false
		}
		n = n*base + value
		if n > unicode.MaxASCII {
			return 0, false
		}
	}
	return byte(n), len(digits) > 0
}

func isAlphanumeric(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'z'
}

// The least lengths of stretches that are decoded: what gram bytes take.
const (
	hexGram    = 2 * gram
	base64Gram = (gram*8 + 5) / 6
)

// decoded returns what the stretches of hexadecimal and base64 in a text stand
// for. Where such a stretch begins is unknown, so each is read from each place
// where it might.
func (v view) decoded() []view {
	var views []view
	stretches(v.text, hexDigit, hexGram, func(from, to int) {
		for shift := range 2 {
			views = append(views, v.decode(from+shift, to, hexDigit, 2, 1))
		}
	})
	stretches(v.text, base64Digit, base64Gram, func(from, to int) {
		for shift := range 4 {
			views = append(views, v.decode(from+shift, to, base64Digit, 4, 3))
		}
	})
	return views
}

// stretches calls found with each stretch of at least least digits.
func stretches(text []byte, digit func(byte) int, least int, found func(from, to int)) {
	from := 0
	for i := 0; i <= len(text); i++ {
		if i < len(text) && digit(text[i]) >= 0 {
			continue
		}
		if i-from >= least {
			found(from, i)
		}
		from = i + 1
	}
}

// decode reads the digits from from to to: so many digits stand for so many
// bytes. What is left over at the end stands for fewer.
func (v view) decode(from, to int, digit func(byte) int, digits, bytes int) view {
	size := (to - from) / digits * bytes
	out := view{text: make([]byte, 0, size+bytes), at: make([]int32, 0, size+bytes+1)}
	width := 8 * bytes / digits // bits of a digit
	value, bits := 0, 0         // read and not yet written
	for i := from; i < to; i++ {
		value, bits = (value<<width|digit(v.text[i]))&0xffff, bits+width
		if bits >= 8 {
			bits -= 8
			first := i + 1 - (bits+8+width-1)/width // the digit that the byte begins in
			out.text, out.at = append(out.text, byte(value>>bits)), append(out.at, int32(v.origin(first)))
		}
	}
	out.at = append(out.at, int32(v.origin(to)))
	return out
}

// hexDigit returns the value of a hexadecimal digit, -1 if it is none.
func hexDigit(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c|0x20 && c|0x20 <= 'f':
		return int(c|0x20-'a') + 10
	}
	return -1
}

// base64Digit returns the value of a digit of base64, in either of its usual
// alphabets; -1 if it is none.
func base64Digit(c byte) int {
	switch {
	case 'A' <= c && c <= 'Z':
		return int(c - 'A')
	case 'a' <= c && c <= 'z':
		return int(c-'a') + 26
	case '0' <= c && c <= '9':
		return int(c-'0') + 52
	case c == '+' || c == '-':
		return 62
	case c == '/' || c == '_':
		return 63
	}
	return -1
}
