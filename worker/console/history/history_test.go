package history

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
	"unsafe"

	"markread/worker/console/sample"
)

var start = time.Unix(1_800_000_000, 0)

// member returns a member whose counters are n, and whose events are all in one bucket of age.
func member(at time.Time, n float64, bucket int) *sample.Member {
	m := &sample.Member{At: at, Rate: 200, Share: 200, Limit: 100, MaxPending: 1000}
	m.Calls[0] = n
	m.Lanes[0] = sample.Lane{Received: 2 * n, Conversations: 7}
	m.Lanes[0].Finished[0] = n
	m.Lanes[0].Ages[bucket] = n
	m.Letters = map[sample.Code]float64{{Class: "rejected", Code: "1"}: n}
	return m
}

func one(m *sample.Member) map[string]*sample.Member { return map[string]*sample.Member{"a": m} }

func text(values []*float64) string {
	b, _ := json.Marshal(values)
	return string(b)
}

// wantSeries compares a series with its JSON.
func wantSeries(t *testing.T, p Points, name, want string) {
	t.Helper()
	if got := text(p.Series[name]); got != want {
		t.Errorf("%s: %s, want %s", name, got, want)
	}
}

// A constant rate is constant, whatever the interval of the samples is.
func TestRatesAreEven(t *testing.T) {
	for _, every := range []time.Duration{time.Second, 2 * time.Second, 2700 * time.Millisecond} {
		h := New()
		for d := time.Duration(0); d <= time.Minute; d += every {
			at := start.Add(d)
			h.Add(at, one(member(at, 1000+200*d.Seconds(), 0)))
		}
		p := h.Points(Hour, 0)
		if p.Step != 5 || p.First != start.Unix() {
			t.Errorf("step %d from %d", p.Step, p.First)
		}
		if n := len(p.Series["calls.ok"]); n < 10 || n > 11 {
			t.Errorf("every %v: %d points of a minute", every, n)
		}
		for name, want := range map[string]float64{"calls.ok": 200, "in.live": 400,
			"out.applied": 200, "letters": 200, "quota.limit": 100, "quota.rate": 200,
			"backlog.live": 7, "backlog.max": 1000, "calls.held": 0} {
			for i, v := range p.Series[name] {
				if v == nil || *v != want {
					t.Errorf("every %v: %s at %d: %s", every, name, i, text(p.Series[name]))
					break
				}
			}
		}
		if v := p.Series["age.backfill.p50"][0]; v != nil {
			t.Errorf("a quantile of no events: %v", *v)
		}
	}
}

