package worker_test

import (
	"fmt"
	"testing"
	"time"

	"markread/imclient/sandbox"
)

// refused counts the responses "too many" and all responses between two moments.
func (s *stack) refused(from, to time.Time) (refused, all int) {
	for _, a := range s.sandbox.Arrivals() {
		if a.At.Before(from) || !a.At.Before(to) {
			continue
		}
		if all++; a.Code == 60007 {
			refused++
		}
	}
	return refused, all
}

// The server allows less than we believe: other programs use the same app's quota. The limit
// follows the server down, and up again.
func TestServerAllowsLess(t *testing.T) {
	tooLongForARace(t)
	for _, allowed := range []int{120, 60} {
		t.Run(fmt.Sprint(allowed), func(t *testing.T) {
			oneIsEnough(t, allowed == 120)
			inBubble(t, func(s *stack) {
				s.publishMany(topics.Live, "reader", 0, 15_000+allowed*60)
				w := s.start(nil)
				time.Sleep(10 * time.Second)
				s.fault(sandbox.Faults{Rate: allowed})
				from := time.Now().Add(10 * time.Second)
				time.Sleep(70 * time.Second)
				to := time.Now()
				seconds := to.Sub(from).Seconds()
				refused, all := s.refused(from, to)
				rate := float64(s.succeededBetween(from, to)) / seconds
				if rate < 0.85*float64(allowed) || float64(refused) > 0.02*float64(all) {
					t.Errorf("%.1f calls a second applied of %d, %d of %d refused", rate,
						allowed, refused, all)
				}
				s.fault(sandbox.Faults{})
				back := time.Now()
				grown := s.until("190 calls a second", time.Minute, func() bool {
					return s.succeededBetween(time.Now().Add(-time.Second), time.Now()) >= 190
				})
				if time.Since(back) > time.Minute {
					t.Errorf("back at %v", grown)
				}
				w.waitSettled(t, 1)
				if n := s.letterCount(); n > 0 {
					t.Errorf("%d dead letters", n)
				}
				if n := w.State().Totals; n.Applied != int64(15_000+allowed*60) {
					t.Errorf("totals %+v", n)
				}
				s.mustStop(w)
				t.Logf("%d allowed: %.1f a second applied (%.1f %%), %.2f %% refused; back "+
					"at 190 after %v", allowed, rate, 100*rate/float64(allowed),
					100*float64(refused)/float64(all), grown)
			})
		})
	}
}

// All calls of both lanes observe Retry-After.
func TestRetryAfterIsKept(t *testing.T) {
	inBubble(t, func(s *stack) {
		s.publishMany(topics.Live, "reader", 0, 3000)
		s.publishMany(topics.Backfill, "other", 0, 1000)
		w := s.start(nil)
		time.Sleep(8 * time.Second)
		s.fault(sandbox.Faults{Rules: []sandbox.Rule{{Kind: sandbox.KindStatus, Status: 429,
			RetryAfter: "7", Share: 0.5, For: 100 * time.Millisecond}}})
		asked := time.Now()
		time.Sleep(500 * time.Millisecond)
		if !s.heldFor(w, "throttled") {
			t.Errorf("held %+v", w.Held())
		}
		w.waitSettled(t, 4000)
		var first, next time.Time // the response with Retry-After, the first call after the pause
		for _, a := range s.sandbox.Arrivals() {
			switch {
			case a.Status == 429 && first.IsZero():
				first = a.At
			case !first.IsZero() && next.IsZero() && a.At.Sub(first) > 10*time.Millisecond:
				next = a.At
			}
		}
		if pause := next.Sub(first); pause < 7*time.Second || pause > 8*time.Second {
			t.Errorf("asked %v after the fault, next call %v later", first.Sub(asked), pause)
		}
		if n := s.letterCount(); n > 0 {
			t.Errorf("%d dead letters", n)
		}
		s.mustStop(w)
		t.Logf("the next call was made after %v", next.Sub(first))
	})
}

// A brownout: a third of the calls fail, or responses are slow, or the server is down half of the
// time. The worker gets nearly as many calls applied as the server can apply.
func TestBrownOut(t *testing.T) {
	slow := sandbox.Latency{P50: 100 * time.Millisecond, P99: 10 * time.Second,
		Max: 20 * time.Second}
	for _, c := range []struct {
		name    string
		faults  sandbox.Faults
		accepts float64 // calls per second
	}{
		{"30 % code 91000",
			sandbox.Faults{Rules: []sandbox.Rule{{Kind: sandbox.KindCode, Code: 91000,
				Share: 0.3}}},
			140},
		{"30 % status 503",
			sandbox.Faults{Rules: []sandbox.Rule{{Kind: sandbox.KindStatus, Status: 503,
				Share: 0.3}}},
			140},
		{"30 % reset", sandbox.Faults{Rules: []sandbox.Rule{{Kind: sandbox.KindReset, Share: 0.3}}},
			140},
		{"slow", sandbox.Faults{Latency: slow}, 200 / 1.4},
		{"flapping", sandbox.Faults{Rules: []sandbox.Rule{{Kind: sandbox.KindStatus, Status: 502,
			For: 5 * time.Second, Every: 10 * time.Second}}}, 100},
		{"flapping code", sandbox.Faults{Rules: []sandbox.Rule{{Kind: sandbox.KindCode, Code: 91000,
			For: 5 * time.Second, Every: 10 * time.Second}}}, 100},
	} {
		t.Run(c.name, func(t *testing.T) {
			oneIsEnough(t, false)
			inBubble(t, func(s *stack) {
				s.publishMany(topics.Live, "reader", 0, 12_000)
				c.faults.Seed = 3
				s.fault(c.faults)
				w := s.start(nil)
				time.Sleep(10 * time.Second)
				from := time.Now()
				time.Sleep(40 * time.Second)
				rate := float64(s.succeededBetween(from, time.Now())) / 40
				if rate < 0.85*c.accepts {
					t.Errorf("%.0f calls a second applied, want %.0f", rate, 0.85*c.accepts)
				}
				s.fault(sandbox.Faults{})
				w.waitSettled(t, 12_000)
				n := w.State().Totals
				if n.DeadLettered > 5 {
					t.Errorf("%d dead letters: of 15,000 conversations one fails eight times",
						n.DeadLettered)
				}
				s.mustStop(w)
				t.Logf("%.0f calls a second applied, of %.0f that the server accepts; %d "+
					"dead letters", rate, c.accepts, n.DeadLettered)
			})
		})
	}
}

// With a full backlog several calls share a wake-up: their number, more than the work, is what a
// call costs. The rate suffers little from that.
func TestCallsShareWakeUps(t *testing.T) {
	inBubble(t, func(s *stack) {
		s.publishMany(topics.Live, "reader", 0, 3000)
		w := s.start(nil)
		time.Sleep(5 * time.Second)
		from := time.Now()
		time.Sleep(5 * time.Second)
		moments, calls := map[time.Time]bool{}, 0
		for _, a := range s.sandbox.Arrivals() {
			if a.At.After(from) && a.At.Before(from.Add(5*time.Second)) {
				moments[a.At] = true
				calls++
			}
		}
		if 10*len(moments) > 7*calls || calls < 950 {
			t.Errorf("%d calls in 5 s at %d moments", calls, len(moments))
		}
		s.mustStop(w)
	})
}
