package backfill

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"markread/consumer/event"
)

const (
	// MaxLine is the longest line, or row, its line break included. A record of more than a megabyte would be refused by most brokers, so a worker never
	// sees a longer event.
	MaxLine   = 1 << 20
	keptOfRow = 1 << 10 // of a longer one
	minRead   = 64 << 10
)

// lines reads lines with a bounded look ahead. What it returns is valid until the next call.
type lines struct {
	in       io.Reader
	buf      []byte
	from, to int   // what is read and not yet consumed
	offset   int64 // in the input, of from
	number   int64 // of the line at from
	err      error // that the input ended with
}

// EachLine gives each line that is not blank to each, until that returns false or the input has ended. Byte order marks before it are left out. The
// text is valid within the call; of a line that is too long it is the beginning. Lines that have come are given before more are waited for.
func EachLine(in io.Reader, each func(number int64, text []byte, tooLong bool) bool) error {
	l := newLines(in)
	for {
		r, err := l.next()
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return fmt.Errorf("line %d: %w", l.number, err)
		case !each(r.line, r.text, r.tooLong):
			return nil
		}
	}
}

func newLines(in io.Reader) *lines {
	return &lines{in: in, buf: make([]byte, 256<<10), number: 1}
}

// more reads on; false: the input has ended, or a whole row and more lies ahead.
func (l *lines) more() bool {
	if l.err != nil || l.to-l.from > MaxLine {
		return false
	}
	if len(l.buf)-l.to < minRead {
		buf := l.buf
		if need := l.to - l.from + minRead; need > len(buf)/4*3 {
			buf = make([]byte, 2*len(buf))
		}
		l.to = copy(buf, l.buf[l.from:l.to])
		l.buf, l.from = buf, 0
	}
	for empty := 0; ; empty++ {
		n, err := l.in.Read(l.buf[l.to:])
		l.to += n
		if l.err = err; err == nil && n == 0 && empty == 100 {
			l.err = io.ErrNoProgress
		}
		if n > 0 || l.err != nil {
			return n > 0
		}
	}
}

// newline returns how many bytes from here on end with the first line break at or behind after; false: there is none.
func (l *lines) newline(after int) (length int, found bool) {
	for {
		if i := bytes.IndexByte(l.buf[l.from+after:l.to], '\n'); i >= 0 {
			return after + i + 1, true
		}
		after = l.to - l.from
		if !l.more() {
			return after, false
		}
	}
}

// peek returns up to n bytes that lie ahead, fewer only when they are enough, or at the end of the input.
func (l *lines) peek(n int, enough func(head []byte) bool) []byte {
	for l.to-l.from < n && !enough(l.buf[l.from:l.to]) && l.more() {
	}
	return l.buf[l.from:min(l.to, l.from+n)]
}

// byteOrderMark is what some editors put before UTF-8 text; where files were joined, it is before a
// row. Neither JSON nor a table begins with it.
const byteOrderMark = "\uFEFF"

// skipByteOrderMarks consumes those that lie ahead.
func (l *lines) skipByteOrderMarks() {
	const n = len(byteOrderMark)
	other := func(head []byte) bool { return !bytes.HasPrefix([]byte(byteOrderMark), head) }
	for string(l.peek(n, other)) == byteOrderMark {
		l.skip(n, 0)
	}
}

// ahead returns the next n bytes.
func (l *lines) ahead(n int) []byte { return l.buf[l.from : l.from+n] }

// skip consumes n bytes with so many line breaks.
func (l *lines) skip(n, breaks int) {
	l.from += n
	l.offset += int64(n)
	l.number += int64(breaks)
}

// skipLine consumes the rest of a line, however long.
func (l *lines) skipLine() {
	for {
		length, found := l.newline(0)
		if found {
			l.skip(length, 1)
			return
		}
		if l.skip(length, 0); l.err != nil {
			return
		}
	}
}

// errNoRow is the error of skipTo if no line begins at the offset.
var errNoRow = errors.New("no row begins there")

// skipTo consumes what is before an offset; line is the number of the line that begins there.
func (l *lines) skipTo(offset, line int64) error {
	before := byte('\n')
	for l.offset < offset {
		switch {
		case l.from < l.to || l.more():
		case l.err == io.EOF:
			return errNoRow
		default:
			return fmt.Errorf("at byte %d, before byte %d: %w", l.offset, offset, l.err)
		}
		n := int(min(int64(l.to-l.from), offset-l.offset))
		before = l.buf[l.from+n-1]
		l.skip(n, 0)
	}
	if l.offset > offset || before != '\n' {
		return errNoRow
	}
	l.number = line
	return nil
}

// row is a part of the input that should be one event.
type row struct {
	line    int64  // its first
	text    []byte // without its line break
	tooLong bool   // text is its beginning only
}

// badRow is a row that can't be taken apart. The file goes on behind it.
type badRow struct{ err error }

func (e *badRow) Error() string { return e.err.Error() }
func (e *badRow) Unwrap() error { return e.err }

var errTooLong = &badRow{fmt.Errorf("it is longer than %d bytes; only its first %d are kept here", MaxLine, keptOfRow)}

// next returns the next line that is not blank. At the end of the input it returns io.EOF, or what reading it failed with.
func (l *lines) next() (row, error) {
	for {
		length, found := l.newline(0)
		r := row{line: l.number, text: l.ahead(length)}
		switch {
		case length > MaxLine:
			r.tooLong, r.text = true, bytes.Clone(r.text[:keptOfRow])
			l.skipLine()
			return r, nil
		case found:
			l.skip(length, 1)
		case l.err != io.EOF || length == 0:
			return row{}, l.err
		default:
			l.skip(length, 0)
		}
		if r.text = rowText(r.text); !blank(r.text) {
			return r, nil
		}
	}
}

func blank(text []byte) bool { return len(bytes.Trim(text, " \t\r\n")) == 0 }

// rowText leaves out the line break behind a row, as programs write it (LF, CR LF, CR CR LF), and
// byte order marks before it.
func rowText(text []byte) []byte {
	text = bytes.TrimSuffix(text, []byte("\n"))
	for len(text) > 0 && text[len(text)-1] == '\r' {
		text = text[:len(text)-1]
	}
	return event.TrimByteOrderMark(text)
}
