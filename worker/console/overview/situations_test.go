package overview

import (
	"fmt"
	"math"
	"testing"
	"time"

	"markread/worker/console/sample"
)

// A hold for invalid events has no code: an old rejection's is not its cause.
func TestCodeOfAHold(t *testing.T) {
	w := newWorld(t, "worker", "a")
	w.run(30)
	w.workers["a"].m.CallCodes[sample.Code{Class: "rejected", Code: "90048"}] = 1
	w.run(10)
	w.hold("a", "rejections", "live")
	w.run(1).want("a minute ago", "held", "bad", params{"code": "90048"})
	w.workers["a"].m.Held = nil
	w.run(100)
	w.hold("a", "rejections", "live")
	w.run(1).want("long ago", "held", "bad", params{"code": ""})
}

// Whatever a worker claims, it makes the console remember little.
func TestClaimsAreBounded(t *testing.T) {
	w := newWorld(t, "group", "a")
	w.run(2)
	for i := range 3 * maxLosing {
		w.workers["a"].m.Lost[fmt.Sprint("topic ", i)] = 1
		w.run(1)
	}
	if len(w.b.losses) > maxLosing {
		t.Errorf("%d topics", len(w.b.losses))
	}
}

// A backfill of millions takes hours. It is normal while live events don't wait.
func TestBackfill(t *testing.T) {
	w := newWorld(t, "worker", "a")
	w.run(60)
	a := w.workers["a"]
	a.m.MaxPending, a.m.Lanes[1].Conversations = 500_000, 250_000
	for i := range 600 {
		a.m.Lanes[1].Paused = i%3 > 0
		a.m.Lanes[1].Conversations -= 7 // fetching resumes below the bound
		w.aging(1, "a", 2, 3)
		if w.latest.Now.DrainSeconds != nil {
			t.Fatal("nobody knows how much is still in Kafka")
		}
	}
	w.want("at the bound", "backfilling", "good", params{"out": 50, "waiting": 245_800,
		"oldest": 0})
	a.m.Limit, a.m.Share, a.refused = 100, 200, 1
	w.aging(5, "a", 2, 3)
	w.want("the server refuses calls", "slowed", "warn", nil)
	a.m.Limit, a.refused, a.m.Partitions[2].RetentionLeft = 200, 0, 3000
	w.aging(5, "a", 2, 3)
	w.want("retention", "fetching-paused", "warn", params{"lane": "backfill"})
	a.m.Partitions[2].RetentionLeft = 86400
	w.age("a", 0, 40)
	w.run(1).want("live events wait", "fetching-paused", "warn", nil)
	w.age("a", 0, 1)
	a.m.Lanes[1].Paused = false
	for range 100 {
		a.m.Lanes[1].Conversations -= 190
		w.aging(1, "a", 2, 3)
	}
	w.want("all is in memory", "catching-up", "good", nil)
	if d := w.latest.Now.DrainSeconds; d == nil || *d < 1000 || *d > 1300 {
		t.Errorf("drain: %v", d)
	}
}

// A steady number of conversations in flight is no backlog that drains.
func TestNothingDrains(t *testing.T) {
	w := newWorld(t, "worker", "a")
	w.run(60)
	w.workers["a"].m.Lanes[0].Conversations = 30
	w.run(70)
	for range 60 {
		w.workers["a"].m.Lanes[0].Conversations -= .1
		if w.run(1); w.latest.Now.DrainSeconds != nil {
			t.Fatalf("drained in %v s", *w.latest.Now.DrainSeconds)
		}
	}
}

// An old event that no other sentence explains is not kept quiet about: nobody owns its partition,
// or nothing else happens at night.
func TestDelayed(t *testing.T) {
	w := newWorld(t, "group", "a")
	a := w.workers["a"]
	w.kafka = &Kafka{}
	w.run(60)
	a.received, a.calls = 0, 0
	w.kafka.Partitions = []Partition{{Topic: "mark-read", Partition: 9, Lane: "live",
		Lag: new(500.0), OldestSeconds: 3600}}
	w.run(20).want("for a moment", "keeping-up", "warn", nil)
	w.run(20).want("for longer", "delayed", "warn", params{"topic": "mark-read", "partition": 9,
		"age": 3600, "waiting": 0})
	w.run(400).want("it is not idle", "delayed", "warn", nil)
	w.kafka.Partitions = nil
	w.run(1).want("after it", "idle", "good", nil)
	w.aging(300, "a", 0)
	w.want("no call succeeds", "delayed", "warn", params{"age": 300})
}

