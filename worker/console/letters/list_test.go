package letters

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"markread/consumer/event"
	"markread/worker/console/respond"
)

// Pages have the newest first, across partitions, without gaps and repetitions.
func TestPages(t *testing.T) {
	inWorld(t, func(w *world) {
		w.write(rejected(300)...)
		w.write(letter{report: "x", class: "invalid", value: "no event"})
		var got []string
		for offset := 0; ; offset += pageSize {
			p := w.listed(Filter{Class: "rejected", Offset: offset})
			if p.Total != 300 || p.More != (offset < 200) || len(p.Unread) > 0 {
				t.Errorf("offset %d: total %d, more %t, unread %q", offset, p.Total, p.More,
					p.Unread)
			}
			got = append(got, reports(p.Items)...)
			if !p.More {
				break
			}
		}
		var want []string
		for _, l := range slices.Backward(rejected(300)) {
			want = append(want, l.report)
		}
		wantEqual(t, "reports", got, want)
		p := w.listed(Filter{})
		if p.Total != 301 || len(p.Items) != pageSize || p.Items[0].Report != nil {
			t.Errorf("%+v", p)
		}
		groups, _ := json.Marshal(p.Groups)
		if got := string(groups); got != `[{"class":"rejected","code":"90048","open":300,`+
			`"parked":0,"replayed":0,"discarded":0,"oldest":"2026-01-01T00:00:01Z",`+
			`"newest":"2026-01-01T00:05:00Z"},{"class":"invalid","code":"","open":1,"parked":0,`+
			`"replayed":0,"discarded":0,"oldest":"2026-01-01T00:05:01Z",`+
			`"newest":"2026-01-01T00:05:01Z"}]` {
			t.Error(got)
		}
	})
}

func TestFilters(t *testing.T) {
	inWorld(t, func(w *world) {
		w.write(letter{report: "a", class: "rejected", code: "90048"},
			letter{partition: 1, report: "b", class: "rejected", code: "90003"},
			letter{partition: 2, report: "a", class: "exhausted", code: "timeout"},
			letter{report: "c", class: "rejected", code: "90048", replays: 3})
		for _, c := range []struct {
			filter Filter
			want   []string // IDs
		}{
			{Filter{}, []string{"2:0", "1:0", "0:0"}},
			{Filter{State: "all"}, []string{"0:1", "2:0", "1:0", "0:0"}},
			{Filter{State: "parked"}, []string{"0:1"}},
			{Filter{State: "replayed"}, nil},
			{Filter{Class: "rejected"}, []string{"1:0", "0:0"}},
			{Filter{Class: "rejected", Code: "90003"}, []string{"1:0"}},
			{Filter{Report: "a"}, []string{"2:0", "0:0"}},
			{Filter{Report: "a", Peer: "q"}, nil},
			{Filter{Peer: "p"}, []string{"2:0", "1:0", "0:0"}},
			{Filter{Since: "2s"}, []string{"2:0", "1:0"}},
			{Filter{Until: "2026-01-01T00:00:02Z"}, []string{"1:0", "0:0"}},
			{Filter{Since: "2026-01-01T00:00:02Z", Until: "1s"}, []string{"2:0", "1:0"}},
		} {
			p := w.listed(c.filter)
			var got []string
			for _, i := range p.Items {
				got = append(got, i.ID)
			}
			wantEqual(t, fmt.Sprintf("%+v", c.filter), got, c.want)
			if p.Total != int64(len(c.want)) || p.Items == nil || p.Groups == nil {
				t.Errorf("%+v: total %d, %v %v", c.filter, p.Total, p.Items, p.Groups)
			}
		}
		items, err := w.Conversation(w.Context(), "a", "p")
		if err != nil || len(items) != 2 || items[0].ID != "2:0" || items[0].Attempts != 8 {
			t.Errorf("%+v, %v", items, err)
		}
	})
}

