package backfill

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"markread/consumer/event"
)

// documentedReason is a row of a table of reasons in README.md.
type documentedReason struct {
	reason, example string
	spans           []string // code spans of the example
}

var (
	codeSpan = regexp.MustCompile("`([^`]+)`")
	hexByte  = regexp.MustCompile(`\\x([0-9a-f]{2})`)
)

// documentedReasons returns the rows of the table under a heading.
func documentedReasons(t *testing.T, heading string) (rows []documentedReason) {
	t.Helper()
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n### "+heading+"\n")
	section, _, _ = strings.Cut(section, "\n### ")
	for line := range strings.Lines(section) {
		cells := strings.Split(strings.ReplaceAll(strings.TrimSpace(line), `\|`, "\x00"), "|")
		if len(cells) != 4 || strings.HasPrefix(cells[1], "---") || cells[1] == " Reason " {
			continue
		}
		for i := range cells {
			cells[i] = strings.TrimSpace(strings.ReplaceAll(cells[i], "\x00", "|"))
		}
		row := documentedReason{reason: cells[1], example: cells[2]}
		for _, span := range codeSpan.FindAllStringSubmatch(cells[2], -1) {
			row.spans = append(row.spans,
				hexByte.ReplaceAllStringFunc(span[1], func(hex string) string {
					b, _ := strconv.ParseUint(hex[2:], 16, 8) // can't fail: two hex digits
					return string([]byte{byte(b)})
				}))
		}
		rows = append(rows, row)
	}
	if len(rows) < 10 {
		t.Fatalf("%s: %d rows", heading, len(rows))
	}
	return rows
}

// damagedRecords are the examples that are described in words.
var errWrongLength = errors.New("a record has no valid length")

var damagedRecords = map[string]*event.Damage{
	"a record whose producer wrote a wrong length": {Last: 7, Count: 1,
		Err: errWrongLength},
	"several of them in a batch, which can't be separated": {Last: 9, Count: 3,
		Err: errWrongLength},
	"one of several records, and which one is not known": {Last: 9, Count: 1,
		Err: errWrongLength},
}

// recordOf returns the record of an example: its value, then headers or the timestamp.
func recordOf(t *testing.T, d documentedReason) event.Record {
	t.Helper()
	r := event.Record{Time: now, Offset: 7, Damage: damagedRecords[d.example]}
	if r.Damage != nil || d.example == "no value" {
		return r
	}
	if len(d.spans) == 0 {
		t.Fatalf("no such example: %s", d.example)
	}
	r.Value = []byte(d.spans[0])
	for _, span := range d.spans[1:] {
		name, value, _ := strings.Cut(span, ": ")
		switch ms, err := strconv.ParseInt(value, 10, 64); {
		case span == "no timestamp":
			r.Time = time.Time{}
		case name == "timestamp" && err == nil:
			r.Time = time.UnixMilli(ms)
		default:
			r.Headers = append(r.Headers, event.Header{Key: name, Value: []byte(value)})
		}
	}
	return r
}

// Each example of a record is refused for the documented reason.
func TestReasonsOfRecords(t *testing.T) {
	for _, d := range documentedReasons(t, "Of a record") {
		if err := event.Decode(recordOf(t, d), now).Invalid; err == nil ||
			err.Error() != d.reason {
			t.Errorf("%s\n got %v\nwant %s", d.example, err, d.reason)
		}
	}
}

// compressedRows are the contents of the examples that are described in words.
var compressedRows = map[string][]byte{
	"a gzip file with a line break after it": append(gzipped(header), '\n'),
	"a zstd file with a word after it":       append(zstded(header), "word"...),
	"a line of two megabytes":                []byte(header + strings.Repeat("x", 2*MaxLine)),
}

// Each example of a row is rejected for the documented reason.
func TestReasonsOfRows(t *testing.T) {
	for _, d := range documentedReasons(t, "Of a row") {
		content := compressedRows[d.example]
		if content == nil {
			content = []byte(header + d.spans[0] + "\n")
		}
		inputs, err := Inspect([]string{Stdin}, bytes.NewReader(content), false)
		if err != nil {
			t.Fatal(err)
		}
		var log bytes.Buffer
		done, err := Run(t.Context(), Options{Inputs: inputs, Log: zerolog.New(&log)})
		var line struct{ Reason string }
		if err == nil && done.Rejected == 1 {
			err = json.Unmarshal(log.Bytes(), &line)
		}
		if err != nil || line.Reason != d.reason {
			t.Errorf("%s\n got %s\nwant %s, %v", d.example, line.Reason, d.reason, err)
		}
	}
}

// reasonsIn returns patterns of the errors that a source file creates.
func reasonsIn(t *testing.T, name string) (patterns []string) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CallExpr:
			made, ok := n.Fun.(*ast.SelectorExpr)
			if ok && (made.Sel.Name == "Errorf" || made.Sel.Name == "New") {
				patterns = append(patterns, patternOf(n.Args[0]))
			}
		case *ast.ReturnStmt: // part of a reason
			if len(n.Results) == 1 {
				if text, ok := n.Results[0].(*ast.BasicLit); ok && text.Kind == token.STRING {
					patterns = append(patterns, patternOf(text))
				}
			}
		case *ast.CompositeLit: // part of a reason in a list, after its key
			if len(n.Elts) == 2 {
				if text, ok := n.Elts[1].(*ast.BasicLit); ok {
					patterns = append(patterns, patternOf(text))
				}
			}
		}
		return true
	})
	return patterns
}

var verb = regexp.MustCompile(`%[0-9]*[a-z]`)

// patternOf returns a pattern that matches a text: literals match exactly, verbs and variables
// match anything.
func patternOf(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.BasicLit:
		text, _ := strconv.Unquote(e.Value)
		return verb.ReplaceAllString(regexp.QuoteMeta(text), ".*")
	case *ast.BinaryExpr:
		return patternOf(e.X) + patternOf(e.Y)
	}
	return ".*"
}

// Each reason in the code has a row in a table.
func TestReasonsAreDocumented(t *testing.T) {
	var all []string
	for _, heading := range []string{"Of a record", "Of a record that can't be decoded",
		"Of a row"} {
		for _, d := range documentedReasons(t, heading) {
			all = append(all, d.reason)
		}
	}
	patterns := []string{regexp.QuoteMeta(errUntimed.Error()), regexp.QuoteMeta(errTooLong.Error())}
	for _, name := range []string{
		"../event/decode.go", "../event/explain.go", "../event/readtime.go", "csv.go",
		"../batch/decoder.go", "../batch/codec.go", "../batch/legacy.go",
	} {
		patterns = append(patterns, reasonsIn(t, name)...)
	}
	const unwanted = "the record has no valid offset" // of records that are never returned
	for _, pattern := range patterns {
		if pattern != unwanted &&
			!slices.ContainsFunc(all, regexp.MustCompile(pattern).MatchString) {
			t.Errorf("no row of README.md has: %s", pattern)
		}
	}
	if len(patterns) < 20 {
		t.Errorf("only %d errors are found in the code", len(patterns))
	}
}
