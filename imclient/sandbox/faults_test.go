package sandbox_test

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"markread/imclient/sandbox"
)

func rules(r ...sandbox.Rule) sandbox.Faults { return sandbox.Faults{Rules: r} }

// Kinds lists exactly the kinds that are declared.
func TestKindsListsEveryKind(t *testing.T) {
	source, err := os.ReadFile("faults.go")
	if err != nil {
		t.Fatal(err)
	}
	declaration := regexp.MustCompile(`Kind\w* +Kind = "([a-z-]+)"`)
	declared := declaration.FindAllStringSubmatch(string(source), -1)
	kinds := sandbox.Kinds()
	if len(declared) == 0 || len(declared) != len(kinds) {
		t.Fatalf("%d kinds are declared, %d listed", len(declared), len(kinds))
	}
	for i, d := range declared {
		if string(kinds[i]) != d[1] {
			t.Errorf("kind %d is %s, listed as %s", i, d[1], kinds[i])
		}
	}
}

// What a client sees of each kind, over a connection, with the call applied and not applied.
func TestKinds(t *testing.T) {
	code := func(text []byte) int {
		var a struct{ ErrorCode int }
		if json.Unmarshal(text, &a) != nil {
			return -1
		}
		return a.ErrorCode
	}
	for _, c := range []struct {
		rule sandbox.Rule
		see  func(r *http.Response, text []byte, err error, applied bool) bool
		code int // ErrorCode in the log
	}{
		{sandbox.Rule{Kind: sandbox.KindCode, Code: 91000},
			func(r *http.Response, text []byte, err error, _ bool) bool {
				return err == nil && r.StatusCode == 200 && code(text) == 91000
			}, 91000},
		{sandbox.Rule{Kind: sandbox.KindCode, Code: 60007, Status: 429, RetryAfter: "7"},
			func(r *http.Response, text []byte, err error, _ bool) bool {
				return err == nil && r.StatusCode == 429 && code(text) == 60007 &&
					r.Header.Get("Retry-After") == "7"
			}, 60007},
		{sandbox.Rule{Kind: sandbox.KindStatus, Status: 502},
			func(r *http.Response, text []byte, err error, _ bool) bool {
				return err == nil && r.StatusCode == 502 &&
					strings.Contains(string(text), "502 Bad Gateway") &&
					r.Header.Get("Retry-After") == ""
			}, -1},
		{sandbox.Rule{Kind: sandbox.KindStatus, Status: 503, RetryAfter: "x"},
			func(r *http.Response, text []byte, err error, _ bool) bool {
				return err == nil && r.StatusCode == 503 && r.Header.Get("Retry-After") == "x"
			}, -1},
		{sandbox.Rule{Kind: sandbox.KindStatus, Status: 204},
			func(r *http.Response, text []byte, err error, _ bool) bool {
				return err == nil && r.StatusCode == 204 && len(text) == 0
			}, -1},
		{sandbox.Rule{Kind: sandbox.KindRedirect, To: "http://elsewhere.invalid/"},
			func(r *http.Response, _ []byte, err error, _ bool) bool {
				return err == nil && r.StatusCode == 302 &&
					r.Header.Get("Location") == "http://elsewhere.invalid/"
			}, -1},
		{sandbox.Rule{Kind: sandbox.KindReset},
			func(_ *http.Response, _ []byte, err error, _ bool) bool {
				return err != nil
			}, -1},
		{sandbox.Rule{Kind: sandbox.KindHang},
			func(_ *http.Response, _ []byte, err error, _ bool) bool {
				return errors.Is(err, context.DeadlineExceeded)
			}, -1},
		{sandbox.Rule{Kind: sandbox.KindCut},
			func(r *http.Response, text []byte, err error, _ bool) bool {
				return errors.Is(err, io.ErrUnexpectedEOF) &&
					strings.HasPrefix(string(text), `{"Acti`)
			}, -1},
		{sandbox.Rule{Kind: sandbox.KindHalf},
			func(r *http.Response, text []byte, err error, _ bool) bool {
				return err == nil && code(text) == -1 && strings.HasPrefix(string(text), `{"Acti`)
			}, -1},
		{sandbox.Rule{Kind: sandbox.KindGarbage},
			func(_ *http.Response, text []byte, err error, _ bool) bool {
				return err == nil && code(text) == -1 && len(text) > 0
			}, -1},
		{sandbox.Rule{Kind: sandbox.KindWrongTypes},
			func(_ *http.Response, text []byte, err error, _ bool) bool {
				return err == nil && json.Valid(text) && code(text) == -1
			}, -1},
		{sandbox.Rule{Kind: sandbox.KindHuge, Bytes: 3_000_001},
			func(_ *http.Response, text []byte, err error, _ bool) bool {
				return err == nil && code(text) == 91000 && len(text) > 3_000_001 &&
					len(text) < 3_000_100
			}, -1},
		{sandbox.Rule{Kind: sandbox.KindGzipBomb, Bytes: 5 << 20},
			func(r *http.Response, text []byte, err error, _ bool) bool {
				if err != nil || r.Header.Get("Content-Encoding") != "gzip" || len(text) > 10_000 {
					return false
				}
				z, err := gzip.NewReader(strings.NewReader(string(text)))
				if err != nil {
					return false
				}
				n, err := io.Copy(io.Discard, z)
				return err == nil && n == 5<<20
			}, -1},
		{sandbox.Rule{Kind: sandbox.KindEchoURL},
			func(r *http.Response, text []byte, err error, _ bool) bool {
				return err == nil && r.StatusCode == 502 &&
					strings.Contains(string(text), "usersig=eJ")
			}, -1},
		{sandbox.Rule{Kind: sandbox.KindEchoURL, Code: 60002},
			func(r *http.Response, text []byte, err error, _ bool) bool {
				return err == nil && r.StatusCode == 200 && code(text) == 60002 &&
					strings.Contains(string(text), "usersig=eJ")
			}, 60002},
		{sandbox.Rule{Kind: sandbox.KindDrip, Interval: time.Millisecond},
			func(_ *http.Response, text []byte, err error, applied bool) bool {
				return err == nil && (code(text) == 0) == applied
			}, 91000},
	} {
		for _, apply := range []bool{false, true} {
			c.rule.Apply = apply
			t.Run(fmt.Sprintf("%s_%d_%d_apply_%v", c.rule.Kind, c.rule.Status, c.rule.Code, apply),
				func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						s := openServer()
						client := overPipes(t, s)
						setFaults(t, s, rules(c.rule))
						ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
						defer cancel()
						if r, text, err := postRead(t, ctx, client, "http://im.test",
							"alice"); !c.see(r, text, err, apply) {
							t.Errorf("seen: %+v %.200q %v", r, text, err)
						}
						synctest.Wait()
						if _, marked := s.ReadTime("alice", "bob"); marked != apply {
							t.Errorf("applied: %v, want %v", marked, apply)
						}
						want := sandbox.Arrival{Report: "alice", Peer: "bob", ReadTime: 1000,
							Encoding: sandbox.EncodingText,
							Applied:  apply, Fault: c.rule.Kind, Code: c.code}
						if c.rule.Kind == sandbox.KindDrip && apply {
							want.Code = 0
						}
						got := s.Arrivals()[0]
						want.At, want.Status = got.At, got.Status
						if got != want || (got.Status == 0) != (c.rule.Kind == sandbox.KindHang ||
							c.rule.Kind == sandbox.KindReset) {
							t.Errorf("logged: %+v, want %+v", got, want)
						}
						stats := s.Stats()
						if stats.InFlight != 0 || stats.Faults[c.rule.Kind] != 1 {
							t.Errorf("stats: %+v", stats)
						}

						setFaults(t, s, sandbox.Faults{})
						if _, text, err := postRead(t, t.Context(), client, "http://im.test",
							"alice"); err != nil || code(text) != 0 {
							t.Errorf("after the fault: %q %v", text, err)
						}
					})
				})
		}
	}
}

