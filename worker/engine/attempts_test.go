package engine

import (
	"fmt"
	"testing"
	"time"

	"markread/imclient"
	"markread/worker/hold"
)

// startCalls receives an event of each of n conversations, and starts their calls.
func (r *rig) startCalls(n int) (calls []*Call) {
	for i := range n {
		r.receiveOne(fmt.Sprint(i), 1)
	}
	for i := range n {
		calls = append(calls, r.mustCall(start, fmt.Sprint(i)))
	}
	return calls
}

// Which failures count as attempts of a conversation.
func TestAttempts(t *testing.T) {
	for name, row := range map[string]struct {
		failure *imclient.Error
		others  *imclient.Error // what another conversation gets before each failure; nil: success
		want    int
	}{
		"an ErrorCode counts":                              {internal, nil, 1},
		"no response counts while others get one":          {timeout, nil, 1},
		"no response counts, the other's was a rejection":  {timeout, unknown, 1},
		"no response doesn't count when no other gets one": {timeout, timeout, 0},
		"throttling doesn't count":                         {tooMany, nil, 0},
		"a refused signature doesn't count":                {expired, nil, 0},
		"a refused call doesn't count":                     {refused, nil, 0},
		"a key that can't be read doesn't count":           {noKey, nil, 0},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.receiveOne("a", 1)
			c := r.mustCall(start, "a")
			r.receiveOne("b", 1)
			r.CallDone(start, r.mustCall(start, "b"), row.others)
			r.CallDone(start, c, row.failure)
			if c.conversation.Attempts() != row.want {
				t.Fatalf("%d attempts, want %d", c.conversation.Attempts(), row.want)
			}
		})
	}
}

func TestCallNotSentIsNotCounted(t *testing.T) {
	r := newRig(t)
	r.receiveOne("a", 1)
	r.CallDone(start, r.mustCall(start, "a"), noKey)
	if r.calls != 0 || len(r.holds.Active()) != 1 {
		t.Fatalf("%d calls, held %v", r.calls, r.holds.Active())
	}
}

// Without an ErrorCode, a failure counts only if another conversation got an ErrorCode since the
// previous attempt.
func TestTimeoutCountsOncePerResponseToOthers(t *testing.T) {
	r := newRig(t)
	r.receiveOne("a", 1)
	r.receiveOne("b", 1)
	c := r.mustCall(start, "a")
	r.CallDone(start, r.mustCall(start, "b"), nil)
	r.CallDone(start, c, timeout)
	for i := range 3 {
		now := at(float64(10 * (i + 1)))
		r.CallDone(now, r.mustCall(now, "a"), timeout)
	}
	if c.conversation.Attempts() != 1 {
		t.Fatalf("%d attempts, want 1: no other call got a response since", c.conversation.Attempts())
	}
}

// In an outage in which some calls get no response and others a transient ErrorCode, probes without
// a response are no attempts, however many others get one.
func TestMixedOutageExhaustsNoConversation(t *testing.T) {
	r := newRig(t)
	inFlight := r.startCalls(6)
	for _, c := range inFlight {
		r.CallDone(start, c, timeout)
	}
	now := start
	for probes := 0; probes < 100; {
		probe, again := r.Next(now)
		if probe == nil {
			now = again
			continue
		}
		probes++
		if probe.Read.Report == "0" {
			r.CallDone(now, probe, internal)
		} else {
			r.CallDone(now, probe, timeout)
		}
	}
	if r.letters.len() != 0 || !r.holds.Held(hold.Outage, hold.All) {
		t.Fatalf("%d dead letters, held %v", r.letters.len(), r.holds.Active())
	}
}

// While calls are held no failure counts against a conversation, and the end of the hold brings the
// waiting retries forward.
func TestHoldCountsNoAttemptsAndItsEndRetriesSoon(t *testing.T) {
	r := newRig(t)
	r.options.Backoff = imclient.NewBackoff(time.Hour, time.Hour)
	r.options.Jitter = func(_ string, failures int) float64 { return min(0.5, float64(failures)) }
	inFlight := r.startCalls(30)
	for i, c := range inFlight {
		r.CallDone(start, c, internal)
		// the 20th begins the outage
		if want := 1 - i/19; c.conversation.Attempts() != max(0, want) {
			t.Fatalf("call %d: %d attempts", i, c.conversation.Attempts())
		}
	}
	probe, _ := r.Next(at(1))
	r.CallDone(at(1), probe, internal)
	if probe.conversation.Attempts() > 1 {
		t.Fatal("a probe was counted")
	}
	probe, _ = r.Next(at(3))
	r.CallDone(at(3), probe, unknown) // ends the outage, and is no attempt
	if got := r.NextLetters(1)[0].Attempts; got > 1 {
		t.Fatalf("%d attempts", got)
	}
	if todo, again := r.Next(at(3)); todo == nil && again.After(at(5)) {
		t.Fatalf("what waited for the outage's end is retried at %v", again)
	}
}

func TestExhausted(t *testing.T) {
	r := newRig(t)
	r.receiveOne("a", 1)
	now := start
	for i := range 3 {
		now = now.Add(10 * time.Second)
		c := r.mustCall(now, "a")
		if i == 1 {
			r.receiveOne("a", 2) // new events don't grant new attempts
		}
		r.CallDone(now, c, internal)
	}
	if todo, _ := r.Next(now.Add(time.Hour)); todo != nil {
		t.Fatal("called after the last attempt")
	}
	l := r.NextLetters(1)[0]
	if l.Class != "exhausted" || l.Code != "91000" || l.Attempts != 3 || l.Collapsed != 2 ||
		l.Event.ReadTime != 2 {
		t.Fatalf("dead letter %+v", l.DeadLetter)
	}
}

