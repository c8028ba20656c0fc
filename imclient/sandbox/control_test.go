package sandbox_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"markread/imclient/sandbox"
)

// control sends a request from this machine.
func control(
	s http.Handler, method, target, body string, change ...func(*http.Request),
) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "http://127.0.0.1:8790"+target, strings.NewReader(body))
	r.RemoteAddr = "127.0.0.1:40000"
	for _, c := range change {
		c(r)
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

var everyFault = sandbox.Faults{
	Latency: sandbox.Latency{P50: 25 * time.Millisecond, P99: 300 * time.Millisecond,
		Max: 2 * time.Second},
	Seed: 7, Rate: 150, Skew: -time.Hour,
	Rules: []sandbox.Rule{
		{Kind: sandbox.KindStatus, Status: 502, RetryAfter: "3", Share: 0.3, For: 5 * time.Second,
			Every: 10 * time.Second},
		{Kind: sandbox.KindCode, Code: 90048, Conversations: 0.01},
		{Kind: sandbox.KindReset, Apply: true, Report: "alice", Peer: "bob"},
		{Kind: sandbox.KindRedirect, To: "http://elsewhere.invalid/"},
		{Kind: sandbox.KindHuge, Bytes: 5},
		{Kind: sandbox.KindDrip, Interval: time.Second},
	},
}

// HTTP returns what Go code set, and accepts it again with the same meaning.
func TestFaultsOverHTTP(t *testing.T) {
	s := openServer()
	setFaults(t, s, everyFault)
	w := control(s, "GET", "/sandbox/faults", "")
	text := w.Body.String()
	setFaults(t, s, sandbox.Faults{})
	if w = control(s, "PUT", "/sandbox/faults", text); w.Code != 200 || w.Body.String() != text {
		t.Errorf("PUT: %d %s, want what was sent: %s", w.Code, w.Body, text)
	}
	if got := s.Faults(); !reflect.DeepEqual(got, everyFault) {
		t.Errorf("faults %+v, want %+v", got, everyFault)
	}
	// The example from the documentation.
	w = control(s, "PUT", "/sandbox/faults", ` {"latency":{"min":"5ms","max":"20ms"}, `+
		`"rules":[{"kind":"code","code":91000,"share":0.5}]} `)
	want := sandbox.Faults{
		Latency: sandbox.Latency{Min: 5 * time.Millisecond, Max: 20 * time.Millisecond},
		Rules:   []sandbox.Rule{{Kind: sandbox.KindCode, Code: 91000, Share: 0.5}},
	}
	if got := s.Faults(); w.Code != 200 || !reflect.DeepEqual(got, want) {
		t.Errorf("%d %s: %+v", w.Code, w.Body, got)
	}
	if w = control(s, "PUT", "/sandbox/faults", `{}`); w.Code != 200 ||
		!reflect.DeepEqual(s.Faults(), sandbox.Faults{}) {
		t.Errorf("taken back: %d %s", w.Code, w.Body)
	}
}

func TestFaultsRefused(t *testing.T) {
	for _, c := range []struct{ body, want string }{
		{``, "the body must be a JSON object"},
		{`null`, "the body must be a JSON object"},
		{`{`, "unexpected end of JSON input"},
		{`{} x`, "after top-level value"},
		{`{"ruels":[]}`, `unknown field "ruels"`},
		{`{"rules":[{"kind":"code","code":1,"shar":1}]}`, `unknown field "shar"`},
		{`{"rules":[{"kind":"explode"}]}`, `rules[0]: unknown kind "explode"; the kinds are ` +
			"code status redirect reset hang cut half-json drip garbage " +
			"wrong-types huge gzip-bomb echo-url"},
		{`{"rules":[{"kind":"reset"},{}]}`, `rules[1]: unknown kind ""`},
		{`{"rules":[{"kind":"code"}]}`, "needs a code"},
		{`{"rules":[{"kind":"code","code":"91000"}]}`, "rules.code: unexpected string"},
		{`{"rules":[{"kind":"code","code":1000000}]}`, "code must be between"},
		{`{"rules":[{"kind":"code","code":-1}]}`, "code must be between"},
		{`{"rules":[{"kind":"status"}]}`, "needs a status"},
		{`{"rules":[{"kind":"status","status":100}]}`, "status must be between"},
		{`{"rules":[{"kind":"status","status":600}]}`, "status must be between"},
		{`{"rules":[{"kind":"hang","status":502}]}`, `kind "hang" has no status`},
		{`{"rules":[{"kind":"hang","code":1}]}`, `kind "hang" has no code`},
		{`{"rules":[{"kind":"reset","retry_after":"1"}]}`, `kind "reset" has no retry_after`},
		{`{"rules":[{"kind":"reset","to":"x"}]}`, `kind "reset" has no to`},
		{`{"rules":[{"kind":"drip","bytes":1}]}`, `kind "drip" has no bytes`},
		{`{"rules":[{"kind":"huge","interval":"1s"}]}`, `kind "huge" has no interval`},
		{`{"rules":[{"kind":"huge","bytes":-1}]}`, "bytes must be between"},
		{`{"rules":[{"kind":"redirect"}]}`, "needs a to"},
		{`{"rules":[{"kind":"drip","interval":"-1s"}]}`, "interval must be between"},
		{`{"rules":[{"kind":"drip","interval":5}]}`, "rules.interval: unexpected number"},
		{`{"rules":[{"kind":"drip","interval":"5"}]}`, `"5" is not a duration`},
		{`{"rules":[{"kind":"hang","share":0}]}`, "rules[0]: share must be above 0"},
		{`{"rules":[{"kind":"hang","share":1.01}]}`, "share must be above 0"},
		{`{"rules":[{"kind":"hang","share":-0.1}]}`, "share must be above 0"},
		{`{"rules":[{"kind":"hang","conversations":0}]}`, "conversations must be above 0"},
		{`{"rules":[{"kind":"hang","conversations":2}]}`, "conversations must be above 0"},
		{`{"rules":[{"kind":"hang","for":"-1s"}]}`, "must not be negative"},
		{`{"rules":[{"kind":"hang","every":"1s"}]}`, "every needs a shorter for"},
		{`{"rules":[{"kind":"hang","every":"1s","for":"1s"}]}`, "every needs a shorter for"},
		{`{"latency":{"min":"2s","max":"1s"}}`, "latency: max is below min"},
		{`{"latency":{"p50":"2s"}}`, "latency: p50 and p99 go together"},
		{`{"latency":{"p50":"2s","p99":"1s"}}`, "latency: p99 is below p50"},
		{`{"latency":{"p50":"1s","p99":"2s","min":"1s"}}`, "latency: min can't be combined"},
		{`{"latency":{"min":"2h"}}`, "latency: must be between 0 and 1h"},
		{`{"latency":{"min":"-2s"}}`, "latency: must be between 0 and 1h"},
		{`{"rate":-1}`, "rate must not be negative"},
		{`{"rate":1.5}`, "rate: unexpected number 1.5"},
		{`{"rules":[` + strings.Repeat(`{"kind":"hang"},`, 1000) + `{"kind":"hang"}]}`,
			"more than 1000 rules"},
		{`{"x":"` + strings.Repeat("x", 2<<20) + `"}`, "too large"},
	} {
		s := openServer()
		setFaults(t, s, everyFault)
		w := control(s, "PUT", "/sandbox/faults", c.body)
		line := w.Body.String()
		if w.Code != 400 || !strings.HasPrefix(line, "faults refused: ") ||
			!strings.Contains(line, c.want) || strings.Count(line, "\n") != 1 || len(line) > 300 {
			t.Errorf("%.80s: %d %q, want 400 and one line with %q", c.body, w.Code, line, c.want)
		}
		if !reflect.DeepEqual(s.Faults(), everyFault) {
			t.Errorf("%.80s changed the faults", c.body)
		}
	}
	nan := sandbox.Rule{Kind: sandbox.KindHang, Share: 0}
	nan.Share /= nan.Share
	if openServer().SetFaults(rules(nan)) == nil {
		t.Error("a share of NaN was accepted")
	}
}

// The server owns its faults: changing the argument's slice afterwards, or the returned copy,
// changes nothing.
func TestFaultsAreCopied(t *testing.T) {
	s := openServer()
	f := rules(sandbox.Rule{Kind: sandbox.KindCode, Code: 1})
	setFaults(t, s, f)
	f.Rules[0].Code = 2
	s.Faults().Rules[0].Code = 3
	if got := markRead(t, s, "a", "b"); got != 1 {
		t.Errorf("%d, want 1", got)
	}
}

func TestInspectionEndpoints(t *testing.T) {
	s := openServer()
	mustCall(t, s, sendPath, `{"From_Account":"bob","To_Account":"carol",`+element+`}`)
	mustCall(t, s, readPath, `{"Report_Account":"zoe","Peer_Account":"bob","MsgReadTime":"5"}`)
	mustCall(t, s, readPath, `{"Report_Account":"alice","Peer_Account":"bob","MsgReadTime":7}`)
	markRead(t, s, "nobody", "bob")

	const one = "/sandbox/read-time?peer=bob&report="
	for target, want := range map[string]string{
		one + "alice": `{"report":"alice","peer":"bob","read_time":7,"unread":0}` + "\n",
		one + "carol": `{"report":"carol","peer":"bob","read_time":null,"unread":1}` + "\n",
		"/sandbox/read-times": `{"report":"alice","peer":"bob","read_time":7,"unread":0}` + "\n" +
			`{"report":"zoe","peer":"bob","read_time":5,"unread":0}` + "\n",
	} {
		if w := control(s, "GET", target, ""); w.Code != 200 || w.Body.String() != want {
			t.Errorf("%s: %d %s, want %s", target, w.Code, w.Body, want)
		}
	}
	if w := control(s, "GET", "/sandbox/read-time?report=a", ""); w.Code != 400 {
		t.Errorf("read-time without a peer: %d", w.Code)
	}

	var stats sandbox.Stats
	if err := json.Unmarshal(control(s, "GET", "/sandbox/stats", "").Body.Bytes(),
		&stats); err != nil {
		t.Fatal(err)
	}
	if stats.Calls != 3 || stats.Codes[0] != 2 || stats.Codes[90008] != 1 ||
		stats.Encodings["integer"] != 1 {
		t.Errorf("stats: %+v", stats)
	}
	var log []sandbox.Arrival
	decoder := json.NewDecoder(control(s, "GET", "/sandbox/arrivals", "").Body)
	for decoder.More() {
		var a sandbox.Arrival
		if err := decoder.Decode(&a); err != nil {
			t.Fatal(err)
		}
		log = append(log, a)
	}
	for i, a := range s.Arrivals() {
		if !a.At.Equal(log[i].At) {
			t.Errorf("arrival %d at %v, over HTTP %v", i, a.At, log[i].At)
		}
		a.At = log[i].At
		if a != log[i] {
			t.Errorf("arrival %d: %+v, over HTTP %+v", i, a, log[i])
		}
	}
}

func TestControlIsLocal(t *testing.T) {
	from := func(addr string) func(*http.Request) {
		return func(r *http.Request) { r.RemoteAddr = addr }
	}
	host := func(name string) func(*http.Request) { return func(r *http.Request) { r.Host = name } }
	header := func(name string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, "x") }
	}
	s := openServer()
	for _, target := range []string{"", "/", "/stats", "/arrivals", "/read-time?report=a&peer=b",
		"/read-times", "/faults"} {
		for _, c := range []struct {
			name   string
			change func(*http.Request)
			want   int
		}{
			{"loopback", from("127.0.0.1:1"), 200},
			{"loopback v6", from("[::1]:1"), 200},
			{"localhost", host("LocalHost:8790"), 200},
			{"localhost without port", host("localhost"), 200},
			{"host v6", host("[::1]:8790"), 200},
			{"host v6 without port", host("[::1]"), 200},
			{"another machine", from("192.0.2.1:1"), 403},
			{"no address", from("pipe"), 403},
			{"another host", host("im.example:8790"), 403},
			{"a host that looks alike", host("localhost.example"), 403},
			{"no host", host(""), 403},
			{"forwarded", header("Forwarded"), 403},
			{"x-forwarded", header("X-Forwarded-For"), 403},
		} {
			if w := control(s, "GET", "/sandbox"+target, "", c.change); w.Code != c.want {
				t.Errorf("/sandbox%s, %s: %d, want %d", target, c.name, w.Code, c.want)
			}
		}
		if w := control(s, "POST", "/sandbox"+target, "{}"); w.Code != 405 ||
			w.Header().Get("Allow") == "" {
			t.Errorf("POST /sandbox%s: %d", target, w.Code)
		}
	}
	if w := control(s, "PUT", "/sandbox/faults", `{"rate":5}`,
		from("192.0.2.1:1")); w.Code != 403 || s.Faults().Rate != 0 {
		t.Errorf("faults from elsewhere: %d", w.Code)
	}
	// The API is open to everybody.
	if got := markRead(t, s, "a", "b"); got != 0 {
		t.Errorf("API: %d", got)
	}
}

