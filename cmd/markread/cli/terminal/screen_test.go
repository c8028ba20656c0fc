package terminal

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"markread/consumer/printable"
)

// window is a terminal's window, as far as Screen uses it. It fails the test if a line is wider
// than the window while the terminal breaks lines, and at unknown control sequences.
type window struct {
	t             *testing.T
	rows, columns int
	lines         [][]rune
	history       []string // lines that were scrolled out
	row, column   int
	breaks        bool // the terminal breaks lines
	writes        int
}

func newWindow(t *testing.T, rows, columns int, before ...string) *window {
	w := &window{t: t, rows: rows, columns: columns, lines: make([][]rune, rows), breaks: true}
	for _, line := range before {
		w.show(line + "\n")
	}
	return w
}

func (w *window) size() (rows, columns int, err error) { return w.rows, w.columns, nil }

// resize changes the window's size; a smaller one loses its last lines.
func (w *window) resize(rows, columns int) {
	w.rows, w.columns, w.row = rows, columns, min(w.row, rows-1)
	w.lines = slices.Grow(w.lines, rows)[:rows]
}

func (w *window) Write(b []byte) (int, error) {
	w.writes++
	w.show(string(b))
	return len(b), nil
}

func (w *window) show(text string) {
	for text != "" {
		known := false
		for sequence, do := range map[string]func(){
			"\n": func() {
				if w.column = 0; w.row < w.rows-1 {
					w.row++
					return
				}
				w.history = append(w.history, string(w.lines[0]))
				w.lines = append(w.lines[1:], nil)
			},
			"\r":     func() { w.column = 0 },
			"\x1b[H": func() { w.row, w.column = 0, 0 },
			"\x1b[K": func() {
				line := w.lines[w.row]
				w.lines[w.row] = line[:min(w.column, len(line))]
			},
			"\x1b[J":   func() { clear(w.lines[w.row:]) },
			"\x1b[?7l": func() { w.breaks = false },
			"\x1b[?7h": func() { w.breaks = true },
		} {
			if rest, ok := strings.CutPrefix(text, sequence); ok {
				do()
				text, known = rest, true
				break
			}
		}
		if known {
			continue
		}
		r := []rune(text)[0]
		text = text[len(string(r)):]
		if r < ' ' || w.breaks && w.column >= w.columns {
			w.t.Fatalf("%q in column %d of %d", r, w.column, w.columns)
		}
		line := w.lines[w.row]
		for len(line) <= w.column {
			line = append(line, ' ')
		}
		line[w.column] = r
		w.lines[w.row] = line
		w.column = min(w.column+1, w.columns)
	}
}

func (w *window) check(lines ...string) {
	w.t.Helper()
	var got []string
	for _, line := range w.lines {
		got = append(got, string(line))
	}
	for len(lines) < w.rows {
		lines = append(lines, "")
	}
	if !slices.Equal(got, lines) {
		w.t.Errorf("%q, want %q", got, lines)
	}
	if !w.breaks {
		w.t.Error("the terminal no longer breaks lines")
	}
}

func (s *Screen) draw(t *testing.T, text string) {
	t.Helper()
	if err := s.Draw(text); err != nil {
		t.Fatal(err)
	}
}

// Each text replaces the previous one, in one write. What was on the terminal before is in its
// history; the texts themselves are not.
func TestScreen(t *testing.T) {
	w := newWindow(t, 5, 20, "$ ls", "a b", "$ status")
	s := NewScreen(w, w.size)
	s.draw(t, "one\ntwo\nthree\n")
	w.check("one", "two", "three")
	if before := strings.TrimSpace(strings.Join(w.history, "\n")); before != "$ ls\na b\n$ status" {
		t.Errorf("%q", w.history)
	}
	history := len(w.history)
	s.draw(t, "1\nsecond\n3\n4\n")
	w.check("1", "second", "3", "4")
	s.draw(t, "1\n\n3\n")
	w.check("1", "", "3")
	if len(w.history) != history || w.writes != 3 {
		t.Errorf("%d lines were scrolled out, %d writes", len(w.history)-history, w.writes)
	}
	w.show("^C")
	s.End()
	w.check("1", "", "3")
	if w.row != 3 || w.column != 0 {
		t.Errorf("the cursor is at %d, %d", w.row, w.column)
	}
}

