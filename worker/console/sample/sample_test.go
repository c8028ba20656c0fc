package sample

import (
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode"
)

var at = time.Unix(1_800_000_000, 0).UTC()

func parse(t *testing.T, text string) *Member {
	t.Helper()
	m, err := Parse(at, strings.NewReader(build+text))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

const build = `markread_build_info{version="v1",commit="abc",go="go1.26"} 1
`

func TestParse(t *testing.T) {
	m := parse(t, `# TYPE markread_calls_total counter
process_start_time_seconds 1.7999999005e+09
markread_ready 1
markread_quota_rate 200
markread_quota_share 100
markread_quota_limit 85
markread_last_success_timestamp_seconds 1.799999999e+09
markread_calls_total{result="ok",code="0"} 10
markread_calls_total{result="transient",code="60008"} 0
markread_calls_total{result="transient",code="timeout"} 3
markread_calls_total{result="transient",code="http_502"} 4
markread_calls_total{result="of its own",code="http_502"} 4
markread_dead_letters_total{class="rejected",code="90003"} 2
markread_dead_letters_total{class="invalid",code=""} 0
markread_commit_failures_total{code="27"} 1
markread_commit_failures_total{code="network"} 2
markread_events_lost_total{topic="t"} 9
markread_topic_info{topic="t",lane="live"} 1
markread_events_received_total{lane="live"} 20
markread_events_total{lane="live",outcome="superseded"} 5
markread_fetching_paused{lane="live"} 1
markread_held{reason="outage"} 1
markread_held{reason="quota"} 0
markread_held{reason="paused"} 1
markread_hold_since_timestamp_seconds{reason="outage",lane="live"} 1.7999999995e+09
markread_partition_lag{topic="t",partition="10"} 4
markread_partition_unreadable{topic="t",partition="10"} 1
markread_partition_oldest_unfinished_seconds{topic="t",partition="9"} 1.5
markread_retention_left_seconds{topic="t",partition="9"} +Inf
markread_setting_info{name="rate",value="200"} 1
`)
	if m.Version != "v1" || m.Commit != "abc" || !m.Ready || !m.Started.Equal(
		at.Add(-99500*time.Millisecond)) || !m.LastSuccess.Equal(at.Add(-time.Second)) {
		t.Errorf("the process: %+v", m)
	}
	if m.Rate != 200 || m.Share != 100 || m.Limit != 85 || !math.IsNaN(m.MaxPending) {
		t.Errorf("the quota: %+v", m)
	}
	if m.Calls[0] != 10 || m.Calls[1] != 7 || !math.IsNaN(m.Calls[2]) || m.CommitFailures != 3 {
		t.Errorf("calls: %v, %v", m.Calls, m.CommitFailures)
	}
	for what, pair := range map[string][2]any{
		"codes": {m.CallCodes, map[Code]float64{{"ok", "0"}: 10, {"transient", "timeout"}: 3,
			{"transient", "http_502"}: 4}},
		"letters":  {m.Letters, map[Code]float64{{"rejected", "90003"}: 2}},
		"lost":     {m.Lost, map[string]float64{"t": 9}},
		"settings": {m.Settings, map[string]string{"rate": "200"}},
		"held": {m.Held, []Held{{"paused", "all", time.Time{}},
			{"outage", "live", at.Add(-500 * time.Millisecond)}}},
	} {
		if !reflect.DeepEqual(pair[0], pair[1]) {
			t.Errorf("%s: %v, want %v", what, pair[0], pair[1])
		}
	}
	if l := m.Lanes[0]; l.Topic != "t" || l.Received != 20 || l.Finished[2] != 5 || !l.Paused ||
		!math.IsNaN(l.Finished[0]) || !math.IsNaN(l.Events) {
		t.Errorf("live: %+v", l)
	}
	if l := m.Lanes[1]; l.Topic != "" || l.Paused || !math.IsNaN(l.Received) {
		t.Errorf("backfill: %+v", l)
	}
	if got := fmt.Sprint(m.Partitions); got != "[{t 9 NaN 1.5 false +Inf} {t 10 4 NaN true NaN}]" {
		t.Errorf("partitions: %s", got)
	}
}

// The bounds of buckets are numbers, however they are written.
func TestBuckets(t *testing.T) {
	text := `# TYPE markread_event_age_seconds histogram
`
	for i, bound := range AgeBounds {
		name := fmt.Sprint(bound)
		if i%2 == 0 && bound >= 1 {
			name = fmt.Sprintf("%.1f", bound)
		}
		text += fmt.Sprintf("markread_event_age_seconds_bucket{lane=\"live\",le=%q} %d\n", name,
			i+1)
	}
	rest := `markread_event_age_seconds_bucket{lane="live",le="+Inf"} 50
markread_event_age_seconds_sum{lane="live"} 1
markread_event_age_seconds_count{lane="live"} 50
`
	var want Ages
	for i := range want {
		want[i] = 1
	}
	want[len(AgeBounds)] = 50 - float64(len(AgeBounds))
	if got := parse(t, text+rest).Lanes[0].Ages; got != want {
		t.Errorf("%v, want %v", got, want)
	}
	for what, wrong := range map[string]string{
		"a bucket is missing":  strings.Replace(text, `le="5`, `le="7`, 1) + rest,
		"buckets decrease":     strings.Replace(text, `"} 9`, `"} 900`, 1) + rest,
		"more than all events": strings.ReplaceAll(text+rest, "} 50", "} 5"),
	} {
		if got := parse(t, wrong).Lanes[0].Ages; !math.IsNaN(got[0]) {
			t.Errorf("%s: %v", what, got)
		}
	}
}

// The largest age that was seen bounds what a wide bucket claims, but no small age.
func TestQuantileUpTo(t *testing.T) {
	var long, short Ages
	long[12], short[6] = 100, 100 // 60 s to 300 s, 0.5 s to 1 s
	for _, c := range []struct {
		ages         *Ages
		oldest, want float64
	}{{&long, 81, 81}, {&long, 2, 60}, {&long, 1000, 297.6}, {&long, math.NaN(), 297.6},
		{&short, .2, .995}, {&Ages{}, 5, math.NaN()}} {
		if v := c.ages.QuantileUpTo(.99, c.oldest); math.Abs(v-c.want) > 1e-9 &&
			!(math.IsNaN(v) && math.IsNaN(c.want)) {
			t.Errorf("%v of at most %v: %v", c.want, c.oldest, v)
		}
	}
}

func TestQuantile(t *testing.T) {
	ages := func(pairs ...int) *Ages {
		var a Ages
		for i := 0; i < len(pairs); i += 2 {
			a[pairs[i]] = float64(pairs[i+1])
		}
		return &a
	}
	for _, c := range []struct {
		q    float64
		ages *Ages
		want float64
	}{
		{.5, ages(), math.NaN()},
		{.5, ages(0, 10), .005},                      // the first bucket begins at 0
		{.5, ages(3, 10), .075},                      // 0.05 to 0.1
		{.5, ages(3, 5, 8, 5), .1},                   // on the border
		{.99, ages(3, 50, 8, 50), 4.95},              // 2.5 to 5
		{.99, ages(3, 1, len(AgeBounds), 99), 86400}, // beyond the largest bound
	} {
		if got := c.ages.Quantile(c.q); math.Abs(got-c.want) > 1e-9 ||
			math.IsNaN(got) != math.IsNaN(c.want) {
			t.Errorf("quantile %v of %v: %v, want %v", c.q, c.ages, got, c.want)
		}
	}
}

// What others write is bounded, printable, and never a number that makes no sense.
func TestHostile(t *testing.T) {
	for _, v := range []string{"NaN", "+Inf", "-Inf", "-1", "1e300"} {
		m := parse(t, strings.NewReplacer("V", v).Replace(`markread_quota_limit V
markread_calls_total{result="ok",code="0"} V
process_start_time_seconds V
markread_hold_since_timestamp_seconds{reason="outage",lane="all"} V
markread_partition_oldest_unfinished_seconds{topic="t",partition="9"} V
`))
		if !math.IsNaN(m.Limit) || !math.IsNaN(m.Calls[0]) || len(m.CallCodes) > 0 ||
			!m.Started.IsZero() || len(m.Held) > 0 || !math.IsNaN(m.Partitions[0].Oldest) {
			t.Errorf("%s: %+v", v, m)
		}
	}
	var text strings.Builder
	for i := range MaxPartitions + 2000 {
		fmt.Fprintf(&text, "markread_partition_lag{topic=\"t\",partition=\"%d\"} 1\n", i)
	}
	for _, number := range []string{"-1", "x", "9999999999999", ""} {
		fmt.Fprintf(&text, "markread_partition_lag{topic=\"u\",partition=%q} 1\n", number)
	}
	for i := range 1000 {
		fmt.Fprintf(&text, "markread_calls_total{result=\"held\",code=\"%d\"} 1\n", i)
		fmt.Fprintf(&text, "markread_dead_letters_total{class=\"c\",code=\"%d\"} 1\n", i)
		fmt.Fprintf(&text, "markread_events_lost_total{topic=\"%d\"} 1\n", i)
		fmt.Fprintf(&text, "markread_held{reason=\"%d\"} 1\n", i)
		fmt.Fprintf(&text, "markread_setting_info{name=\"%d\",value=\"v\"} 1\n", i)
	}
	m := parse(t, text.String())
	wantBounded(t, m)
	if len(m.Partitions) != MaxPartitions || m.Calls[3] != 1000 {
		t.Errorf("%d partitions, %v calls", len(m.Partitions), m.Calls)
	}
	long := strings.Repeat("ü", 1000)
	m = parse(t, fmt.Sprintf("markread_topic_info{topic=\"%s\",lane=\"live\"} 1\n"+
		"markread_setting_info{name=\"\u202e\x1b[2J\",value=\"a\\nb\"} 1\n", long))
	if n := len(m.Lanes[0].Topic); n > maxTopic || n < maxTopic-1 || m.Settings["??[2J"] != "a b" {
		t.Errorf("a topic of %d bytes, settings %q", n, m.Settings)
	}
}

func TestNotAWorker(t *testing.T) {
	for _, text := range []string{"", "<html>", "go_goroutines 3\n", "\x00", "a{\n",
		strings.Repeat("# padding of a text that does not end\n", MaxText/30)} {
		if m, err := Parse(at, strings.NewReader(text)); err == nil ||
			!strings.Contains(err.Error(), "check that") {
			t.Errorf("%.20q: %v, %v", text, m, err)
		}
	}
}

func wantBounded(t *testing.T, m *Member) {
	if len(m.Partitions) > MaxPartitions || len(m.CallCodes) > maxCodes ||
		len(m.Letters) > maxCodes || len(m.Lost) > maxTopics || len(m.Held) > maxHeld ||
		len(m.Settings) > maxSettings {
		t.Errorf("not bounded: %d partitions, %d and %d codes, %d topics, %d holds, %d settings",
			len(m.Partitions), len(m.CallCodes), len(m.Letters), len(m.Lost), len(m.Held),
			len(m.Settings))
	}
}

func FuzzParse(f *testing.F) {
	f.Add(build + `markread_partition_lag{topic="t",partition="10"} 4` + "\n")
	f.Add(build + "# TYPE markread_event_age_seconds histogram\n" +
		`markread_event_age_seconds_bucket{lane="live",le="5.0"} 4` + "\n")
	f.Add(build + `markread_hold_since_timestamp_seconds{reason="a",lane="live"} 1.8e9` + "\n")
	f.Fuzz(func(t *testing.T, text string) {
		m, err := Parse(at, strings.NewReader(text))
		if err != nil {
			return
		}
		wantBounded(t, m)
		for _, v := range []float64{m.Rate, m.Share, m.Limit, m.InFlight, m.MaxPending, m.Assigned,
			m.Generations, m.Calls[0], m.Lanes[0].Received, m.Lanes[1].Ages[3]} {
			if v < 0 || v > 1e18 {
				t.Errorf("a value of %v", v)
			}
		}
		texts := []string{m.Version, m.Commit, m.Lanes[0].Topic}
		for _, h := range m.Held {
			if texts = append(texts, h.Reason, h.Lane); h.Since.Year() > 9999 {
				t.Errorf("JSON can't have the time %v", h.Since)
			}
		}
		for _, p := range m.Partitions {
			texts = append(texts, p.Topic)
		}
		for _, s := range texts {
			if strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsGraphic(r) }) {
				t.Errorf("not printable: %q", s)
			}
		}
	})
}

