//go:build exam && unix

package kit

import (
	"encoding/json"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"markread/worker/preflight"
)

// CheckCommits requires that the committed offset of every partition equals its end offset.
func CheckCommits(t *testing.T, k *Kafka) {
	t.Helper()
	committed := k.Committed(t)
	for p, end := range k.EndOffsets(t, k.Live, k.Backfill) {
		Check(t, committed[p] == end, "%s %d is committed to %d, its end is %d", p.Topic,
			p.Partition, committed[p], end)
	}
}

// CountRepeated counts the calls that repeat a call with the same T that had been answered.
func CountRepeated(arrivals []Arrival) int {
	answered := map[Event]bool{}
	repeated := 0
	for _, a := range arrivals {
		e := Event{Conversation{a.Report, a.Peer}, a.ReadTime}
		if answered[e] {
			repeated++
		}
		if a.Answered && a.Code == 0 {
			answered[e] = true
		}
	}
	return repeated
}

// Interval is the time between two moments.
type Interval struct{ From, To time.Time }

// Overlap returns how much of the interval lies between two moments.
func (s Interval) Overlap(from, to time.Time) time.Duration {
	if s.From.After(from) {
		from = s.From
	}
	if s.To.Before(to) {
		to = s.To
	}
	return max(0, to.Sub(from))
}

// LongestGap returns the longest time without a call between two moments, and when it began.
func LongestGap(arrivals []Arrival, from, to time.Time) (longest time.Duration, at time.Time) {
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

// Times are ordered times of commits.
type Times []time.Time

// LongestGap returns the longest time without a commit between two moments.
func (at Times) LongestGap(from, to time.Time) time.Duration {
	longest, last := time.Duration(0), from
	for _, now := range append(at[:len(at):len(at)], to) {
		if now.After(from) && !now.After(to) {
			longest = max(longest, now.Sub(last))
			last = now
		}
	}
	return longest
}

// CheckResult is the result of `markread check`.
type CheckResult struct {
	preflight.Report
	Took time.Duration
}

// RunCheck runs `check --json` with the flags of a worker.
func RunCheck(t *testing.T, k *Kafka, imURL string, env []string, extra ...string) CheckResult {
	t.Helper()
	began := time.Now()
	args := append(k.RunArgs(imURL, extra...), "--json")
	args[0] = "check"
	p := Start(t, "check", "product", append([]string{"MARKREAD_IM_KEY=" + Key}, env...), args...)
	code := p.Exit(t, CheckLimit)
	r := CheckResult{Took: time.Since(began)}
	if err := json.Unmarshal([]byte(p.Stdout.String()), &r.Report); err != nil {
		t.Fatalf("%v: %s%s", err, p.Stdout.String(), p.Stderr.String())
	}
	Check(t, r.OK == (code == 0) && (r.OK || code == 1), "exit %d, but ok is %v", code, r.OK)
	Check(t, !strings.Contains(p.Stdout.String()+p.Stderr.String(), Key),
		"the key is in the output")
	if !r.OK {
		CheckOneError(t, p, "check: wrong: ")
	}
	return r
}

// Expect requires a finding whose fields contain those of want, and that nothing else is wrong.
func (r CheckResult) Expect(t *testing.T, want preflight.Finding) {
	t.Helper()
	found := false
	for _, f := range r.Checks {
		if f.Result == want.Result && f.Check == want.Check && strings.Contains(f.Subject,
			want.Subject) && strings.Contains(f.Found, want.Found) &&
			strings.Contains(f.Do, want.Do) {
			found = true
		} else {
			Check(t, f.Result != preflight.IsWrong, "also wrong: %+v", f)
		}
	}
	Check(t, found, "want %+v in %+v", want, r.Checks)
}

// CheckOneError requires that exactly one line, the last, is an error, and that it contains text.
func CheckOneError(t *testing.T, p *Proc, text string) {
	t.Helper()
	lines := p.Stderr.Lines()
	failures := slices.DeleteFunc(slices.Clone(lines),
		func(line string) bool { return !strings.Contains(line, `"level":"error"`) })
	Check(t, len(failures) == 1 && failures[0] == lines[len(lines)-1], "%d error lines:\n%s",
		len(failures), strings.Join(failures, "\n"))
	Check(t, len(failures) > 0 && strings.Contains(failures[0], text),
		"the error does not contain %q: %s", text, strings.Join(failures, "\n"))
}

// SilentListener accepts connections and never responds.
func SilentListener(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	return listener.Addr().String() // the kernel accepts them
}

// CheckLimit is how long a check may take, whatever does not respond: half a minute, as its help
// says.
const CheckLimit = 30 * time.Second
