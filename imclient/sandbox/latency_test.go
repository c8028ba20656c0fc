package sandbox_test

import (
	"context"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"markread/imclient/sandbox"
)

// Latency delays only the response: the stamp and the call's effect come before it. A client that
// disconnects ends the wait.
func TestLatency(t *testing.T) {
	elapsed := func(t *testing.T, s *sandbox.Server) time.Duration {
		start := time.Now()
		markRead(t, s, "a", "b")
		return time.Since(start)
	}
	synctest.Test(t, func(t *testing.T) {
		s := openServer()
		setFaults(t, s, sandbox.Faults{Latency: sandbox.Latency{Min: 20 * time.Millisecond}})
		if got := elapsed(t, s); got != 20*time.Millisecond {
			t.Errorf("fixed: %v", got)
		}
		setFaults(t, s, sandbox.Faults{Latency: sandbox.Latency{Min: 10 * time.Millisecond,
			Max: 30 * time.Millisecond}})
		low, high := time.Hour, time.Duration(0)
		for range 500 {
			got := elapsed(t, s)
			low, high = min(low, got), max(high, got)
		}
		if low < 10*time.Millisecond || low > 11*time.Millisecond || high > 30*time.Millisecond ||
			high < 29*time.Millisecond {
			t.Errorf("10 to 30 ms: from %v to %v", low, high)
		}
		setFaults(t, s, sandbox.Faults{Latency: sandbox.Latency{P50: 100 * time.Millisecond,
			P99: 10 * time.Second, Max: 15 * time.Second}})
		var above50, above99, above15 int
		for range 5000 {
			switch got := elapsed(t, s); {
			case got > 15*time.Second:
				above15++
			case got > 10*time.Second:
				above99++
				fallthrough
			case got > 100*time.Millisecond:
				above50++
			}
		}
		if above50 < 2350 || above50 > 2650 || above99 < 20 || above99 > 90 || above15 > 0 {
			t.Errorf("of 5000: %d above the median, %d above the 99th percentile, "+
				"%d above the maximum", above50, above99, above15)
		}

		setFaults(t, s, sandbox.Faults{Latency: sandbox.Latency{Min: time.Minute}})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		before := time.Now()
		if _, _, err := postRead(t, ctx, overPipes(t, s), "http://im.test", "alice"); err == nil {
			t.Error("got a response in time")
		}
		synctest.Wait()
		log := s.Arrivals()
		last := log[len(log)-1]
		if !last.At.Equal(before) || !last.Applied || last.Status != 0 || last.Code != -1 ||
			s.Stats().InFlight != 0 {
			t.Errorf("logged: %+v, sent at %v", last, before)
		}
	})
}

func TestSkew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openServer()
		q := query(t)
		setFaults(t, s, sandbox.Faults{Skew: time.Hour})
		a := call(t, s, readPath, q, `{"Report_Account":"a","Peer_Account":"b"}`)
		want := time.Now().Add(time.Hour)
		if a.header.Get("Date") != want.UTC().Format(http.TimeFormat) {
			t.Errorf("Date %q, want %v", a.header.Get("Date"), want)
		} else if got, _ := s.ReadTime("a", "b"); got != want.Unix() {
			t.Errorf("pointer %d, want %d", got, want.Unix())
		}
		setFaults(t, s, sandbox.Faults{Skew: 25 * time.Hour})
		if got := call(t, s, readPath, q, `{}`).ErrorCode; got != 70001 {
			t.Errorf("a day later: %d, want 70001", got)
		}
	})
}
