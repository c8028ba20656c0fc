//go:build exam && unix

package main

import (
	"encoding/json"
	"markread/worker/preflight"
	"net"
	"slices"
	"strings"
	"testing"
	"time"
)

// examCheckCommits requires that every partition with records is committed to its end, and none beyond.
func examCheckCommits(t *testing.T, k *examKafka) {
	t.Helper()
	committed := k.committed(t)
	for p, end := range k.ends(t, k.live, k.backfill) {
		examCheck(t, committed[p] == end, "%s %d is committed to %d, its end is %d", p.topic, p.partition, committed[p], end)
	}
}

// examRepeated counts the calls that were made again although one with the same T had been answered.
func examRepeated(arrivals []examArrival) int {
	answered := map[examEvent]bool{}
	repeated := 0
	for _, a := range arrivals {
		e := examEvent{examConversation{a.Report, a.Peer}, a.ReadTime}
		if answered[e] {
			repeated++
		}
		if a.Answered && a.Code == 0 {
			answered[e] = true
		}
	}
	return repeated
}

// examSpan is the time between two moments.
type examSpan struct{ from, to time.Time }

// within returns how much of it is between two moments.
func (s examSpan) within(from, to time.Time) time.Duration {
	if s.from.After(from) {
		from = s.from
	}
	if s.to.Before(to) {
		to = s.to
	}
	return max(0, to.Sub(from))
}

// examStandStill returns the longest time without a call between two moments, and when it began.
func examStandStill(arrivals []examArrival, from, to time.Time) (longest time.Duration, at time.Time) {
	last := from
	note := func(now time.Time) {
		if now.Sub(last) > longest {
			longest, at = now.Sub(last), last
		}
		last = now
	}
	for _, a := range arrivals {
		if now := time.Unix(0, a.Wall); now.After(from) && now.Before(to) {
			note(now)
		}
	}
	note(to)
	return longest, at
}

type examTimes []time.Time

// longest returns the longest time without a commit between two moments.
func (at examTimes) longest(from, to time.Time) time.Duration {
	longest, last := time.Duration(0), from
	for _, now := range append(at[:len(at):len(at)], to) {
		if now.After(from) && !now.After(to) {
			longest = max(longest, now.Sub(last))
			last = now
		}
	}
	return longest
}

// examChecked is a check that has ended.
type examChecked struct {
	preflight.Report
	took time.Duration
}

// examRunCheck runs `check --json` with the flags of a worker.
func examRunCheck(t *testing.T, k *examKafka, imURL string, env []string, extra ...string) examChecked {
	t.Helper()
	began := time.Now()
	args := append(k.run(imURL, extra...), "--json")
	args[0] = "check"
	p := examStart(t, "check", "product", append([]string{"MARKREAD_IM_KEY=" + examKey}, env...), args...)
	code := p.exit(t, examCheckLimit)
	r := examChecked{took: time.Since(began)}
	if err := json.Unmarshal([]byte(p.stdout.String()), &r.Report); err != nil {
		t.Fatalf("%v: %s%s", err, p.stdout.String(), p.stderr.String())
	}
	examCheck(t, r.OK == (code == 0) && (r.OK || code == 1), "exit %d, and ok is %v", code, r.OK)
	examCheck(t, !strings.Contains(p.stdout.String()+p.stderr.String(), examKey), "the key is in the output")
	if !r.OK {
		examOneFailure(t, p, "check: wrong: ")
	}
	return r
}

// is requires a finding whose parts have these in them, and that nothing else is wrong.
func (r examChecked) is(t *testing.T, want preflight.Finding) {
	t.Helper()
	found := false
	for _, f := range r.Checks {
		if f.Result == want.Result && f.Check == want.Check && strings.Contains(f.Subject, want.Subject) && strings.Contains(f.Found, want.Found) && strings.Contains(f.Do, want.Do) {
			found = true
		} else {
			examCheck(t, f.Result != preflight.IsWrong, "wrong, too: %+v", f)
		}
	}
	examCheck(t, found, "want %+v in %+v", want, r.Checks)
}

// examOneFailure requires exactly one line of a failure, the last, that says this.
func examOneFailure(t *testing.T, p *examProc, says string) {
	t.Helper()
	lines := p.stderr.lines()
	failures := slices.DeleteFunc(slices.Clone(lines), func(line string) bool { return !strings.Contains(line, `"level":"error"`) })
	examCheck(t, len(failures) == 1 && failures[0] == lines[len(lines)-1], "%d lines of a failure:\n%s", len(failures), strings.Join(failures, "\n"))
	examCheck(t, len(failures) > 0 && strings.Contains(failures[0], says), "the failure does not say %q: %s", says, strings.Join(failures, "\n"))
}

// examSilentListener accepts connections, and says nothing.
func examSilentListener(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	return listener.Addr().String() // the kernel accepts
}

// examCheckLimit is how long a check may take, whatever does not answer: half a minute, as the help says.
const examCheckLimit = 30 * time.Second