// The until of a response selects the same dead letters again, whatever fails meanwhile.
func TestUntilPinsTheFilter(t *testing.T) {
	inWorld(t, func(w *world) {
		if p := w.listed(Filter{}); p.Until != "2026-01-01T00:00:00Z" { // now
			t.Error(p.Until)
		}
		time.Sleep(1234567 * time.Nanosecond)
		w.write(rejected(3)...)
		first := w.listed(Filter{})
		until, err := time.Parse(time.RFC3339Nano, first.Until)
		if err != nil || until.Before(*first.Items[0].FailedAt) {
			t.Errorf("%v: %s is before %s", err, first.Until, first.Items[0].FailedAt)
		}
		w.write(letter{report: "later", class: "rejected", code: "90048"})
		time.Sleep(refreshEvery)
		p := w.listed(Filter{Until: first.Until})
		wantEqual(t, "reports", reports(p.Items), []string{"a2", "a1", "a0"})
		if p.Until != first.Until || w.listed(Filter{}).Total != 4 {
			t.Errorf("until %s, then %s", first.Until, p.Until)
		}
	})
}

// However many viewers there are, the topic's end is read once in two seconds.
func TestViewersShareTheIndex(t *testing.T) {
	inWorld(t, func(w *world) {
		w.write(rejected(3)...)
		for round := 1; round <= 2; round++ {
			var viewers sync.WaitGroup
			for range 20 {
				viewers.Go(func() {
					if p := w.listed(Filter{}); p.Total != 3 {
						t.Errorf("%d dead letters", p.Total)
					}
				})
			}
			viewers.Wait()
			if w.ends != round {
				t.Errorf("the end was read %d times, want %d", w.ends, round)
			}
			time.Sleep(refreshEvery)
		}
	})
}

// Beyond two readers at a time, requests wait for some seconds and are then refused.
func TestReadersAreBounded(t *testing.T) {
	inWorld(t, func(w *world) {
		w.write(rejected(1)...)
		w.listed(Filter{})
		w.mu.Lock()
		w.slow = pageWait + time.Second
		w.mu.Unlock()
		statuses := make(chan int, 5)
		var viewers sync.WaitGroup
		for range 5 {
			viewers.Go(func() {
				r := w.request("/api/dead-letters/show", map[string]string{"id": "0:0"})
				statuses <- r.Code
				if r.Code == http.StatusTooManyRequests && r.Header().Get("Retry-After") != "5" {
					t.Errorf("%v", r.Header())
				}
			})
		}
		viewers.Wait()
		close(statuses)
		counts := map[int]int{}
		for s := range statuses {
			counts[s]++
		}
		if counts[200] != 2 || counts[429] != 3 {
			t.Errorf("%v", counts)
		}
	})
}

// A topic that can't be read is an error, and is not read again at once for the next viewer.
func TestUnreadable(t *testing.T) {
	inWorld(t, func(w *world) {
		w.write(rejected(1)...)
		w.Broker.Close()
		for range 2 {
			got := post[map[string]string](w, "/api/dead-letters", Filter{}, 503)
			if got["error"] == "" {
				t.Errorf("%q", got)
			}
		}
	})
}

