package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"

	"markread/cmd/markread/cli/clitest"
)

func readme(t *testing.T) string {
	t.Helper()
	return document(t, "README.md")
}

// The README lists every command.
func TestReadmeCommands(t *testing.T) {
	text := readme(t)
	parser, err := newParser()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range parser.Model.Leaves(false) {
		name := strings.TrimPrefix(c.FullPath(), "markread ")
		if !strings.Contains(text, "`markread "+name) &&
			!strings.Contains(text, "./cmd/markread "+name) {
			t.Errorf("README.md does not mention the command %s", name)
		}
	}
}

// markRead publishes one event. It is the README's example of a backend in Go.
func markRead(ctx context.Context, w *kafka.Writer, report, peer string, at time.Time) error {
	value, err := json.Marshal(map[string]string{"Report_Account": report, "Peer_Account": peer})
	if err != nil {
		return err
	}
	key := []byte(report + "|" + peer)
	return w.WriteMessages(ctx, kafka.Message{Key: key, Value: value, Time: at})
}

// newWriter creates the writer once; it is safe for concurrent use.
func newWriter(brokers ...string) *kafka.Writer {
	return &kafka.Writer{
		Addr:         kafka.TCP(brokers...),
		Topic:        "mark-read",
		Balancer:     kafka.Murmur2Balancer{},
		RequiredAcks: kafka.RequireAll,      // the zero value waits for no acknowledgement
		BatchTimeout: 10 * time.Millisecond, // the zero value waits a second for more
	}
}

// The README's example in Go is the code above, and what it publishes is an event in the partition
// where our own tools would put it.
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
