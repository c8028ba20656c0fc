//go:build exam && unix

package kit

import (
	"encoding/json"
	"fmt"
	"net/http"
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
	req, err := http.NewRequest(http.MethodPut, s.URL+"/sandbox/faults", strings.NewReader(form))
	if err != nil {
		t.Fatal(err)
	}
	res, err := HTTP.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusOK && res.StatusCode != http.StatusNoContent {
		t.Fatalf("PUT /sandbox/faults: %s", res.Status)
	}
}

// SandboxCall is one call as the sandbox recorded it.
type SandboxCall struct {
	At       time.Time `json:"at"`
	Report   string    `json:"report"`
	Peer     string    `json:"peer"`
	ReadTime int64     `json:"read_time"`
	Applied  bool      `json:"applied"`
	Code     int       `json:"code"`   // -1: no ErrorCode
	Status   int       `json:"status"` // 0: no response
}

// SandboxCalls are calls in the order of their arrival.
type SandboxCalls []SandboxCall

// Calls returns all calls so far.
func (s *Sandbox) Calls(t *testing.T) SandboxCalls {
	t.Helper()
	var out SandboxCalls
	dec := json.NewDecoder(strings.NewReader(Get(t, s.URL+"/sandbox/arrivals")))
	for dec.More() {
		var a SandboxCall
		if err := dec.Decode(&a); err != nil {
			t.Fatal(err)
		}
		out = append(out, a)
	}
	return out
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
	var body struct {
		Ready bool   `json:"ready"`
		Held  []Hold `json:"held"`
	}
	text := Get(t, w.Admin+path)
	if err := json.Unmarshal([]byte(text), &body); err != nil {
		t.Fatalf("%s: %v: %s", path, err, text)
	}
	Check(t, body.Ready, "%s: not ready during a hold: %s", path, text)
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
	for _, line := range w.Stderr.Lines() {
		var entry struct {
			Reason, Detail, Do, Message string
			Held                        *float64 `json:"held_ms"`
		}
		if json.Unmarshal([]byte(line), &entry) != nil || entry.Reason != reason {
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
				"the first line of the hold lacks what is wrong or what to do: %s", line)
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
// delay of each can be measured.
type Traffic struct {
	t    *testing.T
	stop chan struct{}
	done chan struct{}

	mu         sync.Mutex
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
	f := &Traffic{t: t, stop: make(chan struct{}), done: make(chan struct{}),
		ProducedAt: map[Conversation]time.Time{}}
	go func() {
		defer close(f.done)
		var sent sync.WaitGroup
		defer sent.Wait()
		tick := time.NewTicker(time.Second / time.Duration(perSecond))
		defer tick.Stop()
		for i := 0; ; i++ {
			select {
			case <-f.stop:
				return
			case <-tick.C:
			}
			if !due(i) {
				i--
				continue
			}
			now := time.Now()
			e := Event{Conversation{prefix + "-" + strconv.Itoa(i), "p"}, now.Unix()}
			f.mu.Lock()
			f.Events = append(f.Events, e)
			f.ProducedAt[e.Conversation] = now
			f.mu.Unlock()
			sent.Add(1)
			k.Client.Produce(t.Context(), RecordOf(topic, e), func(_ *kgo.Record, err error) {
				defer sent.Done()
				if err != nil {
					t.Errorf("produce: %v", err)
				}
			})
		}
	}()
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
	f.mu.Lock()
	select {
	case <-f.stop:
	default:
		close(f.stop)
	}
	f.mu.Unlock()
	<-f.done
	return f.Events
}

// Delays returns the time from production to the first applied call of each event, in the order of
// the calls.
func (f *Traffic) Delays(served SandboxCalls) []time.Duration {
	var out []time.Duration
	seen := map[Conversation]bool{}
	for _, a := range served {
		c := Conversation{a.Report, a.Peer}
		if at, ours := f.ProducedAt[c]; ours && a.Applied && !seen[c] {
			seen[c] = true
			out = append(out, a.At.Sub(at))
		}
	}
	return out
}