func TestPage(t *testing.T) {
	s := openServer()
	const markup = `<script>alert(1)</script>`
	mustCall(t, s, readPath, `{"Report_Account":"`+markup+`","Peer_Account":"b&b\u0022'"}`)
	setFaults(t, s, rules(
		sandbox.Rule{Kind: sandbox.KindCode, Code: 90048, Report: markup},
		sandbox.Rule{Kind: sandbox.KindHang, For: 1},
	))
	for range 60 {
		markRead(t, s, markup, "x")
	}
	page := control(s, "GET", "/sandbox", "").Body.String()
	for _, want := range []string{"&lt;script&gt;", "response 90048", "fault code",
		"(inactive now)",
		fmt.Sprint(appID), "61"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	markRead(t, s, "the-newest", "x")
	page = control(s, "GET", "/sandbox", "").Body.String()
	if newest, older := strings.Index(page, "the-newest"), strings.LastIndex(page,
		"&lt;script&gt;"); newest < 0 || newest > older {
		t.Errorf("the newest call is at %d, an older one at %d", newest, older)
	}
	for _, unwanted := range []string{"<script", "usersig", sign(t)} {
		if strings.Contains(page, unwanted) {
			t.Errorf("the page has %q", unwanted)
		}
	}
	if n := strings.Count(page, "&lt;script&gt;"); n != 49 {
		t.Errorf("%d shown, want 49 of the newest 50", n)
	}
}

// No endpoint shows a signature.
func TestSignaturesAreNotShown(t *testing.T) {
	s := openServer()
	q := query(t)
	call(t, s, readPath, q, `{"Report_Account":"a","Peer_Account":"b"}`)
	call(t, s, readPath, q, `{`)
	for _, target := range []string{"", "/stats", "/arrivals", "/read-times", "/faults"} {
		if strings.Contains(control(s, "GET", "/sandbox"+target, "").Body.String(),
			q.Get("usersig")) {
			t.Errorf("/sandbox%s shows a signature", target)
		}
	}
}
