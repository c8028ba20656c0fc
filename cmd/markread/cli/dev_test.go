package cli

import (
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"markread/cmd/markread/app"
	"markread/worker/console"
)

// Everything on one machine: what the newcomer sees, and that what the summary tells to try does what it says.
func TestDev(t *testing.T) {
	noLeaks(t)
	dir := t.TempDir()
	start := func(traffic string) (*running, string, string, string) {
		r := begin(t, nil, "dev", "--kafka-addr", "127.0.0.1:0", "--im-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0", "--data-dir", dir, "--traffic", traffic)
		return r, r.found(t, `Kafka +(127\S+)`), r.found(t, `IM server +http://(127[^/ ]+)/`), r.found(t, `console +http://(127[^/ ]+)/`)
	}
	r, kafka, im, admin := start("50")

	look := r.found(t, `curl -s '(http[^']+read-time[^']+)'`)
	if got := fetch(t, look); !strings.Contains(got, `"unread":3`) {
		t.Errorf("unread at first: %s", got)
	}
	e := try(t, nil, "", "emit", "--brokers", kafka, "--report", "alice", "--peer", "bob")
	if e.status != ExitOK || e.stdout != "published 1 event to mark-read\n" {
		t.Fatalf("emit: %+v", e)
	}
	until(t, "the unread count to become 0", func() bool { return strings.Contains(fetch(t, look), `"unread":0`) })

	bulk := r.found(t, `printf .* (backfill --brokers .*)\n`)
	b := try(t, nil, "Report_Account,Peer_Account\nalice,bob\n", strings.Fields(bulk)...)
	if b.status != ExitOK || !strings.Contains(b.stdout, "published 1 record to ") {
		t.Errorf("%s: %+v", bulk, b)
	}

	e = try(t, nil, "{\"Report_Account\":\"carol\",\"Peer_Account\":\"bob\",\"MsgReadTime\":1700000000}\nnonsense\n", "emit", "--brokers", kafka)
	if e.status != exitRejected || e.stdout != "published 1 event to mark-read, rejected 1 line\n" {
		t.Errorf("emit of lines: %+v", e)
	}
	carol := "http://" + im + "/sandbox/read-time?report=carol&peer=bob"
	until(t, "the line's event to be applied", func() bool { return strings.Contains(fetch(t, carol), `"read_time":1700000000`) })

	call := try(t, []string{"MARKREAD_IM_KEY=" + app.LocalKey}, "", "call", "--im-url", "http://"+im, "--im-app-id", "1400000000", "--report", "dave", "--peer", "bob")
	if call.status != ExitOK {
		t.Errorf("call: %+v", call)
	}

	// The suggested call works as it is, also where another app's key is exported.
	line := r.found(t, `one call +(env .*)`)
	if words := strings.Fields(line); !strings.HasPrefix(line, "env -u MARKREAD_IM_KEY_FILE MARKREAD_IM_KEY="+app.LocalKey+" ") || !slices.Contains(words, "call") {
		t.Errorf("the suggested call: %s", line)
	} else if call := try(t, words[3:4], "", words[slices.Index(words, "call"):]...); call.status != ExitOK {
		t.Errorf("the suggested call: %+v", call)
	}

	// The sample traffic flows and its messages get read.
	state := func() (s console.State) {
		if err := json.Unmarshal([]byte(fetch(t, "http://"+admin+"/api/state")), &s); err != nil {
			t.Fatal(err)
		}
		return s
	}
	until(t, "traffic", func() bool { return state().Totals.Applied > 50 })
	if s := state(); !s.Ready || s.Quota.Rate != 200 || len(s.Held) != 0 || len(s.Partitions) != 24 {
		t.Errorf("state: %+v", s)
	}
	for path, want := range map[string]string{"/": "<h1>markread</h1>", "/healthz": "ok", "/readyz": `{"ready":true,"held":[]}`} {
		if got := fetch(t, "http://"+admin+path); !strings.Contains(got, want) {
			t.Errorf("%s: %s", path, got)
		}
	}
	checkMetrics(t, fetch(t, "http://"+admin+"/metrics"))

	if status := r.stopped(); status != ExitOK || !strings.Contains(r.stderr.String(), "stopped cleanly") {
		t.Errorf("stop: %d", status)
	}
	if strings.Contains(r.stderr.String(), `"level":"warn"`) || strings.Contains(r.stderr.String(), `"level":"error"`) {
		t.Errorf("it complains: %s", &r.stderr)
	}

	// What was committed is known after a restart from the data directory.
	r, _, _, admin = start("0")
	until(t, "committed offsets of the first run", func() bool {
		sum := int64(0)
		for _, p := range state().Partitions {
			if p.Committed != nil {
				sum += *p.Committed
			}
		}
		return sum > 50
	})
	if status := r.stopped(); status != ExitOK {
		t.Errorf("stop: %d", status)
	}
}

