package backfill

import (
	"bytes"
	"errors"
	"io"
	"path/filepath"
	"strings"
)

// lookAhead is how much of an input is looked at to see what it is.
const lookAhead = 64 << 10

// recognize finds out what a source holds from how it begins. Of a table it reads the header; see columnsOf. The name counts only if nothing else helps.
func (s *source) recognize(name string, timeless bool) error {
	s.lines.skipByteOrderMark()
	// As much as is needed: standard input may be slow.
	head := s.lines.peek(lookAhead, func(head []byte) bool {
		line, _, whole := bytes.Cut(bytes.TrimLeft(head, " \t\r\n"), []byte("\n"))
		return whole && (isHeader(line) || len(bytes.TrimSpace(line)) > 1 && line[0] == '{')
	})
	if s.lines.err != nil && s.lines.err != io.EOF && len(head) == 0 {
		return s.lines.err
	}
	if line, _, _ := bytes.Cut(head, []byte("\n")); bytes.HasPrefix(line, []byte("sep=")) && len(line) <= len("sep=,\r") {
		s.lines.skipLine() // it tells a spreadsheet what separates the fields
		head = s.lines.peek(lookAhead, func(head []byte) bool { return bytes.IndexByte(head, '\n') >= 0 })
	}
	if other := otherFormat(head); other != "" {
		return errors.New(other)
	}
	text := bytes.TrimLeft(head, " \t\r\n")
	if len(text) == 0 || text[0] == '{' {
		return nil
	}
	s.table = newTable(s.lines)
	if isHeader(text) || !someObject(text) && !saysNDJSON(name) {
		return s.table.header(timeless)
	}
	s.table = nil // the first row is a bad one
	return nil
}

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

// What a file may be by mistake, by how it begins.
var others = []struct{ begins, says string }{
	{"PK\x03\x04", "it is a ZIP archive, or a spreadsheet: unpack it, or export it as CSV"},
	{"BZh", "it is compressed with bzip2: bzip2 -dc FILE | markread backfill -"},
	{"\xfd7zXZ", "it is compressed with xz: xz -dc FILE | markread backfill -"},
	{"\x1f\x8b", "it is compressed twice: gzip -dc FILE | markread backfill -"},
	{"\x28\xb5\x2f\xfd", "it is compressed twice: decompress it once"},
	{"\xff\xfe", "it is UTF-16: iconv -f UTF-16 -t UTF-8 FILE | markread backfill -"},
	{"\xfe\xff", "it is UTF-16: iconv -f UTF-16 -t UTF-8 FILE | markread backfill -"},
	{"PAR1", "it is a Parquet file: export it as CSV or as one JSON object a line"},
}

// otherFormat says what a file is that is neither CSV nor NDJSON; "": it may be one of them.
func otherFormat(head []byte) string {
	for _, other := range others {
		if bytes.HasPrefix(head, []byte(other.begins)) {
			return other.says
		}
	}
	first, rest, _ := bytes.Cut(bytes.TrimLeft(head, " \t\r\n"), []byte("\n"))
	switch first = bytes.TrimSpace(first); {
	case bytes.IndexByte(head, '\n') < 0 && bytes.IndexByte(first, '\r') > 0:
		return "its lines end as those of old Macs: tr '\\r' '\\n' < FILE | markread backfill -"
	case bytes.HasPrefix(first, []byte("[")):
		return "it is a JSON array: jq -c '.[]' FILE | markread backfill -"
	case string(first) == "{" && bytes.HasPrefix(bytes.TrimSpace(rest), []byte(`"`)):
		return "its JSON objects have several lines each: jq -c . FILE | markread backfill -"
	case bytes.IndexByte(head[:min(len(head), 4096)], 0) >= 0:
		return "it is no text: CSV with a header, or one JSON object a line, is what can be read"
	}
	return ""
}
