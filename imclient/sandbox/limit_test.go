package sandbox_test

import (
	"fmt"
	"math/rand/v2"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"markread/imclient"
	"markread/imclient/sandbox"
)

func limitedServer(rate int) *sandbox.Server {
	return sandbox.New(sandbox.Options{AppID: appID, Admin: admin, Key: key, OpenAccounts: true,
		Rate: rate})
}

// The limit, to the nanosecond: Rate calls pass in one second, and the next one passes a second
// after the first.
func TestLimitEdge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := limitedServer(3)
		for i, step := range []struct {
			after time.Duration
			want  int
		}{
			{0, 0},
			{0, 0},
			{400 * time.Millisecond, 0},
			{600*time.Millisecond - 1, 60007}, // the first two are less than a second old
			// now they are a second old; with this and the refused one, three
			{1, 0},
			{0, 60007},
			{400*time.Millisecond - 1, 60007},
			// the third has left the window, but a good one and three refused ones are in it
			{1, 60007},
		} {
			time.Sleep(step.after)
			if got := markRead(t, s, "a", "b"); got != step.want {
				t.Errorf("call %d: %d, want %d", i+1, got, step.want)
			}
		}
	})
}

// A naive model compares every arrival with every earlier one.
func TestLimitAgainstModel(t *testing.T) {
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 1))
			rate := 1 + random.IntN(20)
			s := limitedServer(rate)
			var at []time.Time
			most := 0
			for range 400 {
				switch random.IntN(4) {
				case 0: // a burst
				case 1:
					time.Sleep(time.Duration(random.Int64N(int64(time.Second) / int64(rate))))
				case 2:
					time.Sleep(time.Second / time.Duration(rate)) // exact distances reach the limit
				case 3:
					time.Sleep(time.Duration(random.Int64N(int64(3*time.Second) / int64(rate))))
				}
				at = append(at, time.Now())
				inSecond := 0
				for _, earlier := range at {
					if time.Since(earlier) < time.Second {
						inSecond++
					}
				}
				most = max(most, inSecond)
				want := 0
				if inSecond > rate {
					want = 60007
				}
				if got := markRead(t, s, "a", "b"); got != want {
					t.Fatalf("rate %d, arrival %d, %d in its second: %d, want %d", rate, len(at),
						inSecond, got, want)
				}
			}
			stats := s.Stats()
			if stats.MaxPerSecond != most || stats.Calls != 400 ||
				stats.Codes[0]+stats.Codes[60007] != 400 {
				t.Errorf("stats %+v, want at most %d in a second", stats, most)
			}
			for i, a := range s.Arrivals() {
				if !a.At.Equal(at[i]) {
					t.Fatalf("arrival %d at %v, want %v", i, a.At, at[i])
				}
			}
			time.Sleep(time.Second)
			if got := s.Stats().LastSecond; got != 0 {
				t.Errorf("%d in the last second, want 0", got)
			}
		})
	}
}

// A call that is refused for another reason is an arrival, too, and gets that reason's code.
func TestRefusedCallsCountTowardsTheLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := limitedServer(2)
		bad := query(t)
		bad.Set("usersig", "x")
		for range 2 {
			if got := call(t, s, readPath, bad, `{}`).ErrorCode; got != 70003 {
				t.Errorf("bad signature: %d", got)
			}
		}
		if got := markRead(t, s, "a", "b"); got != 60007 {
			t.Errorf("third: %d, want 60007", got)
		}
		mustCall(t, s, sendPath, `{"To_Account":"a",`+element+`}`) // other commands have no limit
	})
}

func TestFaultRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := limitedServer(200)
		setFaults(t, s, sandbox.Faults{Rate: 2})
		var codes []int
		for range 3 {
			codes = append(codes, markRead(t, s, "a", "b"))
		}
		if fmt.Sprint(codes) != "[0 0 60007]" {
			t.Errorf("%v", codes)
		}
		setFaults(t, s, sandbox.Faults{})
		if got := markRead(t, s, "a", "b"); got != 0 {
			t.Errorf("after the fault: %d", got)
		}
	})
}

// A stamp is the time when the handler began, however long the response takes, and the log is in
// the order of the stamps.
func TestStampsUnderLoad(t *testing.T) {
	s := limitedServer(0)
	q := query(t)
	const workers, each = 8, 200
	var group sync.WaitGroup
	for w := range workers {
		group.Go(func() {
			for i := range each {
				const form = `{"Report_Account":"u%d","Peer_Account":"p%d","MsgReadTime":"%d"}`
				body := fmt.Sprintf(form, w, i%10, i+1)
				s.ServeHTTP(httptest.NewRecorder(),
					httptest.NewRequest("POST", readPath+"?"+q.Encode(), strings.NewReader(body)))
				switch i % 50 {
				case 0:
					_ = s.SetFaults(sandbox.Faults{Rules: []sandbox.Rule{{Kind: sandbox.KindCode,
						Code: 91000, Share: 0.5}}})
				case 1:
					_ = s.SetFaults(sandbox.Faults{})
				case 2:
					s.Stats()
					s.Arrivals()
				}
			}
		})
	}
	group.Wait()
	stats, log := s.Stats(), s.Arrivals()
	var responded int64
	for _, n := range stats.Codes {
		responded += n
	}
	if stats.Calls != workers*each || len(log) != workers*each || responded != stats.Calls ||
		stats.InFlight != 0 {
		t.Errorf("%d calls, %d logged, stats %+v", workers*each, len(log), stats)
	}
	if stats.Applied != stats.Codes[0] || stats.Faults[sandbox.KindCode] != stats.Codes[91000] {
		t.Errorf("stats don't agree: %+v", stats)
	}
	applied := map[[2]string]int64{}
	for i, a := range log {
		if i > 0 && a.At.Before(log[i-1].At) {
			t.Fatalf("arrival %d is before the one before it", i)
		}
		if a.Applied {
			applied[[2]string{a.Report, a.Peer}] = max(a.ReadTime,
				applied[[2]string{a.Report, a.Peer}])
		}
	}
	for c, want := range applied {
		if got, _ := s.ReadTime(c[0], c[1]); got != want {
			t.Errorf("%v: pointer %d, the log has %d", c, got, want)
		}
	}
}

func BenchmarkMarkRead(b *testing.B) {
	s := limitedServer(0)
	const body = `{"Report_Account":"a","Peer_Account":"b","MsgReadTime":"1700000000"}`
	target := readPath + "?" + query(b).Encode()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			w := httptest.NewRecorder()
			s.ServeHTTP(w, httptest.NewRequest("POST", target, strings.NewReader(body)))
			if w.Code != 200 {
				b.Fatal(w.Code)
			}
		}
	})
}

// A server that checks strictly is useless if its own key can be printed.
func TestKeyIsNotPrinted(t *testing.T) {
	options := sandbox.Options{AppID: appID, Admin: admin,
		Key: imclient.NewSecret("canary-of-the-key")}
	if text := fmt.Sprintf("%v %+v %#v", options, options,
		sandbox.New(options)); strings.Contains(text, "canary") {
		t.Errorf("the key can be printed: %s", text)
	}
}
