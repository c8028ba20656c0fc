package overview

import (
	"math"
	"testing"
	"time"

	"markread/worker/console/sample"
)

type params = map[string]any

func after(s float64) time.Time { return start.Add(time.Duration(s * float64(time.Second))) }

func TestOutside(t *testing.T) {
	w := newWorld(t, "worker", "a")
	if w.b.empty().Sentence.Key != "starting" {
		t.Error("before the first input")
	}
	m := &w.workers["a"].m
	m.Ready, m.Started = false, after(-5)
	w.details = &Details{}
	w.run(20).want("a new process", "starting", "warn", nil)
	w.run(60).want("it does not join", "out", "bad", params{"since": after(55),
		"rebalancing": false})
	m.Ready = true
	w.run(1).want("it joins", "keeping-up", "good", nil)
	m.Ready, w.details.Outside = false, after(70)
	w.run(1).want("it has left", "out", "bad", params{"since": after(70)})
	w.details.Holds = []Hold{{Reason: "membership", Lane: "all", Since: after(60)}}
	w.run(1).want("no heartbeat before", "cut-off", "bad", params{"since": after(70)})
	w.details = &Details{NoBroker: true}
	w.run(1).want("no broker", "cut-off", "bad", params{"since": after(82)})

	w = newWorld(t, "group")
	w.run(3).want("nothing is known", "starting", "warn", nil)
	w.kafka = &Kafka{Empty: true}
	w.run(1).want("no member", "none", "bad", nil)
	w.kafka = &Kafka{Unreachable: true}
	w.run(9).want("no broker", "cut-off", "bad", params{"since": after(4)})
	a, b := w.add("a"), w.add("b")
	w.kafka = &Kafka{Empty: true}
	w.run(9).want("ready says that Kafka is behind", "keeping-up", "good", nil)
	a.m.Ready, b.m.Ready = false, false
	w.kafka = &Kafka{Rebalancing: true}
	w.run(60).want("a long rebalance", "out", "bad", params{"since": after(23),
		"rebalancing": true})
	b.m.Ready = true
	w.kafka = &Kafka{}
	w.run(9).want("one is in the group", "keeping-up", "good", nil)
	b.silent = "connection refused"
	w.run(9).want("the one that does not respond is in the group", "keeping-up", "good", nil)
	a.silent = "no route to host"
	w.run(9).want("nobody responds", "silent", "bad", params{"workers": 2,
		"reason": "no route to host", "since": after(101)})
	w.kafka = &Kafka{Empty: true}
	w.run(1).want("nobody responds, and nobody is a member", "none", "bad", nil)
}

func TestHeld(t *testing.T) {
	w := newWorld(t, "worker", "a")
	w.run(40).want("before", "keeping-up", "good", params{"calls": 50, "rate": 200, "oldest": 0})
	a := w.workers["a"]
	w.hold("a", "outage", "all")
	a.calls, a.m.CallCodes[sample.Code{Class: "transient", Code: "http_502"}] = 0, 5
	w.details = &Details{Holds: []Hold{{Reason: "outage", Lane: "all", Since: w.at,
		Detail: "17 of 20 calls failed", Do: "check", NextProbeAt: new(after(77))}}}
	w.run(10).want("an outage", "held", "bad", params{"reason": "outage",
		"reason_key": "hold.outage", "lane": "all", "since": after(40), "next": after(77),
		"detail": "17 of 20 calls failed", "code": "http_502", "workers": 1, "of": 1,
		"waiting": 500, "meaning_key": "hold.outage.meaning", "do_key": "hold.outage.do"})
	w.details.Holds[0] = Hold{Reason: "paused", Lane: "all", Since: w.at, By: "alice",
		Why: "deploy"}
	w.run(1).want("paused", "held", "warn", params{"by": "alice", "why": "deploy", "next": nil})
	a.m.Held, a.m.Share, a.m.Limit, w.details = nil, 0, 0, nil
	w.hold("a", "quota", "all")
	w.run(1).want("a worker without a share", "held", "warn", params{"reason": "quota"})

	w = newWorld(t, "group", "a", "b", "c")
	w.workers["c"].m.Share = 0
	w.hold("c", "quota", "all")
	w.run(40).want("a spare worker", "keeping-up", "good", nil)
	w.hold("a", "outage", "all")
	w.hold("b", "paused", "all")
	w.run(1).want("one of three", "held", "bad", params{"reason": "outage", "workers": 1, "of": 3})
	w.hold("b", "outage", "all")
	w.workers["c"].silent = "gone"
	w.run(1).want("two of two that respond", "held", "bad", params{"workers": 2, "of": 2,
		"since": after(40)})
	w.workers["a"].m.Held, w.workers["b"].m.Held = nil, nil
	w.hold("b", "rejections", "backfill")
	w.workers["b"].m.Lanes[1].Events, w.workers["b"].received = 30, 60
	w.run(1).want("one lane", "held", "bad", params{"reason": "rejections", "lane": "backfill",
		"waiting": 30})
	w.hold("b", "rejections", "live")
	w.run(1).want("both lanes", "held", "bad", params{"lane": "all", "waiting": 50})
}

