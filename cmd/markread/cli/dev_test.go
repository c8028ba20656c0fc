package cli

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"markread/cmd/markread/app"
	"markread/cmd/markread/cli/clitest"
	"markread/worker/console"
)

// Everything on one machine: the output for a new user, and the commands that its summary suggests,
// which must work.
func TestDev(t *testing.T) {
	clitest.NoLeaks(t)
	dir := t.TempDir()
	start := func(traffic string) (*clitest.Running, string, string, string) {
		r := begin(t, nil, "dev", "--kafka-addr", "127.0.0.1:0", "--im-addr", "127.0.0.1:0",
			"--admin-addr", "127.0.0.1:0", "--console-addr", "127.0.0.1:0", "--data-dir", dir,
			"--traffic", traffic)
		return r, r.WaitFor(t, `Kafka +(127\S+)`), r.WaitFor(t, `IM server +http://(127[^/ ]+)/`),
			r.WaitFor(t, `worker +http://(127[^/ ]+)/`)
	}
	r, kafka, im, admin := start("50")

	look := r.WaitFor(t, `curl -s '(http[^']+read-time[^']+)'`)
	if got := clitest.Fetch(t, look); !strings.Contains(got, `"unread":3`) {
		t.Errorf("unread at first: %s", got)
	}
	e := try(t, nil, "", "emit", "--brokers", kafka, "--report", "alice", "--peer", "bob")
	if e.Status != ExitOK || e.Stdout != "published 1 event to mark-read\n" {
		t.Fatalf("emit: %+v", e)
	}
	clitest.WaitUntil(t, "the unread count to become 0",
		func() bool { return strings.Contains(clitest.Fetch(t, look), `"unread":0`) })

	bulk := r.WaitFor(t, `printf .* (backfill --brokers .*)\n`)
	b := try(t, nil, "Report_Account,Peer_Account\nalice,bob\n", strings.Fields(bulk)...)
	if b.Status != ExitOK || !strings.Contains(b.Stdout, "published 1 record to ") {
		t.Errorf("%s: %+v", bulk, b)
	}

	e = try(t, nil,
		`{"Report_Account":"carol","Peer_Account":"bob","MsgReadTime":1700000000}`+"\nnonsense\n",
		"emit", "--brokers", kafka)
	if e.Status != ExitRejected || e.Stdout != "published 1 event to mark-read, rejected 1 line\n" {
		t.Errorf("emit of lines: %+v", e)
	}
	carol := "http://" + im + "/sandbox/read-time?report=carol&peer=bob"
	clitest.WaitUntil(t, "the line's event to be applied",
		func() bool { return strings.Contains(clitest.Fetch(t, carol), `"read_time":1700000000`) })

	call := try(t, []string{"MARKREAD_IM_KEY=" + app.LocalKey}, "", "call", "--im-url",
		"http://"+im, "--im-app-id", "1400000000", "--report", "dave", "--peer", "bob")
	if call.Status != ExitOK {
		t.Errorf("call: %+v", call)
	}

	// The suggested call works unchanged, even if another app's key is exported.
	line := r.WaitFor(t, `one call +(env .*)`)
	if words := strings.Fields(line); !strings.HasPrefix(line,
		"env -u MARKREAD_IM_KEY_FILE MARKREAD_IM_KEY="+app.LocalKey+" ") ||
		!slices.Contains(words, "call") {
		t.Errorf("the suggested call: %s", line)
	} else if call := try(t, words[3:4], "",
		words[slices.Index(words, "call"):]...); call.Status != ExitOK {
		t.Errorf("the suggested call: %+v", call)
	}

	// Sample traffic flows, and its messages are read.
	state := func() (s console.State) {
		if err := json.Unmarshal([]byte(clitest.Fetch(t, "http://"+admin+"/api/state")),
			&s); err != nil {
			t.Fatal(err)
		}
		return s
	}
	clitest.WaitUntil(t, "traffic", func() bool { return state().Totals.Applied > 50 })
	if s := state(); !s.Ready || s.Quota.Rate != 200 || len(s.Held) != 0 ||
		len(s.Partitions) != 24 {
		t.Errorf("state: %+v", s)
	}
	for path, want := range map[string]string{"/": `id="boot"`, "/healthz": "ok",
		"/readyz": `{"ready":true,"held":[]}`} {
		if got := clitest.Fetch(t, "http://"+admin+path); !strings.Contains(got, want) {
			t.Errorf("%s: %s", path, got)
		}
	}
	checkMetrics(t, clitest.Fetch(t, "http://"+admin+"/metrics"))

	// The group's console has the worker, and can control it.
	board := "http://" + r.WaitFor(t, `console +http://(127[^/ ]+)/`)
	if page := clitest.Fetch(t, board); !strings.Contains(page, `"scope":"group"`) ||
		!strings.Contains(page, `"allow_replay":`) {
		t.Errorf("the console: %s", page)
	}
	letters, err := http.Post(board+"/api/dead-letters", "application/json",
		strings.NewReader(`{"state":"all"}`))
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(letters.Body)
	letters.Body.Close()
	if err != nil || letters.StatusCode != http.StatusOK ||
		!strings.Contains(string(body), "markread dead-letters ls --brokers "+kafka) {
		t.Errorf("dead letters on the console: %d %s, %v", letters.StatusCode, body, err)
	}
	http.DefaultClient.CloseIdleConnections()
	clitest.WaitUntil(t, "the worker on the console", func() bool {
		return strings.Contains(clitest.Fetch(t, board+"/api/overview"), `"address":"`+admin+
			`"`) && strings.Contains(clitest.Fetch(t, board+"/api/overview"), `"controllable":true`)
	})

	if status := r.Stop(); status != ExitOK ||
		!strings.Contains(r.Stderr.String(), "stopped cleanly") {
		t.Errorf("stop: %d", status)
	}
	if strings.Contains(r.Stderr.String(), `"level":"warn"`) ||
		strings.Contains(r.Stderr.String(), `"level":"error"`) {
		t.Errorf("it complains: %s", &r.Stderr)
	}

	// Committed events are still known after a restart with the same data directory.
	r, _, _, admin = start("0")
	clitest.WaitUntil(t, "committed offsets of the first run", func() bool {
		sum := int64(0)
		for _, p := range state().Partitions {
			if p.Committed != nil {
				sum += *p.Committed
			}
		}
		return sum > 50
	})
	if status := r.Stop(); status != ExitOK {
		t.Errorf("stop: %d", status)
	}
}

