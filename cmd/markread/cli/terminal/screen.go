package terminal

import (
	"fmt"
	"io"
	"strings"

	"markread/consumer/printable"
)

// Screen shows a text on a terminal in place of the previous one.
//
// The cursor stays visible, below the text, and the terminal's modes are as before whenever Draw
// has returned: nothing has to be restored, even if the process is killed.
type Screen struct {
	out   io.Writer
	size  func() (rows, columns int, err error)
	began bool
}

// NewScreen returns a screen on the terminal out. size returns the size of its window.
func NewScreen(out io.Writer, size func() (rows, columns int, err error)) *Screen {
	return &Screen{out: Unfiltered(out), size: size}
}

// window returns the size of the window; the usual one if it is not known.
func (s *Screen) window() (rows, columns int) {
	rows, columns, err := s.size()
	if err != nil || rows < 2 || columns < 2 { // some serial lines and containers have 0 and 0
		return 24, 80
	}
	return rows, columns
}

// Width returns how many characters of a line Draw shows at present.
func (s *Screen) Width() int {
	_, columns := s.window()
	return columns - 1
}

// Draw shows the text, cut to the window's present size. It overwrites the previous text in one
// write, instead of clearing the screen first, so that nothing flickers. What the first text covers
// moves to the terminal's history.
func (s *Screen) Draw(text string) error {
	rows, columns := s.window()
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if most := rows - 1; len(lines) > most {
		more := fmt.Sprintf("… %d more lines: enlarge the window", len(lines)-most+1)
		lines = append(lines[:most-1], more)
	}
	var b strings.Builder
	if !s.began {
		s.began = true
		b.WriteString(strings.Repeat("\n", rows))
	}
	// Without the terminal's own line breaks: cut counts wide characters as one column.
	b.WriteString("\x1b[?7l\x1b[H")
	for _, line := range lines {
		b.WriteString(cut(printable.Line(line), columns-1) + "\x1b[K\n")
	}
	b.WriteString("\x1b[J\x1b[?7h")
	_, err := io.WriteString(s.out, b.String())
	return err
}

// End clears the line below the text, where the terminal shows ^C.
func (s *Screen) End() { _, _ = io.WriteString(s.out, ClearLine) }

// cut returns at most so many characters of a line; its last one shows that there are more.
func cut(line string, most int) string {
	if runes := []rune(line); len(runes) > most {
		return string(runes[:most-1]) + "…"
	}
	return line
}
