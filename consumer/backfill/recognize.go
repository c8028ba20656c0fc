package backfill

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"markread/consumer/event"
	"markread/consumer/printable"
)

// lookAhead is the number of bytes read to recognize the format of an input.
const lookAhead = 64 << 10

// recognize determines the format of a source from its beginning, and reads a table's header; see
// columnsOf. The name counts only if the content does not decide.
func (s *source) recognize(name string, allowNoTime bool) error {
	// Read no more than necessary: standard input may be slow.
	head := s.lines.peek(lookAhead, func(head []byte) bool {
		line, _, whole := bytes.Cut(trimLeft(head), []byte("\n"))
		return whole && (isHeader(line) || len(bytes.TrimSpace(line)) > 1 && line[0] == '{')
	})
	if s.lines.err != nil && s.lines.err != io.EOF && len(head) == 0 {
		return s.lines.err
	}
	if line, _, _ := bytes.Cut(head, []byte("\n")); separatorLine.Match(line) {
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
	if !isHeader(text) && (bytes.Contains(text, []byte("\n{")) || ndjsonName.MatchString(name)) {
		return nil // NDJSON with a bad first row
	}
	s.table = &table{lines: s.lines}
	return s.table.header(allowNoTime)
}

// trimLeft removes what may precede the first row.
func trimLeft(text []byte) []byte { return bytes.TrimLeft(text, " \t\r\n"+byteOrderMark) }

var ndjsonName = regexp.MustCompile(`(?i)\.(ndjson|jsonl)(\.zst)?(\.gz)?$`)

// separatorLine matches a line that names the fields' separator for spreadsheets. Another
// program that has read it as a row may have added commas.
var separatorLine = regexp.MustCompile(`^\x{FEFF}*"?(?i:sep)=[^"\r]{0,2}"?,*[ \t\r]*$`)

// isHeader reports whether the first line looks like the header of a table.
func isHeader(text []byte) bool {
	line, _, _ := bytes.Cut(text, []byte("\n"))
	return bytes.Contains(line, []byte(event.ReportField)) ||
		bytes.Contains(line, []byte(event.PeerField))
}

const (
	pipe      = " FILE | markread backfill -"
	exportCSV = ": export it as CSV or as one JSON object per line"
)

// otherFormats lists wrong formats by their first bytes after white space; the pattern has one
// character for each byte.
var otherFormats = []struct{ magic, description string }{
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
		"it is an HTML page, perhaps of an error or a login: check how the file was downloaded"},
	{`<[!?/\pL]`,
		"it is XML, perhaps a server's error response: check how the file was downloaded"},
	{`version https://git-lfs`, "it is a Git LFS pointer, not the file: git lfs pull"},
	{`-----BEGIN `, "it is encrypted, or a key: decrypt it, gpg -d" + pipe},
	{`(?i:--\s|/\*|insert into|create table|drop table|copy \S+ \()`,
		"it is SQL, such as a database's dump: export the table as CSV"},
	{`\+-[-+]*\+[\r\n]`, "it is a table as a database shell draws it: export it as CSV"},
	{`\[`, "it is a JSON array: jq -c '.[]'" + pipe},
	{`\{[ \t\r]*\n\s*"`, "its JSON objects have several lines each: jq -c ." + pipe},
}

// otherFormat describes a file that is neither CSV nor NDJSON; "": it may be one of them.
func otherFormat(head []byte) string {
	characters := make([]rune, len(head))
	for i, b := range head {
		characters[i] = rune(b)
	}
	text := string(characters)
	for _, other := range otherFormats {
		begins := regexp.MustCompile(`(?s)^([ \t\r\n]|\xef\xbb\xbf)*(` + other.magic + ")")
		if begins.MatchString(text) {
			return other.description
		}
	}
	zero := bytes.IndexByte(head[:min(len(head), 4096)], 0)
	switch line, _, _ := bytes.Cut(trimLeft(head), []byte("\n")); {
	case zero >= 0:
		return fmt.Sprintf("it is not text, its byte %d is 0: use CSV with a header, or one "+
			"JSON object per line", zero+1)
	case endsWithCR(line):
		return "its lines end with CR, as on old Macs: tr '\\r' '\\n' <" + pipe
	}
	return ""
}

// objectBoundary matches the text between two JSON objects on the same line.
var objectBoundary = regexp.MustCompile(`\}[ \t\r]*\r[ \t\r]*(` + byteOrderMark + `)*[{"]`)

