// Package printable makes text of unknown origin safe to show on a terminal, in logs and on pages.
//
// It promises that the output of [Writer] and [Line] is valid UTF-8 and consists of graphic
// characters as package unicode defines them (letters, marks, numbers, punctuation, symbols,
// spaces); Writer also writes line feeds and tabs. So these never pass: C0, DEL and C1 controls,
// bidirectional controls, zero-width characters, byte order marks, tags, line and paragraph
// separators, and characters that Unicode has not assigned. It does not mask secrets.
//
// Non-obvious: Writer uses JSON's escapes, and valid JSON has the escaped characters only within
// strings. So JSON keeps its value, and one writer is enough for text and for JSON.
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

// Line returns s as one line of graphic characters: a line break or a tab becomes a space, any
// other character that is not graphic a question mark, and a byte that is not UTF-8 U+FFFD.
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

// Quoted is the maximum number of characters that Quote shows.
const Quoted = 40

// Quote returns the beginning of s in double quotes, for errors that show text of unknown origin.
// Quotes within it are not escaped.
func Quote(s string) string {
	n := 0
	for i := range s {
		if n++; n > Quoted {
			return `"` + Line(s[:i]) + `…"`
		}
	}
	return `"` + Line(s) + `"`
}

// Truncate returns the beginning of s as valid UTF-8, at most n bytes long. A byte that is not
// UTF-8 becomes U+FFFD.
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

// Writer writes its input to Out. It replaces each character that is neither graphic nor a line
// feed or a tab by its JSON escape (\u001b; two escapes beyond U+FFFF), and each byte that is not
// UTF-8 by U+FFFD. It is safe for concurrent use.
type Writer struct {
	Out io.Writer

	mu      sync.Mutex
	partial []byte // the first bytes of an incomplete character, at most three
	text    []byte
}

// Write replaces and writes. An incomplete last character is kept for the next call.
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
