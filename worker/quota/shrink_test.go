package quota

import (
	"testing"
	"time"
)

var start = time.Unix(1_700_000_000, 0)

// server allows so many calls in any second, and refuses the others; only accepted calls count.
type server struct {
	allowed  int
	accepted []time.Time
}

func (s *server) accepts(now time.Time) bool {
	for len(s.accepted) > 0 && now.Sub(s.accepted[0]) >= time.Second {
		s.accepted = s.accepted[1:]
	}
	if len(s.accepted) >= s.allowed {
		return false
	}
	s.accepted = append(s.accepted, now)
	return true
}

// results is what one caller got in a period.
type results struct{ accepted, refused int }

// call makes calls as fast as the quotas allow, each quota for its own caller, until end.
func (s *server) call(from, end time.Time, latency time.Duration, quotas ...*Quota) results {
	type response struct {
		sent, at time.Time
		taken    bool
		of       *Quota
	}
	var n results
	var inFlight []response
	for now := from; now.Before(end); now = now.Add(time.Millisecond) {
		for len(inFlight) > 0 && !inFlight[0].at.After(now) {
			a := inFlight[0]
			inFlight = inFlight[1:]
			a.of.Return(a.at)
			if a.taken {
				n.accepted++
				continue
			}
			n.refused++
			a.of.Shrink(a.at, a.sent)
		}
		for _, q := range quotas {
			if ok, _ := q.Take(now); ok {
				inFlight = append(inFlight,
					response{now, now.Add(latency), s.accepts(now.Add(latency / 2)), q})
			}
		}
	}
	for _, a := range inFlight {
		a.of.Return(a.at)
	}
	return n
}

// A server that allows 120 calls a second, or 150, while we believe in 200; then it allows 200
// again.
func TestShrinkingFindsWhatTheServerAllows(t *testing.T) {
	for _, row := range []struct {
		allowed, callers int
		latency          time.Duration
	}{{120, 1, 5 * time.Millisecond}, {120, 1, 100 * time.Millisecond},
		{150, 1, 20 * time.Millisecond}, {120, 4, 20 * time.Millisecond}} {
		s := &server{allowed: row.allowed}
		quotas := make([]*Quota, row.callers)
		for i := range quotas {
			quotas[i] = New()
			quotas[i].Reset(200/row.callers, start)
		}
		at := func(seconds int) time.Time { return start.Add(time.Duration(seconds) * time.Second) }
		s.call(at(0), at(10), row.latency, quotas...)
		n := s.call(at(10), at(70), row.latency, quotas...)
		share := float64(n.refused) / float64(n.accepted+n.refused)
		t.Logf("%d a second for %d, %v: %.1f %% of it accepted, %.2f %% refused", row.allowed,
			row.callers, row.latency, 100*float64(n.accepted)/60/float64(row.allowed), 100*share)
		// a permit is held as long as its call is in flight
		if float64(n.accepted) < 60*0.88*float64(row.allowed)/(1+row.latency.Seconds()) ||
			share > 0.02 {
			t.Errorf("%+v in a minute: %.1f a second, %.2f %% refused", n, float64(n.accepted)/60,
				100*share)
		}
		s.allowed = 200
		s.call(at(70), at(115), row.latency, quotas...)
		if n := s.call(at(115), at(125), row.latency,
			quotas...); n.accepted < int(10*190/(1+row.latency.Seconds())) {
			t.Errorf("%d calls in the 10 s from 45 s after the server allows 200 again", n.accepted)
		}
	}
}

func TestABurstOfRefusalsCountsOnce(t *testing.T) {
	q := New()
	q.Reset(200, start)
	sent := start.Add(2 * time.Second)
	now := sent
	for range 50 {
		now = now.Add(time.Millisecond)
		q.Shrink(now, sent)
	}
	if n := q.Limit(now); n != 170 {
		t.Errorf("after one burst %d of 200 may be used, want 170", n)
	}
	if q.Shrink(now, now.Add(-time.Microsecond)); q.Limit(now) != 144 {
		n := q.Limit(now)
		t.Errorf("a call that was sent after the shrinking was refused: %d may be used, want 144",
			n)
	}
	if q.Share() != 200 {
		t.Errorf("the share is %d", q.Share())
	}
}

func TestLimitIsAtLeastOne(t *testing.T) {
	q := New()
	q.Reset(3, start)
	now := start
	for range 100 {
		now = now.Add(time.Millisecond)
		q.Shrink(now, now)
	}
	if n := q.Limit(now); n != 1 {
		t.Errorf("%d may be used, want 1", n)
	}
	if n := q.Limit(now.Add(growAll)); n != 3 {
		t.Errorf("later %d may be used, want 3", n)
	}
}

// A rebalance keeps what the server allows, and a share of nothing stays nothing.
func TestResetKeepsTheReducedFraction(t *testing.T) {
	q := New()
	q.Reset(200, start)
	q.Shrink(start.Add(time.Second), start.Add(time.Second))
	for share, want := range map[int]int{100: 85, 0: 0, 200: 170} {
		q.Reset(share, start.Add(time.Second))
		if n := q.Limit(start.Add(time.Second)); n != want {
			t.Errorf("of a share of %d, %d may be used, want %d", share, n, want)
		}
	}
}

// A refusal that arrives when there is no longer a share must not make the next share start with
// nothing.
func TestRefusalWithoutAShare(t *testing.T) {
	q := New()
	q.Reset(0, start)
	q.Shrink(start.Add(time.Second), start.Add(time.Second))
	q.Reset(200, start.Add(time.Second))
	if n := q.Limit(start.Add(time.Second)); n != 200 {
		t.Errorf("%d may be used", n)
	}
}

func TestUncappedDoesNotShrink(t *testing.T) {
	q := Uncapped(10)
	q.Shrink(start, start)
	if n := q.Limit(start); n != 10 {
		t.Errorf("%d", n)
	}
}