// What retention soon deletes is more urgent than a hold; a short retention alone is not.
func TestLosingSoon(t *testing.T) {
	w := newWorld(t, "group", "a")
	w.run(40)
	w.hold("a", "outage", "all")
	p := w.workers["a"].m.Partitions
	p[0].Oldest, p[0].RetentionLeft = 7200, 2000
	p[1].Oldest, p[1].RetentionLeft = 100, 500
	p[2].Oldest, p[2].RetentionLeft = 0, 60
	w.run(1).want("not yet", "held", "bad", nil)
	p[0].RetentionLeft = 1700
	w.run(1).want("in half an hour", "losing-soon", "bad", params{"topic": "mark-read",
		"partition": 0, "left": 1700, "age": 7200})
	p[1].Oldest = 600
	w.run(1).want("the first one", "losing-soon", "bad", params{"partition": 1, "left": 500})
	p[0].RetentionLeft, p[1].RetentionLeft = math.Inf(1), math.Inf(1)
	w.run(1).want("forever", "held", "bad", nil)
}

// A hold and a pause of fetching say how much waits in Kafka, and a hold for rejections that some
// events became dead letters.
func TestWaitsInKafka(t *testing.T) {
	w := newWorld(t, "group", "a")
	a := w.workers["a"]
	a.m.Letters = map[sample.Code]float64{{Class: "rejected", Code: "1"}: 100}
	w.run(40)
	for i := range a.m.Partitions {
		a.m.Partitions[i].Lag = float64(10 + i)
	}
	w.hold("a", "rejections", "live")
	a.m.Letters = map[sample.Code]float64{{Class: "rejected", Code: "1"}: 140,
		{Class: "invalid"}: 7}
	w.run(1).want("a lane", "held", "bad", params{"lag": 21, "dead_lettered": 47,
		"kept_key": "sentence.held.rejected", "worker": "a"})
	a.m.Lanes[0].Conversations = 30
	w.run(1).want("more in memory than Kafka said", "held", "bad", params{"lag": 30, "waiting": 30})
	a.m.Lanes[0].Conversations = 0
	w.at = w.at.Add(time.Hour)
	w.run(2).want("an hour later", "held", "bad", params{"dead_lettered": 0})
	a.m.Held = nil
	w.hold("a", "outage", "all")
	w.run(1).want("both lanes", "held", "bad", params{"lag": 46, "kept_key": "sentence.held.kept"})
	a.m.Held, a.m.Lanes[1].Paused = nil, true
	w.age("a", 0, 40)
	w.run(1).want("fetching", "fetching-paused", "warn", params{"lag": 25})
}

// Rows keep their places while ages differ by less than a second.
func TestOrderIsStable(t *testing.T) {
	w := newWorld(t, "worker", "a")
	for i := range 10 {
		w.age("a", 0, 5+.04*float64(i%3))
		w.age("a", 1, 5+.04*float64((i+1)%3))
		w.run(1)
		for n, p := range w.latest.Partitions[:2] {
			if p.Partition != n || p.Lane != "live" {
				t.Errorf("%d: %+v", i, p)
			}
		}
	}
}

func TestLosing(t *testing.T) {
	w := newWorld(t, "worker", "a")
	m := &w.workers["a"].m
	m.Lost["old"] = 5
	w.run(40).want("lost before", "keeping-up", "good", nil)
	m.Lost["mark-read"] = 7
	w.run(1)
	m.Lost["mark-read"] = 9
	w.run(500).want("losing", "losing", "bad", params{"topic": "mark-read", "count": 9,
		"since": after(41)})
	w.run(200).want("ten minutes later", "keeping-up", "good", nil)
}

