package overview

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"markread/worker/console/sample"
)

// wantHappened compares the newest happenings, oldest first: seconds, kind, worker and parameters.
func (w *world) wantHappened(what string, want ...string) {
	w.t.Helper()
	var got []string
	list := w.latest.Happened
	for i := len(list) - 1; i >= 0; i-- {
		h := list[i]
		line := fmt.Sprintf("%v %s", h.At.Sub(start).Seconds(), h.Kind)
		if h.Worker != "" {
			line += " " + h.Worker
		}
		for _, name := range []string{"version", "reason", "lane", "seconds", "partitions", "limit",
			"share", "topic", "count", "what", "by", "why", "key", "where"} {
			if v, ok := h.Params[name]; ok {
				line += " " + strings.Trim(plain(v), `"`)
			}
		}
		got = append(got, line)
	}
	if a, b := strings.Join(got, "\n"), strings.Join(want, "\n"); a != b {
		w.t.Errorf("%s:\n%s\nwant\n%s", what, a, b)
	}
}

func TestHappenings(t *testing.T) {
	w := newWorld(t, "worker", "a")
	a := w.workers["a"]
	a.m.Held = []sample.Held{{Reason: "quota", Lane: "all", Since: after(-50)}}
	w.run(3).wantHappened("what began before", "-3600 started v1", "-50 hold-began quota all")
	a.m.Held = nil
	w.hold("a", "outage", "live")
	w.run(5)
	a.m.Generations, a.m.Assigned = 2, 3
	w.run(1)
	a.m.Lost["mark-read"] = 4
	w.run(1)
	a.m.Lost["mark-read"] = 5
	w.run(1)
	w.b.record(Command{At: w.at, What: "pause", By: "eve\n\x1b", Why: "a\u202eb"})
	a.m.Limit, a.refused = 170, 1
	w.run(1)
	a.m.Limit, a.refused = 200, 0
	w.run(30)
	a.m.Limit = 199
	w.run(5)
	a.m.Limit = 200
	w.run(70)
	a.m.Lost["mark-read"] = 9
	w.run(1)
	a.m.Held = nil
	w.run(1)
	w.wantHappened("a life", "-3600 started v1", "-50 hold-began quota all",
		"3 hold-began outage live", "4 hold-ended quota all 54", "9 rebalanced 3",
		"10 lost mark-read 4", "11 command pause eve ? a?b", "12 slowed 170 200",
		"48 recovered 200", "118 lost mark-read 5", "119 hold-ended outage live 116")
}

// A share that changes is no slow-down.
func TestNotSlowed(t *testing.T) {
	w := newWorld(t, "worker", "a")
	w.run(2)
	w.workers["a"].m.Share, w.workers["a"].m.Limit = 100, 100
	w.run(2)
	w.workers["a"].m.Share, w.workers["a"].m.Limit = 150, 150
	w.run(2).wantHappened("shares", "-3600 started v1")
}

func TestHappeningsOfAGroup(t *testing.T) {
	w := newWorld(t, "group", "a", "b")
	w.run(3)
	a, b := w.workers["a"], w.workers["b"]
	a.m.Generations++
	w.run(3)
	b.m.Generations++
	w.run(1)
	b.silent = "refused"
	w.run(3)
	b.silent = ""
	w.run(1)
	b.silent = "refused"
	w.run(9)
	b.silent = ""
	b.m.Started, b.m.Version, b.m.Lanes[0].Received, b.m.Calls[0] = after(18), "v2", 0, 0
	w.run(1)
	delete(w.workers, "a")
	w.run(1)
	w.workers["a"] = a
	w.run(1).wantHappened("a group", "-3600 started a v1", "-3600 started b v1",
		"4 rebalanced null", "12 silent b refused", "18 started b v2", "21 responding b 9",
		"21 rebalanced null")
}

