package quota

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"golang.org/x/time/rate"
)

// arrivals makes calls as early as the quota allows. Each arrives at any time between its sending
// and its response. It returns the times of arrival, sorted.
func arrivals(seed uint64, q *Quota, now time.Time, calls int, pause bool) []time.Time {
	r := rand.New(rand.NewPCG(seed, 1))
	var arrived, responses []time.Time
	for len(arrived) < calls {
		ok, again := q.Take(now)
		if ok {
			latency := time.Duration(r.Int64N(int64(3 * time.Second)))
			if r.IntN(3) > 0 {
				latency /= 1000
			}
			arrived = append(arrived, now.Add(time.Duration(r.Int64N(int64(latency)+1))))
			at, _ := slices.BinarySearchFunc(responses, now.Add(latency), time.Time.Compare)
			responses = slices.Insert(responses, at, now.Add(latency))
			continue
		}
		if len(responses) > 0 && (again.IsZero() || responses[0].Before(again)) {
			now = later(now, responses[0])
			responses = responses[1:]
			q.Return(now)
		} else {
			now = later(now, again)
		}
		if pause && r.IntN(50) == 0 { // the process is suspended
			now = now.Add(time.Duration(r.Int64N(int64(2 * time.Second))))
		}
	}
	slices.SortFunc(arrived, time.Time.Compare)
	return arrived
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func densest(arrived []time.Time) int {
	most, first := 0, 0
	for i := range arrived {
		for arrived[i].Sub(arrived[first]) >= time.Second {
			first++
		}
		most = max(most, i-first+1)
	}
	return most
}

func TestNoSecondHoldsMoreThanN(t *testing.T) {
	for seed := range uint64(200) {
		n := 1 + int(seed)%20
		start := time.Unix(0, 0)
		q := New()
		q.Reset(n, start)
		if got := densest(arrivals(seed, q, start, 1500, seed%2 == 0)); got > n {
			t.Fatalf("seed %d: %d calls arrived within a second, %d are allowed", seed, got, n)
		}
	}
}

// The check above can fail: a limiter of send times fails it.
func TestSendTimeLimiterIsNotEnough(t *testing.T) {
	q := Uncapped(1000)
	q.pace = rate.NewLimiter(20, 20)
	if got := densest(arrivals(1, q, time.Unix(0, 0), 1500, false)); got <= 20 {
		t.Fatalf("only %d arrivals in a second: the test of the promise would not detect a "+
			"broken quota", got)
	}
}

func TestCallsAreSpread(t *testing.T) {
	now := time.Unix(0, 0)
	q := New()
	q.Reset(200, now)
	now = now.Add(Window + time.Minute) // long idle
	volley := 0
	for {
		ok, _ := q.Take(now)
		if !ok {
			break
		}
		volley++
	}
	if volley != 5 {
		t.Fatalf("%d calls went together, want a fortieth of the rate", volley)
	}
}

// Asking up to Slack later than Take returned takes half as many wake-ups, and costs few calls.
func TestSlackCostsFewCalls(t *testing.T) {
	for _, n := range []int{1, 20, 40, 100, 200, 400} {
		calls := func(late bool) (sent, wakes int) {
			now := time.Unix(0, 0)
			q := New()
			q.Reset(n, now)
			var inFlight []time.Time
			for end := now.Add(time.Minute); now.Before(end); {
				for len(inFlight) > 0 && !inFlight[0].After(now) {
					q.Return(inFlight[0])
					inFlight = inFlight[1:]
				}
				ok, again := q.Take(now)
				for wakes++; ok; ok, again = q.Take(now) {
					sent++
					inFlight = append(inFlight, now.Add(2*time.Millisecond))
				}
				if late && !again.IsZero() {
					again = again.Add(q.Slack(now))
				} else if again.IsZero() {
					again = inFlight[0]
				}
				now = later(now, again)
			}
			return sent, wakes
		}
		late, wakes := calls(true)
		exact, _ := calls(false)
		if float64(late) < 0.995*float64(exact)-1 {
			t.Errorf("rate %d: %d calls in a minute, %d without slack", n, late, exact)
		}
		if n >= 200 && 10*wakes > 6*late {
			t.Errorf("rate %d: %d calls took %d wake-ups", n, late, wakes)
		}
	}
}

// When nearly all calls hang the pace is slow, but nothing may wait much longer than usual.
func TestSlackIsShortWhenCallsHang(t *testing.T) {
	now := time.Unix(0, 0)
	q := New()
	q.Reset(200, now)
	for q.InFlight() < 200 {
		if ok, again := q.Take(now); !ok {
			now = later(now, again)
		}
		if slack := q.Slack(now); slack > 15*time.Millisecond {
			t.Fatalf("with %d calls in flight the slack is %v", q.InFlight(), slack)
		}
	}
}

// With a full backfill there is no gap that a live event has to wait out: the next call is always
// soon, and the throughput equals the permits'.
func TestNoGapBetweenCalls(t *testing.T) {
	const n = 200
	for _, latency := range []time.Duration{25 * time.Millisecond, 100 * time.Millisecond,
		500 * time.Millisecond} {
		now := time.Unix(0, 0)
		q := New()
		q.Reset(n, now)
		var inFlight []time.Time
		last, longest, sent := now, time.Duration(0), 0
		settled := now.Add(10 * time.Second)
		for end := settled.Add(time.Minute); now.Before(end); {
			if len(inFlight) > 0 && !inFlight[0].After(now) {
				q.Return(now)
				inFlight = inFlight[1:]
				continue
			}
			ok, again := q.Take(now)
			if ok {
				if now.After(settled) {
					longest = max(longest, now.Sub(last))
					sent++
				}
				last = now
				inFlight = append(inFlight, now.Add(latency))
				continue
			}
			if again.IsZero() || len(inFlight) > 0 && inFlight[0].Before(again) {
				again = inFlight[0]
			}
			now = later(now, again)
		}
		if longest > 60*time.Millisecond {
			t.Errorf("latency %v: no call for %v", latency, longest)
		}
		if want := 60 * n / (Window + latency).Seconds(); float64(sent) < 0.99*want {
			t.Errorf("latency %v: %d calls in a minute, want about %.0f", latency, sent, want)
		}
	}
}

func TestPermitsCoolAfterATakeover(t *testing.T) {
	now := time.Unix(0, 0)
	q := New()
	q.Reset(10, now)
	if ok, again := q.Take(now); ok || !again.Equal(now.Add(Window)) {
		t.Fatalf("Take right after Reset = %v, %v; want to wait until %v", ok, again,
			now.Add(Window))
	}
	now = now.Add(Window)
	if ok, _ := q.Take(now); !ok {
		t.Fatal("no permit after the window")
	}
	// A takeover while a call is in flight: its permit stays with it.
	q.Reset(1, now)
	now = now.Add(time.Hour)
	if ok, again := q.Take(now); ok || !again.IsZero() {
		t.Fatalf("Take = %v, %v; the only permit is with the call in flight", ok, again)
	}
	q.Return(now)
	if ok, again := q.Take(now.Add(Window - 1)); ok || !again.Equal(now.Add(Window)) {
		t.Fatalf("Take = %v, %v before the window had passed", ok, again)
	}
	if ok, _ := q.Take(now.Add(Window)); !ok {
		t.Fatal("no permit one window after the response")
	}
}

// A worker whose limit is growing back takes over: the permits that it grows by meanwhile cool,
// too.
func TestGrowingPermitsCoolAfterATakeover(t *testing.T) {
	now := time.Unix(0, 0)
	q := New()
	q.Reset(10, now)
	now = now.Add(Window)
	if ok, _ := q.Take(now); !ok {
		t.Fatal("no permit")
	}
	q.Return(now)
	q.Shrink(now, now)
	now = now.Add(10 * time.Second)
	q.Reset(200, now)
	limit := q.Limit(now)
	for soon := now; soon.Before(now.Add(Window)); soon = soon.Add(10 * time.Millisecond) {
		if ok, _ := q.Take(soon); ok {
			t.Fatalf("a call %v after a takeover, when the limit had grown from %d to %d",
				soon.Sub(now), limit, q.Limit(soon))
		}
	}
}

func TestFewerPermitsThanCalls(t *testing.T) {
	now := time.Unix(0, 0)
	q := New()
	q.Reset(3, now)
	now = now.Add(Window)
	for range 3 {
		if ok, _ := q.Take(now); !ok {
			now = now.Add(Window) // the pace
			if ok, _ := q.Take(now); !ok {
				t.Fatal("no permit")
			}
		}
	}
	q.Return(now)
	q.Return(now.Add(time.Second))
	q.Reset(4, now.Add(time.Second)) // one is in flight, so three cool
	if got := q.Cooling(now.Add(time.Second)); got != 3 || q.InFlight() != 1 {
		t.Fatalf("%d cool and %d are in flight, of 4", got, q.InFlight())
	}
	q.Reset(2, now.Add(time.Second))
	if ok, again := q.Take(now.Add(2 * time.Second)); ok ||
		!again.Equal(now.Add(time.Second+Window)) {
		t.Fatalf("Take = %v, %v", ok, again)
	}
}

// With fewer permits than calls in the last second, the first that returns is not free yet.
func TestAskAgainWhenAPermitIsFree(t *testing.T) {
	now := time.Unix(0, 0)
	p := permits{n: 1, window: Window, cooling: []time.Time{now.Add(1), now.Add(2), now.Add(3)}}
	if ok, again := p.free(now); ok || !again.Equal(now.Add(3)) {
		t.Fatalf("free = %v, %v; want to ask again when the third comes back", ok, again)
	}
}

func TestNoPermitNoCall(t *testing.T) {
	now := time.Unix(0, 0)
	q := New()
	q.Reset(0, now)
	if ok, again := q.Take(now.Add(time.Hour)); ok || !again.IsZero() {
		t.Fatalf("Take = %v, %v with a share of 0", ok, again)
	}
}

func TestUncappedBoundsCallsInFlight(t *testing.T) {
	now := time.Unix(0, 0)
	q := Uncapped(2)
	for range 1000 {
		for range 2 {
			if ok, _ := q.Take(now); !ok {
				t.Fatal("refused below the bound")
			}
		}
		if ok, again := q.Take(now); ok || !again.IsZero() {
			t.Fatal("a third call while two are in flight")
		}
		q.Return(now)
		q.Return(now)
	}
}

func TestSharesAddUp(t *testing.T) {
	for rate := range 30 {
		for partitions := 1; partitions <= 24; partitions++ {
			owner := make([]int, partitions) // by the definition: one permit after another
			for i := range rate {
				owner[i*partitions/rate]++
			}
			sum := 0
			for p := range partitions {
				share := Share(rate, partitions, []int{p})
				if share != owner[p] {
					t.Fatalf("Share(%d, %d, {%d}) = %d, want %d", rate, partitions, p, share,
						owner[p])
				}
				sum += share
			}
			if sum != rate {
				t.Fatalf("rate %d over %d partitions: the shares add up to %d", rate, partitions,
					sum)
			}
		}
	}
}
