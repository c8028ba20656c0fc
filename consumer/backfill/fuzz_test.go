package backfill

import (
	"bytes"
	"context"
	"encoding/csv"
	"io"
	"strings"
	"sync/atomic"
	"testing"
)

// FuzzRows checks that for any bytes nothing panics, no line is lost, and reading again from any
// row on gives the same rows. If encoding/csv reads a table to its end without an error, the rows
// are the same.
func FuzzRows(f *testing.F) {
	for _, text := range []string{
		header + "a,b,7\n\"c\"\"\n\",d,8\r\n\n\"e,f,9\ng,h\"i,1\n", "\uFEFF" + header,
		`{"Report_Account":"a","Peer_Account":"b"}` + "\n{}\n",
		"note,Report_Account,Peer_Account\n\"x\r\ny\",a,b\n", string(gzipped(header + "a,b,7\n")),
		string(zstded(header + "a,b,7\n")), "\n\n[", "{\n\"",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if len(text) > 1<<16 {
			return
		}
		input := Input{Name: "f", stdin: bytes.NewReader(text), allowNoTime: true}
		s, err := input.open(context.Background(), new(atomic.Int64))
		if err != nil {
			return
		}
		defer s.close()
		plainText := !bytes.HasPrefix(text, []byte{0x1f, 0x8b}) &&
			!bytes.HasPrefix(text, []byte{0x28, 0xb5, 0x2f, 0xfd})
		type seen struct {
			offset, line int64
			text         string
		}
		var rows []seen
		for {
			at, line := s.lines.offset, s.lines.number
			r, _, err := s.next(clock)
			if r.text == nil {
				if err != nil && strings.Contains(err.Error(), "there is a second header") {
					return
				}
				if err != io.EOF && plainText {
					t.Fatalf("ended with %v", err)
				}
				break
			}
			if r.line < line || plainText && !bytes.Contains(text[at:s.lines.offset], r.text) {
				t.Fatalf("row %q of line %d, read at line %d", r.text, r.line, line)
			}
			rows = append(rows, seen{at, line, string(r.text)})
		}
		if plainText && s.lines.offset != int64(len(text)) {
			t.Fatalf("read %d of %d bytes", s.lines.offset, len(text))
		}
		if len(rows) > 0 {
			from := len(rows) / 2
			again := Input{Name: "f", stdin: bytes.NewReader(text), allowNoTime: true}
			s, err := again.open(context.Background(), new(atomic.Int64))
			if err == nil {
				defer s.close()
				err = s.lines.skipTo(rows[from].offset, rows[from].line)
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range rows[from:] {
				if r, _, _ := s.next(clock); string(r.text) != want.text {
					t.Fatalf("again from line %d: %q, not %q", rows[from].line, r.text, want.text)
				}
			}
		}
		if s.table != nil && plainText &&
			!bytes.HasPrefix(bytes.TrimPrefix(text, []byte(byteOrderMark)), []byte("sep=")) {
			library := csv.NewReader(bytes.NewReader(bytes.TrimPrefix(text, []byte(byteOrderMark))))
			library.FieldsPerRecord = -1
			records, err := library.ReadAll()
			if err != nil {
				return
			}
			n := 0
			for _, record := range records {
				if n++; len(record) == 1 && strings.TrimSpace(record[0]) == "" {
					// encoding/csv takes a line of spaces for a row; but quoted spaces are a row
					return
				}
				if n > 1 && isHeaderRow(fieldsFrom(record)) {
					n--
				}
				if n > 1 && strings.Contains(strings.Join(record, ""), "\n") &&
					!s.table.mayBeMultiline(fieldsFrom(record)) {
					return // a row of several lines that can't be a row of this table
				}
			}
			if n-1 != len(rows) {
				t.Fatalf("%d rows, encoding/csv reads %d: %q", len(rows), n-1, records)
			}
		}
	})
}

func fieldsFrom(record []string) (fields [][]byte) {
	for _, field := range record {
		fields = append(fields, []byte(field))
	}
	return fields
}
