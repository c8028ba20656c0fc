//go:build exam && unix

package kit

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// SetFaults sets the sandbox's faults; {} removes them.
func (s *Sandbox) SetFaults(t *testing.T, form string) {
	t.Helper()
	put(t, s.URL+"/sandbox/faults", form)
}

// SandboxCall is one call as the sandbox recorded it.
type SandboxCall struct {
	At time.Time `json:"at"`
	Event
	Applied bool `json:"applied"`
	Code    int  `json:"code"`   // -1: no ErrorCode
	Status  int  `json:"status"` // 0: no response
}

// SandboxCalls are calls in the order of their arrival.
type SandboxCalls []SandboxCall

// Calls returns all calls so far.
func (s *Sandbox) Calls(t *testing.T) SandboxCalls {
	t.Helper()
	return getStream[SandboxCall](t, s.URL+"/sandbox/arrivals")
}

// MostIn1s returns the number of calls in the fullest window of 1.000 s, wherever it begins.
func (l SandboxCalls) MostIn1s() int {
	return MostIn1s(l, func(a, b SandboxCall) time.Duration { return b.At.Sub(a.At) })
}

// Between returns the calls that arrived in [from, to).
func (l SandboxCalls) Between(from, to time.Time) SandboxCalls {
	var out SandboxCalls
	for _, a := range l {
		if !a.At.Before(from) && a.At.Before(to) {
			out = append(out, a)
		}
	}
	return out
}

// Count returns how many of the calls the function accepts.
func (l SandboxCalls) Count(which func(SandboxCall) bool) int {
	n := 0
	for _, a := range l {
		if which(a) {
			n++
		}
	}
	return n
}

// Applied returns how many of the calls were applied.
func (l SandboxCalls) Applied() int {
	return l.Count(func(a SandboxCall) bool { return a.Applied })
}

// FirstAppliedAfter returns how long after the moment the first call was applied.
func (l SandboxCalls) FirstAppliedAfter(t *testing.T, moment time.Time) time.Duration {
	t.Helper()
	for _, a := range l {
		if a.Applied && a.At.After(moment) {
			return a.At.Sub(moment)
		}
	}
	t.Fatalf("no call was applied after %v", moment)
	return 0
}

// Hold is a hold as /readyz and /api/state report it.
type Hold struct {
	Reason string     `json:"reason"`
	Since  time.Time  `json:"since"`
	Detail string     `json:"detail"`
	Next   *time.Time `json:"next_probe_at"`
}

// holds returns the holds that a page of the admin server reports, by reason. The page must respond
// with 200: a hold does not make a worker unready.
func (w *Worker) holds(t *testing.T, path string) map[string]Hold {
	t.Helper()
	body := GetJSON[struct {
		Ready bool   `json:"ready"`
		Held  []Hold `json:"held"`
	}](t, w.Admin+path)
	Check(t, body.Ready, "%s: not ready during a hold: %+v", path, body)
	out := map[string]Hold{}
	for _, h := range body.Held {
		out[h.Reason] = h
	}
	return out
}

// WaitHeld waits for a hold, checks that the worker reports it where the contract requires, and
// returns it.
func (w *Worker) WaitHeld(t *testing.T, reason string, within time.Duration) Hold {
	t.Helper()
	Wait(t, "hold "+reason, within, func() bool { return w.IsHeld(t, reason) })
	return w.CheckHeld(t, reason)
}

// CheckHeld checks that the worker reports the hold now, and returns it.
func (w *Worker) CheckHeld(t *testing.T, reason string) Hold {
	t.Helper()
	Check(t, w.IsHeld(t, reason), "markread_held does not show %s", reason)
	ready, state := w.holds(t, "/readyz")[reason], w.holds(t, "/api/state")[reason]
	Check(t, ready.Reason != "" && state.Reason != "" && state.Detail != "",
		"hold %s: /readyz shows %+v, /api/state %+v", reason, ready, state)
	Check(t, ready.Since.Equal(state.Since) && time.Since(state.Since) < 5*time.Minute,
		"hold %s since %v and %v", reason, ready.Since, state.Since)
	Get(t, w.Admin+"/healthz") // must be 200: a hold is not a stall
	return state
}

// IsHeld reports whether the worker's metric shows the hold.
func (w *Worker) IsHeld(t *testing.T, reason string) bool {
	t.Helper()
	return Scrape(t, w.Admin).Sum("markread_held", `reason="`+reason+`"`) == 1
}

// WaitReleased waits for the end of a hold and returns when it was first seen to have ended.
func (w *Worker) WaitReleased(t *testing.T, reason string, within time.Duration) time.Time {
	t.Helper()
	Wait(t, "end of hold "+reason, within, func() bool { return !w.IsHeld(t, reason) })
	return time.Now()
}

// HoldLogLines counts the log lines of a hold. The contract requires one at its beginning and one
// at its end; between them there is one for each new cause.
func (w *Worker) HoldLogLines(t *testing.T, reason string) (begun, between, ended int) {
	t.Helper()
	for _, entry := range Entries[struct {
		Reason, Detail, Do, Message string
		Held                        *float64 `json:"held_ms"`
	}](&w.Stderr) {
		if entry.Reason != reason {
			continue
		}
		switch {
		case entry.Held != nil:
			ended++
		case strings.HasPrefix(entry.Message, "calls are still held"):
			between++
		default:
			begun++
			Check(t, entry.Detail != "" && entry.Do != "",
				"the first line of the hold lacks what is wrong or what to do: %+v", entry)
		}
	}
	return begun, between, ended
}