// Over TCP a reset is a real reset, not just the end of the connection.
func TestResetOverTCP(t *testing.T) {
	s := openServer()
	setFaults(t, s, rules(sandbox.Rule{Kind: sandbox.KindReset}))
	server := httptest.NewServer(s)
	defer server.Close()
	_, _, err := postRead(t, t.Context(), server.Client(), server.URL, "alice")
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("%v, want ECONNRESET", err)
	}
	server.Close()
	tls := httptest.NewTLSServer(s)
	defer tls.Close()
	_, _, err = postRead(t, t.Context(), tls.Client(), tls.URL, "alice")
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("over TLS: %v, want ECONNRESET", err)
	}
}

// Signature and limit precede a code, as at the real server; a gateway's faults precede both.
func TestFaultsAndChecksOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := limitedServer(1)
		setFaults(t, s, rules(sandbox.Rule{Kind: sandbox.KindCode, Code: 90048}))
		if got := call(t, s, readPath, nil, `{}`).ErrorCode; got != 60012 {
			t.Errorf("no query: %d, want 60012", got)
		}
		if got := markRead(t, s, "a", "b"); got != 60007 {
			t.Errorf("above the limit: %d, want 60007", got)
		}
		time.Sleep(time.Second)
		if got := markRead(t, s, "a", "b"); got != 90048 {
			t.Errorf("good: %d, want 90048", got)
		}
		if n := s.Stats().Faults[sandbox.KindCode]; n != 1 {
			t.Errorf("the fault was met %d times, want 1", n)
		}
		setFaults(t, s, rules(sandbox.Rule{Kind: sandbox.KindHalf}))
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequest("POST", readPath, strings.NewReader("{}")))
		if json.Valid(w.Body.Bytes()) {
			t.Errorf("a wire fault let %q through", w.Body)
		}
		// No fault applies to a body that is too large to be read, or "hang" would never end.
		body := strings.Repeat(" ", 20<<10)
		time.Sleep(2 * time.Second)
		if got := call(t, s, readPath, query(t), body).ErrorCode; got != 93000 {
			t.Errorf("too large: %d, want 93000", got)
		}
	})
}

