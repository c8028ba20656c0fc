package backfill

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"

	"markread/consumer"
)

// table reads a CSV file.
//
// encoding/csv alone would not do: it reads a row of any length, does not say what text a row has, and takes all that follows a quote which is
// not closed for one row. So rows are cut here, and those with quotes in them are then given to it.
type table struct {
	lines   *lines
	columns columns
	feed    feed
	library *csv.Reader // reads from feed
	fields  [][]byte
	ends    []byte // the row with a line break
}

// columns are the places of the fields in a row.
type columns struct {
	count                  int
	report, peer, readTime int // readTime is -1 where there is no such column
}

func newTable(l *lines) *table {
	t := &table{lines: l}
	t.reset()
	return t
}

// reset begins with nothing read.
func (t *table) reset() {
	t.feed.text = nil
	t.library = csv.NewReader(&t.feed)
	t.library.FieldsPerRecord, t.library.ReuseRecord = -1, true
}

// feed is what the library reads.
type feed struct{ text []byte }

func (f *feed) Read(b []byte) (int, error) {
	if len(f.text) == 0 {
		return 0, io.EOF
	}
	n := copy(b, f.text)
	f.text = f.text[n:]
	return n, nil
}

// header reads the first row.
func (t *table) header(timeless bool) error {
	_, fields, err := t.next()
	var bad *badRow
	switch {
	case err == io.EOF:
		return errors.New("it has no header")
	case errors.As(err, &bad):
		return fmt.Errorf("its first row should be a header with the names of the fields, but is %w", err)
	case err != nil:
		return err
	}
	t.columns, err = columnsOf(fields, timeless)
	return err
}

const reportColumn, peerColumn, readTimeColumn = "Report_Account", "Peer_Account", "MsgReadTime"

// columnsOf finds the columns. A header without MsgReadTime must not have what may be meant by it, unless the rows are known to be timeless: rows without
// a time mark as read what nobody may have read, and there is no way back.
func columnsOf(header [][]byte, timeless bool) (columns, error) {
	c := columns{len(header), -1, -1, -1}
	for i, field := range header {
		name := strings.TrimSpace(string(field))
		var place *int
		switch name {
		case reportColumn:
			place = &c.report
		case peerColumn:
			place = &c.peer
		case readTimeColumn:
			place = &c.readTime
		default:
			continue
		}
		if *place >= 0 {
			return c, fmt.Errorf("its header has %s twice", name)
		}
		*place = i
	}
	switch {
	case c.report < 0:
		return c, fmt.Errorf("its header has no %s%s", reportColumn, likely(header, reportColumn))
	case c.peer < 0:
		return c, fmt.Errorf("its header has no %s%s", peerColumn, likely(header, peerColumn))
	case c.readTime < 0 && !timeless:
		for _, field := range header {
			if likelyTime.MatchString(squeeze(field)) {
				return c, fmt.Errorf("its header has no %s: rename %q if that is it; if there are no read times, "+
					"say with --read-time up to which second everything was read", readTimeColumn, field)
			}
		}
	}
	return c, nil
}

// likelyTime matches a squeezed name that may be meant for the read time. To take none for it would mark everything as read up to now.
var likelyTime = regexp.MustCompile(`time|^(msg|last)?read(at|date|ts|until|upto)?$`)

// squeeze leaves of a name what people agree on.
func squeeze(name []byte) string {
	return strings.ToLower(strings.NewReplacer("_", "", "-", "", " ", "").Replace(string(name)))
}

// likely says what a header has instead of a name.
func likely(header [][]byte, name string) string {
	for _, field := range header {
		if squeeze(field) == squeeze([]byte(name)) {
			return fmt.Sprintf(": rename %q", field)
		}
	}
	for _, separator := range []string{";", "\t", "|"} {
		if len(header) == 1 && bytes.Contains(header[0], []byte(separator)) {
			return fmt.Sprintf(": columns must be separated by commas, not by %q", separator)
		}
	}
	return ": the first row must have the names Report_Account and Peer_Account, and may have MsgReadTime"
}

