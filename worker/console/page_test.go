package console

import (
	"io/fs"
	"regexp"
	"strings"
	"testing"
	"time"
)

func TestPageShowsTheState(t *testing.T) {
	w := get(t, options(&fake{state: full()}), "/")
	if kind := w.Header().Get("Content-Type"); kind != "text/html; charset=utf-8" {
		t.Errorf("Content-Type: %s", kind)
	}
	for _, want := range []string{
		"v1.2.3", "held: outage", "2026-03-01 04:00:00 UTC", "502 from the gateway", "what to do",
		"the server is silent", "check the way to it",
		"200 calls/s", ">92<", ">88<", "8 of 16", "1,000", "5,000",
		"unknown: no calls during a hold",
		"mark-read", ">10<", ">20<", "3.2s", "retry: the end of its backoff",
	} {
		if !contains(w, want) {
			t.Errorf("the page does not show %q", want)
		}
	}
}

func TestPageOfANewWorker(t *testing.T) {
	w := get(t, options(&fake{}), "/")
	for _, want := range []string{"not ready", "Not ready", "unlimited", "in no generation",
		"Time to drain: unknown", "None are assigned"} {
		if !contains(w, want) {
			t.Errorf("the page does not show %q", want)
		}
	}
	if contains(w, "no events wait") || contains(w, " since 0001") {
		t.Error("the page claims what is not known")
	}
	if contains(w, "%!") || contains(w, "&lt;nil&gt;") {
		t.Errorf("the page shows a raw value: %s", w.Body)
	}
}

// All values of the state are shown as text.
func TestPageEscapes(t *testing.T) {
	for _, text := range []string{`<script>alert(1)</script>`, `"><img src=x onerror=alert(1)>`,
		`</title><script>`, `' onmouseover='x`} {
		s := full()
		s.Version, s.Commit, s.Group.Name, s.Group.Member = text, text, text, &text
		h := &s.Held[0]
		h.Reason, h.Detail, h.Lane, h.Meaning, h.Observed, h.Do = text, text, text, text, text, text
		s.Partitions[0].Topic, s.Partitions[0].OldestUnfinished.WaitsFor = text, text
		s.Partitions[0].Unreadable.Reason, s.Partitions[0].Unreadable.Do = text, text
		body := get(t, options(&fake{state: s}), "/").Body.String()
		if strings.Contains(body, "<script>") || strings.Contains(body, "<img") ||
			strings.Contains(body, text) {
			t.Errorf("%s is shown as markup", text)
		}
	}
}

// A partition that can't be read is shown at the top: which one, since when, at which offset, why,
// what to do, and where the runbook is.
func TestPageShowsUnreadablePartitions(t *testing.T) {
	s := full()
	s.Held = nil
	w := get(t, options(&fake{state: s}), "/")
	for _, want := range []string{
		"<title>markread unreadable partitions", "unreadable: 1 partition<",
		"mark-read, partition 3", "<dd>2026-03-01 04:00:00 UTC, ", "<dd>1200</dd>",
		"<dd>no leader</dd>", "<dd>start the broker</dd>", "#markreadpartitionunreadable",
	} {
		if !contains(w, want) {
			t.Errorf("the page does not show %q", want)
		}
	}
	s.Partitions[0].Unreadable.Offset, s.Partitions[0].OldestUnfinished = nil, nil
	s.Lanes.Live = Lane{OldestSeconds: 90}
	if w := get(t, options(&fake{state: s}), "/"); !contains(w, "<dd>unknown</dd>") ||
		!contains(w, "1m30s</td>") {
		t.Errorf("without an offset, and nothing in memory: %s", w.Body)
	}

	// The permission for a topic is revoked: the page stays usable.
	p := s.Partitions[0]
	for i := range 2000 {
		p.Partition = i
		s.Partitions = append(s.Partitions, p)
	}
	w = get(t, options(&fake{state: s}), "/")
	if n := strings.Count(w.Body.String(), "<h3>"); n != 20 ||
		!contains(w, "unreadable: 2,001 partitions") ||
		strings.Count(w.Body.String(), "names the rest") != 1 {
		t.Errorf("%d of 2,001 partitions have a heading", n)
	}

	s.Partitions = []Partition{{Topic: "mark-read"}}
	if w := get(t, options(&fake{state: s}), "/"); contains(w, "nreadable") {
		t.Errorf("a partition that can be read is called unreadable: %s", w.Body)
	}
}

// A reason may quote a broker: it is one line of bounded length, and nothing in it controls a
// terminal or a page.
func TestReasonsAreSanitized(t *testing.T) {
	s := full()
	u := s.Partitions[0].Unreadable
	u.Reason = "line\n\x1b[31mred\u202egnol\xff" + strings.Repeat("é", 1000)
	body := get(t, options(&fake{state: s}), "/api/state").Body.String()
	if !strings.Contains(body, "\"reason\":\"line  [31mred gnol\uFFFDéé") {
		t.Errorf("%s", body)
	}
	if n := strings.Count(body, "é"); n < 200 || n > 250 || !strings.Contains(body, `é…"`) {
		t.Errorf("%d of 1,000 characters of a reason are shown", n)
	}
	if u.Reason[4] != '\n' || !u.Since.Equal(begin) {
		t.Error("showing a state changes it")
	}
}

