// Package printable makes text of unknown origin safe to show on a terminal, in a log and on a
// page.
//
// It promises: what [Writer] and [Line] write is valid UTF-8, of graphic characters as package
// unicode defines them (letters, marks, numbers, punctuation, symbols, spaces); Writer also writes
// line feeds and tabs. So these never pass: C0, DEL and C1 controls, bidirectional controls,
// zero-width characters, byte order marks, tags, line and paragraph separators, and characters that
// Unicode has not assigned. It does not mask secrets.
//
// Non-obvious: the escape that Writer uses is JSON's, and valid JSON has such characters within
// strings only. So JSON keeps its value, and one writer serves for text and for JSON.
package printable

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// Line returns s without line breaks and with nothing that is not graphic: a line break or a tab
// becomes a space, any other such character a question mark, a byte that is not UTF-8 U+FFFD.
func Line(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\r' || r == '\t':
			return ' '
		case !unicode.IsGraphic(r):
			return '?'
		}
		return r
	}, s)
}

// Quoted is how much Quote shows, in characters.
const Quoted = 40

// Quote returns the beginning of s in double quotes, as an error shows what somebody else has
// written. Quotes within it stay as they are.
func Quote(s string) string {
	n := 0
	for i := range s {
		if n++; n > Quoted {
			return `"` + Line(s[:i]) + `…"`
		}
	}
	return `"` + Line(s) + `"`
}

// Truncate returns the beginning of s, of at most n bytes of UTF-8: a byte that is not UTF-8
// becomes U+FFFD.
func Truncate(s string, n int) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// Writer writes to Out what is written to it, with each character that is neither graphic nor a
// line feed or a tab replaced by its escape in JSON (\u001b, beyond U+FFFF two of them), and each
// byte that is not UTF-8 by U+FFFD. It is safe for concurrent use.
type Writer struct {
	Out io.Writer

	mu      sync.Mutex
	partial []byte // the first bytes of a character whose last have not come, at most three
	text    []byte
}

// Write replaces and writes. If the last character is incomplete, it waits for the next call.
func (w *Writer) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	in := append(w.partial, b...)
	complete := len(in)
	for i := max(0, len(in)-utf8.UTFMax+1); i < len(in); i++ {
		if utf8.RuneStart(in[i]) && !utf8.FullRune(in[i:]) {
			complete = i
			break
		}
	}
	w.text = Append(w.text[:0], in[:complete])
	w.partial = append([]byte(nil), in[complete:]...)
	if _, err := w.Out.Write(w.text); err != nil {
		return 0, err
	}
	return len(b), nil
}

// Append appends text to b as Writer writes it.
func Append(b, text []byte) []byte {
	for len(text) > 0 {
		n := 0
		for n < len(text) &&
			(text[n] >= ' ' && text[n] < 0x7f || text[n] == '\n' || text[n] == '\t') {
			n++
		}
		b, text = append(b, text[:n]...), text[n:]
		if len(text) == 0 {
			break
		}
		r, size := utf8.DecodeRune(text)
		switch high, low := utf16.EncodeRune(r); {
		case unicode.IsGraphic(r):
			b = utf8.AppendRune(b, r)
		case high != utf8.RuneError: // beyond U+FFFF
			b = fmt.Appendf(b, `\u%04x\u%04x`, high, low)
		default:
			b = fmt.Appendf(b, `\u%04x`, r)
		}
		text = text[size:]
	}
	return b
}
