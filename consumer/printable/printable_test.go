package printable

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"unicode/utf8"
)

// forbidden reports the well-known characters that must never be shown. The package does not need
// this list: its promise is stricter.
func forbidden(r rune) bool {
	switch {
	case r < 0x20, r >= 0x7f && r < 0xa0, r == 0xad, r == 0x61c, r == 0x180e,
		r >= 0x200b && r <= 0x200f, r >= 0x2028 && r <= 0x202e, r >= 0x2060 && r <= 0x206f,
		r == 0xfeff, r >= 0xfff9 && r <= 0xfffb, r >= 0xe0000 && r <= 0xe007f:
		return true
	}
	return false
}

// Of all kinds of characters, forbidden ones never pass, and ordinary text is unchanged.
func TestEveryCharacter(t *testing.T) {
	var b bytes.Buffer
	w := &Writer{Out: &b}
	var all []rune
	// between these ranges, all characters of a plane are of the same kind
	for _, span := range [][2]rune{{0, 0x1ffff}, {0xe0000, 0xe0fff}, {0x10ff00, utf8.MaxRune}} {
		for r := span[0]; r <= span[1]; r++ {
			all = append(all, r)
		}
	}
	for _, r := range all {
		b.Reset()
		text := string(r)
		if n, err := w.Write([]byte(text)); n != len(text) || err != nil {
			t.Fatalf("%U: %d, %v", r, n, err)
		}
		for _, out := range []string{b.String(), Line(text)} {
			for _, got := range out {
				if forbidden(got) && (got != '\n' && got != '\t' || out != b.String()) {
					t.Fatalf("%U is written as %q", r, out)
				}
			}
		}
		var value string
		if !utf8.ValidRune(r) || r == '"' || r == '\\' || b.String() == text {
			continue
		}
		if err := json.Unmarshal([]byte(`"`+b.String()+`"`), &value); err != nil || value != text {
			t.Fatalf("%U in JSON: %s is %q, %v", r, b.String(), value, err)
		}
	}
	for _, text := range []string{"alice", "漢字　カナ", "naïve café", "a b", "👍", "Ω≈ç√", `"\u202e"`} {
		b.Reset()
		_, _ = w.Write([]byte(text)) // a bytes.Buffer accepts everything
		if b.String() != text || Line(text) != text {
			t.Errorf("%q became %q and %q", text, b.String(), Line(text))
		}
	}
}

func TestLine(t *testing.T) {
	for in, want := range map[string]string{
		"a\nb\r\nc\td":             "a b  c d",
		"\x1b[31mred\x7f":          "?[31mred?",
		"gp\u202egpj.exe\u2028new": "gp?gpj.exe?new",
		"half \xe6\xbc":            "half \ufffd\ufffd",
		"\x9b31m":                  "\ufffd31m", // a C1 control as a single byte
	} {
		if got := Line(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

// Text may arrive in pieces of any size, which may end within a character.
func TestWriterJoinsSplitCharacters(t *testing.T) {
	text := "漢\u202e\x1b]0;title\x07\xff👍\U000e0041.\n\t|\u2066"
	want := "漢\\u202e\\u001b]0;title\\u0007\ufffd👍\\udb40\\udc41.\n\t|\\u2066"
	for size := 1; size < len(text); size++ {
		var b bytes.Buffer
		w := &Writer{Out: &b}
		for rest := text; rest != ""; {
			n := min(size, len(rest))
			if written, err := w.Write([]byte(rest[:n])); written != n || err != nil {
				t.Fatal(written, err)
			}
			rest = rest[n:]
		}
		if b.String() != want {
			t.Errorf("in pieces of %d: %q", size, b.String())
		}
	}
	var b bytes.Buffer
	w := &Writer{Out: &b}
	for _, piece := range []string{"a\xe6", "b"} {
		_, _ = w.Write([]byte(piece)) // a bytes.Buffer accepts everything
	}
	if b.String() != "a\ufffdb" {
		t.Errorf("half a character: %q", b.String())
	}
}

func TestWriterFails(t *testing.T) {
	broken := errors.New("broken")
	w := &Writer{Out: failing{broken}}
	if n, err := w.Write([]byte("a")); n != 0 || !errors.Is(err, broken) {
		t.Errorf("%d, %v", n, err)
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

func BenchmarkWriter(b *testing.B) {
	line := []byte(strings.Repeat(`{"id":"0:17","state":"open","class":"rejected"}`, 20) + "\n")
	w := &Writer{Out: io.Discard}
	b.SetBytes(int64(len(line)))
	for b.Loop() {
		_, _ = w.Write(line) // io.Discard accepts everything
	}
}

func TestQuote(t *testing.T) {
	long := strings.Repeat("é", Quoted)
	for text, want := range map[string]string{
		"": `""`, "say \"a\"\n": `"say "a" "`, "\x1b[2J\xff": `"?[2J` + "\uFFFD" + `"`,
		long: `"` + long + `"`, long + "x": `"` + long + `…"`,
		strings.Repeat("\xff", 41): `"` + strings.Repeat("\uFFFD", 40) + `…"`,
	} {
		if got := Quote(text); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}