// The same seed always selects the same conversations, about as many as requested; another seed
// selects others.
func TestShareOfConversations(t *testing.T) {
	chosen := func(seed uint64, rate int) map[string]bool {
		s := limitedServer(rate)
		setFaults(t, s, sandbox.Faults{Seed: seed,
			Rules: []sandbox.Rule{{Kind: sandbox.KindCode, Code: 91000, Conversations: 0.2}}})
		hit := map[string]bool{}
		for round := range 3 {
			for i := range 1000 {
				name := fmt.Sprint("u", i)
				met := markRead(t, s, name, "b") == 91000
				if round > 0 && met != hit[name] {
					t.Fatalf("%s: chosen once, and not another time", name)
				}
				hit[name] = met
			}
		}
		return hit
	}
	count := func(hit map[string]bool) (n int) {
		for _, met := range hit {
			if met {
				n++
			}
		}
		return n
	}
	first, again, other := chosen(1, 0), chosen(1, 0), chosen(2, 0)
	if fmt.Sprint(first) != fmt.Sprint(again) {
		t.Error("the same seed chose others")
	}
	if fmt.Sprint(first) == fmt.Sprint(other) {
		t.Error("another seed chose the same")
	}
	for _, hit := range []map[string]bool{first, other} {
		if n := count(hit); n < 150 || n > 250 {
			t.Errorf("%d of 1000 chosen, want about 200", n)
		}
	}
}

func TestShareOfCallsAndAccounts(t *testing.T) {
	s := openServer()
	setFaults(t, s, rules(
		sandbox.Rule{Kind: sandbox.KindCode, Code: 1, Report: "alice", Peer: "bob"},
		sandbox.Rule{Kind: sandbox.KindCode, Code: 2, Peer: "carol"},
		sandbox.Rule{Kind: sandbox.KindCode, Code: 3, Share: 0.3},
		sandbox.Rule{Kind: sandbox.KindCode, Code: 4, Share: 0.5},
	))
	for pair, want := range map[[2]string]int{{"alice", "bob"}: 1, {"x", "carol"}: 2,
		{"alice", "carol"}: 2} {
		if got := markRead(t, s, pair[0], pair[1]); got != want {
			t.Errorf("%v: %d, want %d", pair, got, want)
		}
	}
	got := map[int]int{}
	for range 2000 {
		got[markRead(t, s, "bob", "alice")]++
	}
	// half of what the first rule left
	for code, want := range map[int]int{3: 600, 4: 700, 0: 700} {
		if math.Abs(float64(got[code]-want)) > 100 {
			t.Errorf("code %d: %d of 2000, want about %d", code, got[code], want)
		}
	}
}

func TestRuleSchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openServer()
		setFaults(t, s, rules(
			sandbox.Rule{Kind: sandbox.KindCode, Code: 1, For: 2 * time.Second},
			sandbox.Rule{Kind: sandbox.KindCode, Code: 2, For: 4 * time.Second},
			sandbox.Rule{Kind: sandbox.KindCode, Code: 3, Every: 10 * time.Second,
				For: 5 * time.Second},
		))
		var got []int
		for range 17 {
			got = append(got, markRead(t, s, "a", "b"))
			time.Sleep(time.Second)
		}
		if fmt.Sprint(got) != "[1 1 2 2 3 0 0 0 0 0 3 3 3 3 3 0 0]" {
			t.Errorf("second by second: %v", got)
		}
	})
}
