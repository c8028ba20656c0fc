package backfill

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"
)

// now is the clock of these tests.
var now = time.Unix(1_700_000_000, 0)

func clock() time.Time { return now }

// readRows returns the rows of an input, one string each, and the error that ended the input.
func readRows(in io.Reader, name string) (out []string, err error) {
	return readRowsOf(Input{Name: name, stdin: in, allowNoTime: true})
}

func readRowsOf(input Input) (out []string, err error) {
	s, err := input.open(context.Background(), new(atomic.Int64))
	if err != nil {
		return nil, err
	}
	defer s.close()
	for {
		r, e, err := s.next(clock)
		switch {
		case r.text == nil && err == io.EOF:
			return out, nil
		case r.text == nil:
			return out, err
		case err != nil:
			out = append(out, fmt.Sprintf("%d bad: %v: %.40s", r.line, err, r.text))
		default:
			out = append(out, fmt.Sprintf("%d %s %s %d", r.line, e.report, e.peer, e.readTime))
		}
	}
}

// expand expands abbreviations of these tests: ~7 is 1600000007.
var expand = strings.NewReplacer("~", "160000000",
	"bad quote: ", "bad: not a row of CSV: a quote is missing, or one too many: ",
	"bad length: ", "bad: it is longer than 1048576 bytes; only its first 1024 are kept here: ")

const header = "Report_Account,Peer_Account,MsgReadTime\n"