// The suggested commands that pause and resume the worker work, also if the admin server has a
// token.
func TestDevOutage(t *testing.T) {
	clitest.NoLeaks(t)
	env := []string{"MARKREAD_ADMIN_TOKEN=" + testToken}
	r := begin(t, env, "dev", "--kafka-addr", "127.0.0.1:0", "--im-addr", "127.0.0.1:0",
		"--admin-addr", "127.0.0.1:0", "--console-addr", "127.0.0.1:0", "--traffic", "0")
	kafka, look := r.WaitFor(t, `Kafka +(127\S+)`),
		r.WaitFor(t, `curl -s '(http[^']+read-time[^']+)'`)
	pause, resume := strings.Fields(r.WaitFor(t, `hold it +.*?(pause .*)`)),
		strings.Fields(r.WaitFor(t, `resume it +.*?(resume .*)`))
	readyz := r.WaitFor(t, `worker +(http://127[^/ ]+/)`) + "readyz"

	if p := try(t, nil, "", pause...); p.Status != ExitFailed ||
		strings.Contains(clitest.Fetch(t, readyz), "paused") {
		t.Errorf("without the token: %+v", p)
	}
	if p := try(t, env, "", pause...); p.Status != ExitOK ||
		!strings.HasPrefix(p.Stdout, "paused since ") ||
		!strings.Contains(clitest.Fetch(t, readyz), `"reason":"paused"`) {
		t.Fatalf("pause: %+v", p)
	}
	if e := try(t, nil, "", "emit", "--brokers", kafka, "--report", "alice", "--peer",
		"bob"); e.Status != ExitOK {
		t.Fatalf("emit: %+v", e)
	}
	if got := clitest.Fetch(t, look); !strings.Contains(got, `"unread":3`) {
		t.Errorf("unread while it is paused: %s", got)
	}
	if p := try(t, env, "", resume...); p.Status != ExitOK ||
		!strings.HasPrefix(p.Stdout, "no longer paused") ||
		!strings.HasSuffix(p.Stdout, "; calls continue\n") {
		t.Fatalf("resume: %+v", p)
	}
	clitest.WaitUntil(t, "the unread count to become 0",
		func() bool { return strings.Contains(clitest.Fetch(t, look), `"unread":0`) })
	if status := r.Stop(); status != ExitOK || strings.Contains(r.Stderr.String(), testToken) {
		t.Errorf("stop: %d\n%s", status, &r.Stderr)
	}
}

