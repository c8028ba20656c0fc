package overview

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"markread/worker/console/history"
	"markread/worker/console/sample"
)

func (w *world) partition(topic string, number int) Partition {
	w.t.Helper()
	for _, p := range w.latest.Partitions {
		if p.Topic == topic && p.Partition == number {
			return p
		}
	}
	w.t.Fatalf("partition %s/%d is missing", topic, number)
	return Partition{}
}

func TestPartitions(t *testing.T) {
	w := newWorld(t, "group", "a", "b")
	pa, pb := w.workers["a"].m.Partitions, w.workers["b"].m.Partitions
	pa[0].Oldest, pa[1].Oldest, pb[0].Oldest, pb[1].Unreadable = 5, 9, 7, true
	pb[0].RetentionLeft, pa[2].RetentionLeft, pa[0].Lag = 1800, 60, 3
	pa[3].RetentionLeft = math.Inf(1)
	w.kafka = &Kafka{Partitions: []Partition{
		{Topic: "mark-read", Partition: 0, Lag: new(8.0), Worker: "a"},
		{Topic: "mark-read", Partition: 2, Lag: new(math.NaN()), Worker: "a", Lane: "live"},
		{Topic: "mark-read", Partition: 9, Lag: new(4.0), Lane: "live"},
	}}
	w.run(1)
	var got []string
	for _, p := range w.latest.Partitions {
		got = append(got, fmt.Sprintf("%s/%d", strings.TrimPrefix(p.Topic, "mark-read"),
			p.Partition))
	}
	if s := strings.Join(got, " "); s != "/3 /2 /1 /0 /9 -backfill/0 -backfill/1 -backfill/2 "+
		"-backfill/3" {
		t.Errorf("the order is %s", s)
	}
	for _, c := range []struct {
		topic          string
		number         int
		worker, lane   string
		lag, retention string
	}{
		{"mark-read", 0, "a", "live", "8", "86400"},
		{"mark-read", 2, "a", "live", "0", "1800"}, // nobody else reports it
		{"mark-read", 9, "", "live", "4", "null"},
		{"mark-read-backfill", 1, "a", "backfill", "0", "-1"},
	} {
		p := w.partition(c.topic, c.number)
		if p.Worker != c.worker || p.Lane != c.lane || plain(p.Lag) != c.lag ||
			plain(p.RetentionLeft) != c.retention {
			t.Errorf("%+v: %s %s %s %s", c, p.Worker, p.Lane, plain(p.Lag), plain(p.RetentionLeft))
		}
	}
	// while a partition moves, its old owner reports it too
	pb[0] = sample.Partition{Topic: "mark-read", Number: 0, Oldest: 100, RetentionLeft: 5}
	w.run(1)
	if p := w.partition("mark-read", 0); p.OldestSeconds != 5 || p.Worker != "a" {
		t.Errorf("the owner is not believed: %+v", p)
	}
	w.kafka = nil
	w.run(1)
	if p := w.partition("mark-read", 0); p.OldestSeconds != 100 {
		t.Errorf("the older event is not believed: %+v", p)
	}
	for i := range 300 {
		w.workers["a"].m.Partitions = append(w.workers["a"].m.Partitions,
			sample.Partition{Topic: "more", Number: i})
	}
	w.run(1)
	if o := w.latest; len(o.Partitions) != MaxPartitions || o.MorePartitions != 107 {
		t.Errorf("%d partitions and %d more", len(o.Partitions), o.MorePartitions)
	}
}

func TestTrend(t *testing.T) {
	w := newWorld(t, "worker", "a")
	w.run(10)
	if p := w.partition("mark-read", 0); p.Trend != nil {
		t.Errorf("a trend of ten seconds: %v", *p.Trend)
	}
	w.run(60)
	w.aging(70, "a", 0)
	w.age("a", 1, 30)
	w.run(1)
	for number, want := range map[int]string{0: "0.98", 1: "0.5"} {
		if got := plain(w.partition("mark-read", number).Trend); got != want {
			t.Errorf("partition %d: %s, want %s", number, got, want)
		}
	}
}

func TestNowAndWorkers(t *testing.T) {
	w := newWorld(t, "group", "a", "b")
	b := w.workers["b"]
	b.received, b.calls, b.m.InFlight, b.m.Limit = 20, 10, 3, 50
	w.age("b", 0, 4)
	w.run(40)
	n := w.latest.Now
	for what, pair := range map[string][2]any{
		"rate": {n.Rate, 200}, "share": {n.Share, 400}, "limit": {n.Limit, 250},
		"calls": {n.Calls, 60}, "in": {n.In, 70}, "out": {n.Out, 60},
		"oldest": {n.OldestSeconds, 4}, "drain": {n.DrainSeconds, nil},
		"waiting": {n.Conversations, 400}, "events": {n.Events, 400},
		"p50": {n.P50, .08}, "bound": {n.MaxPending, 2_000_000},
		"a": {w.latest.Workers[0].Calls, 50}, "b": {w.latest.Workers[1].Calls, 10},
		"in flight": {w.latest.Workers[1].InFlight, 3}, "of b": {w.latest.Workers[1].Events, 400},
		"its oldest": {w.latest.Workers[1].OldestSeconds, 4},
		"none":       {w.latest.Workers[0].OldestSeconds, nil},
	} {
		if got, want := plain(pair[0]), plain(pair[1]); got != want {
			t.Errorf("%s: %s, want %s", what, got, want)
		}
	}
	w.workers["a"].m.Ready, b.silent = false, "refused"
	w.run(1)
	if x, y := w.latest.Workers[0], w.latest.Workers[1]; x.State != "not-ready" ||
		y.State != "silent" || y.Silent != "refused" || y.Version != "v1" || y.Calls != nil ||
		y.Events != nil || plain(w.latest.Now.Calls) != "50" {
		t.Errorf("silent: %+v, %+v", x, y)
	}
}

