package hold

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"markread/imclient"
)

const live, backfill = 0, 1

// mustMay checks what may be called in a lane at a time.
func mustMay(t *testing.T, h *Holds, now time.Time, lane int, wantOK, wantProbe bool) {
	t.Helper()
	if ok, probe, again := h.May(now, lane); ok != wantOK || ok && probe != wantProbe {
		t.Fatalf("lane %d may be called: %v (probe: %v, again in %v), want %v (%v); held: %s", lane,
			ok, probe, again.Sub(now), wantOK, wantProbe, reasons(h))
	}
}

// feed reports records and calls in turn, until a hold begins or n are reported. kinds: v a valid
// record, i an invalid one, r a rejected call, s one that succeeded.
func feed(h *Holds, lane, n int, kinds string) (invalid, rejected int) {
	for i := range n {
		var change Change
		switch kinds[i%len(kinds)] {
		case 'v':
			h.NoteRecord(lane, false)
			continue
		case 'i':
			h.NoteRecord(lane, true)
			invalid++
			change = h.NoteOutcome(start, lane, Invalid, "no JSON", "")
		case 'r':
			rejected++
			change = h.NoteOutcome(start, lane, Rejected, "no such account", "10004")
		case 's':
			change = h.NoteOutcome(start, lane, Called, "", "")
		}
		if len(change.Begun) > 0 {
			break
		}
	}
	return invalid, rejected
}

func TestWhatMakesAHoldForRejections(t *testing.T) {
	const never = -1
	for name, row := range map[string]struct {
		kinds string
		after int // bad outcomes
	}{
		"all invalid":               {"i", 500},
		"all rejected":              {"vr", 500},
		"all bad, in turns":         {"ivr", 500},
		"mostly invalid":            {strings.Repeat("i", 24) + "vr", 500},
		"95 per cent":               {strings.Repeat("vr", 19) + "vs", 476},
		"94 per cent":               {strings.Repeat("vr", 94) + strings.Repeat("vs", 6), never},
		"half invalid":              {"ivs", never},
		"1 % invalid, calls lag":    {"i" + strings.Repeat("v", 99), never},
		"20 % invalid, no call yet": {"ivvvv", never},
		"no outcome":                {"v", never},
	} {
		t.Run(name, func(t *testing.T) {
			h := New(95)
			invalid, rejected := feed(h, backfill, 200_000, row.kinds)
			switch bad := invalid + rejected; {
			case row.after == never && len(h.Active()) > 0:
				t.Fatalf("held after %d bad outcomes: %+v", bad, h.Active())
			case row.after != never && (len(h.Active()) == 0 || bad != row.after):
				t.Fatalf("held: %q after %d bad outcomes, want it after %d", reasons(h), bad,
					row.after)
			}
		})
	}
}

// holdForRejections holds a lane for its rejections.
func holdForRejections(t *testing.T, h *Holds, lane int) {
	t.Helper()
	if _, rejected := feed(h, lane, 100_000, "vr"); rejected != 500 || !h.Held(Rejections, lane) {
		t.Fatalf("held: %q after %d", reasons(h), rejected)
	}
}

func TestRejectionsHoldOneLane(t *testing.T) {
	h := New(95)
	holdForRejections(t, h, backfill)
	mustMay(t, h, start, live, true, false)
	mustMay(t, h, at(4.9), backfill, false, false)
	for i := range 5 {
		now := at(float64(5 * (i + 1)))
		mustMay(t, h, now, backfill, true, true)
		h.ProbeSent(now, backfill)
		mustMay(t, h, now, backfill, false, false)
		mustMay(t, h, now, live, true, false)
		h.CallDone(now, "a", live, nil, noProbe) // a success of the other lane proves nothing
		h.CallDone(now, "b", backfill, nil, noProbe)
		if change := h.CallDone(now, fmt.Sprint(i), backfill, rejected,
			now); len(change.Begun)+len(change.Ended)+len(change.CauseChanged) > 0 {
			t.Fatalf("a rejected probe changed %+v", change)
		}
	}
	h.ProbeSent(at(30), backfill)
	change := h.CallDone(at(30), "x", backfill, success, at(30))
	if len(change.Ended) != 1 || change.Ended[0].Lane != backfill || h.LaneHeld(backfill) {
		t.Fatalf("a success: %+v", change)
	}
	holdForRejections(t, h, backfill) // the evidence restarted: it takes 500 again
}

// Both lanes are held, then an outage begins: each probe ends what it disproves, and no more.
func TestLaneIsProbedWhenAllItsHoldsAreDue(t *testing.T) {
	h := New(95)
	holdForRejections(t, h, live)
	for i := range noCodeCalls {
		h.CallDone(at(float64(i)/4), "a", backfill, timeout, noProbe)
	}
	if reasons(h) != "rejections outage " {
		t.Fatalf("held: %q", reasons(h))
	}
	mustMay(t, h, at(2), live, false, false) // its own probe is due at 5 s
	mustMay(t, h, at(2), backfill, true, true)
	mustMay(t, h, at(5), live, true, true)
	h.ProbeSent(at(5), live)
	mustMay(t, h, at(5), backfill, false, false)
	h.CallDone(at(5), "b", live, rejected, at(5))
	if reasons(h) != "rejections " {
		t.Fatalf("held: %q; the server spoke, but it still rejects", reasons(h))
	}
	mustMay(t, h, at(5), backfill, true, false)
}

