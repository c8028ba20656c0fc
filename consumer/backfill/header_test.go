package backfill

import (
	"errors"
	"strings"
	"testing"
)

// A file of a wrong format is refused with its format and advice.
func TestWrongFiles(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"no header": {"a,b,7\nc,d,8\n",
			"no Report_Account: the first row must have the names"},
		"other case": {"report_account,peer_account\na,b\n",
			`no Report_Account: did you mean Report_Account? rename "report_account"`},
		"other spelling": {"Report_Account,Peer-Account\na,b\n",
			`no Peer_Account: did you mean Peer_Account? rename "Peer-Account"`},
		"a misspelled time": {"Report_Account,Peer_Account,Read_Time\na,b,7\n",
			`"Peer_Account", "Read_Time": rename "Read_Time" if it is the read time, or set ` +
				`--read-time T|now`},
		"another spelling": {"Report_Account,msgReadTime,Peer_Account\na,7,b\n",
			`no MsgReadTime: did you mean MsgReadTime? rename "msgReadTime"`},
		"another time": {"Report_Account,last-read,Peer_Account\na,7,b\n",
			`no MsgReadTime; its columns are "Report_Account", "last-read", ` +
				`"Peer_Account": rename "last-read" if`},
		"semicolons": {"Report_Account;Peer_Account\na;b\n",
			`separated by commas, not by ";"`},
		"tabs": {"Report_Account\tPeer_Account\na\tb\n",
			`separated by commas, not by "\t"`},
		"sep= of another": {"sep=;\r\nReport_Account;Peer_Account\na;b\n",
			`separated by commas, not by ";"`},
		"sep= in quotes": {"\"sep=;\"\nReport_Account;Peer_Account\na;b\n",
			`separated by commas, not by ";"`},
		"quoted semicolons": {"\"Report_Account\";\"Peer_Account\";\"MsgReadTime\"\n",
			`separated by commas, not by ";"`},
		"quoted tabs": {"\"Report_Account\"\t\"Peer_Account\"\n",
			`separated by commas, not by "\t"`},
		"quoted bars": {"\"Report_Account\" | \"Peer_Account\"\n",
			`separated by commas, not by "|"`},
		"semicolons and case": {"report_account;peer_account;msgreadtime\n",
			`separated by commas, not by ";"`},
		"some commas, too": {"Report_Account;Peer_Account;\"a, b\"\n",
			`separated by commas, not by ";"`},
		"a wide comma": {"Report_Account，Peer_Account\n", `separated by commas, not by "，"`},
		"CR, a last LF": {"Report_Account,Peer_Account,note\ra,b,x\rc,d,y\n",
			`tr '\r' '\n' < FILE`},
		"CR after a header": {header[:len(header)-1] + "\ra,b,7\nc,d,8\n", `tr '\r' '\n' < FILE`},
		"CR and quotes": {"\"Report_Account\",\"Peer_Account\"\r\"a\",\"b\"\r",
			`tr '\r' '\n' < FILE`},
		"CR after sep=": {"sep=,\rReport_Account,Peer_Account\ra,b\r", `tr '\r' '\n' < FILE`},
		"CR after objects": {object("a", "7") + "\r" + object("b", "8") + "\r",
			`tr '\r' '\n' < FILE`},
		"CR, CR, objects, LF": {object("a", "7") + "\r\r\uFEFF" + object("b", "8") + "\n",
			`tr '\r' '\n' < FILE`},
		"CR and many lines": {"\uFEFF{\r \"a\": 1\r}\r{\r", `tr '\r' '\n' < FILE`},
		"HTML":              {"<html><body>", "it is an HTML page"},
		"HTML, doctype":     {"\uFEFF\n <!DOCTYPE HTML>\n<html>", "it is an HTML page"},
		"XHTML": {"<?xml version=\"1.0\"?>\n<!-- x -->\n<html>",
			"it is an HTML page"},
		"XML": {"<?xml version=\"1.0\"?>\n<Error><Code>AccessDenied</Code></Error>\n",
			"it is XML"},
		"XML without a head":  {"<rows><row Report_Account=\"a\"/></rows>", "it is XML"},
		"HTML without a head": {"<body>\n<h1>502 Bad Gateway</h1>", "it is an HTML page"},
		"an HTML table":       {"<table><tr><td>Report_Account", "it is an HTML page"},
		"a form's part":       {"--x\r\nContent-Disposition: form-data\r\n", `but is "--x"`},
		"UTF-16LE, unmarked":  {"R\x00e\x00p\x00", "iconv -f UTF-16LE"},
		"UTF-16BE, unmarked":  {"\x00{\x00\"\x00R", "iconv -f UTF-16BE"},
		"a zero":              {header + "a\x00,b,7\n", "its byte 42 is 0"},
		"a mark in quotes": {"\"\uFEFFReport_Account\",Peer_Account\n",
			"did you mean Report_Account?"},
		"PDF": {"%PDF-1.7\n", "it is a PDF"},
		"Git LFS": {"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\n",
			"git lfs pull"},
		"SQL": {"INSERT INTO reads (Report_Account, Peer_Account) VALUES ('a', " +
			"'b');\n", "it is SQL"},
		"a dump": {"--\n-- PostgreSQL database dump\n", "it is SQL"},
		"a drawn table": {"+------+-----+\n| Report_Account | Peer_Account |\n",
			"as a database shell draws it"},
		"an old spreadsheet": {"\xd0\xcf\x11\xe0\xa1\xb1", "it is a spreadsheet (.xls)"},
		"Avro":               {"Obj\x01\x04\x14avro.codec", "it is an Avro file"},
		"ORC":                {"ORC\x0a\x00\x00", "it is an ORC file"},
		"Parquet":            {"PAR1\x15\x04", "it is a Parquet file"},
		"SQLite":             {"SQLite format 3\x00", "it is a SQLite database"},
		"7z":                 {"7z\xbc\xaf\x27\x1c", "7z x -so FILE"},
		"tar": {"states.csv" + strings.Repeat("\x00", 247) + "ustar\x0000",
			"tar -xOf FILE"},
		"encrypted": {"-----BEGIN PGP MESSAGE-----\n\nhQ\n", "gpg -d FILE"},
		"curl's error": {"curl: (6) Could not resolve host: example.com\n",
			`but is "curl: (6) Could not resolve host: exampl…"`},
		"lines of old Macs": {"Report_Account,Peer_Account\ra,b\rc,d\r", `tr '\r' '\n' < FILE`},
		"a column twice": {"Report_Account,Peer_Account,Report_Account\na,b,c\n",
			"has Report_Account twice"},
		"a column missing": {"Report_Account,MsgReadTime\na,7\n", "no Peer_Account"},
		"a broken header": {"Report_Account,\"Peer_Account\na,b\n",
			"its first row should be a header"},
		"a JSON array":       {" [\n{\"Report_Account\":\"a\"}]", "jq -c '.[]' FILE"},
		"JSON of many lines": {"{\n  \"Report_Account\": \"a\"\n}\n", "jq -c . FILE"},
		"a ZIP archive":      {"PK\x03\x04rest", "ZIP archive"},
		"bzip2":              {"BZh9rest", "bzip2 -dc FILE"},
		"xz":                 {"\xfd7zXZ\x00", "xz -dc FILE"},
		"UTF-16":             {"\xff\xfeR\x00e\x00", "iconv"},
		"a program":          {"\x7fELF\x02\x01\x00\x00", "it is not text"},
		"gzip in gzip":       {string(gzipped(string(gzipped("x")))), "compressed twice"},
		"gzip's beginning":   {string(gzipped("x"))[:5], "the file is truncated"},
		"damaged gzip": {"\x1f\x8b\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
			"the file is damaged"},
		"damaged zstd": {"\x28\xb5\x2f\xfd\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
			"zstd: "},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := readRowsOf(Input{Name: "f.csv", stdin: strings.NewReader(c.text)})
			var wrong *InputError
			if !errors.As(err, &wrong) || !strings.Contains(err.Error(), c.want) ||
				!strings.HasPrefix(err.Error(), "f.csv: ") {
				t.Errorf("%v, %v; want %q", got, err, c.want)
			}
		})
	}
}

