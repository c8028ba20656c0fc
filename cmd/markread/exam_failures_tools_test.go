//go:build exam && unix

package main

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

// faults switches the sandbox's faults; {} takes them back.
func (s *examSandbox) faults(t *testing.T, form string) {
	t.Helper()
	req, err := http.NewRequest(http.MethodPut, s.url+"/sandbox/faults", strings.NewReader(form))
	if err != nil {
		t.Fatal(err)
	}
	res, err := examHTTP.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusOK && res.StatusCode != http.StatusNoContent {
		t.Fatalf("PUT /sandbox/faults: %s", res.Status)
	}
}

// examServed is one call as the sandbox saw it.
type examServed struct {
	At       time.Time `json:"at"`
	Report   string    `json:"report"`
	Peer     string    `json:"peer"`
	ReadTime int64     `json:"read_time"`
	Applied  bool      `json:"applied"`
	Code     int       `json:"code"`   // -1: no ErrorCode
	Status   int       `json:"status"` // 0: no answer
}

type examServedList []examServed

func (s *examSandbox) served(t *testing.T) examServedList {
	t.Helper()
	var out examServedList
	dec := json.NewDecoder(strings.NewReader(examGet(t, s.url+"/sandbox/arrivals")))
	for dec.More() {
		var a examServed
		if err := dec.Decode(&a); err != nil {
			t.Fatal(err)
		}
		out = append(out, a)
	}
	return out
}

// between returns the calls that arrived in [from, to).
func (l examServedList) between(from, to time.Time) examServedList {
	var out examServedList
	for _, a := range l {
		if !a.At.Before(from) && a.At.Before(to) {
			out = append(out, a)
		}
	}
	return out
}

func (l examServedList) count(which func(examServed) bool) int {
	n := 0
	for _, a := range l {
		if which(a) {
			n++
		}
	}
	return n
}

func (l examServedList) applied() int { return l.count(func(a examServed) bool { return a.Applied }) }

// after is how long after a moment the first call was carried out.
func (l examServedList) after(t *testing.T, moment time.Time) time.Duration {
	t.Helper()
	for _, a := range l {
		if a.Applied && a.At.After(moment) {
			return a.At.Sub(moment)
		}
	}
	t.Fatalf("no call was carried out after %v", moment)
	return 0
}

// examHold is a hold as /readyz and /api/state show it.
type examHold struct {
	Reason string     `json:"reason"`
	Since  time.Time  `json:"since"`
	Detail string     `json:"detail"`
	Next   *time.Time `json:"next_probe_at"`
}

// holds reads what is held from a page of the admin server, which must answer 200: a hold does not make a worker unready.
func (w *examWorker) holds(t *testing.T, path string) map[string]examHold {
	t.Helper()
	var body struct {
		Ready bool       `json:"ready"`
		Held  []examHold `json:"held"`
	}
	text := examGet(t, w.admin+path)
	if err := json.Unmarshal([]byte(text), &body); err != nil {
		t.Fatalf("%s: %v: %s", path, err, text)
	}
	examCheck(t, body.Ready, "%s: not ready in a hold: %s", path, text)
	out := map[string]examHold{}
	for _, h := range body.Held {
		out[h.Reason] = h
	}
	return out
}

// held waits for a hold, checks that the worker shows it where the contract says, and returns it.
func (w *examWorker) held(t *testing.T, reason string, within time.Duration) examHold {
	t.Helper()
	examWait(t, "hold "+reason, within, func() bool { return w.isHeld(t, reason) })
	return w.shows(t, reason)
}

// shows checks that a hold is shown now.
func (w *examWorker) shows(t *testing.T, reason string) examHold {
	t.Helper()
	examCheck(t, w.isHeld(t, reason), "markread_held does not show %s", reason)
	ready, state := w.holds(t, "/readyz")[reason], w.holds(t, "/api/state")[reason]
	examCheck(t, ready.Reason != "" && state.Reason != "" && state.Detail != "", "hold %s: /readyz shows %+v, /api/state %+v", reason, ready, state)
	examCheck(t, ready.Since.Equal(state.Since) && time.Since(state.Since) < 5*time.Minute, "hold %s since %v and %v", reason, ready.Since, state.Since)
	examGet(t, w.admin+"/healthz") // 200: a worker that waits does not stand still
	return state
}

func (w *examWorker) isHeld(t *testing.T, reason string) bool {
	t.Helper()
	return examScrape(t, w.admin).sum("markread_held", `reason="`+reason+`"`) == 1
}

