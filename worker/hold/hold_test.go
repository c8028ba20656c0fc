package hold

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"markread/imclient"
)

var start = time.Unix(1_700_000_000, 0)

func at(seconds float64) time.Time {
	return start.Add(time.Duration(seconds * float64(time.Second)))
}

var (
	timeout  = &imclient.Error{Class: imclient.Transient, Label: "timeout"}
	internal = &imclient.Error{Class: imclient.Transient, Label: "91000", ErrorCode: 91000}
	refused  = &imclient.Error{Class: imclient.Held, Label: "70009", ErrorCode: 70009}
	locked   = &imclient.Error{Class: imclient.Held, Label: "70050", ErrorCode: 70050}
	renewed  = &imclient.Error{Class: imclient.Held, Label: "70001", ErrorCode: 70001,
		RetryWithNewSignature: true}
	rejected = &imclient.Error{Class: imclient.Rejected, Label: "90012", ErrorCode: 90012}
	tooMany  = &imclient.Error{Class: imclient.Throttled, Label: "60007", ErrorCode: 60007}
	success  *imclient.Error

	noProbe time.Time
)

func reasons(h *Holds) string {
	s := ""
	for _, a := range h.Active() {
		s += string(a.Reason) + " "
	}
	return s
}

func TestWhatBeginsAnOutage(t *testing.T) {
	mixed := func(failures, conversations int, err *imclient.Error) (results []*imclient.Error,
		ids []string) {
		for i := range 20 {
			result := success
			if i%20 < failures { // failures first, so that only the full window decides
				result = err
			}
			results, ids = append(results, result), append(ids, fmt.Sprint(i%conversations))
		}
		return results, ids
	}
	for name, row := range map[string]struct {
		failures, conversations int
		err                     *imclient.Error
		want                    string
	}{
		"5 of 5 got no response":               {5, 1, timeout, "outage "},
		"4 got no response":                    {4, 20, timeout, ""},
		"16 of 20 failed, 20 conversations":    {16, 20, internal, "outage "},
		"15 of 20 failed, 20 conversations":    {15, 20, internal, ""},
		"20 of 20 failed, but 4 conversations": {20, 4, internal, ""},
		"20 of 20 failed, 5 conversations":     {20, 5, internal, "outage "},
		"20 of 20 rejected":                    {20, 20, rejected, ""},
		"20 of 20 throttled":                   {20, 20, tooMany, ""},
		"20 of 20 signatures renewed":          {20, 20, renewed, ""},
	} {
		t.Run(name, func(t *testing.T) {
			h := New(95)
			results, ids := mixed(row.failures, row.conversations, row.err)
			// Ends with a failure: an outage begins with a failure, not with a success.
			for i := len(results) - 1; i >= 0; i-- {
				h.CallDone(at(float64(len(results)-1-i)/4), ids[i], 0, results[i], noProbe)
			}
			if got := reasons(h); got != row.want {
				t.Fatalf("held: %q, want %q", got, row.want)
			}
		})
	}
}

func TestErrorCodeRestartsTheCount(t *testing.T) {
	h := New(95)
	for range 5 {
		for range 4 {
			h.CallDone(start, "a", 0, timeout, noProbe)
		}
		h.CallDone(start, "a", 0, internal, noProbe)
	}
	if h.LaneHeld(0) {
		t.Fatal("never five in a row without an ErrorCode, of one conversation")
	}
}

// A rejection begins no outage, whatever the calls before it were: otherwise it would be reported
// as the cause.
func TestOutageBeginsWithATransientFailure(t *testing.T) {
	h := New(95)
	for i := range 19 {
		err := internal
		if i < 3 {
			err = success
		}
		h.CallDone(start, fmt.Sprint(i), 0, err, noProbe)
	}
	if h.CallDone(start, "x", 0, rejected, noProbe); h.LaneHeld(0) {
		t.Fatalf("held: %+v", h.Active())
	}
	if h.CallDone(start, "y", 0, internal, noProbe); reasons(h) != "outage " ||
		!strings.Contains(h.Active()[0].Detail, "91000") {
		t.Fatalf("held: %+v", h.Active())
	}
}

// Of two hundred calls per second of which three in ten fail, five in a row fail by chance, again
// and again.
func TestOutageNeedsASecondWithoutErrorCodes(t *testing.T) {
	h := New(95)
	for i := range 12 {
		h.CallDone(at(float64(i)*0.09), "a", 0, timeout, noProbe)
	}
	if h.LaneHeld(0) {
		t.Fatal("held after less than a second")
	}
	if h.CallDone(at(12*0.09), "a", 0, timeout, noProbe); !h.LaneHeld(0) {
		t.Fatal("not held")
	}
}

func outage(t *testing.T) *Holds {
	t.Helper()
	h := New(95)
	for i := range 5 {
		h.CallDone(at(float64(i-4)/4), "a", 0, timeout, noProbe)
	}
	if reasons(h) != "outage " {
		t.Fatalf("held: %q", reasons(h))
	}
	return h
}