// The commands that hold the worker and let it go on work as the summary tells them, also when the admin server has a token.
func TestDevIsHeld(t *testing.T) {
	noLeaks(t)
	env := []string{"MARKREAD_ADMIN_TOKEN=" + testToken}
	r := begin(t, env, "dev", "--kafka-addr", "127.0.0.1:0", "--im-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0", "--traffic", "0")
	kafka, look := r.found(t, `Kafka +(127\S+)`), r.found(t, `curl -s '(http[^']+read-time[^']+)'`)
	pause, resume := strings.Fields(r.found(t, `hold it +.*?(pause .*)`)), strings.Fields(r.found(t, `go on +.*?(resume .*)`))
	readyz := r.found(t, `console +(http://127[^/ ]+/)`) + "readyz"

	if p := try(t, nil, "", pause...); p.status != ExitFailed || strings.Contains(fetch(t, readyz), "paused") {
		t.Errorf("without the token: %+v", p)
	}
	if p := try(t, env, "", pause...); p.status != ExitOK || !strings.HasPrefix(p.stdout, "paused since ") || !strings.Contains(fetch(t, readyz), `"reason":"paused"`) {
		t.Fatalf("pause: %+v", p)
	}
	if e := try(t, nil, "", "emit", "--brokers", kafka, "--report", "alice", "--peer", "bob"); e.status != ExitOK {
		t.Fatalf("emit: %+v", e)
	}
	if got := fetch(t, look); !strings.Contains(got, `"unread":3`) {
		t.Errorf("unread while it is paused: %s", got)
	}
	if p := try(t, env, "", resume...); p.status != ExitOK || !strings.HasPrefix(p.stdout, "no longer paused") || !strings.HasSuffix(p.stdout, "; calls go on\n") {
		t.Fatalf("resume: %+v", p)
	}
	until(t, "the unread count to become 0", func() bool { return strings.Contains(fetch(t, look), `"unread":0`) })
	if status := r.stopped(); status != ExitOK || strings.Contains(r.stderr.String(), testToken) {
		t.Errorf("stop: %d\n%s", status, &r.stderr)
	}
}

// checkMetrics holds that received = outcomes + waiting + returned, and the names that dashboards use.
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
	received, ends := sum("markread_events_received_total"), sum("markread_events_total")+sum("markread_backlog_events")+sum("markread_events_returned_total")
	if received == 0 || received != ends {
		t.Errorf("received %v, outcomes and what waits %v", received, ends)
	}
	for _, name := range []string{
		"markread_events_received_total", "markread_events_total", "markread_events_returned_total", "markread_backlog_events", "markread_backlog_conversations",
		"markread_calls_total", "markread_call_duration_seconds", "markread_calls_in_flight", "markread_event_age_seconds", "markread_quota_limit",
		"markread_partition_lag", "markread_generations_total", "markread_build_info", "go_goroutines",
	} {
		if families[name] == nil {
			t.Errorf("no metric %s", name)
		}
	}
}