func TestAcceptRejections(t *testing.T) {
	h := New(95)
	if change := h.AcceptRejections(""); len(change.Ended) != 0 {
		t.Fatalf("%+v", change)
	}
	holdForRejections(t, h, live) // nothing was accepted before
	if change := h.AcceptRejections(""); len(change.Ended) != 1 || h.LaneHeld(live) {
		t.Fatalf("%+v", change)
	}
	accepted := 0
	for !h.LaneHeld(live) {
		accepted++
		h.NoteRecord(live, false)
		h.NoteOutcome(start, live, Rejected, "no such account", "")
	}
	if accepted != acceptedRejections {
		t.Fatalf("held again after %d, want it after %d", accepted, acceptedRejections)
	}
	// What was accepted is forgotten when the events are good again: it was for that problem.
	h.AcceptRejections("")
	feed(h, live, 1000, "vs")
	if _, rejected := feed(h, live, 100_000, "vr"); rejected != 475 {
		t.Fatalf("held after %d, want it after 475", rejected)
	}
}

func TestRetryAfterPausesAllLanes(t *testing.T) {
	h := New(95)
	wait := func(now time.Time, seconds int) Change {
		return h.CallDone(now, "a", live,
			&imclient.Error{Class: imclient.Throttled, Label: "http_429", Status: 429,
				RetryAfter: time.Duration(seconds) * time.Second}, noProbe)
	}
	if change := wait(start, 7); len(change.Begun) != 1 || reasons(h) != "throttled " {
		t.Fatalf("%+v", change)
	}
	// ends before the first: it doesn't shorten it
	if change := wait(at(1), 3); len(change.Begun) != 0 {
		t.Fatalf("%+v", change)
	}
	for lane := range Lanes {
		if ok, _, again := h.May(at(2), lane); ok || !again.Equal(at(7)) {
			t.Fatalf("lane %d: %v, again at %v", lane, ok, again)
		}
	}
	wait(at(2), 8)
	if change := h.Expire(at(9.9)); len(change.Ended) != 0 {
		t.Fatalf("over too soon: %+v", change)
	}
	if change := h.Expire(at(10)); len(change.Ended) != 1 || h.LaneHeld(live) {
		t.Fatalf("not over: %+v", change)
	}
	if h.CallDone(at(11), "a", live, tooMany, noProbe); h.LaneHeld(live) {
		t.Fatal("held without a Retry-After")
	}
}

// An operator's pause stays, whatever else ends.
func TestAPauseOutlastsProbes(t *testing.T) {
	h := outage(t)
	h.Set(at(1), Paused, "by an operator", "", time.Time{})
	mustMay(t, h, at(100), live, false, false)
	if !h.Active()[0].NextProbe.IsZero() {
		t.Fatal("a probe is announced that will not be")
	}
	h.Clear(Paused)
	mustMay(t, h, at(100), live, true, true)
}

func TestChangedKeyIsProbedImmediately(t *testing.T) {
	h := New(95)
	h.KeyChanged(start) // nothing is held: nothing happens
	h.CallDone(start, "a", live, locked, noProbe)
	mustMay(t, h, at(59), live, false, false)
	h.KeyChanged(at(20))
	mustMay(t, h, at(20), live, true, true)
}

// A conversation that arrives during an outage is probed within a second, but not forever.
func TestNewConversationsBringProbesForward(t *testing.T) {
	h := outage(t)
	for now := 1.0; now < 15; now++ {
		h.ConversationArrived(at(now - 0.5)) // brings none forward: they are a second apart
		mustProbeAt(t, h, live, at(now))
		probe(h, at(now), live)
	}
	probe(h, at(64), live) // the next one is due at 69 s
	h.ConversationArrived(at(64.2))
	mustProbeAt(t, h, live, at(65))
	h.ProbeSent(at(65), live)
	h.ConversationArrived(at(65.5)) // while the probe is in flight
	mustProbeAt(t, h, live, at(66))
	h.ProbeSent(at(66), live)
	h.ConversationArrived(at(68))
	mustProbeAt(t, h, live, at(68))
}

// Half an hour of outage costs at most 400 probes, with steady arrivals 430: the burst of 20 and
// one a minute are brought forward, by up to 4 of 5 seconds.
func TestProbesInHalfAnHour(t *testing.T) {
	for name, row := range map[string]struct {
		arrives bool
		atMost  int
	}{"nothing arrives": {false, 400}, "ten conversations arrive per second": {true, 430}} {
		t.Run(name, func(t *testing.T) {
			h := outage(t)
			probes := 0
			for now := 0.0; now < 1800; now += 0.1 {
				if row.arrives {
					h.ConversationArrived(at(now))
				}
				if ok, _, _ := h.May(at(now), live); ok {
					probes++
					probe(h, at(now), live)
				}
			}
			if probes > row.atMost || probes < row.atMost*9/10 {
				t.Fatalf("%d probes, want at most %d", probes, row.atMost)
			}
			t.Logf("%d probes", probes)
		})
	}
}

func TestEveryReasonHasAdvice(t *testing.T) {
	for _, reason := range append(Reasons(), "?") {
		if generic := Reason("").Meaning() == reason.Meaning(); generic != (reason == "?") ||
			reason.Do() == "" {
			t.Errorf("%s: %s %s", reason, reason.Meaning(), reason.Do())
		}
	}
}
