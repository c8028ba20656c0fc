package console

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func contains(w *httptest.ResponseRecorder, text string) bool {
	return strings.Contains(w.Body.String(), text)
}

var begin = time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.FixedZone("", 8*3600))

// full is a state without absent values.
func full() State {
	return State{
		Version: "v1.2.3", Commit: "abcdef", StartedAt: begin, Ready: true,
		Group: Group{Name: "markread", Member: new("markread-1"), Generation: new(int32(12)),
			Assigned: 8, Partitions: 16},
		Held: []Hold{{Reason: "outage", Since: begin, Detail: "502 from the gateway",
			NextProbeAt: new(begin.Add(time.Second)), Do: "check the way to it"}},
		Quota: Quota{Rate: 200, Share: new(100), Limit: new(92), InFlight: 3, Cooling: new(88)},
		Lanes: Lanes{
			Live:     Lane{Conversations: 1, Events: 2, OldestSeconds: 0.5},
			Backfill: Lane{Conversations: 1000, Events: 5000, OldestSeconds: 60},
		},
		Totals: Totals{Received: 100, Applied: 1, Collapsed: 2, Superseded: 3, DeadLettered: 4,
			Returned: 5, Calls: 6},
		Partitions: []Partition{{Topic: "mark-read", Partition: 3, Committed: new(int64(10)),
			HighWatermark: new(int64(20)), Lag: new(int64(10)),
			OldestUnfinished: &Unfinished{Offset: 10, AgeSeconds: 3.2, Attempts: 2,
				WaitsFor: "retry"},
			Unreadable: &Unreadable{Since: begin, Offset: new(int64(1200)),
				Reason: "no leader"}}},
	}
}

func TestStateMatchesContract(t *testing.T) {
	const want = `{"version":"v1.2.3","commit":"abcdef","started_at":"2026-03-01T04:00:00.123Z",` +
		`"ready":true,` +
		`"group":{"name":"markread","member":"markread-1","generation":12,"assigned":8,` +
		`"partitions":16},` +
		`"held":[{"reason":"outage","since":"2026-03-01T04:00:00.123Z","detail":"502 from the ` +
		`gateway","do":"check the way to it","next_probe_at":"2026-03-01T04:00:01.123Z"}],` +
		`"quota":{"rate":200,"share":100,"limit":92,"in_flight":3,"cooling":88},` +
		`"lanes":{"live":{"conversations":1,"events":2,"oldest_seconds":0.5},` +
		`"backfill":{"conversations":1000,"events":5000,"oldest_seconds":60}},` +
		`"totals":{"received":100,"applied":1,"collapsed":2,"superseded":3,"dead_lettered":4,` +
		`"returned":5,"calls":6},` +
		`"partitions":[{"topic":"mark-read","partition":3,"committed":10,"high_watermark":20,` +
		`"lag":10,` +
		`"oldest_unfinished":{"offset":10,"age_seconds":3.2,"attempts":2,"waits_for":"retry"},` +
		`"unreadable":{"since":"2026-03-01T04:00:00.123Z","offset":1200,"reason":"no leader"}}]}` +
		"\n"
	w := get(t, options(&fake{state: full()}), "/api/state")
	if w.Body.String() != want {
		t.Errorf("got  %swant %s", w.Body, want)
	}
	if kind := w.Header().Get("Content-Type"); kind != "application/json; charset=utf-8" {
		t.Errorf("Content-Type: %s", kind)
	}
}

func TestAbsentIsNull(t *testing.T) {
	const want = `{"version":"","commit":"","started_at":"2026-03-01T04:00:00Z","ready":false,` +
		`"group":{"name":"g","member":null,"generation":null,"assigned":0,"partitions":0},` +
		`"held":[{"reason":"paused","since":"2026-03-01T04:00:00Z","detail":"","do":"",` +
		`"next_probe_at":null}],` +
		`"quota":{"rate":0,"share":null,"limit":null,"in_flight":0,"cooling":null},` +
		`"lanes":{"live":{"conversations":0,"events":0,"oldest_seconds":0},` +
		`"backfill":{"conversations":0,"events":0,"oldest_seconds":0}},` +
		`"totals":{"received":0,"applied":0,"collapsed":0,"superseded":0,"dead_lettered":0,` +
		`"returned":0,"calls":0},` +
		`"partitions":[{"topic":"t","partition":0,"committed":null,"high_watermark":null,` +
		`"lag":null,"oldest_unfinished":null,"unreadable":null}]}` + "\n"
	at := begin.Truncate(time.Second)
	s := State{StartedAt: at, Group: Group{Name: "g"}, Held: []Hold{{Reason: "paused", Since: at}},
		Partitions: []Partition{{Topic: "t"}}}
	if w := get(t, options(&fake{state: s}), "/api/state"); w.Body.String() != want {
		t.Errorf("got  %swant %s", w.Body, want)
	}
	w := get(t, options(&fake{}), "/api/state")
	if !contains(w, `"held":[]`) || !contains(w, `"partitions":[]`) {
		t.Errorf("empty lists are not shown as []: %s", w.Body)
	}
}

func TestReadyz(t *testing.T) {
	cases := []struct {
		name   string
		source *fake
		status int
		body   string
	}{
		{"not a member", &fake{}, http.StatusServiceUnavailable, `{"ready":false,"held":[]}`},
		{"member", &fake{ready: true}, http.StatusOK, `{"ready":true,"held":[]}`},
		{"held is ready: a rollout must be able to bring the fix",
			&fake{ready: true, state: full()}, http.StatusOK,
			`{"ready":true,"held":[{"reason":"outage","since":"2026-03-01T04:00:00.123Z"}]}`},
	}
	for _, c := range cases {
		w := get(t, options(c.source), "/readyz")
		if w.Code != c.status || strings.TrimSpace(w.Body.String()) != c.body {
			t.Errorf("%s: %d %s", c.name, w.Code, w.Body)
		}
		if !json.Valid(w.Body.Bytes()) {
			t.Errorf("%s: no JSON", c.name)
		}
	}
}

func TestHealthz(t *testing.T) {
	if w := get(t, options(&fake{}), "/healthz"); w.Code != http.StatusOK ||
		w.Body.String() != "ok\n" {
		t.Errorf("healthy: %d %s", w.Code, w.Body)
	}
	w := get(t, options(&fake{unhealthy: errors.New("dispatch: no turn for 61 s")}), "/healthz")
	if w.Code != http.StatusServiceUnavailable || !contains(w, "dispatch: no turn for 61 s") {
		t.Errorf("unhealthy: %d %s", w.Code, w.Body)
	}
}

func TestMetrics(t *testing.T) {
	w := get(t, options(&fake{}), "/metrics", header("Accept-Encoding", "gzip"))
	if w.Header().Get("Content-Encoding") != "" {
		t.Errorf("/metrics is compressed, which costs the worker more than it saves: %v", w.Header())
	}
	if w := get(t, options(&fake{}), "/metrics"); w.Code != http.StatusOK ||
		!contains(w, "markread_test_total 7") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