// endsWithCR reports whether a line, as split at LF, is several lines that end with CR. A CR in a
// quoted field, or between the members of an object, does not end a line.
func endsWithCR(line []byte) bool {
	line = bytes.TrimRight(line, "\r")
	if len(line) > 0 && line[0] == '{' {
		return objectBoundary.Match(line)
	}
	for i, part := range bytes.Split(line, []byte{'"'}) { // every second part is quoted
		if i%2 == 0 && bytes.IndexByte(part, '\r') >= 0 {
			return true
		}
	}
	return false
}

var columnNames = [...]string{event.ReportField, event.PeerField, event.ReadTimeField}

// columns holds the indexes of the fields in a row.
type columns struct {
	count int
	at    [len(columnNames)]int // -1: no such column
}

// header reads the header row.
func (t *table) header(allowNoTime bool) error {
	first, fields, err := t.next()
	var bad *badRow
	switch separator := otherSeparator(first.text, fields); {
	case err == io.EOF:
		return errors.New("it has no header")
	case err != nil && !errors.As(err, &bad):
		return err
	case separator != "":
		return fmt.Errorf("its header has no %s: columns must be separated by commas, not by %q",
			event.ReportField, separator)
	case err != nil:
		return fmt.Errorf("its first row should be a header with the names of the fields: %w", err)
	}
	t.columns, err = columnsOf(fields, allowNoTime)
	return err
}

// columnsOf finds the columns. If there is no column of read times, the operator must give a read
// time (allowNoTime): the present would mark as read what nobody may have read, and that can't be
// undone.
func columnsOf(header [][]byte, allowNoTime bool) (columns, error) {
	c := columns{len(header), [...]int{-1, -1, -1}}
	for i, field := range header {
		n := slices.Index(columnNames[:], string(bytes.TrimSpace(field)))
		switch {
		case n < 0:
			continue
		case c.at[n] >= 0:
			return c, fmt.Errorf("its header has %s twice", columnNames[n])
		}
		c.at[n] = i
	}
	for n, name := range columnNames {
		for _, field := range header {
			if c.at[n] < 0 && intendedColumn(field) == name {
				return c, fmt.Errorf("its header has no %s: did you mean %[1]s? rename %s",
					name, quote(field))
			}
		}
	}
	for n, name := range columnNames[:2] {
		if c.at[n] < 0 {
			return c, fmt.Errorf("its header has no %s: the first row must have the names "+
				"%s, %s and %s, but is %s", name, event.ReportField, event.PeerField,
				event.ReadTimeField, quote(bytes.Join(header, []byte{','})))
		}
	}
	if c.at[2] < 0 && !allowNoTime {
		return c, fmt.Errorf("its header has no %s; its columns are %s: %s, or set "+
			"--read-time T|now, the time up to which everything was read",
			event.ReadTimeField, listNames(header), renameAdvice(header))
	}
	return c, nil
}

// intendedColumn returns the field for which a column name is a misspelling, or "".
func intendedColumn(field []byte) string { return event.IntendedField(bytes.TrimSpace(field)) }

// otherSeparator returns the separator of a header that does not use commas, or "".
func otherSeparator(text []byte, fields [][]byte) string {
	isName := func(field []byte) bool {
		name := bytes.Trim(field, " \t\"'")
		return slices.Contains(columnNames[:2], string(name)) || intendedColumn(name) != ""
	}
	if slices.ContainsFunc(fields, isName) {
		return ""
	}
	for _, separator := range []string{";", "\t", "|", ":", "\x01", "，"} {
		parts := bytes.Split(text, []byte(separator))
		if len(parts) > 1 && slices.ContainsFunc(parts, isName) {
			return separator
		}
	}
	return ""
}

// likelyTime matches a column name that probably is the read time's.
var likelyTime = regexp.MustCompile(
	`(?i)time|^\W*((msg|last)[-_ ]?)?read(ed)?[-_ ]?(at|date|ts|until|up[-_ ]?to)?\W*$`)

// renameAdvice returns what to do with a header without MsgReadTime.
func renameAdvice(header [][]byte) string {
	others := slices.DeleteFunc(slices.Clone(header), func(field []byte) bool {
		return slices.Contains(columnNames[:2], string(bytes.TrimSpace(field)))
	})
	if likely := slices.IndexFunc(others, likelyTime.Match); likely >= 0 {
		others = others[likely:][:1]
	}
	switch len(others) {
	case 0:
		return "add it"
	case 1:
		return "rename " + quote(others[0]) + " if it is the read time"
	}
	return "rename the one with the read time"
}

// listNames lists the first names of a header.
func listNames(header [][]byte) string {
	var names []string
	for i, field := range header {
		if i == 10 {
			names = append(names, fmt.Sprintf("and %d more", len(header)-i))
			break
		}
		names = append(names, quote(field))
	}
	return strings.Join(names, ", ")
}

// quote quotes the beginning of a text of the input.
func quote(text []byte) string { return printable.Quote(string(text)) }
