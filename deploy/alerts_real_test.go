//go:build exam && linux

package deploy_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.yaml.in/yaml/v3"

	"markread/imclient/sandbox"
)

// speed is how many times faster than in alerts.yaml an alert fires in this test, and ends.
const speed = 20

// scaledWindows lists the alerts whose ranges are shortened, too. Otherwise they could not fire in
// a short test (Saturated: the rate of five minutes), or would last for minutes after the repair.
// All thresholds, and the other ranges, are those of alerts.yaml.
var scaledWindows = []string{"MarkreadHeldOutage", "MarkreadLiveBudget", "MarkreadSaturated",
	"MarkreadDeadLettersMany"}

// lasting lists the alerts that report the last hour: the test does not wait for their end.
var lasting = []string{"MarkreadDeadLetters", "MarkreadEventsLost"}

// scenario is one fault of one worker with its own servers.
type scenario struct {
	name           string
	rate           int // --rate
	inject, repair func(s *stack)
	fires          []string // alerts that must fire; then the fault is repaired
	follows        []string // alerts that must fire after the repair
	may            []string // critical alerts that may fire as well

	*stack
	injected, repaired time.Time
	done               bool
}

// A hold of seconds is a large part of the few minutes that the budget's windows see here.
const budget = "MarkreadLiveBudget critical"

func scenarios() []*scenario {
	none := func(*stack) {}
	unfault := func(s *stack) { s.fault.Remove() }
	unrule := func(s *stack) { s.setRules() }
	return []*scenario{
		{name: "healthy", rate: 200, inject: none, repair: none},
		{name: "outage", rate: 200,
			inject: func(s *stack) {
				s.setRules(sandbox.Rule{Kind: sandbox.KindStatus, Status: 502})
			},
			repair:  unrule,
			fires:   []string{"MarkreadHeldOutage critical outage", "MarkreadLiveLate critical"},
			follows: []string{budget}},
		{name: "wrong-key", rate: 200,
			inject: func(s *stack) { s.stop(); s.writeKey("a wrong key"); s.start() },
			repair: func(s *stack) { s.writeKey(appKey) },
			fires:  []string{"MarkreadHeldFixNeeded critical credentials"},
			may:    []string{budget}},
		{name: "dead-letter-topic", rate: 200,
			inject: func(s *stack) {
				s.setFault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: names.DeadLetter,
					Err: kerr.TopicAuthorizationFailed})
				s.publish("not an event")
			},
			repair:  unfault,
			fires:   []string{"MarkreadHeldFixNeeded critical dead-letter"},
			follows: []string{"MarkreadDeadLetters info invalid"},
			may:     []string{budget}},
		{name: "unreadable", rate: 200,
			inject: func(s *stack) {
				s.setFault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Topic: names.Live,
					Partitions: []int32{2}, Err: kerr.KafkaStorageError})
			},
			repair: unfault,
			fires:  []string{"MarkreadPartitionUnreadable critical mark-read 2"},
			may:    []string{budget}},
		{name: "rejected", rate: 200,
			inject: func(s *stack) {
				s.setRules(sandbox.Rule{Kind: sandbox.KindCode, Code: 90008})
				s.publishEvents(600) // a hold begins after 500
			},
			repair: unrule,
			fires: []string{"MarkreadHeldFixNeeded critical rejections",
				"MarkreadDeadLettersMany critical", "MarkreadDeadLetters info rejected 90008"},
			may: []string{budget}},
		{name: "saturated", rate: 20,
			inject: func(s *stack) { s.publishEvents(20 * 200) },
			repair: func(s *stack) { s.stop(); s.options.Worker.Rate = 1000; s.start() },
			fires:  []string{"MarkreadSaturated warning", "MarkreadLiveLate critical", budget}},
		{name: "lost", rate: 200, inject: loseEvents, repair: none,
			fires: []string{"MarkreadEventsLost critical mark-read"}},
		{name: "gone", rate: 200,
			inject: func(s *stack) { s.stop() },
			repair: func(s *stack) { s.start() },
			fires:  []string{"MarkreadGone critical"},
			may:    []string{budget}},
		{name: "no-coordinator", rate: 200,
			inject: func(s *stack) {
				s.setFault(kfake.Fault{Keys: []kmsg.Key{kmsg.FindCoordinator, kmsg.JoinGroup,
					kmsg.Heartbeat}, Group: group, Err: kerr.CoordinatorNotAvailable})
			},
			repair: unfault,
			fires:  []string{"MarkreadPartitionsUnowned critical", "MarkreadNotReady critical"},
			may:    []string{budget, "MarkreadLiveLate critical"}},
	}
}