// The policy forbids inline scripts and styles and all other hosts: whatever violates it silently
// does not work.
func TestPageObeysItsPolicy(t *testing.T) {
	w := get(t, options(&fake{state: full()}), "/")
	policy := w.Header().Get("Content-Security-Policy")
	for _, want := range []string{"default-src 'none'", "script-src 'self'", "style-src 'self'",
		"base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"} {
		if !strings.Contains(policy, want) {
			t.Errorf("the policy lacks %s", want)
		}
	}
	if strings.Contains(policy, "unsafe") {
		t.Error("the policy allows something unsafe")
	}
	body := w.Body.String()
	for _, bad := range []string{`<script>`, `<style`, ` style=`, ` onclick=`, ` onload=`,
		`javascript:`, `//`} {
		if strings.Contains(body, bad) {
			t.Errorf("the page contains %q", bad)
		}
	}
	for _, asset := range regexp.MustCompile(`(?:src|href)="(/assets/[^"]+)"`).
		FindAllStringSubmatch(body, -1) {
		if got := get(t, options(&fake{}), asset[1]); got.Code != 200 || got.Body.Len() == 0 {
			t.Errorf("%s: %d", asset[1], got.Code)
		}
	}
	all, _ := fs.Glob(files, "assets/*")
	if len(all) != strings.Count(body, `"/assets/`) {
		t.Errorf("the page uses %d assets, there are %d", strings.Count(body, `"/assets/`),
			len(all))
	}
}

func TestEveryWaitIsExplained(t *testing.T) {
	for _, what := range []string{"quota", "call", "retry", "hold", "dead-letter"} {
		if waits(what) == what {
			t.Errorf("waiting for %s is not explained", what)
		}
	}
}

// In a rebalance the worker is still ready but makes no calls, and the page shows since when.
func TestPageOutsideAGeneration(t *testing.T) {
	s := full()
	s.Held, s.Group.Generation, s.Group.OutsideSince = nil, nil,
		time.Date(2026, 3, 1, 5, 6, 7, 0, time.UTC)
	w := get(t, options(&fake{state: s}), "/")
	for _, want := range []string{"Between two generations", "since 2026-03-01 05:06:07 UTC",
		"Time to drain: unknown"} {
		if !contains(w, want) {
			t.Errorf("the page does not show %q", want)
		}
	}
	if w := get(t, options(&fake{state: full()}), "/"); contains(w, "in no generation") {
		t.Error("a member is shown as none")
	}
}

// The remedy is shown once, and a hold of one lane names the lane.
func TestPageShowsHoldDetailsOnce(t *testing.T) {
	s := full()
	s.Held[0].Detail, s.Held[0].Lane = "lane backfill: another app's key", "backfill"
	s.Held[0].Observed, s.Held[0].Do = "another app's key", "check the key"
	w := get(t, options(&fake{state: s}), "/")
	if !contains(w, "<dd>check the key</dd>") || !contains(w, "key</dd>") ||
		contains(w, "lane backfill: ") || !contains(w, "(lane backfill)") {
		t.Errorf("%s", w.Body)
	}
}

// A build without version control shows no commit.
func TestPageWithoutCommit(t *testing.T) {
	s := full()
	s.Commit = "unknown"
	if w := get(t, options(&fake{state: s}), "/"); contains(w, "unknown)") || !contains(w, "v1.2.3") {
		t.Errorf("%s", w.Body)
	}
}

// A throttled hold has no probes: the page shows when it ends. A probe that is due is not shown as
// a time in the past.
func TestPageShowsWhenTheNextProbeIs(t *testing.T) {
	for name, c := range map[string]struct {
		reason string
		at     time.Time
		want   string
	}{
		"probe later":  {"outage", time.Now().Add(time.Hour), "<dt>next probe</dt><dd>20"},
		"probe is due": {"outage", time.Now().Add(-time.Hour), "<dt>next probe</dt><dd>in flight"},
		"throttled":    {"throttled", time.Now().Add(time.Hour), "<dt>ends</dt><dd>20"},
	} {
		s := full()
		s.Held[0].Reason, s.Held[0].NextProbeAt = c.reason, &c.at
		if w := get(t, options(&fake{state: s}), "/"); !contains(w, c.want) {
			t.Errorf("%s: %s", name, w.Body)
		}
	}
}

func TestDrain(t *testing.T) {
	s := State{Group: Group{Generation: new(int32(1))}, Lanes: Lanes{Live: Lane{Conversations: 100},
		Backfill: Lane{Conversations: 300}}, Quota: Quota{Rate: 200, Limit: new(100)}}
	if got := (view{State: s}).Drain(); got != "about 4.0s" {
		t.Errorf("400 conversations at 100/s: %s", got)
	}
	s.Quota.Limit = new(0)
	if got := (view{State: s}).Drain(); got != "unknown: no limit is set" {
		t.Errorf("limit 0: %s", got)
	}
}

