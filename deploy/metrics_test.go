package deploy_test

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.yaml.in/yaml/v3"

	"markread/cmd/markread/app"
	"markread/imclient"
	"markread/worker"
)

// series is the labels of one series.
type series map[string]string

// scrape returns the series of a worker by name, in the format that accept asks for.
func scrape(t *testing.T, addr, accept string) map[string][]series {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+addr+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept", accept)
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if got := response.Header.Get("Content-Type"); !strings.HasPrefix(got, accept) {
		t.Fatalf("%s, want %s", got, accept)
	}
	found := map[string][]series{}
	sample := regexp.MustCompile(`^(\w+)(?:\{(.*?)\})? [-+0-9NI]`)
	label := regexp.MustCompile(`(\w+)="([^"]*)"`)
	for lines := bufio.NewScanner(response.Body); lines.Scan(); {
		m := sample.FindStringSubmatch(lines.Text())
		if m == nil {
			continue
		}
		labels := series{}
		for _, l := range label.FindAllStringSubmatch(m[2], -1) {
			labels[l[1]] = l[2]
		}
		found[m[1]] = append(found[m[1]], labels)
	}
	return found
}

var (
	selector = regexp.MustCompile(`\b((?:markread|process|go)_\w+)\s*(\{[^}]*\})?`)
	matcher  = regexp.MustCompile(`(\w+)\s*(=~|!~|!=|=)\s*("(?:[^"\\]|\\.)*")`)
)

// matches reports whether a series has the labels that a selector wants. Labels that Prometheus
// adds, and Grafana's variables, are not compared.
func (s series) matches(t *testing.T, matchers string) bool {
	for _, m := range matcher.FindAllStringSubmatch(matchers, -1) {
		value, err := strconv.Unquote(m[3])
		if err != nil {
			t.Fatalf("%s: %v", matchers, err)
		}
		if slices.Contains([]string{"job", "namespace", "instance", "pod"}, m[1]) {
			continue
		}
		same := s[m[1]] == value
		if strings.HasSuffix(m[2], "~") {
			same = regexp.MustCompile("^(?:" + value + ")$").MatchString(s[m[1]])
		}
		if same == strings.HasPrefix(m[2], "!") {
			return false
		}
	}
	return true
}

// selectors returns each selector of our metrics in a document, with where it is.
func selectors(t *testing.T, file string, decode func([]byte, any) error) map[string]string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var document any
	if err := decode(b, &document); err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			for _, v := range v {
				walk(v)
			}
		case []any:
			for _, v := range v {
				walk(v)
			}
		case string:
			for _, s := range selector.FindAllString(v, -1) {
				found[s] = file
			}
		}
	}
	walk(document)
	return found
}

// Every series that the alerts and the dashboard select exists on a worker that has read its
// partitions and is paused: with that name and these labels, in both formats of /metrics.
func TestSelectedSeriesExist(t *testing.T) {
	selected := selectors(t, "prometheus/alerts.yaml", yaml.Unmarshal)
	for s, file := range selectors(t, "grafana/markread.json", json.Unmarshal) {
		selected[s] = file
	}
	if len(selected) < 40 {
		t.Errorf("only %d selectors were found", len(selected))
	}
	addr := startDev(t)
	for _, accept := range []string{"text/plain", "application/openmetrics-text"} {
		found := scrape(t, addr, accept)
		for s, file := range selected {
			m := selector.FindStringSubmatch(s)
			if !slices.ContainsFunc(found[m[1]],
				func(s series) bool { return s.matches(t, m[2]) }) {
				t.Errorf("%s selects %s, which does not exist (%s)", file, s, accept)
			}
		}
	}
}

// startDev starts `markread dev` in this process, and returns the address of its admin server once
// the worker has read its partitions and was paused.
func startDev(t *testing.T) string {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	started, ended := make(chan string, 1), make(chan error, 1)
	go func() {
		defer close(ended)
		ended <- app.Dev(ctx, app.DevOptions{
			KafkaAddr: "127.0.0.1:0", IMAddr: "127.0.0.1:0", AdminAddr: "127.0.0.1:0",
			ConsoleAddr: "127.0.0.1:0", Traffic: 100,
			Worker: worker.Options{
				Rate: 200, MaxPending: 500_000, MaxRejected: 95, Attempts: 8,
				Backoff:    imclient.NewBackoff(200*time.Millisecond, 30*time.Second),
				MaxReplays: 3, CallTimeout: 5 * time.Second, CommitEvery: time.Second,
				DrainTimeout: 10 * time.Second, Log: zerolog.Nop(), Version: "test",
			},
			Started: func(at app.DevAddrs) { started <- at.Admin },
		})
	}()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	var addr string
	select {
	case addr = <-started:
	case err := <-ended:
		t.Fatal(err)
	}
	waitFor(t, addr, "markread_retention_left_seconds")
	waitFor(t, addr, "markread_partition_lag")
	response, err := http.Post("http://"+addr+"/api/pause", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	waitFor(t, addr, "markread_hold_since_timestamp_seconds")
	return addr
}

// waitFor waits until a metric exists.
func waitFor(t *testing.T, addr, name string) {
	t.Helper()
	wait(t, name, func() bool { return len(scrape(t, addr, "text/plain")[name]) > 0 })
}

// wait polls until ok returns true, and fails the test after 30 s.
func wait(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for limit := time.Now().Add(30 * time.Second); !ok(); <-tick.C {
		if time.Now().After(limit) {
			t.Fatalf("not within 30 s: %s", what)
		}
	}
}
