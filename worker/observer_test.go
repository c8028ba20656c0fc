package worker

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"markread/consumer/event"
	"markread/imclient"
	"markread/worker/engine"
)

// anyTracker accepts any event, and knows none.
type anyTracker struct{}

func (anyTracker) Finish(event.Ref) (event.Lane, time.Time) { return event.Live, time.Time{} }
func (anyTracker) Attempted(event.Ref, int)                 {}

// logged is an engine and the log of its observer.
type logged struct {
	*engine.Engine
	lines strings.Builder
}

func newLogged(maxInFlight int) *logged {
	l := &logged{}
	l.Engine = engine.New(engine.Options{
		Attempts: 3, MaxInFlight: maxInFlight, MaxPending: 1000, MaxRejected: 95,
		Backoff: imclient.NewBackoff(100*time.Millisecond, time.Second),
		Jitter:  func(string, int) float64 { return 1 },
		Observer: &observer{metrics: newMetrics(), log: zerolog.New(&l.lines).
			Level(zerolog.InfoLevel)},
	})
	l.Begin(time.Unix(1_700_000_000, 0), anyTracker{}, 12, 12)
	return l
}

func (l *logged) receiveOne(now time.Time, report string) {
	l.Receive(now, []event.Event{{Report: []byte(report), Peer: []byte("peer"), ReadTime: 1}})
}

// One line is logged when a hold begins, one for each new cause, one when it ends. For a server
// that asks for a pause every second, one pair of lines per minute is logged.
func TestTheLogOfHolds(t *testing.T) {
	l := newLogged(100)
	start := time.Unix(1_700_000_000, 0)
	now := start
	for i := range 100 {
		now = start.Add(time.Duration(i) * 2 * time.Second)
		l.receiveOne(now, fmt.Sprint(i))
		todo, _ := l.Next(now)
		l.CallDone(now, todo,
			&imclient.Error{Class: imclient.Throttled, Label: "http_429", Status: 429,
				RetryAfter: time.Second})
	}
	l.Next(now.Add(time.Second))
	if n := strings.Count(l.lines.String(), "\n"); n != 8 ||
		strings.Count(l.lines.String(), `"repeated":29`) != 3 {
		t.Fatalf("%d lines:\n%s", n, &l.lines)
	}

	l.lines.Reset()
	timeout := &imclient.Error{Class: imclient.Transient, Label: "timeout"}
	internal := &imclient.Error{Class: imclient.Transient, Label: "91000", ErrorCode: 91000}
	reset := &imclient.Error{Class: imclient.Transient, Label: "reset"}
	for i := range 200 {
		if todo, again := l.Next(now); todo == nil {
			now = again
		} else {
			l.CallDone(now, todo, []*imclient.Error{timeout, reset, internal}[i%3])
		}
	}
	for len(l.Holds()) > 0 {
		if todo, again := l.Next(now); todo == nil {
			now = again
		} else {
			l.CallDone(now, todo, nil)
		}
	}
	if n := strings.Count(l.lines.String(), "\n"); n != 4 ||
		strings.Count(l.lines.String(), `"do":`) != 3 ||
		strings.Count(l.lines.String(), `"held_ms"`) != 1 {
		t.Fatalf("%d lines:\n%s", n, &l.lines)
	}
}

// What to do about a dead letter is a field of its own; the dead letter's message has it, too.
func TestTheLogOfADeadLetter(t *testing.T) {
	l := newLogged(1)
	now := time.Unix(1_700_000_000, 0)
	l.receiveOne(now, "a")
	todo, _ := l.Next(now)
	failure := &imclient.Error{Class: imclient.Rejected, Label: "90048", ErrorCode: 90048}
	l.CallDone(now, todo, failure)
	letters := l.NextLetters(1)
	l.LettersWritten(now, letters, make([]error, 1))
	var line struct{ Reason, Do string }
	if err := json.Unmarshal([]byte(l.lines.String()), &line); err != nil ||
		line.Reason != failure.WithoutRemedy() || line.Do != failure.Remedy() {
		t.Errorf("%v: %s", err, &l.lines)
	}
	if letters[0].Message != failure.Error() {
		t.Errorf("the dead letter's message is %q", letters[0].Message)
	}
}