// The commands have exactly these words, whatever an account has in it.
func TestCommandsAreQuoted(t *testing.T) {
	l := New(Options{Flags: []string{"--brokers", "k:9092", "--dead-letter-topic", "it's"},
		ReplayFlags: []string{"--backfill-topic", "$HOME"}})
	since := time.Date(2026, 3, 1, 2, 48, 0, 5e6, time.UTC)
	for _, account := range []string{"alice", "a'b", `"$(touch x)"`, "`id`", "two\nlines\n", "-x",
		"--yes", "#", "~", "*", "a b", "!!", `\`, "中文", "'", "''", "a=b", "<img src=x>", "{a,b}"} {
		f := &Filter{Class: "rejected", Report: account, Peer: "p", State: "all"}
		words := func(flags ...string) []string {
			report := []string{"--report", account}
			if account[0] == '-' {
				report = []string{"--report=" + account}
			}
			return slices.Concat(flags, []string{"--class", "rejected"}, report, []string{"--peer",
				"p", "--since", "2026-03-01T02:48:00.005Z", "--until", "T"})
		}
		ls, replay := l.commands(f, since, "T")
		for line, want := range map[string][]string{
			ls: words("markread", "dead-letters", "ls", "--brokers", "k:9092",
				"--dead-letter-topic", "it's", "--state", "all"),
			replay: words("markread", "dead-letters", "replay", "--brokers", "k:9092",
				"--dead-letter-topic", "it's", "--backfill-topic", "$HOME", "--state", "all",
				"--parked"),
		} {
			out, err := exec.CommandContext(t.Context(), "sh", "-c", `printf '%s\0' `+line).Output()
			if err != nil {
				t.Fatalf("%v: %s", err, line)
			}
			got := strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00")
			wantEqual(t, line, got, want)
		}
	}
	for _, f := range []*Filter{{Report: "\x1b[201~"}, {Peer: "a\x00b"}, {Report: "\u202e"}} {
		if ls, replay := l.commands(f, since, "T"); ls != "" || replay != "" {
			t.Errorf("%q: %q, %q", f.Report+f.Peer, ls, replay)
		}
	}
	if ls, replay := l.commands(&Filter{State: "replayed"}, time.Time{}, "T"); replay != "" ||
		ls != "markread dead-letters ls --brokers k:9092 --dead-letter-topic 'it'\\''s' "+
			"--state replayed --until T" {
		t.Errorf("%q, %q", ls, replay)
	}
}

// hostile are texts that anyone may have written into a record.
var hostile = []string{`<img src=x onerror=alert(1)>`, `</script><script>alert(1)</script>`,
	`"'` + "`",
	"=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r\n=1", "a\r\nb", "\x1b[31m", "\u202ertl", "a\x00b",
	"{{.}}", "${x}", "%00", `\u0000`, `a","b`, "中文", "\U000e0041", " "}

// What anyone may have written arrives as it is, and no longer than a page can show.
func TestHostileRecords(t *testing.T) {
	inWorld(t, func(w *world) {
		for _, text := range append(hostile, strings.Repeat("x", 100_000)) {
			value, _ := json.Marshal(map[string]string{"Report_Account": text,
				"Peer_Account": text})
			w.write(letter{report: text, class: "rejected", code: text, message: text,
				value: string(value), headers: []event.Header{{Key: text, Value: []byte(text)}}})
		}
		p := w.listed(Filter{})
		for i, text := range hostile {
			item := p.Items[len(hostile)-i]
			if *item.Report != text || *item.Peer != text || item.Message != text ||
				item.Code != text {
				t.Errorf("%q: %+v", text, item)
			}
			shown := post[struct {
				Headers [][2]string
				Value   string
				Key     string
				Others  []Item
				Command string
			}](w, "/api/dead-letters/show", map[string]string{"id": item.ID}, 200)
			if shown.Headers[0] != [2]string{text, text} || shown.Key != text+"|p" ||
				!json.Valid([]byte(shown.Value)) {
				t.Errorf("%q: %+v", text, shown)
			}
			if got := w.listed(Filter{Report: text}); len(got.Items) != 1 ||
				got.Items[0].ID != item.ID {
				t.Errorf("%q: %+v", text, got.Items)
			}
		}
		long := w.request("/api/dead-letters", Filter{})
		if n := long.Body.Len(); n > 40_000 {
			t.Errorf("%d bytes", n)
		}
	})
}

func TestShow(t *testing.T) {
	inWorld(t, func(w *world) {
		w.write(letter{report: "a", class: "rejected", code: "90048"},
			letter{report: "a", class: "exhausted", code: "timeout", value: "\xff"})
		var plan planned = post[planned](w, "/api/replay/plan", Filter{}, 200)
		post[Progress](w, "/api/replay/start", map[string]any{"plan": plan.Plan, "count": 1}, 200)
		waitFor(w, "done")
		got := w.request("/api/dead-letters/show", map[string]string{"id": "0:0"}).Body.String()
		for _, part := range []string{`"id":"0:0"`, `"state":"replayed"`,
			`{"attempts":8,"class":"rejected"`,
			`"resolution":{"id":"0:2","at":"2026-01-01T00:00:02`, `"others":[{"id":"0:1",`,
			`"read_time":1600000000`, `"may_be_resolved":false`, `"value_omitted":""`,
			`"command":"markread dead-letters show 0:0 --brokers kafka-1:9092,kafka-2:9092"`} {
			if !strings.Contains(got, part) {
				t.Errorf("%s is not in %s", part, got)
			}
		}
		got = w.request("/api/dead-letters/show", map[string]string{"id": "0:1"}).Body.String()
		if !strings.Contains(got, `"value_base64":"/w=="`) ||
			!strings.Contains(got, `"resolution":null`) {
			t.Error(got)
		}
		missing := post[map[string]string](w, "/api/dead-letters/show",
			map[string]string{"id": "2:9"}, 404)
		if !strings.Contains(missing["error"], "no dead letter 2:9") {
			t.Errorf("%q", missing)
		}
	})
}

