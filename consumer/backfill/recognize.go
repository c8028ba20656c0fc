package backfill

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
)

// lookAhead is how much of an input is read to recognize its format.
const lookAhead = 64 << 10

// recognize finds the format of a source from its beginning, and reads a table's header; see
// columnsOf. The name counts only if nothing else helps.
func (s *source) recognize(name string, timeless bool) error {
	// As much as is needed: standard input may be slow.
	head := s.lines.peek(lookAhead, func(head []byte) bool {
		line, _, whole := bytes.Cut(trimLeft(head), []byte("\n"))
		return whole && (isHeader(line) || len(bytes.TrimSpace(line)) > 1 && line[0] == '{')
	})
	if s.lines.err != nil && s.lines.err != io.EOF && len(head) == 0 {
		return s.lines.err
	}
	if line, _, _ := bytes.Cut(head, []byte("\n")); saysSeparator.Match(line) {
		s.lines.skip(min(len(line)+1, len(head)))
		whole := func(head []byte) bool { return bytes.IndexByte(head, '\n') >= 0 }
		head = s.lines.peek(lookAhead, whole)
	}
	if other := otherFormat(head); other != "" {
		return errors.New(other)
	}
	text := trimLeft(head)
	if len(text) == 0 || text[0] == '{' || bytes.HasPrefix(text, []byte(`"{`)) {
		return nil
	}
	if !isHeader(text) && (bytes.Contains(text, []byte("\n{")) || saysNDJSON.MatchString(name)) {
		return nil // NDJSON whose first row is a bad one
	}
	s.table = &table{lines: s.lines}
	return s.table.header(timeless)
}

// trimLeft cuts off what may come before the first row.
func trimLeft(text []byte) []byte { return bytes.TrimLeft(text, " \t\r\n"+byteOrderMark) }

var saysNDJSON = regexp.MustCompile(`(?i)\.(ndjson|jsonl)(\.zst)?(\.gz)?$`)

// saysSeparator matches a line that tells a spreadsheet what separates the fields; another program
// that has read it as a row may have put commas behind it.
var saysSeparator = regexp.MustCompile(`^\x{FEFF}*"?(?i:sep)=[^"\r]{0,2}"?,*[ \t\r]*$`)

// isHeader reports whether the first line looks like the header of a table.
func isHeader(text []byte) bool {
	line, _, _ := bytes.Cut(text, []byte("\n"))
	return bytes.Contains(line, []byte(reportColumn)) || bytes.Contains(line, []byte(peerColumn))
}

const (
	pipe      = " FILE | markread backfill -"
	exportCSV = ": export it as CSV or as one JSON object a line"
)

// otherFormats is what a file may be by mistake: how it begins, behind white space, a character of
// the pattern for each byte.
var otherFormats = []struct{ magic, says string }{
	{`PK\x03\x04`, "it is a ZIP archive, or a spreadsheet: unpack it, or export it as CSV"},
	{`\xd0\xcf\x11\xe0`,
		"it is a spreadsheet (.xls) or another document of Office: export it as CSV"},
	{`BZh`, "it is compressed with bzip2: bzip2 -dc" + pipe},
	{`\xfd7zXZ`, "it is compressed with xz: xz -dc" + pipe},
	{`\x04\x22\x4d\x18`, "it is compressed with lz4: lz4 -dc" + pipe},
	{`7z\xbc\xaf`, "it is a 7z archive: 7z x -so" + pipe},
	{`Rar!\x1a`, "it is a RAR archive: unpack it"},
	{`.{257}ustar`, "it is a tar archive: tar -xOf" + pipe},
	{`\x1f\x8b`, "it is compressed twice: gzip -dc" + pipe},
	{`\x28\xb5\x2f\xfd`, "it is compressed twice: decompress it once"},
	{`\xff\xfe\x00\x00|\x00\x00\xfe\xff`, "it is UTF-32: iconv -f UTF-32 -t UTF-8" + pipe},
	{`\xff\xfe|\xfe\xff`, "it is UTF-16: iconv -f UTF-16 -t UTF-8" + pipe},
	{`([\x01-\x7f]\x00){2}`, "it is UTF-16: iconv -f UTF-16LE -t UTF-8" + pipe},
	{`(\x00[\x01-\x7f]){2}`, "it is UTF-16: iconv -f UTF-16BE -t UTF-8" + pipe},
	{`PAR1`, "it is a Parquet file" + exportCSV},
	{`Obj\x01`, "it is an Avro file" + exportCSV},
	{`ORC[^\w ,;|\t]`, "it is an ORC file" + exportCSV},
	{`SQLite format 3\x00`, "it is a SQLite database: sqlite3 -csv -header FILE 'SELECT …'" +
		strings.TrimPrefix(pipe, " FILE")},
	{`%PDF-`, "it is a PDF: export the table that it was made from as CSV"},
	{`(?i:(<[!?][^<]*)*<(!doctype )?(html|head|body|script|style|title|meta|table|h1|p)\b)`,
		"it is an HTML page, perhaps of an error or a login: see how the file was downloaded"},
	{`<[!?/\pL]`,
		"it is XML, perhaps what a server says of an error: see how the file was downloaded"},
	{`version https://git-lfs`, "it is a Git LFS pointer, not the file: git lfs pull"},
	{`-----BEGIN `, "it is encrypted, or a key: decrypt it, gpg -d" + pipe},
	{`(?i:--\s|/\*|insert into|create table|drop table|copy \S+ \()`,
		"it is SQL, such as a database's dump: export the table as CSV"},
	{`\+-[-+]*\+[\r\n]`, "it is a table as a database shell draws it: export it as CSV"},
	{`\[`, "it is a JSON array: jq -c '.[]'" + pipe},
	{`\{[ \t\r]*\n\s*"`, "its JSON objects have several lines each: jq -c ." + pipe},
}

// otherFormat says what a file is that is neither CSV nor NDJSON; "": it may be one of them.
func otherFormat(head []byte) string {
	characters := make([]rune, len(head))
	for i, b := range head {
		characters[i] = rune(b)
	}
	text := string(characters)
	for _, other := range otherFormats {
		begins := regexp.MustCompile(`(?s)^([ \t\r\n]|\xef\xbb\xbf)*(` + other.magic + ")")
		if begins.MatchString(text) {
			return other.says
		}
	}
	zero := bytes.IndexByte(head[:min(len(head), 4096)], 0)
	switch line, _, _ := bytes.Cut(trimLeft(head), []byte("\n")); {
	case zero >= 0:
		return fmt.Sprintf("it is no text, its byte %d is 0: CSV with a header, or one JSON "+
			"object a line, is what can be read", zero+1)
	case endsWithCR(line):
		return "its lines end with CR, as those of old Macs: tr '\\r' '\\n' <" + pipe
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
	for i, part := range bytes.Split(line, []byte{'"'}) { // each other is in quotes
		if i%2 == 0 && bytes.IndexByte(part, '\r') >= 0 {
			return true
		}
	}
	return false
}
