package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"markread/consumer/event"
)

func rows(t *testing.T, o options) []string {
	t.Helper()
	var out bytes.Buffer
	if err := write(&out, o); err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
}

// The shares are as requested, and the same flags generate the same rows.
func TestRows(t *testing.T) {
	for _, format := range []string{"csv", "ndjson"} {
		o := options{rows: 20_000, duplicates: 0.5, bad: 0.1, format: format, seed: 7}
		all := rows(t, o)
		if strings.Join(rows(t, o), "\n") != strings.Join(all, "\n") {
			t.Errorf("%s: the rows differ each time", format)
		}
		if o.seed++; strings.Join(rows(t, o), "\n") == strings.Join(all, "\n") {
			t.Errorf("%s: the seed changes nothing", format)
		}
		if format == "csv" {
			if all[0] != "Report_Account,Peer_Account,MsgReadTime" {
				t.Errorf("header %s", all[0])
			}
			all = all[1:]
		}
		good, seen := 0, map[string]bool{}
		for _, row := range all {
			conversation, ok := decodeRow(format, row)
			if ok {
				good++
				seen[conversation] = true
			}
		}
		if len(all) != 20_000 || good < 17_700 || good > 18_300 || len(seen) < 8_700 ||
			len(seen) > 9_900 {
			t.Errorf("%s: %d rows, %d good, %d conversations", format, len(all), good, len(seen))
		}
	}
	if err := write(&bytes.Buffer{}, options{rows: 1, format: "xml"}); err == nil {
		t.Error("an unknown format is accepted")
	}
}

// decodeRow returns a row's conversation, and whether a worker would accept it.
func decodeRow(format, row string) (conversation string, ok bool) {
	now := time.Unix(newest, 0)
	if format == "ndjson" {
		e := event.Decode(event.Record{Value: []byte(row), Time: now}, now)
		return string(e.Report) + "|" + string(e.Peer), e.Invalid == nil
	}
	f := strings.Split(row, ",")
	if len(f) != 3 {
		return "", false
	}
	_, err := event.CheckFields([]byte(f[0]), []byte(f[1]), []byte(f[2]), now)
	return f[0] + "|" + f[1], err == nil
}