// checkMetrics checks that received = outcomes + waiting + returned, and that the names for
// dashboards exist.
func checkMetrics(t *testing.T, text string) {
	t.Helper()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	sum := func(name string) (total float64) {
		for _, m := range families[name].GetMetric() {
			total += m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
		return total
	}
	received, ends := sum("markread_events_received_total"),
		sum("markread_events_total")+sum("markread_backlog_events")+sum(
			"markread_events_returned_total")
	if received == 0 || received != ends {
		t.Errorf("received %v, outcomes and what waits %v", received, ends)
	}
	for _, name := range []string{
		"markread_events_received_total", "markread_events_total", "markread_events_returned_total",
		"markread_backlog_events", "markread_backlog_conversations",
		"markread_calls_total", "markread_call_duration_seconds", "markread_calls_in_flight",
		"markread_event_age_seconds", "markread_quota_limit",
		"markread_partition_lag", "markread_generations_total", "markread_build_info",
		"go_goroutines",
	} {
		if families[name] == nil {
			t.Errorf("no metric %s", name)
		}
	}
}

// A port in use is a clear error that names the flag.
func TestDevWithPortsInUse(t *testing.T) {
	clitest.NoLeaks(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	flags := []string{"--kafka-addr", "--im-addr", "--admin-addr", "--console-addr"}
	for _, flag := range flags {
		args := []string{"dev"}
		for _, f := range flags {
			addr := "127.0.0.1:0"
			if f == flag {
				addr = l.Addr().String()
			}
			args = append(args, f, addr)
		}
		r := try(t, nil, "", args...)
		if r.Status != ExitFailed || r.Stdout != "" || strings.Count(r.Stderr, "\n") != 1 ||
			!strings.Contains(r.Stderr, flag+" "+l.Addr().String()) ||
			!strings.Contains(r.Stderr, "by another program") {
			t.Errorf("%s: %+v", flag, r)
		}
	}
}

// A data directory that can't be used is one line that names its flag, not the flag of the broker's
// address.
func TestDevWithUnusableDataDir(t *testing.T) {
	for name, dir := range map[string]string{
		"below a file": clitest.File(t, "") + "/data",
		"a file":       clitest.File(t, ""),
	} {
		r := try(t, nil, "", "dev", "--kafka-addr", "127.0.0.1:0", "--im-addr", "127.0.0.1:0",
			"--admin-addr", "127.0.0.1:0", "--console-addr", "127.0.0.1:0", "--data-dir", dir)
		if r.Status != ExitFailed || strings.Count(r.Stderr, "\n") != 1 ||
			!strings.Contains(r.Stderr, "--data-dir "+dir+": ") ||
			strings.Contains(r.Stderr, "--kafka-addr") ||
			r.Stdout != "" {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

// A directory belongs to one process. It is free again when that process has ended in any way: no
// lock file remains.
func TestDataDirIsLocked(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "data")
	release, err := app.OpenDataDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	r := try(t, nil, "", "dev", "--kafka-addr", "127.0.0.1:0", "--im-addr", "127.0.0.1:0",
		"--admin-addr", "127.0.0.1:0", "--console-addr", "127.0.0.1:0", "--data-dir", dir)
	if runtime.GOOS == "linux" && (r.Status != ExitFailed || strings.Count(r.Stderr, "\n") != 1 ||
		!strings.Contains(r.Stderr, "--data-dir "+dir) || !strings.Contains(r.Stderr, "another")) {
		t.Errorf("%+v", r)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left in the directory: %v, %v", left, err)
	}
	release()
	release, err = app.OpenDataDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	release()
}

func TestReachable(t *testing.T) {
	for addr, want := range map[string]string{
		"0.0.0.0:1": "127.0.0.1:1", "[::]:1": "127.0.0.1:1", "127.0.0.1:1": "127.0.0.1:1",
		"[::1]:1":     "[::1]:1",
		"192.0.2.1:1": "192.0.2.1:1", "nonsense": "nonsense",
	} {
		if got := console.DialAddr(addr); got != want {
			t.Errorf("%s: %s", addr, got)
		}
	}
}

func TestSandboxCommand(t *testing.T) {
	r := begin(t, nil, "sandbox", "--addr", "127.0.0.1:0", "--app-id", "77", "--rate", "1")
	url := "http://" + r.WaitFor(t, `http://(127[^/ ]+) `)
	call := func(key string) clitest.Result {
		return try(t, []string{"MARKREAD_IM_KEY=" + key}, "", "call", "--im-url", url,
			"--im-app-id", "77", "--report", "a", "--peer", "b")
	}
	if key := r.WaitFor(t, `(?m)^key +(.+)$`); key != app.LocalKey {
		t.Errorf("the key that it plays is shown as %q", key)
	}
	if c := call(app.LocalKey); c.Status != ExitOK {
		t.Errorf("%+v", c)
	}
	if c := call("another"); c.Status != ExitFailed || !strings.Contains(c.Stdout, "70009") {
		t.Errorf("another key: %+v", c)
	}
	if status := r.Stop(); status != ExitOK {
		t.Errorf("stop: %d", status)
	}

	r = begin(t, []string{"MARKREAD_IM_KEY=" + clitest.TestKey}, "sandbox", "--addr", "127.0.0.1:0",
		"--app-id", "77", "--rate", "0")
	url = "http://" + r.WaitFor(t, `http://(127[^/ ]+) `)
	if key := r.WaitFor(t, `(?m)^key +(.+)$`); key != "from MARKREAD_IM_KEY" {
		t.Errorf("where the key comes from is shown as %q", key)
	}
	if c := call(clitest.TestKey); c.Status != ExitOK {
		t.Errorf("%+v", c)
	}
	if strings.Contains(r.Stdout.String()+r.Stderr.String(), clitest.TestKey) {
		t.Error("the key is shown")
	}
	taken := try(t, nil, "", "sandbox", "--addr", strings.TrimPrefix(url, "http://"))
	if taken.Status != ExitFailed || strings.Count(taken.Stderr, "\n") != 1 ||
		!strings.Contains(taken.Stderr, "--addr") {
		t.Errorf("taken port: %+v", taken)
	}
}