func TestFetchingPaused(t *testing.T) {
	w := newWorld(t, "worker", "a")
	m := &w.workers["a"].m
	m.Lanes[0].Conversations, m.MaxPending = 900, 1000
	for i := range 100 {
		m.Lanes[1].Paused = i%2 == 0
		w.run(1)
		if i > 10 {
			w.want("at the bound", "fetching-paused", "warn", params{"lane": "backfill",
				"waiting": 900, "bound": 1000})
		}
	}
	m.Lanes[0].Paused = true
	w.run(1).want("live is worse", "fetching-paused", "warn", params{"lane": "live"})
	m.Lanes[0].Paused, m.Lanes[1].Paused = false, false
	w.run(40).want("after it", "keeping-up", "good", nil)
}

func TestBlocked(t *testing.T) {
	oldest := &Oldest{Offset: 17, Attempts: 5, AttemptsOf: 8, WaitsFor: "retry", Code: "60008",
		Message: "no", RetryAt: new(after(99)), Report: "alice", Peer: "bob"}
	w := newWorld(t, "worker", "a")
	w.run(40)
	w.aging(35, "a", 0)
	w.want("not old enough for long", "keeping-up", "warn", nil)
	w.aging(10, "a", 0)
	w.want("one event", "blocked", "bad", params{"topic": "mark-read", "partition": 0, "age": 45,
		"offset": nil, "waits_for": nil, "worker": ""})
	w.details = &Details{Partitions: []Partition{{Topic: "mark-read", Oldest: oldest}}}
	w.aging(1, "a", 0)
	w.want("its own console knows more", "blocked", "bad", params{"offset": 17, "attempts": 5,
		"attempts_of": 8, "waits_for": "retry", "waits_key": "waits.retry", "code": "60008",
		"message": "no", "retry_at": after(99), "report": "alice", "peer": "bob", "worker": ""})
	w.aging(60, "a", 0)
	for _, h := range w.latest.Happened {
		if h.Params["key"] == "delayed" {
			t.Errorf("it is delayed, too: %+v", h)
		}
	}
	w.age("a", 0, 1)
	w.run(1).want("it finished", "keeping-up", "good", nil)

	for what, change := range map[string]func(w *world){
		"no call succeeds": func(w *world) {
			w.workers["a"].calls, w.workers["a"].received = 0, 0
			w.workers["a"].m.LastSuccess = after(-60)
		},
		"all are old": func(w *world) { w.age("a", 1, 40) },
		"a backlog":   func(w *world) { w.workers["a"].m.Lanes[0].Conversations = 5000 },
		"it waits for its turn": func(w *world) {
			w.details = &Details{Partitions: []Partition{{Topic: "mark-read",
				Oldest: &Oldest{WaitsFor: "quota"}}}}
		},
		"the oldest event changes": func(w *world) {
			for range 60 {
				w.aging(1, "a", 0)
				w.age("a", 0, 50)
			}
		},
	} {
		w := newWorld(t, "worker", "a")
		w.run(40)
		w.aging(35, "a", 0)
		change(w)
		w.aging(25, "a", 0)
		if w.latest.Sentence.Key == "blocked" {
			t.Errorf("%s: it is blocked: %v", what, w.latest.Sentence.Params)
		}
	}
}

func TestUnreadable(t *testing.T) {
	w := newWorld(t, "group", "a", "b")
	w.run(40)
	p := w.workers["b"].m.Partitions
	p[1].Unreadable, p[2].Unreadable = true, true
	w.age("b", 1, 50)
	w.run(30).want("in a group", "unreadable", "bad", params{"topic": "mark-read", "partition": 3,
		"count": 2, "since": after(41), "reason": ""})
	w = newWorld(t, "worker", "a")
	w.workers["a"].m.Partitions[1].Unreadable = true
	w.details = &Details{Partitions: []Partition{{Topic: "mark-read", Partition: 1,
		Unreadable: &Unreadable{Since: after(-9), Reason: "no leader"}}}}
	w.run(40).want("of a worker", "unreadable", "bad", params{"since": after(-9),
		"reason": "no leader"})
}

