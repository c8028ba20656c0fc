package backfill

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"time"

	"markread/consumer/event"
)

// table reads a CSV file. encoding/csv would not do: it reads a row of any length, does not say
// what text a row has, and takes all that follows a quote which is not closed for one row.
type table struct {
	lines   *lines
	columns columns
	fields  [][]byte // of the current row
}

// next returns the next row that is not blank, and its fields. With a *badRow there is a row
// without fields; with another error there is none.
//
// A row continues behind a line break as long as a quote is open, that is as long as the number of
// quotes is odd. If the result is not what a row of this table must be, a quote is missing or one
// too many, and only the first line is taken for the bad row: else one quote could swallow
// thousands of rows.
func (t *table) next() (row, [][]byte, error) {
	r, err := t.lines.next(func(text []byte) bool {
		fields, err := t.split(text)
		return err == nil && t.mayBeMultiline(fields)
	})
	if err != nil {
		return r, nil, err
	}
	fields, err := t.split(r.text)
	return r, fields, err
}

// mayBeLong reports whether these can be the fields of a row of several lines.
func (t *table) mayBeMultiline(fields [][]byte) bool {
	if t.columns.count == 0 { // the header
		return true
	}
	broken := func(at int) bool { return at >= 0 && bytes.IndexByte(fields[at], '\n') >= 0 }
	return len(fields) == t.columns.count && !slices.ContainsFunc(t.columns.at[:], broken)
}

// isHeaderRow reports whether a row that is not the first is a header, of a file that was appended:
// perhaps to a last line without a line break.
func isHeaderRow(fields [][]byte) bool {
	names := [len(columnNames)]bool{}
	for _, field := range fields {
		if !bytes.Contains(field, []byte("ccount")) && !bytes.Contains(field, []byte("CCOUNT")) {
			continue // the rest takes time
		}
		field = bytes.TrimSpace(field)
		for n, name := range columnNames {
			names[n] = names[n] || intendedColumn(field) == name ||
				bytes.HasSuffix(field, []byte(name))
		}
	}
	return names[0] && names[1]
}

// event judges a row as the worker would judge it as an event.
func (t *table) event(r row, fields [][]byte, latest time.Time) (e readState, err error) {
	if len(fields) != t.columns.count {
		return e, t.wrongCount(r.text, len(fields))
	}
	report, peer, readTime := t.columns.at[0], t.columns.at[1], []byte(nil)
	if at := t.columns.at[2]; at >= 0 {
		readTime = bytes.TrimSpace(fields[at])
		switch string(readTime) {
		case "null", "NULL", `\N`: // what databases export for no value
			readTime = nil
		}
	}
	e = readState{report: fields[report], peer: fields[peer]}
	e.readTime, err = event.CheckFields(e.report, e.peer, readTime, latest)
	return e, err
}

// wrongCount is the error of a row with another number of fields than the header.
func (t *table) wrongCount(text []byte, n int) error {
	fields, hint := "fields", ""
	if n == 1 {
		fields = "field"
	}
	if bytes.IndexByte(text, '\r') >= 0 {
		hint = "; it has a CR that ends no line: tr '\\r' '\\n' makes lines of it"
	} else if n > t.columns.count {
		hint = "; a field with a comma needs quotes"
	}
	return fmt.Errorf("it has %d %s, the header has %d%s", n, fields, t.columns.count, hint)
}

// split returns a row's fields, which are valid until the next call.
func (t *table) split(text []byte) ([][]byte, error) {
	t.fields = t.fields[:0]
	quoted := bytes.IndexByte(text, '"') >= 0
	for more := true; more; {
		var field []byte
		var err error
		if !quoted {
			field, text, more = bytes.Cut(text, []byte{','})
		} else if field, text, more, err = cutField(text); err != nil {
			return nil, &badRow{fmt.Errorf("not a row of CSV: a quote is missing, or one too "+
				"many: field %d %w", len(t.fields)+1, err)}
		}
		t.fields = append(t.fields, field)
	}
	return t.fields, nil
}

// cutField cuts the first field off a row; more: a comma follows. Spaces and tabs around the quotes
// of a field are not part of it: people and programs write them behind commas. encoding/csv refuses
// them, or takes those off that belong to a field without quotes.
func cutField(text []byte) (field, rest []byte, more bool, err error) {
	quoted := bytes.TrimLeft(text, " \t")
	if len(quoted) == 0 || quoted[0] != '"' {
		field, rest, more = bytes.Cut(text, []byte{','})
		if bytes.IndexByte(field, '"') >= 0 {
			err = errors.New("has a quote, but does not begin with one")
		}
		return field, rest, more, err
	}
	end := 1 // behind the closing quote, in the end
	for {
		i := bytes.IndexByte(quoted[end:], '"')
		if i < 0 {
			return nil, nil, false, errors.New("has no closing quote")
		}
		if end += i + 1; end == len(quoted) || quoted[end] != '"' {
			break
		}
		end++ // two are one of the field
	}
	if field = quoted[1 : end-1]; bytes.IndexByte(field, '"') >= 0 {
		field = bytes.ReplaceAll(field, []byte(`""`), []byte(`"`))
	}
	rest = bytes.TrimLeft(quoted[end:], " \t")
	after, more := bytes.CutPrefix(rest, []byte{','})
	if !more && len(rest) > 0 {
		err = errors.New("goes on behind its closing quote")
	}
	return field, after, more, err
}