// What is not known is a gap, not 0, and never a rate that nobody observed.
func TestGaps(t *testing.T) {
	at := func(s float64) time.Time { return start.Add(time.Duration(s * float64(time.Second))) }
	young := func(m *sample.Member, s float64) *sample.Member { m.Started = at(s); return m }
	for name, c := range map[string]struct {
		samples []*sample.Member
		want    string // calls.ok
	}{
		"the first sample is a base": {[]*sample.Member{member(at(0), 5000, 0),
			member(at(5), 5010, 0), member(at(10), 5020, 0), member(at(20), 5040, 0)}, "[2,2,2]"},
		"silent for 10 s": {[]*sample.Member{member(at(0), 0, 0), member(at(5), 10, 0),
			member(at(15), 30, 0), member(at(20), 40, 0)}, "[2,2,2]"},
		"silent for 20 s": {[]*sample.Member{member(at(0), 0, 0), member(at(5), 10, 0),
			member(at(25), 500, 0), member(at(30), 510, 0), member(at(35), 520, 0)},
			"[2,null,null,null,null,2]"},
		"too little of a slot": {[]*sample.Member{member(at(0), 0, 0), member(at(5), 10, 0),
			member(at(23), 500, 0), member(at(25), 504, 0), member(at(30), 514, 0),
			member(at(35), 524, 0)}, "[2,null,null,null,null,2]"},
		"counters began again": {[]*sample.Member{member(at(0), 100, 0), member(at(5), 110, 0),
			member(at(10), 90, 0), member(at(15), 100, 0), member(at(20), 110, 0)},
			"[2,null,2]"},
		"restarted: counts from 0": {[]*sample.Member{young(member(at(0), 100, 0), -900),
			young(member(at(5), 110, 0), -900), young(member(at(10), 300, 0), 6),
			young(member(at(15), 310, 0), 6), young(member(at(20), 320, 0), 6)}, "[2,60,2]"},
		"restarted long ago": {[]*sample.Member{young(member(at(0), 100, 0), -900),
			young(member(at(5), 110, 0), -900), young(member(at(10), 300, 0), -20),
			young(member(at(15), 310, 0), -20), young(member(at(20), 320, 0), -20)}, "[2,null,2]"},
	} {
		h := New()
		for _, m := range c.samples {
			h.Add(m.At, one(m))
		}
		if got := text(h.Points(Hour, 0).Series["calls.ok"]); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

// A group's p99 comes from the sum of its members' events: not the mean of their p99.
func TestQuantilesOfAGroup(t *testing.T) {
	h := New()
	for s := range 20 {
		at := start.Add(time.Duration(s) * time.Second)
		h.Add(at, map[string]*sample.Member{
			"fast": member(at, float64(995*s), 1), // 10 to 25 ms
			"slow": member(at, float64(5*s), 12),  // 1 to 5 minutes
		})
	}
	p := h.Points(Hour, 0)
	wantSeries(t, p, "age.live.p99", "[0.02492,0.02492,0.02492]") // 990 of 995 of the bucket
	wantSeries(t, p, "age.live.p50", "[0.01754,0.01754,0.01754]")
}

// A wide bucket claims no age that was not seen in the same slot or the two before, in its lane.
func TestQuantilesOfAnOutage(t *testing.T) {
	h := New()
	for s := range 45 {
		at := start.Add(time.Duration(s) * time.Second)
		m := member(at, float64(10*s), 12)
		m.Lanes[0].Topic, m.Lanes[1].Topic = "live", "backfill"
		m.Partitions = []sample.Partition{{Topic: "backfill", Oldest: 500}, {Topic: "live"}}
		if s == 12 {
			m.Partitions[1].Oldest = 81
		}
		h.Add(at, one(m))
	}
	wantSeries(t, h.Points(Hour, 0), "age.live.p99", "[60,60,81,81,81,60,60,60]")
	wantSeries(t, h.Points(Hour, start.Unix()+10), "age.live.p99", "[81,81,60,60,60]")
}

// A page asks for what it lacks. The current slot is not complete yet.
func TestPointsAfter(t *testing.T) {
	h := New()
	if p := h.Points(Hour, 0); len(p.Series["calls.ok"]) != 0 {
		t.Errorf("points of nothing: %v", p)
	}
	for s := range 31 {
		at := start.Add(time.Duration(s) * time.Second)
		h.Add(at, one(member(at, float64(s*s), 0)))
	}
	all := h.Points(Hour, 0)
	wantSeries(t, all, "calls.ok", "[5,15,25,35,45]")
	last := all.First + 4*5
	for after, want := range map[int64]string{
		last: "[]", last - 5: "[45]", last - 1: "[45]", all.First: "[15,25,35,45]",
		1: "[5,15,25,35,45]", last + 1: "[5,15,25,35,45]", last + 5000: "[5,15,25,35,45]",
	} {
		p := h.Points(Hour, after)
		wantSeries(t, p, "calls.ok", want)
		if n := len(p.Series["calls.ok"]); n > 0 && p.First+int64(n-1)*5 != last {
			t.Errorf("after %d: %d points from %d, want the last at %d", after, n, p.First, last)
		}
	}
}

// The clock is set, or the machine sleeps: what was observed stays correct.
func TestClockJumps(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	h, at, n := New(), start, 0.0
	for range 3000 {
		switch r.IntN(60) {
		case 0:
			at = at.Add(time.Duration(r.Int64N(int64(100 * 24 * time.Hour))))
		case 1:
			at = at.Add(-time.Duration(r.Int64N(int64(30 * time.Hour))))
		case 2:
			at = at.Add(-time.Duration(r.Int64N(int64(10 * time.Second))))
		default:
			at = at.Add(time.Second)
		}
		n += 10
		h.Add(at, one(member(at, n, 0)))
		for _, rg := range []Range{Hour, Day} {
			p := h.Points(rg, at.Unix()-600)
			if len(p.Series["calls.ok"]) > rg.Count {
				t.Fatalf("%d points", len(p.Series["calls.ok"]))
			}
			for _, v := range p.Series["calls.ok"] {
				if v != nil && (*v < 0 || *v > 10.5) {
					t.Fatalf("%v calls a second of 10", *v)
				}
			}
		}
	}
}

// A clock that was set back shows nothing of the time after it.
func TestClockSetBack(t *testing.T) {
	h := New()
	for s := range 300 {
		at := start.Add(time.Duration(s) * time.Second)
		if s > 200 {
			at = at.Add(-100 * time.Second)
		}
		h.Add(at, one(member(at, float64(10*s), 0)))
	}
	p := h.Points(Hour, 0)
	if n := len(p.Series["calls.ok"]); p.First != start.Unix() || n != 39 {
		t.Errorf("%d points from %d", n, p.First-start.Unix())
	}
}

// fill adds a day of busy samples of a group.
func fill(add func(at time.Time, members map[string]*sample.Member)) {
	r := rand.New(rand.NewPCG(1, 2))
	counters := sample.Member{}
	for s := 0; s <= 24*3600+60; s += 5 {
		at := start.Add(time.Duration(s) * time.Second)
		for i := range counters.Calls {
			counters.Calls[i] += 1000 * r.Float64()
		}
		for i := range counters.Lanes {
			l := &counters.Lanes[i]
			l.Received += 1000 * r.Float64()
			l.Conversations = 500_000 * r.Float64()
			for j := range l.Finished {
				l.Finished[j] += 1000 * r.Float64()
			}
			for j := range l.Ages {
				l.Ages[j] += 1000 * r.Float64()
			}
		}
		m := counters
		m.At, m.Limit, m.Rate, m.MaxPending = at, 200*r.Float64(), 200, 500_000
		add(at, one(&m))
	}
}

func TestSizes(t *testing.T) {
	if size := uintptr(Hour.Count+Day.Count) * unsafe.Sizeof(slot{}); size > 600<<10 {
		t.Errorf("the rings have %d bytes", size)
	}
	h := New()
	fill(h.Add)
	for rg, most := range map[Range]int{Hour: 150 << 10, Day: 300 << 10} {
		p := h.Points(rg, 0)
		b, err := json.Marshal(p)
		if err != nil || len(b) > most {
			t.Errorf("%v: %d bytes, %v", rg, len(b), err)
		}
		if n := len(p.Series["age.backfill.p99"]); n < rg.Count-2 {
			t.Errorf("%v: %d points", rg, n)
		}
	}
}

func TestRound(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 1.0 / 3: "0.3333", 123456: "123500",
		199.999: "200", .000123456: "0.0001235", 1e-320: "0", 4.56789e12: "4568000000000"} {
		if got := fmt.Sprint(text([]*float64{new(round(v))})); got != "["+want+"]" {
			t.Errorf("%v: %s, want %s", v, got, want)
		}
	}
}

func BenchmarkPointsOfAnHour(b *testing.B) {
	h := New()
	fill(h.Add)
	for b.Loop() {
		h.Points(Hour, 0)
	}
}
