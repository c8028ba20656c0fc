package worker

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// The operations manual lists every metric with its labels; it and the runbook know no other.
func TestDocsMetrics(t *testing.T) {
	described := make(chan *prometheus.Desc)
	go func() {
		(&Worker{metrics: newMetrics()}).Describe(described)
		close(described)
	}()
	text := func(name string) string {
		b, err := os.ReadFile("../deploy/" + name)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	operations, known := text("OPERATIONS.md"), map[string]bool{}
	parts := regexp.MustCompile(`fqName: "(\w+)".*variableLabels: \{([\w,]*)\}`)
	for d := range described {
		m := parts.FindStringSubmatch(d.String())
		if m == nil {
			t.Fatalf("%v is written in another form", d)
		}
		known[m[1]] = true
		want := "`" + m[1] + "`"
		if m[2] != "" {
			want = "`" + m[1] + "{" + m[2] + "}`"
		}
		if !strings.Contains(operations, want) {
			t.Errorf("deploy/OPERATIONS.md does not list %s", want)
		}
	}
	for _, name := range []string{"OPERATIONS.md", "RUNBOOK.md", "README.zh-CN.md"} {
		for _, m := range regexp.MustCompile(`markread_\w+`).FindAllString(text(name), -1) {
			if !known[m] {
				t.Errorf("deploy/%s mentions %s, which does not exist", name, m)
			}
		}
	}
}
