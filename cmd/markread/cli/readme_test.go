package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/segmentio/kafka-go"

	"markread/cmd/markread/cli/clitest"
	"markread/cmd/markread/cli/config"
)

// repository is the path from this package to the repository's root.
const repository = "../../.."

var update = flag.Bool("update", false, "write the configuration table into README.md")

const tableBegin, tableEnd = "<!-- configuration: begin; go test ./cmd/markread/cli -run Readme " +
	"-update -->\n",
	"<!-- configuration: end -->\n"

func readme(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(repository, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// configuration returns the README's table, generated from the flags.
func configuration(t *testing.T) string {
	t.Helper()
	parser, err := newParser()
	if err != nil {
		t.Fatal(err)
	}
	type row struct {
		flag     *kong.Flag
		commands []string
	}
	var groups []string
	rows, byName := map[string][]*row{}, map[string]*row{}
	for _, command := range parser.Model.Leaves(false) {
		// one name for all dead-letters commands
		name, _, _ := strings.Cut(strings.TrimPrefix(command.FullPath(), "markread "), " ")
		for _, f := range command.Flags {
			if !config.IsConfiguration(f) {
				continue
			}
			if r := byName[f.Name]; r != nil {
				if !slices.Contains(r.commands, name) {
					r.commands = append(r.commands, name)
				}
				if r.flag.Help != f.Help || r.flag.Default != f.Default {
					t.Errorf("--%s differs between %v", f.Name, r.commands)
				}
				continue
			}
			group := strings.TrimSuffix(f.Group.Key, ":")
			if rows[group] == nil {
				groups = append(groups, group)
			}
			r := &row{f, []string{name}}
			byName[f.Name] = r
			rows[group] = append(rows[group], r)
		}
	}
	var b strings.Builder
	b.WriteString("| Flag | Variable | Default | | Commands |\n|---|---|---|---|---|\n")
	for _, g := range groups {
		fmt.Fprintf(&b, "| **%s** | | | | |\n", g)
		for _, r := range rows[g] {
			value := r.flag.Default
			if r.flag.Target.Kind() == reflect.Pointer {
				value = r.flag.PlaceHolder // its default depends on other flags
			}
			switch {
			case r.flag.Required:
				value = "required"
			case value != "":
				value = "`" + value + "`"
			}
			fmt.Fprintf(&b, "| `--%s` | `%s` | %s | %s | %s |\n", r.flag.Name,
				config.Variable(r.flag.Name), value,
				r.flag.Help, strings.Join(r.commands, " "))
		}
	}
	return b.String()
}

// The table always matches the flags.
func TestReadmeConfiguration(t *testing.T) {
	text := readme(t)
	begin, end := strings.Index(text, tableBegin), strings.Index(text, tableEnd)
	if begin < 0 || end < begin {
		t.Fatalf("README.md lacks the markers %q and %q", tableBegin, tableEnd)
	}
	want := configuration(t)
	if text[begin+len(tableBegin):end] == want {
		return
	}
	if !*update {
		t.Fatal("README.md's configuration table is not that of the flags; go test " +
			"./cmd/markread/cli -run Readme " +
			"-update")
	}
	if err := os.WriteFile(filepath.Join(repository, "README.md"),
		[]byte(text[:begin+len(tableBegin)]+want+text[end:]),
		0o644); err != nil {
		t.Fatal(err)
	}
}

// README.md mentions every command and every secret; every flag and variable in it exists.
func TestReadmeNames(t *testing.T) {
	text := readme(t)
	parser, err := newParser()
	if err != nil {
		t.Fatal(err)
	}
	flags := map[string]bool{"help": true}
	for _, f := range []string{ // flags of Kafka's own tools
		"bootstrap-server", "property", "from-beginning", "describe", "unavailable-partitions",
		"list", "files",
		"deep-iteration",
		"offset-json-file", "reset-offsets", "to-offset", "to-earliest", "execute",
		"env-file", // docker's flag
	} {
		flags[f] = true
	}
	for _, c := range parser.Model.Leaves(false) {
		name := strings.TrimPrefix(c.FullPath(), "markread ")
		if !strings.Contains(text, "`markread "+name) &&
			!strings.Contains(text, "./cmd/markread "+name) {
			t.Errorf("README.md does not mention the command %s", name)
		}
		for _, f := range c.Flags {
			flags[f.Name] = true
		}
	}
	known := config.Variables(parser.Model)
	known["MARKREAD_TEST_BROKERS"], known["MARKREAD_TEST_KAFKA"] = true, true // variables of tests
	// created by Kubernetes
	known["MARKREAD_PORT"], known["MARKREAD_SERVICE"] = true, true
	for _, m := range regexp.MustCompile(`MARKREAD_[A-Z_]*[A-Z]`).FindAllString(text, -1) {
		if !known[m] {
			t.Errorf("README.md mentions %s, which nothing reads", m)
		}
	}
	for _, m := range regexp.MustCompile("--([a-z][a-z-]*)").FindAllStringSubmatch(text, -1) {
		if !flags[m[1]] {
			t.Errorf("README.md mentions --%s, which does not exist", m[1])
		}
	}
	for _, name := range []string{config.SASLPassword, config.IMKey, config.AdminToken} {
		if !strings.Contains(text, name) {
			t.Errorf("README.md does not mention %s", name)
		}
	}
}

// The targets of links within the repository exist.
func TestReadmeLinks(t *testing.T) {
	for _, name := range []string{"README.md", "SECURITY.md", "deploy/README.md"} {
		text, err := os.ReadFile(filepath.Join(repository, name))
		if err != nil {
			t.Fatal(err)
		}
		for _, link := range regexp.MustCompile(`\]\(([^):#]+)[^):]*\)`).
			FindAllStringSubmatch(string(text), -1) {
			if _, err := os.Stat(filepath.Join(repository, filepath.Dir(name),
				link[1])); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// markRead publishes one event. It is the README's example of a backend in Go.
func markRead(ctx context.Context, w *kafka.Writer, report, peer string, at time.Time) error {
	value, err := json.Marshal(map[string]string{"Report_Account": report, "Peer_Account": peer})
	if err != nil {
		return err
	}
	return w.WriteMessages(ctx, kafka.Message{
		Key:   []byte(report + "|" + peer),
		Value: value,
		Time:  at, // when the user read
	})
}

// newWriter returns a writer, which is safe for concurrent use: create it once.
func newWriter(brokers ...string) *kafka.Writer {
	return &kafka.Writer{
		Addr:         kafka.TCP(brokers...),
		Topic:        "mark-read",
		Balancer:     kafka.Murmur2Balancer{},
		RequiredAcks: kafka.RequireAll,      // the zero value waits for no acknowledgement
		BatchTimeout: 10 * time.Millisecond, // the zero value waits a second for more
	}
}

// The README's example in Go is the code above, and it publishes an event to the same partition as
// our own tools.
func TestReadmeGoExample(t *testing.T) {
	text := readme(t)
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, "readme_test.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, d := range f.Decls {
		if fn, ok := d.(*ast.FuncDecl); ok &&
			(fn.Name.Name == "markRead" || fn.Name.Name == "newWriter") {
			source, err := os.ReadFile("readme_test.go")
			if err != nil {
				t.Fatal(err)
			}
			code := source[fset.Position(fn.Pos()).Offset:fset.Position(fn.End()).Offset]
			if !strings.Contains(text, string(code)) {
				t.Errorf("README.md does not show this:\n%s", code)
			}
			found++
		}
	}
	if found != 2 {
		t.Errorf("found %d of 2 functions", found)
	}
	for _, block := range regexp.MustCompile("(?s)```go\n(.*?)```").
		FindAllStringSubmatch(text, -1) {
		formatted, err := format.Source([]byte(block[1]))
		if err != nil || !bytes.Equal(formatted, []byte(block[1])) {
			t.Errorf("a Go block is not formatted: %v\n%s", err, block[1])
		}
	}

	b := clitest.StartBroker(t, "mark-read")
	w := newWriter(b.Addr())
	defer w.Close()
	at := time.Now().Add(-time.Minute).Truncate(time.Millisecond)
	if err := markRead(t.Context(), w, "alice", "bob", at); err != nil {
		t.Fatal(err)
	}
	if r := try(t, nil, "", "emit", "--brokers", b.Addr(), "--report", "alice", "--peer",
		"bob"); r.Status != ExitOK {
		t.Fatalf("%+v", r)
	}
	for p := range 2 {
		info := b.Cluster().PartitionInfo("mark-read", int32(p))
		if n := info.HighWatermark; n != 0 && n != 2 {
			t.Errorf("partition %d has %d of the two records of one conversation", p, n)
		}
	}
}
