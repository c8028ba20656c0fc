package overview

import (
	"fmt"
	"testing"

	"markread/worker/console/sample"
)

// A hold for invalid events has no code: an old rejection's is not its cause.
func TestCodeOfAHold(t *testing.T) {
	w := newWorld(t, "worker", "a")
	w.run(30)
	w.workers["a"].m.CallCodes[sample.Code{Class: "rejected", Code: "90048"}] = 1
	w.run(10)
	w.hold("a", "rejections", "live")
	w.run(1).want("a minute ago", "held", "bad", params{"code": "90048"})
	w.workers["a"].m.Held = nil
	w.run(100)
	w.hold("a", "rejections", "live")
	w.run(1).want("long ago", "held", "bad", params{"code": ""})
}

// Whatever a worker claims, it makes the console remember little.
func TestClaimsAreBounded(t *testing.T) {
	w := newWorld(t, "group", "a")
	w.run(2)
	for i := range 3 * maxLosing {
		w.workers["a"].m.Lost[fmt.Sprint("topic ", i)] = 1
		w.run(1)
	}
	if len(w.b.losses) > maxLosing {
		t.Errorf("%d topics", len(w.b.losses))
	}
}
