package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// root is the path from this package to the repository's root.
const root = "../.."

// mayImport lists, for each of our packages, which of our packages it may import. Every package
// must be listed: a new one needs a line, and a reason.
var mayImport = map[string][]string{
	// The program: signals and the exit status; the commands, which translate; what they start.
	"cmd/markread": {"cmd/markread/cli"},
	"cmd/markread/app": {"worker", "worker/console", "worker/console/group",
		"worker/console/letters", "worker/console/overview", "consumer/admin", "consumer/broker",
		"consumer/deadletter", "consumer/event", "consumer/kafkaclient", "consumer/printable",
		"imclient", "imclient/sandbox", "worker/format"},
	// it starts the other sides of the comparison, and the program itself, as processes; imclient
	// signs the loops' calls
	"cmd/markread/bench": {"cmd/markread/cli/config", "consumer/broker", "imclient",
		"imclient/sandbox"},
	"cmd/markread/cli": {"cmd/markread/app", "cmd/markread/bench", "cmd/markread/cli/config",
		"cmd/markread/cli/terminal",
		"worker", "worker/console", "worker/console/group", "worker/format", "worker/groupstatus",
		"worker/preflight",
		"consumer/admin", "consumer/backfill", "consumer/deadletter", "consumer/event",
		"consumer/kafkaclient", "consumer/printable", "imclient", "imclient/sandbox"},
	"cmd/markread/browser": {}, // tests only
	// it creates their options
	"cmd/markread/cli/config": {"worker", "worker/console", "consumer/event", "consumer/kafkaclient", "imclient"},
	// for progress
	"cmd/markread/cli/terminal": {"worker/format", "consumer/deadletter", "consumer/event",
		"consumer/kafkaclient", "consumer/printable"},
	// tests of commands need a broker
	"cmd/markread/cli/clitest": {"consumer/broker"},
	// the program, and the names of a check's document
	"cmd/markread/exam/kit": {"cmd/markread/cli", "consumer/broker", "worker/preflight"},
	// generates input for backfill
	"cmd/rows": {},
	// The engine decides; backlog, quota and hold are its parts and don't import it; worker carries
	// the decisions out. The engine uses no page, no Kafka client and no context; backlog and quota
	// import none of our packages. So all of them can be simulated.
	"worker": {"worker/engine", "worker/hold", "worker/console", "worker/console/overview",
		"consumer", "consumer/deadletter", "consumer/event", "consumer/kafkaclient",
		"consumer/logthrottle", "consumer/printable", "imclient"},
	"worker/engine": {"worker/backlog", "worker/quota", "worker/hold", "consumer/event",
		"imclient"},
	"worker/engine/sim": {}, // tests only
	"worker/backlog":    {},
	"worker/quota":      {},
	"worker/hold":       {"imclient"}, // for the classes of failures
	"worker/stacksim":   {},           // tests only
	// imclient: IsLoopback, and Secret for the client's token
	"worker/console": {"consumer/logthrottle", "consumer/printable", "worker/console/history",
		"worker/console/overview", "worker/console/respond", "worker/console/sample",
		"worker/console/texts", "worker/format", "imclient"},
	// it describes the group as groupstatus does, and forwards commands with console's client
	"worker/console/group": {"worker/console", "worker/console/overview", "worker/console/respond",
		"worker/console/sample", "worker/format", "worker/groupstatus", "consumer", "consumer/admin",
		"consumer/deadletter", "consumer/event", "consumer/kafkaclient", "consumer/printable",
		"imclient"},
	// What the console shows, without its server: pure, and written from metrics alone.
	"worker/console/sample":  {"consumer/printable"},
	"worker/console/history": {"worker/console/sample"},
	"worker/console/overview": {"worker/console/history", "worker/console/sample",
		"consumer/printable"},
	// the English texts of hold reasons and of codes
	"worker/console/texts": {"worker/hold", "imclient"},
	// event: where a dead letter came from; overview: to record a replay among what happened
	"worker/console/letters": {"consumer/deadletter", "consumer/event", "consumer/printable",
		"worker/console/overview", "worker/console/respond", "worker/format"},
	"worker/console/respond": {"consumer/printable"},
	// Reports about a deployment and about a group. They don't know the worker's internals.
	"worker/format": {"consumer/printable"},
	// worker/engine: for a member's share of the rate
	"worker/groupstatus": {"worker/engine", "worker/console", "worker/format", "consumer",
		"consumer/admin", "consumer/deadletter", "consumer/event", "consumer/kafkaclient"},
	"worker/preflight": {"worker/console", "worker/format", "consumer", "consumer/admin",
		"consumer/event", "consumer/kafkaclient", "imclient"},
	// The packages for Kafka and for the API import neither each other nor the engine.
	"consumer": {"consumer/batch", "consumer/event", "consumer/kafkaclient",
		"consumer/offsets"},
	"consumer/admin": {"consumer/event", "consumer/kafkaclient", "consumer/offsets"},
	// event: the rules for a valid event; printable: for rejects
	"consumer/backfill": {"consumer/event", "consumer/kafkaclient", "consumer/printable"},
	// decodes bytes that anyone may have written
	"consumer/batch":  {},
	"consumer/broker": {},
	// shared by commands and console; admin: for the checks before a replay
	"consumer/deadletter": {"consumer/admin", "consumer/batch", "consumer/event", "consumer/kafkaclient",
		"consumer/printable"},
	"consumer/event": {"consumer/batch", "consumer/printable"},
	"consumer/kafkaclient": {"consumer/batch", "consumer/event", "consumer/logthrottle",
		"consumer/offsets"},
	// a package of its own so that the worker throttles its repeats in the same way
	"consumer/logthrottle": {},
	"consumer/offsets":     {},
	"consumer/printable":   {}, // used by all packages that show text from outside
	// for tests only
	"consumer/broker/brokertest": {"consumer/broker", "consumer/event", "consumer/kafkaclient"},
	"imclient":                   {},
	"imclient/sandbox":           {"imclient"},
}

