package backfill

import (
	"bytes"
	"errors"
	"fmt"
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

// What a file may be by mistake, by the bytes at a place near its beginning.
var otherBytes = []struct {
	at          int
	bytes, says string
}{
	{0, "PK\x03\x04", "it is a ZIP archive, or a spreadsheet: unpack it, or export it as CSV"},
	{0, "\xd0\xcf\x11\xe0", "it is a spreadsheet (.xls) or another document of Office: " +
		"export it as CSV"},
	{0, "BZh", "it is compressed with bzip2: bzip2 -dc FILE | markread backfill -"},
	{0, "\xfd7zXZ", "it is compressed with xz: xz -dc FILE | markread backfill -"},
	{0, "\x04\x22\x4d\x18", "it is compressed with lz4: lz4 -dc FILE | markread backfill -"},
	{0, "7z\xbc\xaf", "it is a 7z archive: 7z x -so FILE | markread backfill -"},
	{0, "Rar!\x1a", "it is a RAR archive: unpack it"},
	{257, "ustar", "it is a tar archive: tar -xOf FILE | markread backfill -"},
	{0, "\x1f\x8b", "it is compressed twice: gzip -dc FILE | markread backfill -"},
	{0, "\x28\xb5\x2f\xfd", "it is compressed twice: decompress it once"},
	{0, "\xff\xfe\x00\x00", "it is UTF-32: iconv -f UTF-32 -t UTF-8 FILE | markread backfill -"},
	{0, "\x00\x00\xfe\xff", "it is UTF-32: iconv -f UTF-32 -t UTF-8 FILE | markread backfill -"},
	{0, "\xff\xfe", "it is UTF-16: iconv -f UTF-16 -t UTF-8 FILE | markread backfill -"},
	{0, "\xfe\xff", "it is UTF-16: iconv -f UTF-16 -t UTF-8 FILE | markread backfill -"},
	{0, "PAR1", "it is a Parquet file: export it as CSV or as one JSON object a line"},
	{0, "Obj\x01", "it is an Avro file: export it as CSV or as one JSON object a line"},
	{0, "SQLite format 3\x00", "it is a SQLite database: sqlite3 -csv -header FILE 'SELECT …' | " +
		"markread backfill -"},
	{0, "%PDF-", "it is a PDF: export the table that it was made from as CSV"},
}

// What a file may be by mistake, by how its text begins, white space left out.
var otherTexts = []struct {
	begins *regexp.Regexp
	says   string
}{
	{regexp.MustCompile(`^(?is:(<[!?][^<]*)*<(!doctype )?(html|head|body|script|style|title|meta|table|h1|p)\b)`),
		"it is an HTML page, perhaps of an error or a login: see how the file was downloaded"},
	{regexp.MustCompile(`^<[!?/\pL]`),
		"it is XML, perhaps what a server says of an error: see how the file was downloaded"},
	{regexp.MustCompile(`^(?s:[\x01-\x7f]\x00){2}`),
		"it is UTF-16: iconv -f UTF-16LE -t UTF-8 FILE | markread backfill -"},
	{regexp.MustCompile(`^(?s:\x00[\x01-\x7f]){2}`),
		"it is UTF-16: iconv -f UTF-16BE -t UTF-8 FILE | markread backfill -"},
	{regexp.MustCompile(`^version https://git-lfs`),
		"it is a Git LFS pointer, not the file: git lfs pull"},
	{regexp.MustCompile(`^-----BEGIN `), "it is encrypted, or a key: decrypt it, gpg -d FILE | " +
		"markread backfill -"},
	{regexp.MustCompile(`^(?i:--\s|/\*|(insert into|create table|drop table|copy \S+ \())`),
		"it is SQL, such as a database's dump: export the table as CSV"},
	{regexp.MustCompile(`^\+-[-+]*\+[\r\n]`),
		"it is a table as a database shell draws it: export it as CSV"},
	{regexp.MustCompile(`^ORC[^\w ,;|\t]`),
		"it is an ORC file: export it as CSV or as one JSON object a line"},
	{regexp.MustCompile(`^\[`), "it is a JSON array: jq -c '.[]' FILE | markread backfill -"},
	{regexp.MustCompile(`^\{[ \t\r]*\n\s*"`),
		"its JSON objects have several lines each: jq -c . FILE | markread backfill -"},
}

// otherFormat says what a file is that is neither CSV nor NDJSON; "": it may be one of them.
func otherFormat(head []byte) string {
	for _, other := range otherBytes {
		if len(head) >= other.at && bytes.HasPrefix(head[other.at:], []byte(other.bytes)) {
			return other.says
		}
	}
	text := trimLeft(head)
	for _, other := range otherTexts {
		if other.begins.Match(text) {
			return other.says
		}
	}
	zero := bytes.IndexByte(head[:min(len(head), 4096)], 0)
	switch line, _, _ := bytes.Cut(text, []byte("\n")); {
	case zero >= 0:
		return fmt.Sprintf("it is no text, its byte %d is 0: CSV with a header, or one JSON object a "+
			"line, is what can be read", zero+1)
	case endsWithCR(line):
		return "its lines end with CR, as those of old Macs: tr '\\r' '\\n' < FILE | markread backfill -"
	}
	return ""
}

// nextObject matches what is behind one JSON object and before another on the same line.
var nextObject = regexp.MustCompile(`\}[ \t\r]*\r[ \t\r]*(` + byteOrderMark + `)*[{"]`)

// endsWithCR reports whether what is the first line by its LF is several that end with a CR. One
// within a quoted field ends none, nor does one between the parts of an object.
func endsWithCR(line []byte) bool {
	line = bytes.TrimRight(line, "\r")
	if len(line) > 0 && line[0] == '{' {
		return nextObject.Match(line)
	}
	open := false
	for _, b := range line {
		switch {
		case b == '"':
			open = !open
		case b == '\r' && !open:
			return true
		}
	}
	return false
}
