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

// columns are the places of the fields in a row.
type columns struct {
	count                  int
	report, peer, readTime int // readTime is -1 where there is no such column
}

// header reads the first row.
func (t *table) header(timeless bool) error {
	first, fields, err := t.next()
	var bad *badRow
	switch {
	case err == io.EOF:
		return errors.New("it has no header")
	case err != nil && !errors.As(err, &bad):
		return err
	}
	if separator := otherSeparator(first.text, fields); separator != "" {
		return fmt.Errorf("its header has no %s: columns must be separated by commas, not by %q",
			reportColumn, separator)
	}
	if err != nil {
		return fmt.Errorf("its first row should be a header with the names of the fields: %w",
			err)
	}
	t.columns, err = columnsOf(fields, timeless)
	return err
}

// columnsOf finds the columns. Rows without a time need one from the operator, timeless:
// the present instead would mark as read what nobody may have read, and there is no way back.
func columnsOf(header [][]byte, timeless bool) (columns, error) {
	c := columns{len(header), -1, -1, -1}
	places := []struct {
		name string
		at   *int
	}{{reportColumn, &c.report}, {peerColumn, &c.peer}, {readTimeColumn, &c.readTime}}
	for _, place := range places {
		for i, field := range header {
			if string(bytes.TrimSpace(field)) != place.name {
				continue
			}
			if *place.at >= 0 {
				return c, fmt.Errorf("its header has %s twice", place.name)
			}
			*place.at = i
		}
	}
	for _, place := range places {
		for _, field := range header {
			if *place.at < 0 && meant(field) == place.name {
				return c, fmt.Errorf("its header has no %s: did you mean %[1]s? rename %s",
					place.name, quote(field))
			}
		}
	}
	for _, place := range places[:2] {
		if *place.at < 0 {
			return c, fmt.Errorf("its header has no %s: the first row must have the names "+
				"%s, %s and %s, but is %s", place.name, reportColumn, peerColumn, readTimeColumn,
				quote(bytes.Join(header, []byte{','})))
		}
	}
	if c.readTime < 0 && !timeless {
		return c, fmt.Errorf("its header has no %s; its columns are %s: %s, or say with "+
			"--read-time T|now up to when everything was read", readTimeColumn, listed(header), rename(header))
	}
	return c, nil
}

// meant is the name that a column's name is a misspelling of; "": of none.
func meant(field []byte) string { return event.MeantField(bytes.TrimSpace(field)) }

// otherSeparator is what separates the names of a header that has none between commas; "": nothing.
func otherSeparator(text []byte, fields [][]byte) string {
	isName := func(field []byte) bool {
		name := string(bytes.Trim(field, " \t\"'"))
		return name == reportColumn || name == peerColumn || meant([]byte(name)) != ""
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

// likelyTime matches, without punctuation, a name that may be meant for the read time.
var likelyTime = regexp.MustCompile(`(?i)time|^(msg|last)?read(ed)?(at|date|ts|until|upto)?$`)

// rename is what to do with a header without MsgReadTime.
func rename(header [][]byte) string {
	var others [][]byte
	for _, field := range header {
		name := string(bytes.TrimSpace(field))
		if name == reportColumn || name == peerColumn {
			continue
		}
		others = append(others, field)
		if likelyTime.MatchString(strings.NewReplacer("_", "", "-", "", " ", "").Replace(name)) {
			others = [][]byte{field}
			break
		}
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
