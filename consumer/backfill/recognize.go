package backfill

import (
	"bytes"
	"errors"
	"io"
	"path/filepath"
	"regexp"
	"strings"
)

// lookAhead is how much of an input is looked at to see what it is.
const lookAhead = 64 << 10

// recognize finds out what a source holds from how it begins. Of a table it reads the header; see
// columnsOf. The name counts only if nothing else helps.
func (s *source) recognize(name string, timeless bool) error {
	s.lines.skipByteOrderMarks()
	// As much as is needed: standard input may be slow.
	head := s.lines.peek(lookAhead, func(head []byte) bool {
		line, _, whole := bytes.Cut(trimLeft(head), []byte("\n"))
		return whole && (isHeader(line) || len(bytes.TrimSpace(line)) > 1 && line[0] == '{')
	})
	if s.lines.err != nil && s.lines.err != io.EOF && len(head) == 0 {
		return s.lines.err
	}
	if line, _, _ := bytes.Cut(head, []byte("\n")); saysSeparator.Match(line) {
		s.lines.skipLine()
		head = s.lines.peek(lookAhead, func(head []byte) bool { return bytes.IndexByte(head, '\n') >= 0 })
	}
	if other := otherFormat(head); other != "" {
		return errors.New(other)
	}
	text := trimLeft(head)
	if len(text) == 0 || text[0] == '{' || bytes.HasPrefix(text, []byte(`"{`)) {
		return nil
	}
	s.table = &table{lines: s.lines}
	if isHeader(text) || !someObject(text) && !saysNDJSON(name) {
		return s.table.header(timeless)
	}
	s.table = nil // the first row is a bad one
	return nil
}

// trimLeft leaves out what may come before the first row.
func trimLeft(text []byte) []byte { return bytes.TrimLeft(text, " \t\r\n"+byteOrderMark) }

// saysSeparator matches a line that tells a spreadsheet what separates the fields; another program
// that has read it as a row may have put commas behind it.
var saysSeparator = regexp.MustCompile(`^"?(?i:sep)=[^"\r]{0,2}"?,*[ \t\r]*$`)

// isHeader reports whether the first line looks like the header of a table.
func isHeader(text []byte) bool {
	line, _, _ := bytes.Cut(text, []byte("\n"))
	return bytes.Contains(line, []byte(reportColumn)) || bytes.Contains(line, []byte(peerColumn))
}

// someObject reports whether a line begins as a JSON object does.
func someObject(text []byte) bool { return bytes.Contains(text, []byte("\n{")) }

func saysNDJSON(name string) bool {
	name = strings.ToLower(name)
	for _, compression := range []string{".gz", ".zst"} {
		name = strings.TrimSuffix(name, compression)
	}
	ext := filepath.Ext(name)
	return ext == ".ndjson" || ext == ".jsonl"
}