// What makes no sense is null in the JSON, and stops nothing.
func TestHostileNumbers(t *testing.T) {
	values := []float64{math.NaN(), math.Inf(1), math.Inf(-1), -1, 0, 1, 1e15, 1e308}
	r := rand.New(rand.NewPCG(1, 2))
	m := NewMonitor("group", "markread")
	at := start
	for range 500 {
		in := Input{At: at, Replay: math.NaN(), Kafka: &Kafka{Partitions: []Partition{
			{Topic: "t", Lag: new(values[r.IntN(len(values))]),
				OldestSeconds: values[r.IntN(len(values))]}}}}
		for i := range r.IntN(4) {
			s := &sample.Member{At: at.Add(-time.Duration(r.IntN(3)) * time.Second), Ready: true,
				Partitions: make([]sample.Partition, 3), Held: make([]sample.Held, r.IntN(2))}
			var fill func(v reflect.Value)
			fill = func(v reflect.Value) {
				switch v.Kind() {
				case reflect.Float64:
					v.SetFloat(values[r.IntN(len(values))])
				case reflect.Struct:
					for i := range v.NumField() {
						if v.Type() != reflect.TypeFor[time.Time]() {
							fill(v.Field(i))
						}
					}
				case reflect.Slice, reflect.Array:
					for i := range v.Len() {
						fill(v.Index(i))
					}
				}
			}
			fill(reflect.ValueOf(s).Elem())
			in.Members = append(in.Members, Member{Worker: Worker{Name: fmt.Sprint(i)}, Sample: s})
		}
		m.Update(in)
		// all of it but the points, which have their own test
		if b := append(slices.Clone(m.head), '}'); !json.Valid(b) ||
			!strings.Contains(string(b), "the replay can't be shown") {
			t.Fatalf("no JSON: %s", b)
		}
		at = at.Add(time.Duration(r.IntN(5000)-500) * time.Millisecond)
	}
}

func TestMonitor(t *testing.T) {
	m := NewMonitor("worker", "markread")
	decode := func(after int64) (o struct {
		Overview
		History history.Points
	}) {
		t.Helper()
		if err := json.Unmarshal(m.JSON(history.Hour, after), &o); err != nil {
			t.Fatal(err)
		}
		return o
	}
	if o := decode(0); o.Sentence.Key != "starting" || o.Scope != "worker" ||
		o.Group != "markread" {
		t.Errorf("before the first update: %+v", o)
	}
	var group sync.WaitGroup
	group.Go(func() {
		for range 100 {
			m.JSON(history.Day, 0)
			m.Record(Command{At: start, What: "resume"})
			m.Workers()
		}
	})
	for s := range 60 {
		sampled := &sample.Member{At: after(float64(s)), Ready: true}
		sampled.Calls[0] = float64(30 * s)
		silent := *sampled // what others pass of a silent member is not used
		m.Update(Input{At: sampled.At, Members: []Member{
			{Worker: Worker{Name: "a"}, Sample: sampled},
			{Worker: Worker{Name: "b", Silent: "refused"}, Sample: &silent},
		}, Replay: map[string]int{"of": 3}})
	}
	group.Wait()
	o := decode(0)
	if points := o.History.Series["calls.ok"]; len(points) != 11 || *points[5] != 30 ||
		o.History.Step != 5 || o.Sentence.Key != "keeping-up" || o.Replay == nil {
		t.Errorf("%+v", o)
	}
	if points := decode(start.Unix() + 45).History.Series["calls.ok"]; len(points) != 1 {
		t.Errorf("%d points after the last but one", len(points))
	}
	if list := m.Workers(); len(list) != 2 || list[0].Name != "a" {
		t.Errorf("workers: %v", list)
	}
}

// BenchmarkUpdate is a group of 16 workers with 64 partitions. BenchmarkJSON is a page's requests.
func BenchmarkUpdate(b *testing.B) {
	m, at, update := busyMonitor()
	for b.Loop() {
		at = at.Add(time.Second)
		update(at)
	}
	_ = m
}

func BenchmarkJSON(b *testing.B) {
	m, at, update := busyMonitor()
	for range 3600 {
		at = at.Add(time.Second)
		update(at)
	}
	b.Run("hour", func(b *testing.B) {
		for b.Loop() {
			m.JSON(history.Hour, 0)
		}
	})
	b.Run("poll", func(b *testing.B) {
		for b.Loop() {
			m.JSON(history.Hour, at.Unix()-12)
		}
	})
}

func busyMonitor() (*Monitor, time.Time, func(time.Time)) {
	m := NewMonitor("group", "markread")
	for i := range MaxHappened {
		m.Record(Command{At: after(float64(i)), What: "pause", By: "alice", Why: "deploy"})
	}
	w := newWorld(nil, "group")
	for i := range 16 {
		w.add(fmt.Sprint(i))
	}
	return m, start, func(at time.Time) {
		in := Input{At: at}
		for name, s := range w.workers {
			s.m.At = at
			s.m.Calls[0] += 10 + float64(at.Unix()%7)/3
			s.m.Lanes[0].Received += 11
			s.m.Lanes[0].Ages[3] += 10
			sampled := s.m
			in.Members = append(in.Members, Member{Worker: Worker{Name: name}, Sample: &sampled})
		}
		m.Update(in)
	}
}