// next returns the next row that is not blank, and its fields. With a *badRow there is a row without fields; with another
// error there is none.
//
// A row goes on behind a line break as long as a quote is open, that is as long as the number of quotes is odd. If what comes out then is not what a row
// of this table must be, a quote is missing or one too many, and only the first line is taken for the bad row: else one quote could swallow thousands of
// rows.
func (t *table) next() (row, [][]byte, error) {
	for {
		l := t.lines
		first, found := l.newline(0)
		if first > MaxLine || !found && (l.err != io.EOF || first == 0) { // too long, or the end
			r, err := l.next()
			if err == nil {
				err = errTooLong
			}
			return r, nil, err
		}
		length, breaks := first, 0
		for quotes, counted := 0, 0; ; {
			if found {
				breaks++
			}
			quotes += bytes.Count(l.ahead(length)[counted:], []byte{'"'})
			if counted = length; quotes%2 == 0 || !found || length > MaxLine {
				break
			}
			length, found = l.newline(length)
		}
		if !found && length <= MaxLine && l.err != io.EOF { // the rest of the row did not come
			return row{}, nil, l.err
		}
		r := row{line: l.number, text: trimBreak(l.ahead(length))}
		if blank(r.text) {
			l.skip(length, breaks)
			continue
		}
		fields, err := t.split(r.text)
		if length > first && err == nil {
			err = t.checkLong(fields, length)
		}
		if length > first && err != nil {
			length, breaks = first, 1
			r.text, fields = trimBreak(l.ahead(first)), nil
		}
		l.skip(length, breaks)
		return r, fields, err
	}
}

// checkLong judges a row of several lines, of so many bytes.
func (t *table) checkLong(fields [][]byte, length int) error {
	c := t.columns
	switch {
	case length > MaxLine:
		return errQuote(fmt.Errorf("the row would go on for more than %d bytes", MaxLine))
	case c.count == 0: // the header
		return nil
	case len(fields) != c.count:
		return errQuote(fmt.Errorf("the row would go on over several lines, with %s instead of %d", fieldsOf(len(fields)), c.count))
	}
	for _, place := range []int{c.report, c.peer, c.readTime} {
		if place >= 0 && bytes.IndexByte(fields[place], '\n') >= 0 {
			return errQuote(errors.New("the row would have a line break in an account, or in MsgReadTime"))
		}
	}
	return nil
}

func errQuote(err error) error {
	return &badRow{fmt.Errorf("not a row of CSV: a quote is missing, or one too many: %w", err)}
}

func fieldsOf(n int) string {
	if n == 1 {
		return "1 field"
	}
	return fmt.Sprintf("%d fields", n)
}

// split returns a row's fields, which are valid until the next call.
func (t *table) split(text []byte) ([][]byte, error) {
	t.fields = t.fields[:0]
	if bytes.IndexByte(text, '"') < 0 {
		for {
			i := bytes.IndexByte(text, ',')
			if i < 0 {
				t.fields = append(t.fields, text)
				return t.fields, nil
			}
			t.fields = append(t.fields, text[:i])
			text = text[i+1:]
		}
	}
	t.ends = append(append(t.ends[:0], text...), '\n')
	t.feed.text = t.ends
	record, err := t.library.Read()
	if err != nil || len(t.feed.text) > 0 {
		t.reset()
		var parse *csv.ParseError
		if errors.As(err, &parse) {
			err = parse.Err
		}
		return nil, errQuote(err)
	}
	for _, field := range record {
		t.fields = append(t.fields, []byte(field))
	}
	return t.fields, nil
}

// isHeaderRow reports whether a row that is not the first is a header: of another file that was appended.
func isHeaderRow(fields [][]byte) bool {
	report, peer := false, false
	for _, field := range fields {
		report = report || bytes.HasSuffix(field, []byte(reportColumn))
		peer = peer || bytes.HasSuffix(field, []byte(peerColumn))
	}
	return report && peer
}

// sameHeader reports whether a header has the fields where this table has them.
func (t *table) sameHeader(fields [][]byte) bool {
	fields[0] = bytes.TrimPrefix(fields[0], []byte(byteOrderMark))
	c, err := columnsOf(fields, true)
	return err == nil && c == t.columns
}

// nulls are what databases export for a value that there is not.
var nulls = []string{"null", "NULL", `\N`}

// event judges a row as the worker would judge it as an event.
func (t *table) event(fields [][]byte, latest time.Time) (event, error) {
	if len(fields) != t.columns.count {
		return event{}, fmt.Errorf("it has %s, the header has %d", fieldsOf(len(fields)), t.columns.count)
	}
	e := event{report: fields[t.columns.report], peer: fields[t.columns.peer]}
	var readTime []byte
	if t.columns.readTime >= 0 {
		if readTime = fields[t.columns.readTime]; slices.Contains(nulls, string(readTime)) {
			readTime = nil
		}
	}
	var err error
	e.readTime, err = consumer.CheckFields(e.report, e.peer, readTime, latest)
	return e, err
}