func TestRows(t *testing.T) {
	long := strings.Repeat("x", MaxLine)
	for name, c := range map[string]struct{ text, want string }{
		"CSV": {header + "a,b,~7\nc,d,~8\n",
			"2 a b ~7|3 c d ~8"},
		"no line break at the end": {header + "a,b,~7", "2 a b ~7"},
		"CRLF and a byte order mark": {"\uFEFF" +
			strings.ReplaceAll(header+"a,b,~7\nc,d,~8\n", "\n", "\r\n"), "2 a b ~7|3 c d ~8"},
		"columns in any order": {"id,MsgReadTime,note,Peer_Account,Report_Account\n1,~7,x,b,a\n",
			"2 a b ~7"},
		"spaces around names": {"Report_Account, Peer_Account " +
			",MsgReadTime\na,b,~7\n", "2 a b ~7"},
		"no time": {"Report_Account,Peer_Account\na,b\n",
			"2 a b 0"},
		"empty time, null time": {header +
			"a,b,\nc,d,null\ne,f,NULL\ng,h,\\N\n", "2 a b 0|3 c d 0|4 e f 0|5 g h 0"},
		"quoted": {`"Report_Account","Peer_Account","MsgReadTime"` + "\n" + `"a","b","~7"` + "\n",
			"2 a b ~7"},
		"quotes and commas in quotes": {header + `"a""x","b,y",~7` + "\n",
			`2 a"x b,y ~7`},
		"line breaks in quotes": {
			"note,Report_Account,Peer_Account\n\"one\ntwo\r\n\nthree\",a,b\nx,c,d\n",
			"2 a b 0|6 c d 0"},
		"headers of joined files": {header + "a,b,~7\n\uFEFF" + header +
			"c,d,~8\n\"Report_Account\",Peer_Account,MsgReadTime\n", "2 a b ~7|4 c d ~8"},
		"spaces in a header again": {"Report_Account , Peer_Account " +
			"\na,b\nReport_Account , Peer_Account \nc,d\n", "2 a b 0|4 c d 0"},
		"sep= of a spreadsheet": {"\uFEFFsep=,\r\n" + header + "a,b,~7\n",
			"3 a b ~7"},
		"empty lines": {header + "\n a,b,~7\n\r\n  \nc,d,~8\n\n",
			"3  a b ~7|6 c d ~8"},
		"bytes that are no UTF-8 aside": {"note,Report_Account,Peer_Account\n\xff\xfe,a,b\n",
			"2 a b 0"},
		"too few fields, too many": {header + "a,b\nc,d,~8,~9\ne,f,~9\n",
			"2 bad: it has 2 fields, the header has 3: a,b|3 bad: it has 4 fields, the header " +
				"has 3; a field with a comma needs quotes: c,d,~8,~9|4 e f ~9"},
		"no accounts": {header + ",b,~7\na,,~7\n",
			"2 bad: Report_Account is empty: ,b,~7|3 bad: Peer_Account is empty: a,,~7"},
		"milliseconds": {header + "a,b,1700000000000\n",
			"2 bad: MsgReadTime 1700000000000 is more than 5 minutes ahead, in seconds since " +
				"1970: it looks like milliseconds: a,b,1700000000000"},
		"a time that is none": {header + "a,b,07\na,b,1.5\n",
			"2 bad: MsgReadTime 07 begins with a zero: a,b,07|3 bad: MsgReadTime \"1.5\" is not " +
				"a whole number of seconds since 1970: it looks like a number with a fraction: " +
				"a,b,1.5"},
		"a quote too many costs a line": {header + "a\"x,b,~7\nc,d,~8\n\"e\",f,~9\n",
			"2 bad quote: field 1 has a quote, but does not begin with one: a\"x,b,~7|3 c d " +
				"~8|4 e f ~9"},
		"a quote too few costs a line": {header + "\"a,b,~7\nc,d,~8\ne,\"f\",~9\n",
			"2 bad quote: field 1 has no closing quote: \"a,b,~7|3 c d ~8|4 e f ~9"},
		"a quote never closed": {header + "c,d,~8\n\"a,b,~7\ne,f,~9\n",
			"2 c d ~8|3 bad quote: field 1 has no closing quote: \"a,b,~7|4 e f ~9"},
		"a quote too few, no line break at the end": {header + "\"a,b,~7\nc,d,~8",
			"2 bad quote: field 1 has no closing quote: \"a,b,~7|3 c d ~8"},
		"a quote closed rows later": {header + "\"a,b,~7\nc,d,~8\ne,f,~9\",g\nh,i,~1\n",
			"2 bad quote: field 1 has no closing quote: \"a,b,~7|3 c d ~8|4 bad quote: field 3 " +
				"has a quote, but does not begin with one: e,f,~9\",g|5 h i ~1"},
		"a quote closed in an account": {header + "\"a,b,~7\nc\",d,~8\ne,f,~9\n",
			"2 bad quote: field 1 has no closing quote: \"a,b,~7|3 bad quote: field 1 has a " +
				"quote, but does not begin with one: c\",d,~8|4 e f ~9"},
		"a quote before a line that is too long": {header + "\"a,b,~7\nc\",d,~8" + long +
			"\ne,f,~9\n",
			"2 bad quote: field 1 has no closing quote: \"a,b,~7|3 bad length: c\",d,~8" +
				long[:25] + "|4 e f ~9"},
		"an open quote before a line that is too long": {header + "\"a,b,~7\nc,d,~8" + long + long +
			"\ne,f,~9\n",
			"2 bad quote: field 1 has no closing quote: \"a,b,~7|3 bad length: c,d,~8" + long[:26] +
				"|4 e f ~9"},
		"CR CR LF": {strings.ReplaceAll(header+"a,b,~7\nc,\"d\",~8\n", "\n",
			"\r\r\n"), "2 a b ~7|3 c d ~8"},
		"CR CR LF after accounts": {"MsgReadTime,Report_Account,Peer_Account\r\r\n~7,a,b\r\r\n",
			"2 a b ~7"},
		"JSON encoded twice": {`"{\"Report_Account\":\"a\"}"`,
			"1 bad: the value is JSON, but a string, not an object: it holds JSON, so it was " +
				"encoded twice: " + `"{\"Report_Account\":\"a\"}"`},
		"a CR within quotes": {"\"no\rte\",Report_Account,Peer_Account\n\"x\ry\rz\",a,b\n",
			"2 a b 0"},
		"a CR in a row": {header + "a,b,~7\rc,d,~8\n",
			"2 bad: it has 5 fields, the header has 3; it has a CR that is not a line break: " +
				"tr '\\r' '\\n' makes it one: a,b,~7\rc,d,~8"},
		"a CR after the last row": {header + "a,b,~7\r", "2 a b ~7"},
		"spaces around times": {header +
			"a,b, ~7\nc,d,~8 \ne,f,\t~9\nh,i,\" ~1 \"\na,b,  \nc,d, NULL\n",
			"2 a b ~7|3 c d ~8|4 e f ~9|5 h i ~1|6 a b 0|7 c d 0"},
		"a space within a time": {header + "a,b,1600 000007\n",
			"2 bad: MsgReadTime \"1600 000007\" is not a whole number of seconds since 1970: " +
				"a,b,1600 000007"},
		"spaces around quotes": {header +
			"\"a\", \"b\" ,\t\"~7\"\n \"c\",  \"d,\"  ,~8\n\"e\",\"f\",\"~9\" \n",
			"2 a b ~7|3 c d, ~8|4 e f ~9"},
		"spaces within quotes":  {header + "\" a\",\"b \",~7\n", "2  a b  ~7"},
		"spaces without quotes": {header + "a, b,~7\n", "2 a  b ~7"},
		"text after a quote": {header + "\"a\" x,b,~7\n",
			"2 bad quote: field 1 continues after its closing quote: \"a\" x,b,~7"},
		"quotes within a field": {header + "a,b \"c\",~7\n",
			"2 bad quote: field 2 has a quote, but does not begin with one: a,b \"c\",~7"},
		"an empty field in quotes": {header + "a,b,\"\"\n", "2 a b 0"},
		"byte order marks before rows": {header + "\uFEFFa,b,~7\n\uFEFF\uFEFF\"c\",d,~8\n\uFEFF\n",
			"2 a b ~7|3 c d ~8"},
		"two byte order marks":      {"\uFEFF\uFEFF" + header + "a,b,~7\n", "2 a b ~7"},
		"a mark after sep=":         {"sep=,\n\uFEFF" + header + "a,b,~7\n", "3 a b ~7"},
		"sep= in quotes":            {"\"sep=,\"\r\n" + header + "a,b,~7\n", "3 a b ~7"},
		"sep= without one":          {"sep=\n" + header + "a,b,~7\n", "3 a b ~7"},
		"sep= with commas after it": {"\"sep=,\",,,\n" + header + "a,b,~7\n", "3 a b ~7"},
		"SEP= and spaces":           {"SEP=, \n" + header + "a,b,~7\n", "3 a b ~7"},
		"NDJSON with two marks": {"\uFEFF\uFEFF" + object("a", "7") + "\n\uFEFF" +
			object("c", "8") + "\n\n\uFEFF", "1 a b ~7|2 c b ~8"},
		"NDJSON after a line and mark": {"\n\uFEFF " + object("a", "7"), "2 a b ~7"},
		"NDJSON with CR CR LF": {object("a", "7") + "\r\r\n" + object("c", "8") + "\r\r\n",
			"1 a b ~7|2 c b ~8"},
		"NDJSON with a CR in an object": {strings.ReplaceAll(object("a", "7"), ",", ",\r") + "\n",
			"1 a b ~7"},
		"NDJSON before one CR": {object("a", "7") + "\r", "1 a b ~7"},
		"a long row": {header + long + "\na,b,~7\n",
			"2 bad length: " + long[:40] + "|3 a b ~7"},
		"a quote over more than a row": {header + "\"" + strings.Repeat("x\n", MaxLine/2) +
			"\",y,~7\n", ""},
		"the longest row": {"note," + header + long[:MaxLine-16] + ",a,b,~7\n",
			"2 a b ~7"},
		"NDJSON": {"{\"Report_Account\":\"a\",\"Peer_Account\":\"b\",\"MsgReadTime\":~7}\n\n  " +
			"{\"Report_Account\":\"c\",\"Peer_Account\":\"d\",\"MsgReadTime\":\"~8\"}  \r\n",
			"1 a b ~7|3 c d ~8"},
		"NDJSON without times": {`{"Report_Account":"a","Peer_Account":"b"}` + "\n" +
			`{"Report_Account":"c","Peer_Account":"d","MsgReadTime":null}`, "1 a b 0|2 c d 0"},
		"NDJSON with a byte order mark": {"\uFEFF" +
			`{"Report_Account":"a","Peer_Account":"b","MsgReadTime":~7}`, "1 a b ~7"},
		"NDJSON that begins badly": {"oops\n" +
			`{"Report_Account":"a","Peer_Account":"b","MsgReadTime":~7}`,
			"1 bad: the value is not one JSON object: invalid character 'o' looking for " +
				"beginning of value, at byte 1: oops|2 a b ~7"},
		"NDJSON of a long line": {`{"Report_Account":"a","Peer_Account":"b"}` + "\n{" +
			long + "\n" + `{"Report_Account":"c","Peer_Account":"d"}`,
			"1 a b 0|2 bad length: {" + long[:39] + "|3 c d 0"},
		"empty":                         {"", ""},
		"only empty lines":              {"\n \r\n\n", ""},
		"a header only":                 {header, ""},
		"a header without a line break": {strings.TrimSpace(header), ""},
		"more empty lines than lookAhead": {strings.Repeat(" \n", lookAhead) +
			`{"Report_Account":"a","Peer_Account":"b"}`, "65537 a b 0"},
	} {
		t.Run(name, func(t *testing.T) {
			c.text, c.want = expand.Replace(c.text), expand.Replace(c.want)
			for reader, in := range map[string]io.Reader{
				"whole":        strings.NewReader(c.text),
				"by halves":    iotest.HalfReader(strings.NewReader(c.text)),
				"with the end": iotest.DataErrReader(strings.NewReader(c.text)),
			} {
				got, err := readRows(in, "file")
				if err != nil {
					t.Fatalf("%s: %v", reader, err)
				}
				if name == "a quote over more than a row" {
					if len(got) != MaxLine/2+1 ||
						!strings.HasPrefix(got[0], `2 bad: not a row of CSV`) ||
						!strings.HasPrefix(got[1], "3 bad: it has 1 field,") {
						t.Errorf("%s: %d rows: %.300q", reader, len(got), got)
					}
					continue
				}
				if strings.Join(got, "|") != c.want {
					t.Errorf("%s:\n got %s\nwant %s", reader, strings.Join(got, "|"), c.want)
				}
			}
		})
	}
}