// The first row of an NDJSON file may be bad if the name or another line shows the format.
func TestNameCountsOnlyIfContentDoesNotDecide(t *testing.T) {
	if got, err := readRows(strings.NewReader("oops\n"), "F.NDJSON.GZ"); err != nil ||
		len(got) != 1 {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := readRows(strings.NewReader(header+"a,b,1600000007\n"), "f.ndjson"); err != nil ||
		strings.Join(got, "") != "2 a b 1600000007" {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := readRows(strings.NewReader(`{"Report_Account":"a","Peer_Account":"b"}`),
		"f.csv"); err != nil || len(got) != 1 {
		t.Errorf("%v, %v", got, err)
	}
}

// A table without read times is refused unless the operator gives one. The message suggests to
// rename the column that is probably the read time, or else the only other one. A column name that
// is nearly correct is always refused.
func TestColumnsOf(t *testing.T) {
	for names, want := range map[string][2]string{ // without and with --read-time
		"Report_Account,Peer_Account,ts": {
			`its columns are "Report_Account", "Peer_Account", "ts": ` +
				`rename "ts" if it is the read time, or set --read-time T|now, the time up to ` +
				`which everything was read`},
		"Report_Account,Peer_Account": {`add it, or set`},
		"Report_Account,note,Peer_Account,utc": {
			`rename the one with the read time, or`},
		"Report_Account,note,Read_At,Peer_Account": {
			`rename "Read_At" if it is the read time`},
		"Report_Account,thread,Peer_Account,last_read": {`rename "last_read" if`},
		"Report_Account,thread,Peer_Account,reader": {
			`rename the one with the read time, or`},
		"a,b,c,d,e,f,g,h,i,j,k,Report_Account,Peer_Account": {`"i", "j", and 3 more: rename the`},
		"Report_Account,Peer_Account," + strings.Repeat("x", 41) +
			"\x1b": {`"` + strings.Repeat("x", 40) + `…": `},
		"Report_Account,Peer_Account,e\x1b[2J": {`"e?[2J": rename "e?[2J" if`},
		"Report_Account,Peer_Account,msg_read_time": {
			`no MsgReadTime: did you mean MsgReadTime? rename "msg_read_time"`,
			`no MsgReadTime: did you mean MsgReadTime? rename "msg_read_time"`},
		"Report_Account,Peer_Account,MsgReadedTime": {"did you mean MsgReadTime?",
			"did you mean MsgReadTime?"},
		"report-account,Peer_Account,x": {"did you mean Report_Account?",
			"did you mean Report_Account?"},
		"Report_Account,PEER ACCOUNT": {"did you mean Peer_Account?",
			"did you mean Peer_Account?"},
		"Report_Account,Peer,x": {"no Peer_Account: the first row " +
			"must have", "no Peer_Account: the first row"},
		"Report_Account,Peer_Account,MsgReadTime,msgreadtime": {},
		" Report_Account ,Peer_Account\t,MsgReadTime":         {},
	} {
		for i, allowNoTime := range []bool{false, true} {
			var header [][]byte
			for name := range strings.SplitSeq(names, ",") {
				header = append(header, []byte(name))
			}
			_, err := columnsOf(header, allowNoTime)
			if (err != nil) != (want[i] != "") ||
				err != nil && !strings.Contains(err.Error(), want[i]) {
				t.Errorf("%q, timeless %t: %v, want %q", names, allowNoTime, err, want[i])
			}
		}
	}
}
