package browser_test

import "testing"

// The worker's page shows an outage and its end without being reloaded.
func TestWorkerPageFollowsAnOutage(t *testing.T) {
	t.Parallel()
	s := startStack(t, nil)
	b := newTab(t)
	b.open(s.page())
	b.waitText("body", `(?i)ready`)
	s.faults(`{"rules":[{"kind":"status","status":502}]}`)
	s.emit(20, "alice", "peer")
	b.waitText("body", `(?i)outage`)
	b.screenshot("outage")
	s.faults(`{}`)
	b.waitTrue(`() => !/outage/i.test(document.body.innerText)`)
	s.emitInvalid("alice", "bob")
	b.waitTrue(`() => fetch("metrics").then((r) => r.text()).then((text) =>
		/markread_dead_letters_total{class="invalid".*} 1/.test(text))`)
}