// A port that is taken is a clear message that names the flag to choose another one.
func TestDevWithTakenPorts(t *testing.T) {
	noLeaks(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, flag := range []string{"--kafka-addr", "--im-addr", "--admin-addr"} {
		args := []string{"dev"}
		for _, f := range []string{"--kafka-addr", "--im-addr", "--admin-addr"} {
			addr := "127.0.0.1:0"
			if f == flag {
				addr = l.Addr().String()
			}
			args = append(args, f, addr)
		}
		r := try(t, nil, "", args...)
		if r.status != ExitFailed || r.stdout != "" || strings.Count(r.stderr, "\n") != 1 || !strings.Contains(r.stderr, flag+" "+l.Addr().String()) || !strings.Contains(r.stderr, "taken") {
			t.Errorf("%s: %+v", flag, r)
		}
	}
}

// A data directory that can't be used is one line that names the flag, not that of the broker's address.
func TestDevWithADataDirThatCantBeUsed(t *testing.T) {
	for name, dir := range map[string]string{
		"below a file": file(t, "") + "/data",
		"a file":       file(t, ""),
	} {
		r := try(t, nil, "", "dev", "--kafka-addr", "127.0.0.1:0", "--im-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0", "--data-dir", dir)
		if r.status != ExitFailed || strings.Count(r.stderr, "\n") != 1 || !strings.Contains(r.stderr, "--data-dir "+dir+": ") || strings.Contains(r.stderr, "--kafka-addr") ||
			r.stdout != "" {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

// One directory is one process's. It is free again when that process has ended, however it ended: no file says otherwise.
func TestDataDirIsLocked(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "data")
	release, err := app.OpenDataDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	r := try(t, nil, "", "dev", "--kafka-addr", "127.0.0.1:0", "--im-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0", "--data-dir", dir)
	if runtime.GOOS == "linux" && (r.status != ExitFailed || strings.Count(r.stderr, "\n") != 1 || !strings.Contains(r.stderr, "--data-dir "+dir) || !strings.Contains(r.stderr, "another")) {
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
		"0.0.0.0:1": "127.0.0.1:1", "[::]:1": "127.0.0.1:1", "127.0.0.1:1": "127.0.0.1:1", "[::1]:1": "[::1]:1", "192.0.2.1:1": "192.0.2.1:1", "nonsense": "nonsense",
	} {
		if got := console.Reachable(addr); got != want {
			t.Errorf("%s: %s", addr, got)
		}
	}
}

func TestSandboxCommand(t *testing.T) {
	r := begin(t, nil, "sandbox", "--addr", "127.0.0.1:0", "--app-id", "77", "--rate", "1")
	url := "http://" + r.found(t, `http://(127[^/ ]+) `)
	call := func(key string) result {
		return try(t, []string{"MARKREAD_IM_KEY=" + key}, "", "call", "--im-url", url, "--im-app-id", "77", "--report", "a", "--peer", "b")
	}
	if key := r.found(t, `(?m)^key +(.+)$`); key != app.LocalKey {
		t.Errorf("the key that it plays is shown as %q", key)
	}
	if c := call(app.LocalKey); c.status != ExitOK {
		t.Errorf("%+v", c)
	}
	if c := call("another"); c.status != ExitFailed || !strings.Contains(c.stdout, "70009") {
		t.Errorf("another key: %+v", c)
	}
	if status := r.stopped(); status != ExitOK {
		t.Errorf("stop: %d", status)
	}

	r = begin(t, []string{"MARKREAD_IM_KEY=" + testKey}, "sandbox", "--addr", "127.0.0.1:0", "--app-id", "77", "--rate", "0")
	url = "http://" + r.found(t, `http://(127[^/ ]+) `)
	if key := r.found(t, `(?m)^key +(.+)$`); key != "from MARKREAD_IM_KEY" {
		t.Errorf("where the key comes from is shown as %q", key)
	}
	if c := call(testKey); c.status != ExitOK {
		t.Errorf("%+v", c)
	}
	if strings.Contains(r.stdout.String()+r.stderr.String(), testKey) {
		t.Error("the key is shown")
	}
	taken := try(t, nil, "", "sandbox", "--addr", strings.TrimPrefix(url, "http://"))
	if taken.status != ExitFailed || strings.Count(taken.stderr, "\n") != 1 || !strings.Contains(taken.stderr, "--addr") {
		t.Errorf("taken port: %+v", taken)
	}
}