// At night one event fails, and nothing else happens: no call succeeds, but its failure is known.
func TestBlockedAtNight(t *testing.T) {
	w := newWorld(t, "worker", "a")
	w.run(40)
	a := w.workers["a"]
	a.received, a.calls, a.m.LastSuccess = 0, 0, after(-1000)
	w.details = &Details{Partitions: []Partition{{Topic: "mark-read",
		Oldest: &Oldest{Offset: 17, WaitsFor: "retry", Code: "60008"}}}}
	w.aging(29, "a", 0)
	w.want("a retry", "keeping-up", "good", nil)
	w.aging(16, "a", 0)
	w.want("for 45 s", "blocked", "bad", params{"code": "60008", "offset": 17})
}

// The event of a worker elsewhere is known only there.
func TestBlockedElsewhere(t *testing.T) {
	w := newWorld(t, "group", "a", "b")
	w.run(40)
	w.aging(45, "b", 0)
	w.want("without details", "blocked", "bad", params{"partition": 2, "worker": "b",
		"offset": nil, "code": nil})
}

// What a worker on this machine says of itself completes its row, as long as its metrics agree.
func TestDetailsOfAMember(t *testing.T) {
	w := newWorld(t, "group", "a", "b")
	w.run(40)
	d := &Details{Holds: []Hold{
		{Reason: "outage", Lane: "all", Since: w.at, Detail: "17 of 20", Code: "http_502",
			Do: "check", By: "eve", NextProbeAt: new(after(60))},
		{Reason: "paused", Lane: "all", Since: w.at, Detail: "another"}},
		Partitions: []Partition{
			{Topic: "mark-read", Partition: 2, OldestSeconds: 30, Oldest: &Oldest{Offset: 17,
				WaitsFor: "retry", Code: "60008"}},
			{Topic: "mark-read", Partition: 3, OldestSeconds: 30, Oldest: &Oldest{Offset: 18},
				Unreadable: &Unreadable{Reason: "no leader"}},
			{Topic: "mark-read", Partition: 0, Oldest: &Oldest{Offset: 666}}}}
	w.workers["b"].details = d
	w.aging(45, "b", 0)
	w.want("blocked", "blocked", "bad", params{"offset": 17, "code": "60008", "worker": ""})
	for _, p := range w.latest.Partitions {
		if p.Unreadable != nil || p.Lane == "live" && (p.Oldest != nil) != (p.Partition == 2) {
			t.Errorf("%+v", p)
		}
	}
	w.workers["b"].m.Partitions[1].Unreadable = true
	w.run(1)
	if u := w.latest.Partitions[0].Unreadable; u == nil || u.Reason != "no leader" ||
		u.Since.IsZero() {
		t.Errorf("%+v", u)
	}
	w.workers["b"].m.Held = []sample.Held{{Reason: "outage", Lane: "all", Since: after(40.5)}}
	w.run(1).want("held", "held", "bad", params{"detail": "17 of 20", "code": "http_502",
		"next": after(60)})
	w.workers["b"].m.Held[0].Since = after(80)
	w.run(1).want("another hold", "held", "bad", params{"detail": "", "next": nil})
}

// After an outage the p99 is not more than the oldest event was.
func TestAgesAfterAnOutage(t *testing.T) {
	w := newWorld(t, "worker", "a")
	w.workers["a"].m.Lanes[0].Topic = "mark-read"
	w.run(60)
	w.workers["a"].m.Partitions[2].Oldest = 500 // of the backfill
	w.aging(81, "a", 0)
	w.age("a", 0, 0)
	w.workers["a"].m.Lanes[0].Ages[12] += 5000
	w.run(1)
	if p := w.latest.Now.P99; p == nil || *p != 81 {
		t.Errorf("p99 %s", plain(p))
	}
	w.run(50)
	if p := w.latest.Now.P99; p == nil || *p != 81 {
		t.Errorf("p99 %s later", plain(p))
	}
}