// onlyIn lists which packages may use a library. A library that is behind one package can be
// replaced, and its traps are handled in one place.
var onlyIn = map[string][]string{
	// bench: the loops that markread is measured against, and its producer
	"github.com/segmentio/kafka-go": {"consumer/kafkaclient", "cmd/markread/bench"},
	"github.com/twmb/franz-go": {"consumer/broker", "consumer/broker/brokertest",
		"cmd/markread/cli/clitest", "cmd/markread/exam/kit", "cmd/markread/bench"},
	// a table of the requests that each release of Kafka supports
	"github.com/twmb/franz-go/pkg/kversion": {"consumer/kafkaclient", "cmd/markread/exam/kit"},
	"github.com/alecthomas/kong":            {"cmd/markread/cli", "cmd/markread/cli/config"},
	"github.com/cenkalti/backoff":           {"imclient"},
	// quota: the rate of calls; hold: how often new conversations may bring a probe forward; bench:
	// the pace of a loop
	"golang.org/x/time/rate": {"worker/quota", "worker/hold", "cmd/markread/bench"},
	"github.com/prometheus": {"worker", "worker/console", "worker/console/sample",
		"cmd/markread/app"},
	"github.com/mattn/go-isatty":    {"cmd/markread/cli/terminal"},
	"github.com/cheggaaa/pb":        {"cmd/markread/cli"},
	"github.com/klauspost/compress": {"consumer/backfill", "consumer/batch"},
	"github.com/pierrec/lz4":        {"consumer/batch"},
	"github.com/chromedp":           {}, // for tests only
}

// pure lists the state machines: they receive the time as an argument, start no goroutine and never
// wait.
var pure = []string{"worker/engine", "worker/backlog", "worker/quota", "worker/hold",
	"worker/console/history", "consumer/offsets"}

// topLevel lists all files and folders of the top level, except names that begin with a dot.
var topLevel = []string{"CHANGELOG.md", "LICENSE", "README.md", "SECURITY.md", "cmd", "consumer",
	"deploy", "go.mod", "go.sum", "imclient", "worker"}

// source is the non-test files of one package.
type source struct {
	folder string
	fset   *token.FileSet
	files  map[string]*ast.File
}

// sources parses all packages of the repository.
func sources(t *testing.T) []source {
	t.Helper()
	folders := map[string]source{}
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && name != root && strings.HasPrefix(d.Name(), "."), d.IsDir() &&
			d.Name() == "testdata":
			return filepath.SkipDir
		case d.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go"):
			return nil
		}
		folder, err := filepath.Rel(root, filepath.Dir(name))
		if err != nil {
			return err
		}
		folder = filepath.ToSlash(folder)
		s, ok := folders[folder]
		if !ok {
			s = source{folder, token.NewFileSet(), map[string]*ast.File{}}
			folders[folder] = s
		}
		s.files[d.Name()], err = parser.ParseFile(s.fset, name, nil, parser.ParseComments)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return slices.Collect(maps.Values(folders))
}

