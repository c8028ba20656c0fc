package deploy_test

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// alertRules is what Prometheus accepts as a file of alerts, as far as ours uses it.
type alertRules struct {
	Groups []struct {
		Name     string
		Interval string
		Rules    []struct {
			Alert         string
			Expr          string
			For           string
			KeepFiringFor string `yaml:"keep_firing_for"`
			Labels        struct{ Severity string }
			Annotations   struct {
				Summary, Description string
				RunbookURL           string `yaml:"runbook_url"`
			}
		}
	}
}

// Whether the expressions are correct is checked by deploy/check, with promtool.
func TestAlertsAreComplete(t *testing.T) {
	seen := map[string]bool{}
	for _, group := range readAlertRules(t).Groups {
		for _, rule := range group.Rules {
			name, severity := rule.Alert, rule.Labels.Severity
			if !strings.HasPrefix(name, "Markread") {
				t.Errorf("alert %q: the name must begin with Markread", name)
			}
			if !slices.Contains([]string{"critical", "warning", "info"}, severity) {
				t.Errorf("%s: the severity is %q", name, severity)
			}
			if seen[name+severity] {
				t.Errorf("%s: two rules with the severity %s", name, severity)
			}
			seen[name+severity] = true
			if rule.Annotations.Summary == "" || rule.Annotations.Description == "" {
				t.Errorf("%s: summary or description is missing", name)
			}
			address, anchor, _ := strings.Cut(rule.Annotations.RunbookURL, "#")
			if !strings.HasSuffix(address, "/deploy/RUNBOOK.md") ||
				anchor != strings.ToLower(name) {
				t.Errorf("%s: runbook_url is %q", name, rule.Annotations.RunbookURL)
			}
		}
	}
	if len(seen) == 0 {
		t.Error("no alerts")
	}
}

// Each alert has a test in which it fires, for each of its severities, and one in which it does not.
func TestAlertsAreTested(t *testing.T) {
	fires, quiet := map[string]bool{}, map[string]bool{}
	names, err := filepath.Glob("prometheus/alerts*_test.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		var file struct {
			Tests []struct {
				Cases []struct {
					Alertname string
					Expected  []struct {
						Labels struct{ Severity string } `yaml:"exp_labels"`
					} `yaml:"exp_alerts"`
				} `yaml:"alert_rule_test"`
			}
		}
		if err := yaml.Unmarshal(readAlertText(t, name), &file); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, test := range file.Tests {
			for _, c := range test.Cases {
				quiet[c.Alertname] = quiet[c.Alertname] || len(c.Expected) == 0
				for _, alert := range c.Expected {
					fires[c.Alertname+" "+alert.Labels.Severity] = true
				}
			}
		}
	}
	for _, group := range readAlertRules(t).Groups {
		for _, rule := range group.Rules {
			if !fires[rule.Alert+" "+rule.Labels.Severity] {
				t.Errorf("%s, %s: no test in which it fires", rule.Alert, rule.Labels.Severity)
			}
			if !quiet[rule.Alert] {
				t.Errorf("%s: no test in which it does not fire", rule.Alert)
			}
		}
	}
}

func readAlertRules(t *testing.T) (file alertRules) {
	t.Helper()
	decoder := yaml.NewDecoder(bytes.NewReader(readAlertText(t, "prometheus/alerts.yaml")))
	decoder.KnownFields(true)
	if err := decoder.Decode(&file); err != nil {
		t.Fatal(err)
	}
	return file
}

func readAlertText(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return text
}