// CheckHoldLogged requires that a hold began and ended n times, each logged once.
func (w *Worker) CheckHoldLogged(t *testing.T, reason string, n int) string {
	t.Helper()
	begun, between, ended := w.HoldLogLines(t, reason)
	Check(t, begun == n && ended == n,
		"hold %s: %d log lines at its beginning and %d at its end, want %d of each", reason, begun,
		ended, n)
	return fmt.Sprintf("%d+%d+%d log lines of the hold", begun, between, ended)
}

// CheckNoDeadLetters requires that the dead-letter topic is empty.
func (k *Kafka) CheckNoDeadLetters(t *testing.T, why string) {
	t.Helper()
	if letters := k.ReadAll(t, k.DeadLetters); len(letters) > 0 {
		t.Errorf("%d dead letters because of %s; the first: %v", len(letters), why,
			letters[0].Headers)
	}
}

// Traffic produces live events at a steady rate, each in a conversation of its own, so that the
// delay of each can be measured. Read its fields after End.
type Traffic struct {
	stop       func()
	sent       sync.WaitGroup
	Events     []Event
	ProducedAt map[Conversation]time.Time
}

// StartTraffic produces perSecond events a second until End.
func StartTraffic(t *testing.T, k *Kafka, topic, prefix string, perSecond int) *Traffic {
	t.Helper()
	return startTrafficWhile(t, k, topic, prefix, perSecond, func(int) bool { return true })
}

// startTrafficWhile produces an event only when due returns true; due gets the number of events
// written so far.
func startTrafficWhile(t *testing.T, k *Kafka, topic, prefix string, perSecond int,
	due func(written int) bool) *Traffic {
	t.Helper()
	f := &Traffic{ProducedAt: map[Conversation]time.Time{}}
	f.stop = Poll(t, time.Second/time.Duration(perSecond), func() {
		if !due(len(f.Events)) {
			return
		}
		now := time.Now()
		e := NewEvent(prefix+"-"+strconv.Itoa(len(f.Events)), "p", now.Unix())
		f.Events = append(f.Events, e)
		f.ProducedAt[e.Conversation] = now
		f.sent.Add(1)
		k.Client.Produce(t.Context(), RecordOf(topic, e), func(_ *kgo.Record, err error) {
			defer f.sent.Done()
			if err != nil {
				t.Errorf("produce: %v", err)
			}
		})
	})
	t.Cleanup(func() { f.End() }) // before the broker and the client are closed
	return f
}

// StartTrafficBehindCalls produces one event for each call that the server receives, so that the
// number of waiting events stays constant.
func StartTrafficBehindCalls(t *testing.T, k *Kafka, topic, prefix string, perSecond int,
	im *Recorder) *Traffic {
	t.Helper()
	called, asked := 0, time.Time{}
	return startTrafficWhile(t, k, topic, prefix, perSecond, func(written int) bool {
		if now := time.Now(); now.Sub(asked) > 100*time.Millisecond {
			asked = now
			if _, body, err := TryGet(im.URL + "/count"); err == nil {
				called, _ = strconv.Atoi(body)
			}
		}
		return written < called
	})
}

// End stops the traffic, waits until all of it is acknowledged, and returns the events.
func (f *Traffic) End() []Event {
	f.stop()
	f.sent.Wait()
	return f.Events
}

// Delays returns the time from production to the first applied call of each event, sorted.
func (f *Traffic) Delays(calls SandboxCalls) (out Delays) {
	seen := map[Conversation]bool{}
	for _, a := range calls {
		if at, ours := f.ProducedAt[a.Conversation]; ours && a.Applied && !seen[a.Conversation] {
			seen[a.Conversation] = true
			out = append(out, a.At.Sub(at))
		}
	}
	slices.Sort(out)
	return out
}

// ArrivalDelays returns the time from production to the arrival of the call of each event, sorted.
// Each event must have exactly one call.
func (f *Traffic) ArrivalDelays(t *testing.T, arrivals []Arrival) (out Delays) {
	t.Helper()
	for _, a := range arrivals {
		if at, ours := f.ProducedAt[a.Conversation]; ours {
			out = append(out, time.Unix(0, a.Wall).Sub(at))
		}
	}
	if len(out) != len(f.Events) {
		t.Fatalf("%d calls for %d live events", len(out), len(f.Events))
	}
	slices.Sort(out)
	return out
}

// Delays are sorted delays of events.
type Delays []time.Duration

// Percentile returns the delay that percent of the events don't exceed.
func (d Delays) Percentile(percent int) time.Duration { return d[len(d)*percent/100] }

// Longest returns the longest delay.
func (d Delays) Longest() time.Duration { return d[len(d)-1] }

func (d Delays) String() string {
	const unit = 100 * time.Microsecond
	return fmt.Sprintf("p50 %v, p99 %v, most %v", d.Percentile(50).Round(unit), d.Percentile(99).
		Round(unit), d.Longest().Round(unit))
}