// One line is logged when the server accepts fewer calls than our share, and one when that is over.
func TestTheLogOfASlowdown(t *testing.T) {
	l := newLogged(0)
	at := func(seconds int) time.Time {
		return time.Unix(1_700_000_000, 0).Add(time.Duration(seconds) * time.Second)
	}
	l.SetShare(at(-10), 200)
	l.receiveOne(at(0), "a")
	for i := range 3 {
		now := at(60 * i)
		todo, _ := l.Next(now)
		l.CallDone(now, todo,
			&imclient.Error{Class: imclient.Throttled, Label: "60007", ErrorCode: 60007})
	}
	for i := range 40 {
		l.Next(at(125 + 10*i))
		if i == 2 && strings.Count(l.lines.String(), "\n") != 1 {
			t.Fatalf("while the limit grows back:\n%s", &l.lines)
		}
	}
	if n := strings.Count(l.lines.String(), "\n"); n != 2 ||
		strings.Count(l.lines.String(), `"level":"warn"`) != 1 {
		t.Fatalf("%d lines:\n%s", n, &l.lines)
	}
}

// What the consumer knows about the reading of a backlog reaches the engine: calls wait for it.
func TestSinkDelaysCallsDuringABacklog(t *testing.T) {
	l := newLogged(0)
	start := time.Unix(1_700_000_000, 0)
	l.SetShare(start, 100)
	l.receiveOne(start, "reader")
	ended, end := context.WithCancel(t.Context())
	end() // the dispatcher makes no calls itself
	s := sink{&dispatcher{Worker: &Worker{engine: l.Engine}, ctx: ended}}
	s.Behind(event.Live, 2)
	s.Behind(event.Live, -1)
	if c, _ := l.Next(start.Add(2 * time.Second)); c != nil {
		t.Fatal("a call, although one partition is behind")
	}
	s.Behind(event.Live, -1)
	if c, _ := l.Next(start.Add(3 * time.Second)); c == nil {
		t.Fatal("no call after the backlog was read")
	}
}

// An event's age has its trace as an exemplar if the trace is sampled, at most one per second for
// ages of one magnitude: at full speed one for each event would cost more than the other metrics.
func TestExemplarsAreFew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &observer{metrics: newMetrics()}
		registry := prometheus.NewRegistry()
		registry.MustRegister(o.eventAge)
		finish := func(lane event.Lane, age time.Duration, traceparent string) (traces string) {
			c := &engine.Call{}
			c.Traceparent, _ = event.ParseTraceparent([]byte(traceparent))
			o.EventFinished(lane, age, c)
			families, err := registry.Gather()
			if err != nil {
				t.Fatal(err)
			}
			of := families[0].Metric[1-lane] // sorted by the name of the lane
			for _, b := range of.Histogram.Bucket {
				if e := b.Exemplar; e != nil {
					traces += fmt.Sprintf("%v:%s ", b.GetUpperBound(), e.Label[0].GetValue()[:1])
				}
			}
			return traces
		}
		trace := func(digit, flags string) string {
			return "00-" + strings.Repeat(digit, 32) + "-00f067aa0ba902b7-" + flags
		}
		const ms = time.Millisecond
		for i, c := range []struct {
			lane  event.Lane
			age   time.Duration
			trace string
			wait  time.Duration
			want  string
		}{
			{0, 20 * ms, trace("1", "00"), 0, ""}, // not sampled
			{0, 20 * ms, "", 0, ""},
			{0, 20 * ms, trace("2", "01"), 0, "0.025:2 "},
			{0, 21 * ms, trace("3", "01"), 0, "0.025:2 "},
			{0, 400 * ms, trace("4", "01"), 0, "0.025:2 0.5:4 "},
			{0, -time.Hour, trace("5", "01"), 0, "0.01:5 0.025:2 0.5:4 "}, // a clock that is ahead
			{1, 20 * ms, trace("6", "01"), 0, "0.025:6 "},
			{1, 1<<63 - 1, trace("7", "01"), 0, "0.025:6 +Inf:7 "},
			{0, 22 * ms, trace("8", "01"), time.Second, "0.01:5 0.025:8 0.5:4 "},
		} {
			time.Sleep(c.wait)
			if got := finish(c.lane, c.age, c.trace); got != c.want {
				t.Errorf("%d: %s, want %s", i, got, c.want)
			}
		}
	})
}