// probe sends a probe of the lane, which fails immediately.
func probe(h *Holds, now time.Time, lane int) {
	h.ProbeSent(now, lane)
	h.CallDone(now, "p", lane, timeout, now)
}

// mustProbeAt checks when the lane is probed next: not a moment earlier.
func mustProbeAt(t *testing.T, h *Holds, lane int, want time.Time) {
	t.Helper()
	_, _, again := h.May(start, lane)
	if !again.Equal(want) {
		t.Fatalf("the next probe is at %v, want at %v", again.Sub(start), want.Sub(start))
	}
	mustMay(t, h, want.Add(-1), lane, false, false)
	mustMay(t, h, want, lane, true, true)
}

// The schedule: every second for 15 s, then every 2 s, after a minute every 5 s.
func TestOutageProbes(t *testing.T) {
	h := outage(t)
	now := 0.0
	for now < 600 {
		switch {
		case now < 15:
			now++
		case now < 60:
			now += 2
		default:
			now += 5
		}
		mustProbeAt(t, h, live, at(now))
		probe(h, at(now), live)
	}
}

// A probe that hangs does not delay the next one, and its late failure changes nothing.
func TestHangingProbesKeepTheSchedule(t *testing.T) {
	const hangs = 4.5
	h := outage(t)
	for now := 1.0; now <= 15; now++ {
		mustProbeAt(t, h, live, at(now))
		h.ProbeSent(at(now), live)
		if sent := now + 0.5 - hangs; sent > 0 {
			h.CallDone(at(now+0.5), "a", live, timeout, at(sent))
		}
	}
	h.CallDone(at(15.6), "b", live, success, at(15))
	if h.LaneHeld(live) {
		t.Fatal("a success did not end the outage, because other probes hang")
	}
}

// The end of a hold by one probe may precede the next hold and the responses of other probes: they
// say nothing about that one.
func TestProbeEndsNoLaterHold(t *testing.T) {
	h := outage(t)
	h.ProbeSent(at(1), live)
	h.ProbeSent(at(2), live)
	h.CallDone(at(2.1), "a", live, success, at(2))
	for i := range noCodeCalls {
		h.CallDone(at(3+float64(i)/4), "a", live, timeout, noProbe)
	}
	if h.CallDone(at(4.5), "b", live, success, at(1)); reasons(h) != "outage " {
		t.Fatalf("held: %q", reasons(h))
	}
	h.ProbeSent(at(5), live)
	if h.CallDone(at(5), "b", live, success, at(5)); h.LaneHeld(live) {
		t.Fatalf("held: %q", reasons(h))
	}
}

// A probe without a result is repeated immediately, but is none of a hold that began meanwhile.
func TestInterruptedProbeIsRepeated(t *testing.T) {
	h := outage(t)
	h.ProbeSent(at(1), live)
	h.ProbeInterrupted(at(1.5), at(1), live)
	mustProbeAt(t, h, live, at(1.5))
	h.ProbeSent(at(1.5), live)
	h.CallDone(at(1.6), "a", live, refused, noProbe)
	h.ProbeInterrupted(at(1.7), at(1.5), live)
	mustProbeAt(t, h, live, at(16.6)) // 15 s after the credentials were refused
}

func TestWhatEndsAnOutage(t *testing.T) {
	for name, row := range map[string]struct {
		err   *imclient.Error
		probe bool
		want  string
	}{
		"success":                       {success, true, ""},
		"rejected":                      {rejected, true, ""},
		"throttled":                     {tooMany, true, ""},
		"refused: another hold":         {refused, true, "credentials "},
		"no response":                   {timeout, true, "outage "},
		"a transient code":              {internal, true, "outage "},
		"success of a call sent before": {success, false, "outage "},
	} {
		t.Run(name, func(t *testing.T) {
			h := outage(t)
			h.ProbeSent(at(1), 0)
			sent := noProbe
			if row.probe {
				sent = at(1)
			}
			change := h.CallDone(at(1), "b", 0, row.err, sent)
			if got := reasons(h); got != row.want {
				t.Fatalf("held: %q, want %q", got, row.want)
			}
			if ended := len(change.Ended) == 1; ended != (row.want != "outage ") {
				t.Fatalf("change: %+v", change)
			}
		})
	}
}

func TestEndedOutageRestartsTheEvidence(t *testing.T) {
	h := outage(t)
	h.CallDone(at(1), "b", 0, success, at(1))
	for range 4 {
		h.CallDone(at(1), "a", 0, timeout, noProbe)
	}
	if h.LaneHeld(0) {
		t.Fatal("the evidence of the first outage was used twice")
	}
}