func TestBase(t *testing.T) {
	sampled := func(s float64, started float64, calls float64) *Member {
		m := newMember(at.Add(time.Duration(s * float64(time.Second))))
		if started != 0 {
			m.Started = at.Add(time.Duration(started * float64(time.Second)))
		}
		m.Calls[0] = calls
		return m
	}
	for name, c := range map[string]struct {
		prev, m *Member
		want    float64 // seconds of the base; NaN: none
	}{
		"the same process":          {sampled(0, -99, 5), sampled(2, -99, 6), 0},
		"start not known":           {sampled(0, 0, 5), sampled(2, 0, 5), 0},
		"first sample":              {nil, sampled(2, -99, 6), math.NaN()},
		"first, start not known":    {nil, sampled(2, 0, 6), math.NaN()},
		"first, a young process":    {nil, sampled(2, -1, 6), -1},
		"silent for long":           {sampled(0, -99, 5), sampled(16, -99, 6), math.NaN()},
		"counters began again":      {sampled(0, 0, 5), sampled(2, 0, 4), math.NaN()},
		"restarted":                 {sampled(0, -99, 5), sampled(2, 1, 9), 1},
		"restarted before prev":     {sampled(0, -99, 5), sampled(2, -3, 9), math.NaN()},
		"the same sample":           {sampled(2, -99, 5), sampled(2, -99, 5), math.NaN()},
		"an older sample":           {sampled(3, -99, 5), sampled(2, -99, 5), math.NaN()},
		"young, but sampled before": {sampled(0, -1, 5), sampled(2, -1, 6), 0},
	} {
		got := math.NaN()
		if base := Base(c.prev, c.m); base != nil {
			got = base.At.Sub(at).Seconds()
		}
		if got != c.want && !(math.IsNaN(got) && math.IsNaN(c.want)) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}
