package deploy_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"markread/worker/hold"
)

// runbookChapters are the runbook's headings of level 2, in their order.
var runbookChapters = []string{"First steps", "Alerts", "Holds", "Rehearsal"}

// runbookSection is a heading of level 2 or 3 with the lines up to the next one.
type runbookSection struct {
	chapter, name string // name is "" for a heading of level 2
	lines         []string
}

// runbookSections returns the runbook's sections in their order.
func runbookSections(t *testing.T) (all []runbookSection) {
	t.Helper()
	b, err := os.ReadFile("RUNBOOK.md")
	if err != nil {
		t.Fatal(err)
	}
	block := false // of code, where # begins a comment
	for line := range strings.Lines(string(b)) {
		line = strings.TrimRight(line, "\n")
		if strings.HasPrefix(line, "```") {
			block = !block
		}
		chapter, isChapter := strings.CutPrefix(line, "## ")
		name, isName := strings.CutPrefix(line, "### ")
		switch {
		case !block && isChapter:
			all = append(all, runbookSection{chapter: chapter})
		case !block && isName && len(all) == 0:
			t.Fatalf("RUNBOOK.md: %q is in no chapter", line)
		case !block && isName:
			all = append(all, runbookSection{chapter: all[len(all)-1].chapter, name: name})
		case len(all) > 0:
			last := &all[len(all)-1]
			last.lines = append(last.lines, line)
		}
	}
	return all
}

// alertNames returns the names of all alerts in the rules, in their order, each once.
func alertNames(t *testing.T) (names []string) {
	t.Helper()
	b, err := os.ReadFile("prometheus/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Groups []struct{ Rules []struct{ Alert string } }
	}
	if err := yaml.Unmarshal(b, &file); err != nil {
		t.Fatal(err)
	}
	for _, g := range file.Groups {
		for _, r := range g.Rules {
			if r.Alert != "" && !slices.Contains(names, r.Alert) {
				names = append(names, r.Alert)
			}
		}
	}
	if len(names) == 0 {
		t.Fatal("prometheus/alerts.yaml has no alerts")
	}
	return names
}

// Whoever follows the link of an alert, or looks for the reason of a hold, finds its section; and
// no section is left over when an alert is removed.
func TestRunbookSections(t *testing.T) {
	want := map[string][]string{"Alerts": alertNames(t)}
	for _, reason := range hold.Reasons() {
		want["Holds"] = append(want["Holds"], string(reason))
	}
	var found []string
	got := map[string][]string{}
	for _, s := range runbookSections(t) {
		if s.name == "" {
			found = append(found, s.chapter)
		} else {
			got[s.chapter] = append(got[s.chapter], s.name)
		}
	}
	if !slices.Equal(found, runbookChapters) {
		t.Errorf("RUNBOOK.md has the chapters %q, want %q", found, runbookChapters)
	}
	for _, chapter := range runbookChapters {
		for _, name := range want[chapter] {
			if !slices.Contains(got[chapter], name) {
				t.Errorf("RUNBOOK.md: %s has no section ### %s", chapter, name)
			}
		}
		for i, name := range got[chapter] {
			if !slices.Contains(want[chapter], name) {
				t.Errorf("RUNBOOK.md: %s has a section ### %s, which belongs to nothing", chapter,
					name)
			}
			if slices.Contains(got[chapter][:i], name) {
				t.Errorf("RUNBOOK.md: %s has two sections ### %s", chapter, name)
			}
		}
	}
}

// Every section begins with one line in Chinese, and says what to do.
func TestRunbookForm(t *testing.T) {
	do := regexp.MustCompile(`\*\*[^*]*\bDo\b[^*]*\.\*\*`)
	for _, s := range runbookSections(t) {
		if s.name == "" {
			continue
		}
		if len(s.lines) < 3 || s.lines[0] != "" || s.lines[2] != "" ||
			!strings.HasPrefix(s.lines[1], "**中文**：") {
			t.Errorf("RUNBOOK.md: %s does not begin with one line in Chinese", s.name)
		}
		text := strings.Join(s.lines, "\n")
		if !strings.Contains(text, "- **Symptom.**") || !strings.Contains(text, "- **Meaning") ||
			!do.MatchString(text) {
			t.Errorf("RUNBOOK.md: %s lacks Symptom, Meaning or Do", s.name)
		}
	}
}

// The operations manual has every alert in its table, with a link to its section.
func TestOperationsListsAlerts(t *testing.T) {
	b, err := os.ReadFile("OPERATIONS.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range alertNames(t) {
		row := "\n| [" + name + "](RUNBOOK.md#" + strings.ToLower(name) + ") |"
		if n := strings.Count(string(b), row); n != 1 {
			t.Errorf("OPERATIONS.md has %d rows for %s, want 1", n, name)
		}
	}
}