// A console that reaches no broker says nothing about workers that do.
func TestOnlyTheConsoleIsCutOff(t *testing.T) {
	w := newWorld(t, "group", "a", "b")
	w.run(40)
	w.kafka = &Kafka{Unreachable: true}
	w.run(10).want("they heartbeat", "keeping-up", "warn", nil)
	w.hold("a", "membership", "all")
	w.run(1).want("one of them does", "held", "bad", params{"reason": "membership"})
	w.hold("b", "membership", "all")
	w.run(1).want("none does", "cut-off", "bad", params{"since": after(52)})
}

// A worker that is not in the group proves nothing about the brokers.
func TestCutOffBeforeJoining(t *testing.T) {
	w := newWorld(t, "group", "a")
	w.workers["a"].m.Ready = false
	w.kafka = &Kafka{Unreachable: true}
	w.run(10).want("not ready", "cut-off", "bad", nil)
}

// A permit is taken for a second longer than its call: slow calls use up the quota, too.
func TestBehindWithSlowCalls(t *testing.T) {
	w := newWorld(t, "worker", "a")
	w.run(60)
	a := w.workers["a"]
	a.received, a.calls, a.m.InFlight = 160, 100, 100
	w.run(110).want("a second each", "behind", "warn", params{"in": 160, "out": 100})
	a.m.InFlight = 10
	w.run(60)
	if key := w.latest.Sentence.Key; key == "behind" {
		t.Error("permits are free: it is not the quota")
	}
}

// A burst of some seconds' work is no backlog: it shrinks.
func TestBurst(t *testing.T) {
	for _, burst := range []float64{1000, 3000, 8000} {
		w := newWorld(t, "worker", "a")
		w.run(60)
		a := w.workers["a"]
		a.m.Lanes[0].Conversations, a.calls = burst, 195
		for i := range 60 {
			if a.m.Lanes[0].Conversations < 195 {
				a.calls = 50
			}
			w.age("a", 0, float64(min(i, 10)))
			w.age("a", 1, float64(min(i, 10)))
			if w.run(1); w.latest.Sentence.Severity != "good" {
				t.Fatalf("%v conversations, after %d s: %v", burst, i, w.latest.Sentence)
			}
		}
	}
}

// While a queue drains, its oldest event becomes older until the end. That is not green, and ends
// with the queue.
func TestQueueDrains(t *testing.T) {
	w := newWorld(t, "worker", "a")
	w.run(60)
	a := w.workers["a"]
	a.received, a.calls = 330, 198
	for i := range 75 {
		w.age("a", 0, .4*float64(i))
		w.age("a", 1, .4*float64(i))
		w.run(1)
	}
	a.received = 60
	for a.m.Lanes[0].Conversations > 150 {
		for p := range 2 {
			w.age("a", p, a.m.Partitions[p].Oldest+.3)
		}
		if w.run(1); w.latest.Sentence.Severity == "good" {
			t.Fatalf("green: %v", w.latest.Sentence)
		}
	}
	w.want("at the end", "catching-up", "warn", nil)
	w.age("a", 0, 1)
	w.age("a", 1, 1)
	a.calls = 60
	for i := range 30 {
		if w.run(1); w.latest.Sentence.Key != "keeping-up" {
			t.Errorf("%d s after it: %v", i, w.latest.Sentence)
		}
	}
}

