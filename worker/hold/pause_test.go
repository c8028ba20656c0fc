package hold

import "testing"

// A pause shows who paused and why; pausing again updates that, and resuming shows who did it.
func TestPause(t *testing.T) {
	h := New(95)
	if c := h.Pause(start, "", ""); len(c.Begun) != 1 || c.Begun[0].Detail != "paused by an operator" {
		t.Fatalf("%+v", c)
	}
	if c := h.Pause(at(1), "", ""); !c.None() {
		t.Errorf("the same pause again: %+v", c)
	}
	c := h.Pause(at(2), "alice", "deploying the fix")
	if len(c.CauseChanged) != 1 || len(c.Begun) != 0 {
		t.Fatalf("another pause: %+v", c)
	}
	for _, a := range [][]Hold{c.CauseChanged, h.Active()} {
		if a[0].Detail != "paused by alice: deploying the fix" || a[0].By != "alice" ||
			a[0].Why != "deploying the fix" || a[0].Since != start || a[0].Do != Paused.Do() {
			t.Errorf("%+v", a[0])
		}
	}
	if c := h.Resume("bob"); len(c.Ended) != 1 || c.Ended[0].EndedBy != "bob" ||
		c.Ended[0].By != "alice" {
		t.Errorf("resumed: %+v", c)
	}
	if c := h.Resume("bob"); !c.None() || h.LaneHeld(0) {
		t.Errorf("resumed again: %+v", c)
	}
	if c := h.Pause(at(3), "", "lunch"); c.Begun[0].Detail != "paused by an operator: lunch" ||
		c.Begun[0].Since != at(3) {
		t.Errorf("%+v", c)
	}
}

// A hold has the code of the failure that its detail is about.
func TestCode(t *testing.T) {
	code := func(h *Holds, want string) {
		t.Helper()
		if a := h.Active(); len(a) == 0 || a[0].Code != want {
			t.Errorf("%+v, want code %s", a, want)
		}
	}
	h := New(95)
	h.CallDone(start, "a", 0, refused, noProbe)
	code(h, "70009")
	h.CallDone(at(15), "a", 0, locked, at(15))
	code(h, "70050")

	h = New(95)
	throttled := *tooMany
	throttled.RetryAfter = 1
	h.CallDone(start, "a", 0, &throttled, noProbe)
	code(h, "60007")

	h = New(95)
	feed(h, 0, 1000, "vr")
	code(h, "10004")
	if c := h.AcceptRejections("bob"); len(c.Ended) != 1 || c.Ended[0].EndedBy != "bob" {
		t.Errorf("accepted: %+v", c)
	}

	h = New(95)
	h.Pause(start, "", "")
	code(h, "")
}
