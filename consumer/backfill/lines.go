package backfill

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	"markread/consumer/event"
)

const (
	// MaxLine bounds a line or row with its line break, in bytes: most brokers reject larger
	// records.
	MaxLine      = 1 << 20
	keptRowBytes = 1 << 10 // bytes kept of a longer row
)

// lines reads lines with a bounded lookahead. A returned line is valid until the next call.
type lines struct {
	in     *bufio.Reader
	offset int64 // in the input
	number int64 // number of the line that begins at offset
	err    error // what ended the input
}

// EachLine calls each for each non-empty line, without leading byte order marks, until each returns
// false or the input ends. text is valid only during the call; if the line is too long it is the
// beginning. It passes on lines that have arrived before it waits for more.
func EachLine(in io.Reader, each func(number int64, text []byte, tooLong bool) bool) error {
	l := newLines(in)
	for {
		r, err := l.next(nil)
		switch tooLong := err == errTooLong; {
		case err == io.EOF:
			return nil
		case err != nil && !tooLong:
			return fmt.Errorf("line %d: %w", l.number, err)
		case !each(r.line, r.text, tooLong):
			return nil
		}
	}
}

func newLines(in io.Reader) *lines {
	return &lines{in: bufio.NewReaderSize(in, MaxLine+256<<10), number: 1}
}

// more reads more of the input. It returns false at the end of the input, or if more than a whole
// row is buffered.
func (l *lines) more() bool {
	if n := l.in.Buffered(); l.err == nil && n <= MaxLine {
		_, l.err = l.in.Peek(n + 1)
		return l.err == nil
	}
	return false
}

// buffered returns what was read but not consumed.
func (l *lines) buffered() []byte {
	b, _ := l.in.Peek(l.in.Buffered()) // never fails
	return b
}

// newline returns the number of bytes up to and including the first line break at or after index
// after. found is false if there is none.
func (l *lines) newline(after int) (length int, found bool) {
	for {
		b := l.buffered()
		if i := bytes.IndexByte(b[after:], '\n'); i >= 0 {
			return after + i + 1, true
		}
		if after = len(b); !l.more() {
			return after, false
		}
	}
}

// peek returns up to n bytes without consuming them. It returns fewer if enough accepts them, or at
// the end of the input.
func (l *lines) peek(n int, enough func(head []byte) bool) []byte {
	for len(l.buffered()) < n && !enough(l.buffered()) && l.more() {
	}
	return l.buffered()[:min(n, len(l.buffered()))]
}

// skip consumes n buffered bytes.
func (l *lines) skip(n int) {
	l.number += int64(bytes.Count(l.buffered()[:n], []byte{'\n'}))
	l.offset += int64(n)
	_, _ = l.in.Discard(n)
}

// errNoRow is the error of skipTo if no line begins at the offset.
var errNoRow = errors.New("no row begins there")

// skipTo consumes everything before offset. line is the number of the line that begins there.
func (l *lines) skipTo(offset, line int64) error {
	n, err := io.CopyN(io.Discard, l.in, max(0, offset-l.offset-1))
	before := byte('\n')
	if err == nil && l.offset < offset {
		before, err = l.in.ReadByte()
	}
	switch {
	case err != nil && err != io.EOF:
		return fmt.Errorf("at byte %d, before byte %d: %w", l.offset+n, offset, err)
	case err != nil || l.offset > offset || before != '\n':
		return errNoRow
	}
	l.offset, l.number = offset, line
	return nil
}

// row is a part of the input that should be one event.
type row struct {
	line int64  // number of its first line
	text []byte // without its line break
}

// badRow is the error of a row that can't be parsed. The input continues after it.
type badRow struct{ error }

func (e *badRow) Unwrap() error { return e.error }

var errTooLong = &badRow{fmt.Errorf("it is longer than %d bytes; only its first %d are kept here",
	MaxLine, keptRowBytes)}

// next returns the next non-empty row: one line, or several if a quote is open at the end of the
// first and isMultiline, if not nil, accepts their text. With errTooLong the row is the beginning
// of a longer one. With any other error, io.EOF or a read failure, there is no row.
func (l *lines) next(isMultiline func(text []byte) bool) (row, error) {
	for {
		length, found := l.newline(0)
		r := row{line: l.number, text: l.buffered()[:length]}
		switch {
		case length > MaxLine:
			r.text = bytes.Clone(r.text[:keptRowBytes])
			for l.skip(length); !found && l.err == nil; l.skip(length) {
				length, found = l.newline(0)
			}
			return r, errTooLong
		case !found && (l.err != io.EOF || length == 0):
			return row{}, l.err
		}
		if isMultiline != nil && bytes.Count(r.text, quoteMark)%2 == 1 {
			long, err := l.quotedLength(length)
			if err != nil {
				return row{}, err
			}
			if long > 0 && isMultiline(rowText(l.buffered()[:long])) {
				length = long
			}
		}
		r.text = rowText(l.buffered()[:length])
		l.skip(length)
		if len(bytes.Trim(r.text, " \t\r\n")) > 0 {
			return r, nil
		}
	}
}

var quoteMark = []byte{'"'}

// quotedLength returns the length of the lines from here on that together have an even number of
// quotes. The first line, of length first, has an odd number. It returns 0 if there are no such
// lines, or if they are longer than MaxLine.
func (l *lines) quotedLength(first int) (length int, err error) {
	for length = first; ; {
		more, found := l.newline(length)
		even := bytes.Count(l.buffered()[length:more], quoteMark)%2 == 1
		switch length = more; {
		case length > MaxLine:
			return 0, nil
		case !found && l.err != io.EOF: // the rest of the row did not arrive
			return 0, l.err
		case even:
			return length, nil
		case !found:
			return 0, nil
		}
	}
}

// byteOrderMark may be before any row: see event.TrimByteOrderMark.
const byteOrderMark = "\uFEFF"

// rowText removes the line break after a row (LF, CR LF or CR CR LF) and the byte order marks
// before it.
func rowText(text []byte) []byte {
	text = bytes.TrimSuffix(text, []byte("\n"))
	return event.TrimByteOrderMark(bytes.TrimRight(text, "\r"))
}