// imports returns the import paths of a file.
func imports(f *ast.File) []string {
	var paths []string
	for _, i := range f.Imports {
		p, _ := strconv.Unquote(i.Path.Value)
		paths = append(paths, p)
	}
	return paths
}

func TestImportDirections(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range sources(t) {
		seen[s.folder] = true
		allowed, ok := mayImport[s.folder]
		if !ok {
			t.Errorf("package %s is not in mayImport: list there what it may import", s.folder)
			continue
		}
		for name, f := range s.files {
			for _, p := range imports(f) {
				if ours, is := strings.CutPrefix(p, "markread/"); is &&
					!slices.Contains(allowed, ours) {
					t.Errorf("%s imports %s; it may import %v", path.Join(s.folder, name), ours,
						allowed)
				}
				if library := owner(p); library != "" &&
					!slices.Contains(onlyIn[library], s.folder) {
					t.Errorf("%s imports %s; only %v may", path.Join(s.folder, name), p,
						onlyIn[library])
				}
			}
		}
	}
	for folder := range mayImport {
		if !seen[folder] {
			t.Errorf("mayImport has %s, which is not a package", folder)
		}
	}
}

// owner returns the longest entry of onlyIn that contains the import path; "" if none does.
func owner(importPath string) (longest string) {
	for library := range onlyIn {
		if (importPath == library || strings.HasPrefix(importPath, library+"/")) &&
			len(library) > len(longest) {
			longest = library
		}
	}
	return longest
}

// A state machine that read the clock or started a goroutine could be neither simulated nor checked
// against a model.
func TestPurePackages(t *testing.T) {
	clock := []string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTicker",
		"NewTimer"}
	// methods of rate.Limiter that read the clock if called without a time
	limiter := []string{"Allow", "Reserve", "Wait", "WaitN", "Tokens"}
	found := 0
	for _, s := range sources(t) {
		if !slices.Contains(pure, s.folder) {
			continue
		}
		found++
		for name, f := range s.files {
			for _, p := range imports(f) {
				if slices.Contains([]string{"context", "net", "net/http", "os", "sync", "io"}, p) {
					t.Errorf("%s imports %s", path.Join(s.folder, name), p)
				}
			}
			ast.Inspect(f, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.GoStmt:
					t.Errorf("%s: a goroutine", s.fset.Position(n.Pos()))
				case *ast.SelectorExpr:
					if x, ok := n.X.(*ast.Ident); ok && x.Name == "time" &&
						slices.Contains(clock, n.Sel.Name) {
						t.Errorf("%s: time.%s", s.fset.Position(n.Pos()), n.Sel.Name)
					}
				case *ast.CallExpr:
					if sel, ok := n.Fun.(*ast.SelectorExpr); ok && s.folder == "worker/quota" &&
						len(n.Args) == 0 &&
						slices.Contains(limiter, sel.Sel.Name) {
						t.Errorf("%s: %s makes the limiter read the clock",
							s.fset.Position(n.Pos()), sel.Sel.Name)
					}
				}
				return true
			})
		}
	}
	if found != len(pure) {
		t.Errorf("found %d of %v", found, pure)
	}
}

// Every package has its package doc in exactly one file, in the form that godoc shows.
func TestPackageDocs(t *testing.T) {
	for _, s := range sources(t) {
		var docs []string
		for name, f := range s.files {
			if f.Doc == nil {
				continue
			}
			docs = append(docs, name)
			begin := "Package " + f.Name.Name + " "
			if f.Name.Name == "main" {
				begin = "Command " + path.Base(s.folder) + " "
			}
			if text := f.Doc.Text(); !strings.HasPrefix(text, begin) || len(text) < 200 {
				t.Errorf("%s: the package doc must begin with %q and say what the package does, "+
					"what it doesn't do, and what it promises", path.Join(s.folder, name), begin)
			}
		}
		if len(docs) != 1 {
			t.Errorf("package %s is documented in %d files: %v", s.folder, len(docs), docs)
		}
	}
}

func TestTopLevel(t *testing.T) {
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") && !slices.Contains(topLevel, e.Name()) {
			t.Errorf("%s does not belong on the top level", e.Name())
		}
	}
}