// loseEvents deletes records of one partition before the worker has read them.
func loseEvents(s *stack) {
	cluster := s.broker.Cluster()
	s.setFault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Topic: names.Live,
		Partitions: []int32{0}, Err: kerr.KafkaStorageError})
	// Earlier fetches have ended, and later ones fail.
	if err := s.fault.Wait(s.t.Context(), 1); err != nil {
		s.t.Fatal(err)
	}
	s.publishEvents(100)
	end := cluster.PartitionInfo(names.Live, 0).HighWatermark
	if err := cluster.DeleteRecords(names.Live, 0, end); err != nil {
		s.t.Fatal(err)
	}
	s.fault.Remove()
}

// TestExamAlerts tries the alerts with a real Prometheus: workers with faults, one in each job, all
// at the same time. The expected alerts fire and end after the repair, and no other critical ones
// fire. It logs when each did. It needs two minutes, mostly waiting:
//
//	go test -tags exam ./deploy -run TestExamAlerts -v
func TestExamAlerts(t *testing.T) {
	program := findPrometheus(t)
	all := scenarios()
	targets := map[string]string{}
	for _, s := range all {
		s.stack = newStack(t, s.rate)
		targets[s.name] = s.options.AdminAddr
	}
	rules, durations := fasterRules(t)
	p := startPrometheus(t, program, rules, targets)
	p.waitScraped(t, len(all))
	for _, s := range all {
		s.injected = time.Now()
		s.inject(s.stack)
	}

	firing, seen := map[string][]string{}, map[string]alert{}
	for end := time.Now().Add(170 * time.Second); ; time.Sleep(200 * time.Millisecond) {
		clear(firing)
		for _, a := range p.alerts(t) {
			if a.State == "firing" {
				job, name := a.Labels["job"], a.Labels.alert()
				firing[job] = append(firing[job], name)
				if _, known := seen[job+": "+name]; !known {
					seen[job+": "+name] = a
				}
			}
		}
		open := ""
		for _, s := range all {
			if s.advance(firing[s.name], seen); !s.done {
				open += fmt.Sprintf("\n%s: repaired: %v, missing: %q, firing: %q", s.name,
					!s.repaired.IsZero(), slices.Concat(s.missing(s.fires, seen),
						s.missing(s.follows, seen)), firing[s.name])
			}
		}
		if open == "" {
			break
		}
		if time.Now().After(end) {
			t.Errorf("not as expected in time:%s", open)
			break
		}
	}

	for _, f := range p.history(t, all[0].injected) {
		i := slices.IndexFunc(all, func(s *scenario) bool { return s.name == f.labels["job"] })
		if i < 0 {
			t.Errorf("an alert of no scenario: %v", f.labels)
			continue
		}
		s, name := all[i], f.labels.alert()
		expected := slices.Concat(s.fires, s.follows, s.may)
		if (f.labels["severity"] == "critical" || s.name == "healthy") &&
			!slices.Contains(expected, name) {
			t.Errorf("%s: unexpected alert: %s", s.name, name)
		}
		ended := "still fires"
		if !slices.Contains(firing[s.name], name) {
			ended = fmt.Sprintf("ended %.1f s after the repair", f.to.Sub(s.repaired).Seconds())
		}
		d := durations[f.labels["alertname"]+" "+f.labels["severity"]]
		t.Logf("FIGURE %-17s | %-48s | %s | %s", s.name, name, s.firedAfter(name, f.from, d),
			ended)
	}
	for _, name := range slices.Sorted(maps.Keys(seen)) {
		a := seen[name].Annotations
		t.Logf("%s\n    %s\n    %s", name, a["summary"], a["description"])
		if text := fmt.Sprint(a); strings.Contains(text, "error expanding") ||
			strings.Contains(text, "<no value>") {
			t.Errorf("%s: a template fails: %s", name, text)
		}
	}
	checkExemplars(t, p, all[0].injected)
}

