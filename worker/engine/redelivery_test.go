package engine

import (
	"fmt"
	"testing"

	"markread/worker/hold"
)

// A backlog that is read again after a rebalance: what was applied is superseded, and only what was
// rejected is called again. One rejection in ten is no reason for a hold, as it was none the first
// time.
func TestRedeliveredBacklogBeginsNoHold(t *testing.T) {
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
				todo, _ := r.Next(start)
				if todo == nil {
					break
				}
				if todo.Read.Report[:4] == "good" {
					r.CallDone(start, todo, nil)
				} else {
					r.CallDone(start, todo, unknown)
				}
			}
			if r.holds.Held(hold.Rejections, 0) {
				t.Fatalf("held after event %d", i)
			}
		}
		r.writeAll(start)
	}
	generation()
	r.End(start)
	r.Begin(start, r.tracker, 12, 12)
	generation()
}
