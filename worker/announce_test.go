package worker

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"markread/imclient"
	"markread/worker/quota"
)

// The log has one line when a hold begins, one for each new cause, one when it ends. Of a server that asks for
// a pause every second it has one pair a minute.
func TestTheLogOfHolds(t *testing.T) {
	r := newRig(t)
	var lines strings.Builder
	r.observer = &observer{metrics: newMetrics("", ""), log: zerolog.New(&lines).Level(zerolog.InfoLevel)}
	now := start
	for i := range 100 {
		now = start.Add(time.Duration(i) * 2 * time.Second)
		r.receiveOne(fmt.Sprint(i), 1)
		todo, _ := r.next(now)
		r.answer(now, todo, &imclient.Error{Class: imclient.Throttled, Label: "http_429", Status: 429, RetryAfter: time.Second})
	}
	r.next(now.Add(time.Second))
	if n := strings.Count(lines.String(), "\n"); n != 8 || strings.Count(lines.String(), `"repeated":29`) != 3 {
		t.Fatalf("%d lines:\n%s", n, &lines)
	}

	lines.Reset()
	reset := &imclient.Error{Class: imclient.Transient, Label: "reset"}
	for i := range 200 {
		if todo, again := r.next(now); todo == nil {
			now = again
		} else {
			r.answer(now, todo, []*imclient.Error{timeout, reset, internal}[i%3])
		}
	}
	for r.holds.On(0) {
		if todo, again := r.next(now); todo == nil {
			now = again
		} else {
			r.answer(now, todo, nil)
		}
	}
	if n := strings.Count(lines.String(), "\n"); n != 4 || strings.Count(lines.String(), `"do":`) != 3 || strings.Count(lines.String(), `"held_ms"`) != 1 {
		t.Fatalf("%d lines:\n%s", n, &lines)
	}
}

// That the server takes less than we may call is told once, and once when it is over.
func TestTheLogOfASlowdown(t *testing.T) {
	r := newRig(t)
	var lines strings.Builder
	r.observer = &observer{metrics: newMetrics("", ""), log: zerolog.New(&lines).Level(zerolog.InfoLevel)}
	r.quota = quota.New()
	r.quota.Reset(200, at(-10))
	r.receiveOne("a", 1)
	for i := range 3 {
		now := at(float64(60 * i))
		r.answer(now, r.mustCall(now, "a"), tooMany)
	}
	for i := range 40 {
		r.next(at(float64(125 + 10*i)))
		if i == 2 && strings.Count(lines.String(), "\n") != 1 {
			t.Fatalf("while the limit grows back:\n%s", &lines)
		}
	}
	if n := strings.Count(lines.String(), "\n"); n != 2 || strings.Count(lines.String(), `"level":"warn"`) != 1 {
		t.Fatalf("%d lines:\n%s", n, &lines)
	}
}