// object is a row of NDJSON.
func object(report, digit string) string {
	return `{"Report_Account":"` + report + `","Peer_Account":"b","MsgReadTime":~` + digit + `}`
}

// Rows after the header of another table would be read as rows of the first.
func TestAnotherHeader(t *testing.T) {
	for _, another := range []string{
		"Peer_Account,Report_Account,MsgReadTime", "peer_account,report_account,msg_read_time",
		"PEER_ACCOUNT,REPORT_ACCOUNT,MsgReadTime", " Peer_Account , Report_Account , MsgReadTime ",
		"\"\uFEFFPeerAccount\",ReportAccount,MsgReadTime",
		"Report-Account,Peer-Account,MsgReadTime",
	} {
		text := header + "a,b,1600000007\n" + another + "\nb,a,1600000007\n"
		got, err := readRows(strings.NewReader(text), "f")
		if len(got) != 1 || err == nil ||
			!strings.Contains(err.Error(), "there is a second header, and it differs") {
			t.Errorf("%s: %v, %v", another, got, err)
		}
	}
}

// Compression is detected by content. Several members may follow each other, as cat joins files.
func TestCompressed(t *testing.T) {
	for name, content := range map[string][]byte{
		"gzip": append(gzipped(header+"a,b,1600000007\nc,"), gzipped("d,1600000008\n")...),
		"zstd": append(zstded(header+"a,b,1600000007\nc,"), zstded("d,1600000008\n")...),
		"zeros after gzip's members": append(append(gzipped(header+"a,b,1600000007\nc,"),
			gzipped("d,1600000008\n")...), make([]byte, 1000)...),
		"a frame to skip": append([]byte{0x51, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3},
			zstded(header+"a,b,1600000007\nc,d,1600000008\n")...),
	} {
		got, err := readRows(bytes.NewReader(content), "states.txt")
		if err != nil || strings.Join(got, "|") != "2 a b 1600000007|3 c d 1600000008" {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	whole := gzipped(header + strings.Repeat("a,b,1600000007\n", 100_000))
	got, err := readRows(bytes.NewReader(whole[:len(whole)-20]), "f.gz")
	if err == nil || !strings.Contains(err.Error(), "the file is truncated") ||
		len(got) < 1000 {
		t.Errorf("cut off: %d rows, %v", len(got), err)
	}
}

// Bytes after the last frame are a reject, however few; a truncated frame is an error.
func TestBytesAfterZstd(t *testing.T) {
	whole := zstded(header + strings.Repeat("a,b,1600000007\n", 1000))
	for _, behind := range []string{
		"\n", "ab", "abc", "abcd", "abcde", "\x00", "\x00\x00\x00\x00", "\x28\xb5\x2f",
	} {
		got, err := readRows(iotest.DataErrReader(strings.NewReader(string(whole)+behind)), "f")
		what := fmt.Sprintf("1002 bad: %d byte", len(behind))
		if err != nil || len(got) != 1001 || !strings.HasPrefix(got[1000], what) ||
			!strings.HasSuffix(got[1000], "overwritten?: "+behind) {
			t.Errorf("%q: %d rows, %v, the last %q", behind, len(got), err, got[len(got)-1])
		}
	}
	for cut := 1; cut < len(whole)-4; cut++ {
		_, err := readRows(bytes.NewReader(whole[:len(whole)-cut]), "f")
		if err == nil || !strings.Contains(err.Error(), "the file is truncated") {
			t.Errorf("without its last %d bytes: %v", cut, err)
		}
	}
}

// A read that fails in the middle of a row does not end the input: half a row may be a valid one.
func TestReadingFails(t *testing.T) {
	broken := errors.New("the disk is gone")
	for _, text := range []string{header + "a,b,1600000007\nc,d,1600000007",
		`{"Report_Account":"a","Peer_Account":"b","MsgReadTime":1600000007}` + "\n" +
			`{"Report_Account":"c","Peer_Account":"d"}`} {
		got, err := readRows(io.MultiReader(strings.NewReader(text), iotest.ErrReader(broken)), "f")
		if !errors.Is(err, broken) || len(got) != 1 {
			t.Errorf("%q, %v", got, err)
		}
	}
}

func TestInspect(t *testing.T) {
	folder := t.TempDir()
	write := func(name, text string) string {
		name = filepath.Join(folder, name)
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	good := write("good.csv", header)
	for _, c := range []struct{ file, want string }{
		{filepath.Join(folder, "none"), "none: no such file or directory"},
		{folder, "it is a directory: name the files in it"},
		{write("good.csv"+stateSuffix, "{}"), "state of an interrupted run"},
		{write("wrong", "x\n"), "its header has no Report_Account"},
		{folder + "/./good.csv", "it is given twice"},
		{"/dev/null", "it is not a regular file"},
	} {
		if _, err := Inspect([]string{good, c.file}, nil, false); err == nil ||
			!strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.file, err, c.want)
		}
	}
	if in, err := Inspect([]string{good, Stdin}, strings.NewReader(""), false); err != nil ||
		in[1].Name != "standard input" || StateFileOf(in) != "" {
		t.Errorf("%v, %v", in, err)
	}
}