// A held lane does not keep the other lane from draining.
func TestDrainWithAHeldLane(t *testing.T) {
	s := State{Group: Group{Generation: new(int32(1))}, Lanes: Lanes{Live: Lane{Conversations: 100},
		Backfill: Lane{Conversations: 300}}, Quota: Quota{Limit: new(100)}}
	for lane, want := range map[string]string{
		"live":     "about 3.0s, without the held lane",
		"backfill": "about 1.0s, without the held lane",
		"":         "unknown: no calls during a hold",
	} {
		s.Held = []Hold{{Reason: "rejections", Lane: lane}}
		if got := (view{State: s}).Drain(); got != want {
			t.Errorf("lane %q: %s, want %s", lane, got, want)
		}
	}
	s.Held = []Hold{{Lane: "live"}, {Lane: "backfill"}}
	if got := (view{State: s}).Drain(); got != "unknown: no calls during a hold" {
		t.Errorf("both lanes: %s", got)
	}
}

// It is unknown how long unreadable partitions take to drain.
func TestDrainOfUnreadablePartitions(t *testing.T) {
	s := State{Group: Group{Generation: new(int32(1))}, Quota: Quota{Limit: new(100)},
		Partitions: []Partition{{Unreadable: &Unreadable{}}}}
	if got := (view{State: s}).Drain(); got != "unknown: the unreadable events are in Kafka" {
		t.Errorf("nothing in memory: %s", got)
	}
	s.Lanes.Live.Conversations = 100
	if got := (view{State: s}).Drain(); got != "about 1.0s, without the unreadable partitions" {
		t.Errorf("100 in memory: %s", got)
	}
}

// The page shows the commands as they work for its reader.
func TestPageNamesTheCommands(t *testing.T) {
	for name, flag := range map[string]string{
		"localhost:8780": "", "127.0.0.1:8780": "",
		"localhost:9999": " --admin-url http://localhost:9999",
		"[::1]:8780":     " --admin-url http://[::1]:8780",
	} {
		w := get(t, options(&fake{}), "/", host(name))
		if !contains(w, "<code>markread pause"+flag+"</code>") ||
			!contains(w, "<code>markread resume"+flag+"</code>") {
			t.Errorf("at %s: %s", name, w.Body)
		}
	}
	o := options(&fake{})
	o.Token = "abc"
	if w := get(t, o, "/", host("evil.example\"><b>"), header("Authorization",
		"Bearer abc")); contains(w, "evil") || !contains(w, "<code>markread pause</code>") {
		t.Errorf("another name: %s", w.Body)
	}
}

func TestPageShowsThatTheLimitHasShrunk(t *testing.T) {
	s := full()
	if w := get(t, options(&fake{state: s}), "/"); !contains(w, "grows back") {
		t.Errorf("92 of 100: %s", w.Body)
	}
	s.Quota.Limit = s.Quota.Share
	if w := get(t, options(&fake{state: s}), "/"); contains(w, "grows back") {
		t.Error("100 of 100 has not shrunk")
	}
}

func TestAt(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	v := view{Now: now}
	for want, at := range map[string]time.Time{
		"2026-01-02 03:04:05 UTC, now":        now,
		"2026-01-02 03:03:55 UTC, 10s ago":    now.Add(-10 * time.Second),
		"2026-01-02 03:04:20 UTC, in 15s":     now.Add(15 * time.Second),
		"2026-01-01 03:04:05 UTC, 24h00m ago": now.Add(-24 * time.Hour),
		"2026-01-02 00:59:05 UTC, 2h05m ago":  now.Add(-2*time.Hour - 5*time.Minute),
	} {
		if got := v.At(at); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func TestNumbers(t *testing.T) {
	for want, n := range map[string]any{
		"0": 0, "999": 999, "1,000": int64(1000), "-1,000": -1000, "-100": -100,
		"12,345,678": new(int64(12345678)), "12": new(int32(12)), "1,234": new(1234),
	} {
		if got := count(n); got != want {
			t.Errorf("count: %s, want %s", got, want)
		}
	}
	for _, none := range []any{(*int)(nil), (*int32)(nil), (*int64)(nil)} {
		if got := count(none); got != "–" {
			t.Errorf("count(nil): %s", got)
		}
	}
	for want, d := range map[string]time.Duration{
		"0.0s": 0, "0.1s": 96 * time.Millisecond, "3.2s": 3200 * time.Millisecond,
		"59s": 59999 * time.Millisecond, "1m00s": time.Minute, "4m12s": 252 * time.Second,
		"2h05m": 125 * time.Minute, "24h01m": 24*time.Hour + time.Minute, "3d04h": 76 * time.Hour,
	} {
		if got := (view{Now: begin.Add(d), State: State{StartedAt: begin}}).Up(); got != want {
			t.Errorf("Up: %s, want %s", got, want)
		}
	}
}
