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

const reportColumn, peerColumn, readTimeColumn = "Report_Account", "Peer_Account", "MsgReadTime"

var columnNames = [...]string{reportColumn, peerColumn, readTimeColumn}

// columns are the places of the fields in a row.
type columns struct {
	count int
	at    [len(columnNames)]int // -1: there is no such column
}

// header reads the first row.
func (t *table) header(timeless bool) error {
	first, fields, err := t.next()
	var bad *badRow
	switch separator := otherSeparator(first.text, fields); {
	case err == io.EOF:
		return errors.New("it has no header")
	case err != nil && !errors.As(err, &bad):
		return err
	case separator != "":
		return fmt.Errorf("its header has no %s: columns must be separated by commas, not by %q",
			reportColumn, separator)
	case err != nil:
		return fmt.Errorf("its first row should be a header with the names of the fields: %w", err)
	}
	t.columns, err = columnsOf(fields, timeless)
	return err
}

// columnsOf finds the columns. Rows without a time need one from the operator, timeless: the present
// would mark as read what nobody may have read, and there is no way back.
func columnsOf(header [][]byte, timeless bool) (columns, error) {
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
			if c.at[n] < 0 && meant(field) == name {
				return c, fmt.Errorf("its header has no %s: did you mean %[1]s? rename %s",
					name, quote(field))
			}
		}
	}
	for n, name := range columnNames[:2] {
		if c.at[n] < 0 {
			return c, fmt.Errorf("its header has no %s: the first row must have the names "+
				"%s, %s and %s, but is %s", name, reportColumn, peerColumn, readTimeColumn,
				quote(bytes.Join(header, []byte{','})))
		}
	}
	if c.at[2] < 0 && !timeless {
		return c, fmt.Errorf("its header has no %s; its columns are %s: %s, or say with "+
			"--read-time T|now up to when everything was read",
			readTimeColumn, listed(header), rename(header))
	}
	return c, nil
}

// meant is the name that a column's name is a misspelling of; "": of none.
func meant(field []byte) string { return event.MeantField(bytes.TrimSpace(field)) }

// otherSeparator is what separates the names of a header that has none between commas; "": nothing.
func otherSeparator(text []byte, fields [][]byte) string {
	isName := func(field []byte) bool {
		name := bytes.Trim(field, " \t\"'")
		return slices.Contains(columnNames[:2], string(name)) || meant(name) != ""
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

// likelyTime matches a name that may be meant for the read time.
var likelyTime = regexp.MustCompile(
	`(?i)time|^\W*((msg|last)[-_ ]?)?read(ed)?[-_ ]?(at|date|ts|until|up[-_ ]?to)?\W*$`)

// rename is what to do with a header without MsgReadTime.
func rename(header [][]byte) string {
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
		return "rename " + quote(others[0]) + " if that is it"
	}
	return "rename the one that is it"
}

// listed lists the first names of a header.
func listed(header [][]byte) string {
	const most = 10
	var names []string
	for _, field := range header[:min(len(header), most)] {
		names = append(names, quote(field))
	}
	if more := len(header) - most; more > 0 {
		names = append(names, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(names, ", ")
}

// quote shows the beginning of a text of the input.
func quote(text []byte) string { return printable.Quote(string(text)) }
