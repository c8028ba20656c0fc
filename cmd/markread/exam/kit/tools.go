//go:build exam && unix

package kit

import (
	"encoding/json"
	"net"
	"slices"
	"strings"
	"sync"
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
		if answered[a.Event] {
			repeated++
		}
		if a.Answered && a.Code == 0 {
			answered[a.Event] = true
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

// Times are ordered times, of calls or of commits.
type Times []time.Time

// ArrivalTimes returns the times of the calls.
func ArrivalTimes(arrivals []Arrival) Times {
	out := make(Times, len(arrivals))
	for i, a := range arrivals {
		out[i] = time.Unix(0, a.Wall)
	}
	return out
}

// LongestGap returns the longest time without a call or commit between two moments, and when it
// began.
func (at Times) LongestGap(from, to time.Time) (longest time.Duration, began time.Time) {
	last := from
	for _, now := range append(at[:len(at):len(at)], to) {
		if now.After(from) && !now.After(to) {
			if gap := now.Sub(last); gap > longest {
				longest, began = gap, last
			}
			last = now
		}
	}
	return longest, began
}

// Poll calls f at the interval until stop is called or the test ends. stop waits for a call of f
// that runs.
func Poll(t *testing.T, interval time.Duration, f func()) (stop func()) {
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(interval)
		defer tick.Stop()
		for {
			select {
			case <-quit:
				return
			case <-tick.C:
				f()
			}
		}
	}()
	stop = sync.OnceFunc(func() {
		close(quit)
		<-done
	})
	t.Cleanup(stop)
	return stop
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
	p := Start(t, "check", "product", append([]string{KeyVariable}, env...), args...)
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