// Whatever is not exactly a request of the page is refused.
func TestRefusedRequests(t *testing.T) {
	inWorld(t, func(w *world) {
		const jsonType, formType = "application/json", "application/x-www-form-urlencoded"
		for _, c := range []struct {
			method, path, media, body string
			status                    int
		}{
			{"GET", "/api/dead-letters", "", "", 405},
			{"GET", "/api/replay/plan", "", "", 405},
			{"POST", "/api/dead-letters", formType, "class=rejected", 415},
			{"POST", "/api/dead-letters", "", "{}", 415},
			{"POST", "/api/dead-letters", jsonType, "", 400},
			{"POST", "/api/dead-letters", jsonType, `{"clas":"rejected"}`, 400},
			{"POST", "/api/dead-letters", jsonType, `{}{}`, 400},
			{"POST", "/api/dead-letters", jsonType, `{"class":"unknown"}`, 400},
			{"POST", "/api/dead-letters", jsonType, `{"code":"x y"}`, 400},
			{"POST", "/api/dead-letters", jsonType, `{"state":"closed"}`, 400},
			{"POST", "/api/dead-letters", jsonType, `{"since":"yesterday"}`, 400},
			{"POST", "/api/dead-letters", jsonType, `{"since":"1h","until":"2h"}`, 400},
			{"POST", "/api/dead-letters", jsonType, `{"offset":-1}`, 400},
			{"POST", "/api/dead-letters", jsonType, `{"offset":10001}`, 400},
			{"POST", "/api/dead-letters", jsonType,
				`{"report":"` + strings.Repeat("x", respond.MaxBody) + `"}`, 413},
			{"POST", "/api/dead-letters/show", jsonType, `{"id":"1"}`, 400},
			{"POST", "/api/dead-letters/export", formType, "format=xml", 400},
			{"POST", "/api/dead-letters/export", formType, "format=csv&x=1", 400},
			{"POST", "/api/dead-letters/export", formType, "format=csv&class=a&class=b", 400},
			{"POST", "/api/dead-letters/export", jsonType, `{"format":"csv"}`, 400},
			{"POST", "/api/dead-letters/export", formType,
				"format=csv&report=" + strings.Repeat("x", respond.MaxBody), 413},
			{"POST", "/api/replay/plan", jsonType, `{"state":"discarded"}`, 400},
			{"POST", "/api/replay/start", jsonType, `{"plan":"","count":0}`, 410},
			{"POST", "/api/replay/stop", jsonType, `{"x":1}`, 400},
			{"POST", "/api/replay/stop", "", "", 409},
			{"POST", "/api/dead-letters/discard", jsonType, "{}", 404},
		} {
			r := httptest.NewRequest(c.method, c.path, strings.NewReader(c.body))
			r.Header.Set("Content-Type", c.media)
			got := httptest.NewRecorder()
			w.handler.ServeHTTP(got, r)
			if got.Code != c.status {
				t.Errorf("%.120v: %d %s", c, got.Code, got.Body)
			}
			if c.status < 404 && !strings.HasPrefix(got.Body.String(), fmt.Sprint(c.status, ": ")) {
				t.Errorf("%.120v: %s", c, got.Body)
			}
		}
	})
}

// A viewer who leaves while the topic is read leaves no error to the next one.
func TestViewerLeaves(t *testing.T) {
	inWorld(t, func(w *world) {
		w.write(rejected(3)...)
		slow := func(d time.Duration) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.slow = d
		}
		slow(time.Minute)
		ctx, cancel := context.WithTimeout(w.Context(), time.Second)
		defer cancel()
		if _, err := w.Count(ctx); err == nil {
			t.Error("the first one has waited")
		}
		slow(0)
		if n, err := w.Count(w.Context()); err != nil || n.Open != 3 {
			t.Errorf("%+v, %v", n, err)
		}
	})
}