func TestRetriesBackOff(t *testing.T) {
	r := newRig(t)
	r.options.Attempts = 100
	r.receiveOne("a", 1)
	now := start
	for _, wait := range []float64{.1, .2, .4, .8, 1, 1} {
		r.CallDone(now, r.mustCall(now, "a"), internal)
		todo, again := r.Next(now)
		if want := now.Add(time.Duration(wait * float64(time.Second))); todo != nil ||
			!again.Equal(want) {
			t.Fatalf("again after %v, want %v s", again.Sub(now), wait)
		}
		now = again
	}
}

func TestExpiredSignatureIsRenewedWithoutHold(t *testing.T) {
	r := newRig(t)
	r.receiveOne("a", 1)
	r.CallDone(start, r.mustCall(start, "a"), expired)
	r.CallDone(start, r.mustCall(start, "a"), nil) // immediately
	if r.holds.LaneHeld(0) || r.finishedAs()[Applied] != 1 {
		t.Fatalf("held %v, outcomes %v", r.holds.Active(), r.finishedAs())
	}
}

// A conversation whose signature is refused repeatedly, while others succeed with it, gets one new
// signature. After that the refusal counts, and it uses up its attempts like any other.
func TestSignatureIsRenewedOncePerConversation(t *testing.T) {
	r := newRig(t)
	ambiguous := &imclient.Error{Class: imclient.Transient, Label: "60004", ErrorCode: 60004,
		RetryWithNewSignature: true}
	r.receiveOne("a", 1)
	now := start
	for calls := 1; r.letters.len() == 0; calls++ {
		if calls > 2*r.options.Attempts {
			t.Fatalf("%d calls and no dead letter", calls)
		}
		r.CallDone(now, r.mustCall(now, "a"), ambiguous)
		r.receiveOne(fmt.Sprint("other", calls), 1)
		r.CallDone(now, r.mustCall(now, fmt.Sprint("other", calls)), nil)
		now = now.Add(5 * time.Second)
	}
	if l := r.NextLetters(1)[0]; l.Class != "exhausted" || l.Attempts != r.options.Attempts {
		t.Fatalf("dead letter %+v", l.DeadLetter)
	}
}

// Only the very next attempt is the one with the new signature: after another failure it may get
// one again.
func TestSignatureIsRenewedAgainAfterAnotherFailure(t *testing.T) {
	r := newRig(t)
	r.receiveOne("a", 1)
	for i, failure := range []*imclient.Error{expired, timeout, expired} {
		now := at(float64(10 * i))
		r.CallDone(now, r.mustCall(now, "a"), failure)
	}
	if r.holds.LaneHeld(0) {
		t.Fatalf("held %v, though no call with the new signature got a response", r.holds.Active())
	}
	r.CallDone(at(20), r.mustCall(at(20), "a"), expired)
	if !r.holds.LaneHeld(0) {
		t.Fatal("refused twice in a row, and not believed")
	}
}

func TestInterruptedCallIsNotAFailure(t *testing.T) {
	r := newRig(t)
	r.receiveOne("a", 1)
	c := r.mustCall(start, "a")
	r.CallInterrupted(start, c)
	if c.conversation.Attempts() != 0 || c.conversation.Calls().Failures != 0 || r.calls != 0 ||
		r.holds.LaneHeld(0) || r.quota.InFlight() != 0 {
		t.Fatalf("%+v", c.conversation)
	}
	r.mustCall(start, "a")
}

// An outage holds, nothing is dead-lettered, probes rotate, and its end releases everything.
func TestOutage(t *testing.T) {
	r := newRig(t)
	r.options.Attempts = 1
	for i := range 50 {
		r.receiveOne(fmt.Sprint(i), 1)
	}
	now := start
	calls := 0
	for now.Before(at(1800)) {
		todo, again := r.Next(now)
		if todo == nil {
			if again.IsZero() {
				t.Fatal("nothing will ever happen again")
			}
			now = again
			continue
		}
		calls++
		r.CallDone(now, todo, timeout)
	}
	if calls > 450 {
		t.Errorf("%d calls in half an hour of outage, want at most 450", calls)
	}
	if r.letters.len() != 0 || !r.holds.LaneHeld(0) {
		t.Fatalf("%d dead letters, holds %v", r.letters.len(), r.holds.Active())
	}
	for now.Before(at(1810)) && r.backlog.Len() > 0 {
		if todo, again := r.Next(now); todo != nil {
			r.CallDone(now, todo, nil)
		} else {
			now = again
		}
	}
	if r.holds.LaneHeld(0) || r.finishedAs()[Applied] != 50 {
		t.Fatalf("10 s after the outage: held %v, outcomes %v", r.holds.Active(), r.finishedAs())
	}
}

// A probe is sent while calls are held. It counts no attempt, even if it hangs until after another
// probe has ended the hold.
func TestProbeThatOutlivesItsHoldIsNoAttempt(t *testing.T) {
	r := newRig(t)
	inFlight := r.startCalls(6)
	for i, c := range inFlight {
		r.CallDone(at(float64(i)/5), c, timeout)
	}
	hangs, _ := r.Next(at(2))
	ends, _ := r.Next(at(3))
	if hangs == nil || ends == nil || !hangs.Probe || !ends.Probe {
		t.Fatal("no probes")
	}
	r.CallDone(at(3), ends, nil)
	if r.holds.LaneHeld(0) {
		t.Fatal("still held")
	}
	r.CallDone(at(7), hangs, timeout)
	if n := hangs.conversation.Attempts(); n != 0 {
		t.Errorf("%d attempts", n)
	}
}