// What is wrong for a while is recorded when it began and when it ended, also if it was hidden.
func TestTroubles(t *testing.T) {
	w := newWorld(t, "worker", "a")
	w.run(40)
	p := w.workers["a"].m.Partitions
	p[1].Unreadable = true
	w.run(8)
	p[1].Unreadable = false
	w.run(20).wantHappened("for a moment", "-3600 started v1")
	p[1].Unreadable = true
	w.run(20)
	p[1].Unreadable = false
	w.run(5)
	p[1].Unreadable = true
	w.run(5)
	w.hold("a", "paused", "all")
	p[1].Unreadable = false
	w.run(50).wantHappened("hidden by a hold", "-3600 started v1",
		"69 trouble-began mark-read unreadable mark-read/1", "98 hold-began paused all")
	w.workers["a"].m.Held = nil
	w.run(15)
	w.details = &Details{NoBroker: true}
	w.run(12)
	w.details = nil
	w.run(15).wantHappened("ended", "-3600 started v1",
		"69 trouble-began mark-read unreadable mark-read/1", "98 hold-began paused all",
		"149 hold-ended paused all 51", "149 trouble-ended 80 mark-read unreadable mark-read/1",
		"164 trouble-began cut-off ", "176 trouble-ended 12 cut-off ")
	w.aging(60, "a", 0)
	w.age("a", 0, 0)
	w.aging(60, "a", 1)
	w.age("a", 1, 0)
	w.run(15)
	var got []string
	for _, h := range w.latest.Happened[:4] {
		got = append(got, fmt.Sprint(h.Kind, " ", h.Params["where"]))
	}
	want := []string{"trouble-ended mark-read/1", "trouble-began mark-read/1",
		"trouble-ended mark-read/0", "trouble-began mark-read/0"}
	if !slices.Equal(got, want) {
		t.Errorf("blocked: %q", got)
	}
}

// A group's console knows who paused a worker, and why, if the pause was sent from it.
func TestWhoPaused(t *testing.T) {
	w := newWorld(t, "group", "a", "b")
	want := func(what, by, why string) {
		t.Helper()
		h := w.run(1).latest.Workers[0].Held
		if len(h) != 1 || h[0].By != by || h[0].Why != why {
			t.Errorf("%s: %+v", what, h)
		}
	}
	w.run(1).hold("a", "paused", "all")
	want("elsewhere", "", "")
	w.b.record(Command{At: w.at, What: "pause", Worker: "a", By: "alice", Why: "deploy"})
	w.b.record(Command{At: w.at.Add(1), What: "resume", Worker: "b", By: "bob"})
	want("from here", "alice", "deploy")
	w.want("the sentence", "held", "warn", map[string]any{"by": "alice", "why": "deploy"})
	w.run(20)
	w.b.record(Command{At: w.at, What: "pause", Worker: "a", By: "eve", Why: "again"})
	want("in force before", "", "")
	w.workers["a"].m.Held = nil
	w.run(1).hold("a", "outage", "all")
	w.b.record(Command{At: w.at, What: "pause", Worker: "a", By: "alice", Why: "deploy"})
	want("another hold", "", "")
	w.workers["a"].m.Held = nil
	w.hold("a", "paused", "all")
	w.b.record(Command{At: w.at.Add(1), What: "resume", Worker: "a", By: "alice"})
	want("resumed since", "", "")
}

func TestHappeningsAreBounded(t *testing.T) {
	w := newWorld(t, "worker", "a")
	w.run(1)
	for i := range 500 {
		w.b.record(Command{At: after(float64(i)), What: "pause"})
	}
	w.run(1)
	if n := len(w.latest.Happened); n != MaxHappened {
		t.Errorf("%d happened", n)
	}
	if at := w.latest.Happened[0].At; !at.Equal(after(499)) {
		t.Errorf("the newest is of %v", at)
	}
	w.b.record(Command{At: start.Add(-time.Hour), What: "pause"})
	w.run(1)
	if at := w.latest.Happened[MaxHappened-1].At; !at.Equal(after(300)) {
		t.Errorf("the oldest is of %v", at)
	}
}