func TestCredentials(t *testing.T) {
	h := New(95)
	h.CallDone(start, "a", 0, renewed, noProbe)
	if h.LaneHeld(0) {
		t.Fatal("held before a new signature was tried")
	}
	change := h.CallDone(start, "a", 0, refused, noProbe)
	if len(change.Begun) != 1 || reasons(h) != "credentials " {
		t.Fatalf("change: %+v", change)
	}
	if change := h.CallDone(start, "b", 0, refused,
		noProbe); len(change.Begun)+len(change.Ended) != 0 {
		t.Fatalf("a second refusal of a call sent before: %+v", change)
	}
	for _, row := range []struct {
		err  *imclient.Error
		wait time.Duration
	}{{refused, 15 * time.Second}, {timeout, 15 * time.Second}, {locked, time.Minute},
		{refused, 15 * time.Second}} {
		now := at(100)
		h.ProbeSent(now, 0)
		h.CallDone(now, "a", 0, row.err, now)
		if ok, _, again := h.May(now, 0); ok || again.Sub(now) != row.wait {
			t.Fatalf("after %v the next probe is in %v, want in %v", row.err.Label, again.Sub(now),
				row.wait)
		}
	}
	h.ProbeSent(at(200), 0)
	if h.CallDone(at(200), "a", 0, rejected, at(200)); h.LaneHeld(0) {
		t.Fatal("the server spoke about the call itself: the credentials are right")
	}
}

// The detail follows the probes: an operator who fixes the key while the server is down must see
// that.
func TestTheDetailFollowsTheCause(t *testing.T) {
	h := New(95)
	h.CallDone(start, "a", 0, refused, noProbe)
	for _, row := range []struct {
		err     *imclient.Error
		shifted bool
	}{{refused, false}, {locked, true}, {timeout, true}, {timeout, false}} {
		h.ProbeSent(at(15), 0)
		change := h.CallDone(at(15), "a", 0, row.err, at(15))
		if causeChanged := len(change.CauseChanged) == 1; causeChanged != row.shifted {
			t.Fatalf("after %s: %+v", row.err.Label, change)
		}
		if detail := h.Active()[0].Detail; !strings.Contains(detail, row.err.Meaning()) {
			t.Fatalf("after %s the detail is %q", row.err.Label, detail)
		}
	}
}

func TestNewSignatureIsProbedImmediately(t *testing.T) {
	h := New(95)
	h.CallDone(start, "a", 0, refused, noProbe)
	h.ProbeSent(at(15), 0)
	h.CallDone(at(15), "a", 0, renewed, at(15))
	if ok, probe, _ := h.May(at(15), 0); !ok || !probe {
		t.Fatal("the new signature is not tried")
	}
}

func TestSpread(t *testing.T) {
	h := New(95)
	h.Spread(start, 4)
	h.CallDone(start, "a", 0, refused, noProbe)
	if _, _, again := h.May(start, 0); again.Sub(start) != time.Minute {
		t.Fatalf("a worker with a quarter of the partitions probes after %v", again.Sub(start))
	}
	h.Spread(at(20), 1)
	if _, _, again := h.May(at(20), 0); !again.Equal(at(35)) {
		t.Fatalf("now that it has them all, it probes after %v, want after 15 s", again.Sub(at(20)))
	}
	h.Spread(at(21), 8)
	if _, _, again := h.May(at(21), 0); !again.Equal(at(35)) {
		t.Fatal("a probe was put off")
	}
}

// A probe that was in flight when a hold began does not end the hold if only its owner may.
func TestProbeEndsOnlyProbedHolds(t *testing.T) {
	h := outage(t)
	h.ProbeSent(at(1), 0)
	h.Set(at(1), Quota, "no permits", "", time.Time{})
	if h.CallDone(at(1), "b", 0, success, at(1)); reasons(h) != "quota " {
		t.Fatalf("held: %q", reasons(h))
	}
}

// A worker with a quarter of the partitions probes a quarter as often, at any age of an outage.
func TestSpreadMultipliesTheSchedule(t *testing.T) {
	h := New(95)
	h.Spread(at(-1), 4)
	for i := range noCodeCalls {
		h.CallDone(at(float64(i-4)/4), "a", live, timeout, noProbe)
	}
	for _, seconds := range []float64{4, 8, 12, 16, 24, 32, 40, 48, 56, 64, 84, 104} {
		mustProbeAt(t, h, live, at(seconds))
		probe(h, at(seconds), live)
	}
}

func TestAHoldWithoutProbes(t *testing.T) {
	h := New(95)
	if change := h.Set(start, Quota, "no permits", "", time.Time{}); len(change.Begun) != 1 {
		t.Fatalf("change: %+v", change)
	}
	if change := h.Set(at(1), Quota, "no permits", "", time.Time{}); len(change.Begun) != 0 {
		t.Fatal("begun twice")
	}
	if ok, _, again := h.May(at(1000), 0); ok || !again.IsZero() {
		t.Fatal("called while held")
	}
	if change := h.Clear(Quota); len(change.Ended) != 1 || h.LaneHeld(0) {
		t.Fatalf("change: %+v", change)
	}
}