// missing returns the alerts that have not fired.
func (s *scenario) missing(alerts []string, seen map[string]alert) []string {
	return slices.DeleteFunc(slices.Clone(alerts), func(name string) bool {
		_, found := seen[s.name+": "+name]
		return found
	})
}

// advance repairs the fault once all expected alerts fire, and is done once they have ended.
func (s *scenario) advance(firing []string, seen map[string]alert) {
	switch {
	case s.done, len(s.missing(s.fires, seen)) > 0:
	case s.repaired.IsZero():
		s.repaired = time.Now()
		s.repair(s.stack)
	default:
		ends := func(name string) bool {
			alertname, _, _ := strings.Cut(name, " ")
			return !slices.Contains(lasting, alertname) &&
				slices.Contains(slices.Concat(s.fires, s.follows), name)
		}
		s.done = len(s.missing(s.follows, seen)) == 0 && !slices.ContainsFunc(firing, ends)
	}
}

// firedAfter describes when an alert fired, and when it would have with the duration of alerts.yaml
// (d[0]) instead of the test's.
func (s *scenario) firedAfter(name string, at time.Time, d [2]time.Duration) string {
	began, text := s.injected, "fired after %.1f s"
	if !slices.Contains(s.fires, name) && !s.repaired.IsZero() && at.After(s.repaired) {
		began, text = s.repaired, "fired %.1f s after the repair"
	}
	after := at.Sub(began)
	text = fmt.Sprintf(text, after.Seconds())
	if d[0] > 0 {
		text += fmt.Sprintf(" (for: %v; with %v: %v)", d[1], d[0],
			(after + d[0] - d[1]).Round(time.Second))
	}
	return text
}

// fasterRules writes alerts.yaml with shorter durations to a file. It also returns the duration
// (for) of each alert and severity, before and after.
func fasterRules(t *testing.T) (file string, durations map[string][2]time.Duration) {
	t.Helper()
	var document map[string]any
	if err := yaml.Unmarshal(readAlertText(t, "prometheus/alerts.yaml"), &document); err != nil {
		t.Fatal(err)
	}
	shorten := func(text string) (before, after time.Duration) {
		before, err := time.ParseDuration(text)
		if err != nil {
			t.Fatal(err)
		}
		return before, max(before/speed, time.Second)
	}
	window := regexp.MustCompile(`\[\w+\]`)
	durations = map[string][2]time.Duration{}
	for _, g := range document["groups"].([]any) {
		group := g.(map[string]any)
		delete(group, "interval") // a second, like the others
		for _, r := range group["rules"].([]any) {
			rule := r.(map[string]any)
			for _, key := range []string{"for", "keep_firing_for"} {
				if text, ok := rule[key].(string); ok {
					before, after := shorten(text)
					rule[key] = after.String()
					if key == "for" {
						severity := rule["labels"].(map[string]any)["severity"]
						durations[fmt.Sprint(rule["alert"], " ", severity)] =
							[2]time.Duration{before, after}
					}
				}
			}
			if slices.Contains(scaledWindows, rule["alert"].(string)) {
				rule["expr"] = window.ReplaceAllStringFunc(rule["expr"].(string),
					func(text string) string {
						_, after := shorten(strings.Trim(text, "[]"))
						return "[" + after.String() + "]"
					})
			}
		}
	}
	text, err := yaml.Marshal(document)
	if err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(t.TempDir(), "alerts.yaml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return file, durations
}
