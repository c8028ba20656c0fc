package engine

import (
	"fmt"
	"testing"

	"markread/consumer/event"
)

// An event's explanation has its last failure until it succeeds or becomes a dead letter, and when
// it is retried.
func TestLastFailure(t *testing.T) {
	r := newRig(t)
	ref := r.receiveOne("a", 1)
	explain := func() Explanation {
		return r.Explain(map[event.Ref]event.Lane{ref: event.Live})[ref]
	}
	if x := explain(); x.Code != "" || x.Message != "" || !x.RetryAt.IsZero() || x.Report != "a" ||
		x.Peer != "peer" {
		t.Errorf("never called: %+v", x)
	}
	says := *internal
	says.Message = "try later"
	r.CallDone(start, r.mustCall(start, "a"), &says)
	if x := explain(); x.Code != "91000" || x.Message != "try later" || x.RetryAt != at(.1) {
		t.Errorf("it failed: %+v", x)
	}
	r.CallDone(at(5), r.mustCall(at(5), "a"), nil)
	if len(r.failures) != 0 {
		t.Errorf("it succeeded: %v", r.failures)
	}
	ref = r.receiveOne("b", 1)
	for i := range r.options.Attempts {
		now := at(10 + 5*float64(i))
		r.CallDone(now, r.mustCall(now, "b"), internal)
	}
	if x := explain(); x.WaitsFor != "dead-letter" || x.Code != "91000" || len(r.failures) != 0 {
		t.Errorf("a dead letter: %+v, %v", x, r.failures)
	}
}

// However many conversations fail, only the newest failures are kept.
func TestFailuresAreBounded(t *testing.T) {
	f := failures{}
	for i := range 3 * mostFailures {
		f.note(at(float64(i)), fmt.Sprint(i), internal)
		f.note(at(float64(i)), fmt.Sprint(i), noSuchAccount)
	}
	if len(f) != mostFailures {
		t.Errorf("%d are kept", len(f))
	}
	for i := 2 * mostFailures; i < 3*mostFailures; i++ {
		if f[fmt.Sprint(i)].Code != "90012" {
			t.Fatalf("the failure %d is %+v", i, f[fmt.Sprint(i)])
		}
	}
}
