//go:build exam && linux

package deploy_test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

// promServer is a running Prometheus.
type promServer struct{ url string }

// alert is one alert of /api/v1/alerts.
type alert struct {
	State               string
	Labels, Annotations series
}

// fired is when an alert fired, to 0.2 s.
type fired struct {
	labels   series
	from, to time.Time
}

// alert returns an alert's name, severity and what it is about.
func (s series) alert() string {
	text := s["alertname"] + " " + s["severity"]
	for _, label := range []string{"reason", "class", "code", "topic", "partition"} {
		if s[label] != "" {
			text += " " + s[label]
		}
	}
	return text
}

// findPrometheus returns the program's path: in PATH, or where deploy/check unpacks Debian's.
func findPrometheus(t *testing.T) string {
	t.Helper()
	if program, err := exec.LookPath("prometheus"); err == nil {
		return program
	}
	cache, err := os.UserCacheDir()
	program := filepath.Join(cache, "markread-ci/debian-prometheus/usr/bin/prometheus")
	if err == nil {
		_, err = os.Stat(program)
	}
	if err != nil {
		t.Skipf("skipped: no prometheus in PATH, and deploy/check has not downloaded it: %v", err)
	}
	return program
}

// startPrometheus starts a Prometheus that scrapes and evaluates every second, with a job for each
// target.
func startPrometheus(t *testing.T, program, rules string, targets map[string]string) *promServer {
	t.Helper()
	var jobs []any
	for job, target := range targets {
		jobs = append(jobs, map[string]any{"job_name": job,
			"static_configs": []any{map[string]any{"targets": []string{target}}}})
	}
	config, err := yaml.Marshal(map[string]any{
		"global":         map[string]any{"scrape_interval": "1s", "evaluation_interval": "1s"},
		"rule_files":     []string{rules},
		"scrape_configs": jobs,
	})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(file, config, 0o600); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0") // Prometheus does not report its port
	if err != nil {
		t.Fatal(err)
	}
	addr := listener.Addr().String()
	listener.Close()
	var output bytes.Buffer
	cmd := exec.Command(program, "--config.file="+file, "--storage.tsdb.path="+dir+"/data",
		"--web.listen-address="+addr, "--enable-feature=exemplar-storage", "--log.level=warn")
	cmd.Stdout, cmd.Stderr = &output, &output
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // if the test is killed
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
		if t.Failed() {
			t.Logf("prometheus: %s", output.String())
		}
	})
	p := &promServer{"http://" + addr}
	wait(t, "Prometheus is ready", func() bool {
		response, err := http.Get(p.url + "/-/ready")
		if err != nil {
			return false
		}
		response.Body.Close()
		return response.StatusCode == http.StatusOK
	})
	return p
}

// get decodes the data of a response of the API.
func get[T any](t *testing.T, p *promServer, path string, query ...string) T {
	t.Helper()
	values := url.Values{}
	for i := 0; i < len(query); i += 2 {
		values.Set(query[i], query[i+1])
	}
	response, err := http.Get(p.url + "/api/v1/" + path + "?" + values.Encode())
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var body struct {
		Error string
		Data  T
	}
	if err := json.NewDecoder(response.Body).Decode(&body); err != nil || body.Error != "" {
		t.Fatalf("%s: %v %s", path, err, body.Error)
	}
	return body.Data
}

// alerts returns the alerts that are pending or firing.
func (p *promServer) alerts(t *testing.T) []alert {
	t.Helper()
	return get[struct{ Alerts []alert }](t, p, "alerts").Alerts
}

// waitScraped waits until each of n workers was scraped.
func (p *promServer) waitScraped(t *testing.T, n int) {
	t.Helper()
	wait(t, "all workers are scraped and ready", func() bool {
		found := get[struct{ Result []any }](t, p, "query", "query", "markread_ready == 1")
		return len(found.Result) == n
	})
}

// history returns all alerts that have fired since a time, in the order of their jobs.
func (p *promServer) history(t *testing.T, since time.Time) (alerts []fired) {
	t.Helper()
	seconds := func(t time.Time) string {
		return strconv.FormatFloat(float64(t.UnixMilli())/1000,
			'f', 3, 64)
	}
	for _, s := range get[struct {
		Result []struct {
			Metric series
			Values [][2]any // seconds since 1970, and "1"
		}
	}](t, p, "query_range", "query", `ALERTS{alertstate="firing"}`, "start", seconds(since),
		"end", seconds(time.Now()), "step", "0.2").Result {
		at := func(i int) time.Time {
			return time.UnixMilli(int64(s.Values[i][0].(float64) * 1000))
		}
		alerts = append(alerts, fired{s.Metric, at(0), at(len(s.Values) - 1)})
	}
	slices.SortStableFunc(alerts, func(a, b fired) int {
		return cmp.Or(cmp.Compare(a.labels["job"], b.labels["job"]), a.from.Compare(b.from))
	})
	return alerts
}

// checkExemplars checks that Prometheus has the trace of an event.
func checkExemplars(t *testing.T, p *promServer, since time.Time) {
	t.Helper()
	found := get[[]struct {
		Exemplars []struct{ Labels series }
	}](t, p, "query_exemplars", "query", `markread_event_age_seconds_bucket{job="healthy"}`,
		"start", since.Format(time.RFC3339), "end", time.Now().Format(time.RFC3339))
	n := 0
	for _, s := range found {
		for _, e := range s.Exemplars {
			n++
			if !strings.Contains(traceparent, "-"+e.Labels["trace_id"]+"-") {
				t.Errorf("an exemplar has the labels %v", e.Labels)
			}
		}
	}
	t.Logf("FIGURE exemplars: %d of %d series", n, len(found))
	if n == 0 {
		t.Error("Prometheus has no exemplars")
	}
}