// released waits for the end of a hold and returns when it was first seen to be over.
func (w *examWorker) released(t *testing.T, reason string, within time.Duration) time.Time {
	t.Helper()
	examWait(t, "end of hold "+reason, within, func() bool { return !w.isHeld(t, reason) })
	return time.Now()
}

// logged counts the lines about a hold: one at its beginning and one at its end are the contract's, between them one for each new cause.
func (w *examWorker) logged(t *testing.T, reason string) (begun, between, ended int) {
	t.Helper()
	for _, line := range w.stderr.lines() {
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
			examCheck(t, entry.Detail != "" && entry.Do != "", "the line of the beginning does not say what is wrong and what to do: %s", line)
		}
	}
	return begun, between, ended
}

// loggedOnce requires that a hold began and ended n times by the log, each told once.
func (w *examWorker) loggedOnce(t *testing.T, reason string, n int) string {
	t.Helper()
	begun, between, ended := w.logged(t, reason)
	examCheck(t, begun == n && ended == n, "hold %s: %d lines of its beginning and %d of its end, want %d of each", reason, begun, ended, n)
	return fmt.Sprintf("%d+%d+%d log lines of the hold", begun, between, ended)
}

// noLetters requires that the dead-letter topic is empty.
func (k *examKafka) noLetters(t *testing.T, why string) {
	t.Helper()
	if letters := k.readAll(t, k.letters); len(letters) > 0 {
		t.Errorf("%d dead letters because of %s; the first: %v", len(letters), why, letters[0].Headers)
	}
}

// examFlow is live traffic: events at a steady pace, each in a conversation of its own, so that a delay can be told.
type examFlow struct {
	t    *testing.T
	stop chan struct{}
	done chan struct{}

	mu     sync.Mutex
	events []examEvent
	at     map[examConversation]time.Time
}

// examStartFlow begins to produce perSecond events a second, until end.
func examStartFlow(t *testing.T, k *examKafka, topic, prefix string, perSecond int) *examFlow {
	t.Helper()
	return examStartFlowWhile(t, k, topic, prefix, perSecond, func(int) bool { return true })
}

// examStartFlowWhile writes an event only when due says so; due is told how many were written.
func examStartFlowWhile(t *testing.T, k *examKafka, topic, prefix string, perSecond int, due func(written int) bool) *examFlow {
	t.Helper()
	f := &examFlow{t: t, stop: make(chan struct{}), done: make(chan struct{}), at: map[examConversation]time.Time{}}
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
			e := examEvent{examConversation{prefix + "-" + strconv.Itoa(i), "p"}, now.Unix()}
			f.mu.Lock()
			f.events = append(f.events, e)
			f.at[e.examConversation] = now
			f.mu.Unlock()
			sent.Add(1)
			k.cl.Produce(t.Context(), examRecordOf(topic, e), func(_ *kgo.Record, err error) {
				defer sent.Done()
				if err != nil {
					t.Errorf("produce: %v", err)
				}
			})
		}
	}()
	t.Cleanup(func() { f.end() }) // before the broker and the client go
	return f
}

// examStartFlowBehind writes an event for each call that the server gets: as many wait all the time as did before.
func examStartFlowBehind(t *testing.T, k *examKafka, topic, prefix string, perSecond int, im *examIM) *examFlow {
	t.Helper()
	called, asked := 0, time.Time{}
	return examStartFlowWhile(t, k, topic, prefix, perSecond, func(written int) bool {
		if now := time.Now(); now.Sub(asked) > 100*time.Millisecond {
			asked = now
			if _, body, err := examTryGet(im.url + "/count"); err == nil {
				called, _ = strconv.Atoi(body)
			}
		}
		return written < called
	})
}

// end stops the traffic, waits until all of it is acknowledged, and returns it.
func (f *examFlow) end() []examEvent {
	f.mu.Lock()
	select {
	case <-f.stop:
	default:
		close(f.stop)
	}
	f.mu.Unlock()
	<-f.done
	return f.events
}

// delays returns how long after it was produced each event was first carried out, in the order of the calls.
func (f *examFlow) delays(served examServedList) []time.Duration {
	var out []time.Duration
	seen := map[examConversation]bool{}
	for _, a := range served {
		c := examConversation{a.Report, a.Peer}
		if at, ours := f.at[c]; ours && a.Applied && !seen[c] {
			seen[c] = true
			out = append(out, a.At.Sub(at))
		}
	}
	return out
}