// A live lane that becomes older is not well, also before its backlog is large and with free
// permits; one event that becomes older is another matter.
func TestAging(t *testing.T) {
	w := newWorld(t, "worker", "a")
	w.run(60)
	w.workers["a"].m.Lanes[0].Conversations = 30
	w.aging(19, "a", 0, 1)
	w.want("for 19 s", "keeping-up", "good", nil)
	w.aging(7, "a", 0, 1)
	w.want("for 26 s", "backlog", "warn", params{"trend_key": "sentence.backlog.growing"})
	w = newWorld(t, "worker", "a")
	w.run(60)
	w.workers["a"].m.Partitions = append(w.workers["a"].m.Partitions,
		sample.Partition{Topic: "mark-read", Number: 7, RetentionLeft: 86400})
	w.workers["a"].m.Lanes[0].Conversations = 30
	w.aging(29, "a", 0)
	w.want("one partition for 29 s", "keeping-up", "good", nil)
}

// The backlog of a worker that responds again does not count as growth.
func TestMembersOfTheBacklogChange(t *testing.T) {
	w := newWorld(t, "group", "a", "b")
	b := w.workers["b"]
	for _, s := range w.workers {
		s.m.Limit, s.m.Share, s.calls, s.received = 100, 100, 98, 98
		s.m.Lanes[0].Conversations = 20_000
	}
	b.silent = "no route to host"
	w.run(90)
	b.silent = ""
	b.received = 0
	w.run(25)
	if n := w.latest.Now; n.DrainSeconds == nil || *n.DrainSeconds > 500 {
		t.Errorf("40,000 conversations, 98 fewer a second: %v", n.DrainSeconds)
	}
}

// If no worker has a share, the group makes no call.
func TestOnlySpares(t *testing.T) {
	w := newWorld(t, "group", "a")
	w.workers["a"].m.Share, w.workers["a"].m.Limit = 0, 0
	w.hold("a", "quota", "all")
	w.run(40).want("a spare alone", "held", "warn", params{"reason": "quota"})
}

// A sample of long ago is not the present.
func TestStaleSample(t *testing.T) {
	w := newWorld(t, "group", "a", "b")
	w.run(40)
	old := w.workers["a"].m
	w.b.build(Input{At: w.at.Add(staleAt + 2*time.Second), Members: []Member{
		{Worker: Worker{Name: "a"}, Sample: &old}}})
	if state := w.b.workers[0].State; state != "silent" {
		t.Errorf("it is %s", state)
	}
}

// One lost response of the only worker is not worth an alarm; its restart is.
func TestBriefSilence(t *testing.T) {
	w := newWorld(t, "group", "a")
	w.kafka = &Kafka{}
	w.run(60)
	w.workers["a"].silent = "no response within 2s"
	w.run(4).want("one lost response", "keeping-up", "good", params{"calls": 50})
	w.run(2).want("more of them", "silent", "bad", params{"since": after(61)})
	w.workers["a"].silent = ""
	w.run(1).want("it responds", "keeping-up", "good", nil)
	w.workers["a"].silent = "connection refused"
	w.kafka = &Kafka{Empty: true}
	w.run(1).want("it has left", "none", "bad", nil)
}

// Without a limit, conversations in flight are no backlog.
func TestNoRate(t *testing.T) {
	w := newWorld(t, "worker", "a")
	a := w.workers["a"]
	a.m.Rate, a.m.Share, a.m.Limit = math.NaN(), math.NaN(), math.NaN()
	a.received, a.calls, a.m.Lanes[0].Conversations = 500, 500, 25
	w.run(200).want("25 in flight", "keeping-up-unlimited", "good", params{"calls": 500})
	a.received = 600
	w.run(10)
	w.aging(150, "a", 0, 1)
	w.want("more than it can do", "behind-unlimited", "warn", nil)
}

// Of two workers that report a partition without an owner, the one with the older event is right.
func TestTwoWorkersReportAPartition(t *testing.T) {
	for _, older := range []string{"a", "b"} {
		w := newWorld(t, "group", "a", "b")
		for _, name := range []string{"a", "b"} {
			w.workers[name].m.Partitions = []sample.Partition{{Topic: "mark-read", Oldest: 5}}
		}
		w.age(older, 0, 50)
		w.run(1)
		if p := w.latest.Partitions; len(p) != 1 || p[0].OldestSeconds != 50 || p[0].Worker != older {
			t.Errorf("%s: %+v", older, p)
		}
	}
}
