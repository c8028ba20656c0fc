package worker

import (
	"fmt"
	"testing"

	"markread/worker/hold"
)

// A backlog that comes again after a rebalance: what was applied is superseded, and only what was rejected is called again. That one in ten
// is rejected is no reason for a hold, as it was none the first time.
func TestABacklogThatComesAgainIsNoReasonToHold(t *testing.T) {
	r := newRig(t)
	r.options.MaxPending = 20_000
	generation := func() {
		for i := range 10_000 {
			name := fmt.Sprint("good", i)
			if i%10 == 0 {
				name = fmt.Sprint("nobody", i)
			}
			r.receiveOne(name, 10)
			for {
				todo, _ := r.next(start)
				if todo == nil {
					break
				}
				if todo.read.Report[:4] == "good" {
					r.answer(start, todo, nil)
				} else {
					r.answer(start, todo, unknown)
				}
			}
			if r.holds.Held(hold.Rejections, 0) {
				t.Fatalf("held after event %d", i)
			}
		}
		r.writeAll(start)
	}
	generation()
	r.end(start)
	r.begin(start, r.tracker, 12, 12)
	generation()
}