func TestSlowed(t *testing.T) {
	w := newWorld(t, "group", "a", "b")
	a, b := w.workers["a"], w.workers["b"]
	a.m.Share, a.m.Limit, b.m.Share, b.m.Limit = 100, 100, 100, 100
	w.run(40)
	a.m.Limit, a.refused = 60, 1
	w.run(5).want("by the server", "slowed", "warn", params{"limit": 160, "share": 200})
	a.m.Limit, a.refused = 95, 0
	w.run(5).want("a little", "keeping-up", "good", nil)
	a.m.Share, a.m.Limit = 50, 50
	b.m.Share, b.m.Limit = 150, 100
	w.run(100).want("no call was refused", "keeping-up", "good", nil)
}

func TestBacklog(t *testing.T) {
	w := newWorld(t, "worker", "a")
	a := w.workers["a"]
	w.run(60)
	a.received, a.calls = 1000, 195
	w.run(10)
	a.received = 0
	w.run(20).want("a burst of 40 s", "keeping-up", "good", nil)
	for range 30 { // what the sentence says meanwhile is never that it is behind
		if w.run(1); w.latest.Sentence.Key == "behind" {
			t.Error("a burst is behind")
		}
	}
	w.workers["a"].m.Lanes[0].Conversations = 0
	a.received, a.calls = 50, 50
	w.run(90)

	a.received, a.calls = 260, 194
	w.run(15).want("for 15 s", "keeping-up", "good", nil)
	w.run(14).want("for 29 s", "backlog", "warn", params{
		"trend_key": "sentence.backlog.growing"})
	w.run(11).want("for 40 s", "backlog", "warn", params{"in": 260, "out": 194})
	w.run(8).want("for 48 s", "behind", "warn", params{"in": 260, "out": 194})
	w.aging(150, "a", 0, 1)
	w.want("for minutes", "behind", "warn", params{"in": 260, "out": 194, "oldest": 150})
	a.received = 194
	w.run(90).want("it does not shrink", "behind", "warn", params{"in": 194, "out": 194})
	a.received = 94
	w.run(14).want("less arrives than completes", "backlog", "warn", nil)
	w.run(76)
	waiting := a.m.Lanes[0].Conversations
	w.want("it shrinks", "catching-up", "warn", params{"in": 94, "out": 194, "waiting": waiting,
		"done": w.at.Add(time.Duration(waiting/100) * time.Second).Round(10 * time.Second)})
	if d := w.latest.Now.DrainSeconds; d == nil || *d != waiting/100 {
		t.Errorf("drain: %v", d)
	}
	w.age("a", 0, 31)
	w.age("a", 1, 31)
	w.run(1).want("it is not old", "catching-up", "good", nil)
	a.m.Lanes[0].Conversations = 20
	w.age("a", 0, 1)
	w.age("a", 1, 0)
	w.run(1).want("it is done", "keeping-up", "good", nil)
}

// After an outage the backlog is large and old, and for some seconds nobody knows how it develops.
func TestBacklogAfterAHold(t *testing.T) {
	w := newWorld(t, "worker", "a")
	a := w.workers["a"]
	w.run(40)
	w.hold("a", "outage", "all")
	a.received, a.calls = 50, 0
	w.aging(600, "a", 0, 1, 2, 3)
	w.want("held", "held", "bad", params{"waiting": 30_000})
	a.m.Held, a.calls = nil, 195
	for i := range 60 {
		w.aging(1, "a", 0, 1, 2, 3)
		if key := w.latest.Sentence.Key; key != "backlog" && (i < 20 || key != "catching-up") {
			t.Errorf("%d s after it: %s", i, key)
		}
	}
	w.want("a minute after it", "catching-up", "warn", nil)
}

func TestIdle(t *testing.T) {
	w := newWorld(t, "worker", "a")
	w.run(40)
	w.workers["a"].received, w.workers["a"].calls = 0, 0
	w.run(200).want("for three minutes", "keeping-up", "good", params{"calls": 0})
	w.run(200).want("for six minutes", "idle", "good", params{"since": after(40)})
	w.workers["a"].received = 1
	w.run(1).want("an event", "keeping-up", "good", nil)

	w = newWorld(t, "group", "a")
	a := w.workers["a"]
	a.received, a.calls, a.m.LastSuccess = 0, 0, after(-1000)
	w.run(1).want("the console started later", "idle", "good", params{"since": after(-1000)})
	a.m.LastSuccess = time.Time{}
	w = newWorld(t, "group", "a")
	w.workers["a"].received, w.workers["a"].calls = 0, 0
	w.workers["a"].m.LastSuccess = time.Time{}
	w.run(1).want("never a call", "idle", "good", params{"since": after(-3600)})
}