// A text that does not fit is cut, to the size that the window has at that moment.
func TestScreenFitsTheWindow(t *testing.T) {
	w := newWindow(t, 4, 40)
	s := NewScreen(w, w.size)
	s.draw(t, "1\n2\n3\n4\n5\n")
	w.check("1", "2", "… 3 more lines: enlarge the window")
	s.draw(t, "1\n2\n3\n")
	w.check("1", "2", "3")
	w.resize(6, 8)
	s.draw(t, "1\n1234567\n12345678\n4\n5\n")
	w.check("1", "1234567", "123456…", "4", "5")
	w.resize(2, 8)
	s.draw(t, "1\n2\n")
	w.check("… 2 mo…")
	if len(w.history) != 1 { // a line of the empty window, at the beginning
		t.Errorf("scrolled out: %q", w.history)
	}
}

// Text breaks at spaces, with an indent; rows don't break.
func TestTextFitsTheWidth(t *testing.T) {
	for name, c := range map[string]struct {
		text  string
		width int
		want  string
	}{
		"no width":         {"  do: one two", 0, "  do: one two\n"},
		"fits":             {"  do: one two", 13, "  do: one two\n"},
		"too long":         {"  do: one two", 12, "  do: one\n    two\n"},
		"space at the end": {"  do: one two", 9, "  do: one\n    two\n"},
		"three lines":      {"one two three four", 7, "one two\n  three\n  four\n"},
		"a long word": {"  ! abcdefghij klmnopqrs", 10,
			"  ! abcdef\n    ghij\n    klmnop\n    qrs\n"},
		"characters":      {"  ! éééé ßßß", 11, "  ! éééé\n    ßßß\n"},
		"a line break":    {"  ! one\ntwo", 9, "  ! one\n    two\n"},
		"a narrow window": {"    do: one two", 12, "    do: one two\n"},
		"spaces":          {"          ", 4, "          \n"},
		"empty":           {"", 4, "\n"},
	} {
		var b strings.Builder
		table := NewTable(&b)
		table.Width = c.width
		table.Textf("%s", c.text)
		table.Row("one two", "three four five", "six")
		if err := table.End(); err != nil || b.String() != c.want+"one two   three four five   six\n" {
			t.Errorf("%s: %q, want %q; %v", name, b.String(), c.want, err)
		}
	}
	w := newWindow(t, 4, 30)
	s := NewScreen(w, w.size)
	if got := s.Width(); got != 29 {
		t.Errorf("the width is %d", got)
	}
	s.draw(t, strings.Repeat("x", 29))
	w.check(strings.Repeat("x", 29))
	w.columns = 0
	if got := s.Width(); got != 79 {
		t.Errorf("the unknown width is %d", got)
	}
}

// If the size of the window is not known, the usual one is used.
func TestScreenOfUnknownSize(t *testing.T) {
	for name, size := range map[string]func() (int, int, error){
		"error": func() (int, int, error) { return 0, 0, errors.New("no terminal") },
		"0":     func() (int, int, error) { return 0, 0, nil },
		"row":   func() (int, int, error) { return 1, 80, nil },
	} {
		w := newWindow(t, 24, 80)
		s := NewScreen(w, size)
		s.draw(t, strings.Repeat(strings.Repeat("x", 90)+"\n", 30))
		if got := string(w.lines[22]); got != "… 8 more lines: enlarge the window" {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// A text can't control the terminal.
func TestScreenWithHostileText(t *testing.T) {
	w := newWindow(t, 3, 40)
	s := NewScreen(w, w.size)
	s.draw(t, "a\x1b[2Jb\rc\u202ed\n\x07\n")
	w.check("a?[2Jb c?d", "?")
}

// An error of the terminal is returned.
func TestScreenIsGone(t *testing.T) {
	gone := errors.New("input/output error")
	s := NewScreen(failing{gone}, newWindow(t, 3, 40).size)
	if err := s.Draw("x"); !errors.Is(err, gone) {
		t.Error(err)
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

// An output that makes text printable does not hide the screen's own control sequences.
func TestScreenIsUnfiltered(t *testing.T) {
	var b bytes.Buffer
	s := NewScreen(&printable.Writer{Out: &b}, newWindow(t, 3, 40).size)
	s.draw(t, "x")
	if want := "\n\n\n\x1b[?7l\x1b[Hx\x1b[K\n\x1b[J\x1b[?7h"; b.String() != want {
		t.Errorf("%q, want %q", b.String(), want)
	}
}
