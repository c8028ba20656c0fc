package backfill

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"time"

	"markread/consumer/event"
)

// table reads a CSV file. encoding/csv does not suffice: it accepts rows of any length, does not
// return the text of a row, and takes everything after an unclosed quote for one row.
type table struct {
	lines   *lines
	columns columns
	fields  [][]byte // of the current row
}

// next returns the next non-empty row and its fields. With a *badRow error there is a row without
// fields; with any other error there is no row.
//
// A row continues after a line break while a quote is open, that is while the number of quotes is
// odd. If the result can't be a row of this table, a quote is missing or superfluous, and only the
// first line is rejected: otherwise one quote could swallow thousands of rows.
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

// mayBeMultiline reports whether these can be the fields of a row of several lines.
func (t *table) mayBeMultiline(fields [][]byte) bool {
	if t.columns.count == 0 { // this is the header
		return true
	}
	broken := func(at int) bool { return at >= 0 && bytes.IndexByte(fields[at], '\n') >= 0 }
	return len(fields) == t.columns.count && !slices.ContainsFunc(t.columns.at[:], broken)
}

// isHeaderRow reports whether a row other than the first is a header, from joining files. If the
// last line before it had no line break, its first name has text before it.
func isHeaderRow(fields [][]byte) bool {
	names := [len(columnNames)]bool{}
	for _, field := range fields {
		if !bytes.Contains(field, []byte("ccount")) && !bytes.Contains(field, []byte("CCOUNT")) {
			continue // skip the slow part
		}
		field = bytes.TrimSpace(field)
		for n, name := range columnNames {
			names[n] = names[n] || intendedColumn(field) == name ||
				bytes.HasSuffix(field, []byte(name))
		}
	}
	return names[0] && names[1]
}

// event converts a row, with the same checks that the worker applies to an event.
func (t *table) event(r row, fields [][]byte, latest time.Time) (e readState, err error) {
	if len(fields) != t.columns.count {
		return e, t.wrongCount(r.text, len(fields))
	}
	report, peer, readTime := t.columns.at[0], t.columns.at[1], []byte(nil)
	if at := t.columns.at[2]; at >= 0 {
		readTime = bytes.TrimSpace(fields[at])
		switch string(readTime) {
		case "null", "NULL", `\N`: // how databases export a missing value
			readTime = nil
		}
	}
	e = readState{report: fields[report], peer: fields[peer]}
	e.readTime, err = event.CheckFields(e.report, e.peer, readTime, latest)
	return e, err
}

// wrongCount returns the error of a row whose number of fields differs from the header's.
func (t *table) wrongCount(text []byte, n int) error {
	fields, hint := "fields", ""
	if n == 1 {
		fields = "field"
	}
	if bytes.IndexByte(text, '\r') >= 0 {
		hint = "; it has a CR that is not a line break: tr '\\r' '\\n' makes it one"
	} else if n > t.columns.count {
		hint = "; a field with a comma needs quotes"
	}
	return fmt.Errorf("it has %d %s, the header has %d%s", n, fields, t.columns.count, hint)
}

// split returns the fields of a row; they are valid until the next call.
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

// cutField splits off the first field of a row; more reports whether a comma follows. Spaces and
// tabs around a quoted field are not part of it: people and programs write them after commas.
// encoding/csv rejects them, or also trims fields without quotes, to which they belong.
func cutField(text []byte) (field, rest []byte, more bool, err error) {
	quoted := bytes.TrimLeft(text, " \t")
	if len(quoted) == 0 || quoted[0] != '"' {
		field, rest, more = bytes.Cut(text, []byte{','})
		if bytes.IndexByte(field, '"') >= 0 {
			err = errors.New("has a quote, but does not begin with one")
		}
		return field, rest, more, err
	}
	end := 1 // at last the index after the closing quote
	for {
		i := bytes.IndexByte(quoted[end:], '"')
		if i < 0 {
			return nil, nil, false, errors.New("has no closing quote")
		}
		if end += i + 1; end == len(quoted) || quoted[end] != '"' {
			break
		}
		end++ // a doubled quote is part of the field
	}
	if field = quoted[1 : end-1]; bytes.IndexByte(field, '"') >= 0 {
		field = bytes.ReplaceAll(field, []byte(`""`), []byte(`"`))
	}
	rest = bytes.TrimLeft(quoted[end:], " \t")
	after, more := bytes.CutPrefix(rest, []byte{','})
	if !more && len(rest) > 0 {
		err = errors.New("continues after its closing quote")
	}
	return field, after, more, err
}
