package cli

import (
	"encoding/json"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/alecthomas/kong"

	"markread/cmd/markread/cli/config"
	"markread/worker/console"
	"markread/worker/hold"
)

// What the documents show of the program is compared with the program here, and their links are
// followed.

// repository is the top level of the repository, seen from this package.
const repository = "../../.."

// The documents with parts that are generated.
const (
	configurationFile = "deploy/CONFIGURATION.md"
	operationsFile    = "deploy/OPERATIONS.md"
)

var update = flag.Bool("update", false, "write what is generated into the documents")

// document returns a document's text. name is its path from the top level.
func document(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(repository, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// documents returns the paths of all documents.
func documents(t *testing.T) []string {
	t.Helper()
	return slices.DeleteFunc(files(t), func(name string) bool { return path.Ext(name) != ".md" })
}

// files returns the paths of all files of the repository but those in folders with a dot.
func files(t *testing.T) (names []string) {
	t.Helper()
	err := fs.WalkDir(os.DirFS(repository), ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && name != "." && strings.HasPrefix(d.Name(), ".") {
			return fs.SkipDir
		}
		if err == nil && d.Type().IsRegular() {
			names = append(names, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// checkGenerated compares the part of a document between the two markers of a name with want, or
// writes it there with -update.
func checkGenerated(t *testing.T, file, name, want string) {
	t.Helper()
	const command = "go test ./cmd/markread/cli -run Docs -update"
	begin := fmt.Sprintf("<!-- %s: begin; %s -->\n", name, command)
	end := fmt.Sprintf("<!-- %s: end -->\n", name)
	before, rest, ok := strings.Cut(document(t, file), begin)
	got, after, ended := strings.Cut(rest, end)
	switch {
	case !ok || !ended:
		t.Fatalf("%s lacks the markers %q and %q", file, begin, end)
	case got == want:
	case !*update:
		t.Errorf("%s: the part %q must be as follows (%s):\n%s", file, name, command, want)
	default:
		text := []byte(before + begin + want + end + after)
		if err := os.WriteFile(filepath.Join(repository, file), text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// checkJSONNames checks that a document mentions, in quotes, every name of a value's JSON document.
func checkJSONNames(t *testing.T, file string, value any) {
	t.Helper()
	text := document(t, file)
	b, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	var content any
	if err := json.Unmarshal(b, &content); err != nil {
		t.Fatal(err)
	}
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case []any:
			for _, e := range v {
				walk(e)
			}
		case map[string]any:
			for name, e := range v {
				if !strings.Contains(text, `"`+name+`"`) {
					t.Errorf("%s does not show %q", file, name)
				}
				walk(e)
			}
		}
	}
	walk(content)
}

// configuration is the table of flags, made from the flags.
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
		// of commands about dead letters one word says enough
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
				value = r.flag.PlaceHolder // a flag whose default depends on others
			}
			switch {
			case r.flag.Required:
				value = "required"
			case value != "":
				value = "`" + value + "`"
			}
			fmt.Fprintf(&b, "| `--%s` | `%s` | %s | %s | %s |\n", r.flag.Name,
				config.Variable(r.flag.Name), value, r.flag.Help, strings.Join(r.commands, " "))
		}
	}
	return b.String()
}

// The table can't drift from the flags.
func TestDocsConfiguration(t *testing.T) {
	checkGenerated(t, configurationFile, "configuration", configuration(t))
	text := document(t, configurationFile)
	for _, name := range []string{config.SASLPassword, config.IMKey, config.AdminToken} {
		if !strings.Contains(text, "`"+name+"`") || !strings.Contains(text, "`"+name+"_FILE`") {
			t.Errorf("%s does not mention %s", configurationFile, name)
		}
	}
}

// otherFlags are flags that documents mention of other programs.
var otherFlags = []string{
	// Kafka's tools
	"bootstrap-server", "property", "from-beginning", "describe", "unavailable-partitions", "list",
	"files", "deep-iteration", "offset-json-file", "reset-offsets", "to-offset", "to-earliest",
	"execute", "entity-type", "entity-name", "alter", "add-config",
	// Prometheus
	"enable-feature",
	// docker, kubectl, systemd and the usual ones
	"env-file", "rm", "no-deps", "build", "build-arg", "force", "pod-running-timeout", "for",
	"timeout", "previous",
	"from-file", "pipe", "wait", "collect", "system", "no-create-home", "shell", "now",
	// deploy/kafka/kafka
	"nodes",
}

// Every flag and variable in the documents exists.
func TestDocsNames(t *testing.T) {
	parser, err := newParser()
	if err != nil {
		t.Fatal(err)
	}
	flags := map[string]bool{"help": true}
	for _, f := range otherFlags {
		flags[f] = true
	}
	for _, c := range parser.Model.Leaves(false) {
		for _, f := range c.Flags {
			flags[f.Name] = true
		}
	}
	known := config.Variables(parser.Model)
	known["MARKREAD_TEST_BROKERS"], known["MARKREAD_TEST_KAFKA"] = true, true // the tests do
	// Kubernetes creates them
	known["MARKREAD_PORT"], known["MARKREAD_SERVICE"] = true, true
	for _, name := range documents(t) {
		text := document(t, name)
		for _, m := range regexp.MustCompile(`MARKREAD_[A-Z_]*[A-Z]`).FindAllString(text, -1) {
			if !known[m] {
				t.Errorf("%s mentions %s, which nothing reads", name, m)
			}
		}
		for _, m := range regexp.MustCompile("(?:^|[^-[:word:]])--([a-z][a-z-]*)").
			FindAllStringSubmatch(text, -1) {
			if !flags[m[1]] {
				t.Errorf("%s mentions --%s, which does not exist", name, m[1])
			}
		}
	}
}

// The operations manual has every name of /api/state.
func TestDocsState(t *testing.T) {
	offset, generation, number, member := int64(1), int32(1), 1, "m"
	now := time.Now()
	checkJSONNames(t, operationsFile, console.State{
		Group: console.Group{Member: &member, Generation: &generation},
		Held:  []console.Hold{{NextProbeAt: &now}},
		Quota: console.Quota{Share: &number, Limit: &number, Cooling: &number},
		Partitions: []console.Partition{{Committed: &offset,
			OldestUnfinished: &console.Unfinished{},
			Unreadable:       &console.Unreadable{Offset: &offset}}},
	})
}

// What a document links to is there, in this repository: files, and headings in documents.
func TestDocsLinks(t *testing.T) {
	anchors := map[string]map[string]bool{}
	for _, name := range documents(t) {
		anchors[name] = anchorsOf(document(t, name))
	}
	follow := func(from, link string) {
		target, anchor, _ := strings.Cut(link, "#")
		if target = path.Join(path.Dir(from), target); strings.HasPrefix(link, "#") {
			target = from
		}
		if _, err := os.Stat(filepath.Join(repository, target)); err != nil {
			t.Errorf("%s links to %s: %v", from, link, err)
		} else if anchor != "" && !anchors[target][anchor] {
			t.Errorf("%s links to %s: there is no such heading", from, link)
		}
	}
	for _, reason := range hold.Reasons() {
		follow("README.md", "deploy/RUNBOOK.md#"+string(reason))
	}
	inline := regexp.MustCompile(`\]\(<?([^)\s>]+)>?(?:\s+"[^"]*")?\)`)
	reference := regexp.MustCompile(`(?m)^ {0,3}\[[^\]]+\]:\s*<?([^\s>]+)`)
	external := regexp.MustCompile(`^[a-z][a-z0-9+.-]*:`)
	for _, name := range documents(t) {
		prose := codeSpans.ReplaceAllString(withoutBlocks(document(t, name)), "`code`")
		for _, pattern := range []*regexp.Regexp{inline, reference} {
			for _, m := range pattern.FindAllStringSubmatch(prose, -1) {
				if !external.MatchString(m[1]) {
					follow(name, m[1])
				}
			}
		}
	}

	// Code that sends people to a document does so by its path from the top level.
	mention := regexp.MustCompile(`\b(?:deploy|consumer)/[\w/.-]*\.md(?:#[\w-]+)?`)
	for _, name := range files(t) {
		if ext := path.Ext(name); ext != ".go" && ext != ".html" && ext != ".yaml" ||
			strings.Contains(name, "testdata") {
			continue
		}
		for _, m := range mention.FindAllString(document(t, name), -1) {
			target, anchor, _ := strings.Cut(m, "#")
			if list, ok := anchors[target]; !ok || anchor != "" && !list[anchor] {
				t.Errorf("%s mentions %s, which is not there", name, m)
			}
		}
	}
}

var (
	codeSpans = regexp.MustCompile("`+[^`\n]*`+")
	heading   = regexp.MustCompile(`(?m)^ {0,3}#{1,6}[ \t]+(.*?)(?:[ \t]+#+)?[ \t]*$`)
	linkText  = regexp.MustCompile(`!?\[([^\]]*)\]\([^)]*\)`)
	named     = regexp.MustCompile(`<a\s[^>]*(?:id|name)="([^"]+)"`)
)

// withoutBlocks returns a document without its blocks of code.
func withoutBlocks(text string) string {
	var prose strings.Builder
	fence := ""
	for line := range strings.Lines(text) {
		trimmed := strings.TrimLeft(line, " ")
		mark := trimmed[:len(trimmed)-len(strings.TrimLeft(trimmed, trimmed[:1]))]
		switch opens := len(mark) >= 3 && strings.ContainsAny(mark[:1], "`~"); {
		case fence == "" && opens:
			fence = mark
		case fence == "":
			prose.WriteString(line)
		case opens && strings.HasPrefix(mark, fence) && strings.TrimSpace(trimmed) == mark:
			fence = ""
		}
	}
	return prose.String()
}

// anchorsOf returns the anchors of a document, as GitHub makes them of its headings: in lower case,
// letters, digits, marks, hyphens and underscores only, with hyphens for spaces; the second of a
// name has -1.
func anchorsOf(text string) map[string]bool {
	anchors, seen := map[string]bool{}, map[string]int{}
	prose := withoutBlocks(text)
	for _, m := range heading.FindAllStringSubmatch(prose, -1) {
		name := strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-', unicode.In(r, unicode.L, unicode.M, unicode.N, unicode.Pc):
				return unicode.ToLower(r)
			}
			return -1
		}, linkText.ReplaceAllString(m[1], "$1"))
		n := seen[name]
		if seen[name]++; n > 0 {
			name += "-" + strconv.Itoa(n)
		}
		anchors[name] = true
	}
	for _, m := range named.FindAllStringSubmatch(prose, -1) {
		anchors[m[1]] = true
	}
	return anchors
}

func TestAnchors(t *testing.T) {
	text := "# Kafka's *own* `check --json`\n```sh\n# not a heading\n```\n~~~~\n~~~\n# nor " +
		"this\n~~~~\n" +
		"## 暂停调用的原因（hold）\n## A_b - [c](d.md)\n## Twice\n## Twice ##\n<a id=\"x\"></a>\n"
	want := []string{"a_b---c", "kafkas-own-check---json", "twice", "twice-1", "x", "暂停调用的原因hold"}
	if got := slices.Sorted(maps.Keys(anchorsOf(text))); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
