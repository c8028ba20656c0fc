package bench

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

// A side can lack a figure.
func TestReport(t *testing.T) {
	r := row{name: "r", against: []string{kafkaLoop, postLoop}, figures: []figure{
		{"speed", 0, []target{atLeast(1, kafkaLoop), atLeast(0.5, postLoop)}},
		{"cost", 2, []target{atMost(3, ""), atMost(1.25, kafkaLoop)}},
	}}
	lines := compare(r, []string{markread, kafkaLoop, postLoop}, map[string][]result{
		markread:  {{"speed": 100, "cost": 4}, {"speed": 300, "cost": 1}, {"speed": 90, "cost": 3}},
		kafkaLoop: {{"speed": 200, "cost": 4}, {"speed": 200, "cost": 1}, {"speed": 100, "cost": 1}},
		postLoop:  {{"speed": 200}, {"speed": 200}, {"speed": 100}}, // no CPU time
	})
	var out bytes.Buffer
	if err := (&Command{Runs: 3, Scale: 0.5}).report(&out, lines); err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(out.String(), "\n\n")
	const want = `
ROW  FIGURE  MARKREAD  AGAINST        OTHER  RATIO  TARGET  MET
r    speed   100       kafka-go loop  200    0.90   ≥ 1     no
r    speed   100       post loop      200    0.90   ≥ 0.5   yes
r    cost    3.00      -              -      -      ≤ 3     yes
r    cost    3.00      kafka-go loop  1.00   1.00   ≤ 1.25  yes
r    cost    3.00      post loop      -      -      -       -
`
	if "\n"+table != want {
		t.Errorf("the table is\n%s\nwant%s", table, want)
	}

	out.Reset()
	if err := (&Command{Runs: 3, Scale: 0.5, JSON: true}).report(&out, lines); err != nil {
		t.Fatal(err)
	}
	var document struct {
		Runs  int
		Scale float64
		Lines []line
	}
	if err := json.Unmarshal(out.Bytes(), &document); err != nil {
		t.Fatal(err)
	}
	if l := document.Lines; document.Runs != 3 || document.Scale != 0.5 || len(l) != 5 ||
		*l[0].Ratio != 0.9 || *l[0].Met || len(l[0].Other) != 3 || l[4].Ratio != nil {
		t.Errorf("the document is\n%s", &out)
	}
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		of   []float64
		want float64
	}{{[]float64{3}, 3}, {[]float64{5, 1}, 3}, {[]float64{9, 1, 2}, 2}, {[]float64{4, 1, 9, 2}, 3}} {
		if got := median(c.of); got == nil || *got != c.want {
			t.Errorf("median(%v) is %v, want %v", c.of, got, c.want)
		}
	}
	if got := median(nil); got != nil {
		t.Errorf("median of nothing is %v", *got)
	}
}

// A latency can be negative: then it has no ratio, and the target is not judged.
func TestRatios(t *testing.T) {
	if got := ratios([]float64{1, 2, 3}, []float64{-1, 0, 2}); len(got) != 1 || got[0] != 1.5 {
		t.Errorf("the ratios are %v", got)
	}
	if got := ratios([]float64{1, 2}, []float64{1}); got != nil {
		t.Errorf("the ratios of different runs are %v", got)
	}
}

// Each target is of a side that its row has.
func TestRows(t *testing.T) {
	for _, r := range rows {
		for _, f := range r.figures {
			lines := compare(r, append([]string{markread}, r.against...), nil)
			judged := 0
			for _, l := range lines {
				if l.Figure == f.name && l.Target != "" {
					judged++
				}
			}
			if judged != len(f.targets) {
				t.Errorf("%s, %s: %d of %d targets in the report", r.name, f.name, judged,
					len(f.targets))
			}
		}
	}
}

// Each conversation's read times grow.
func TestRecord(t *testing.T) {
	var last body
	for _, i := range []int{7, 27, 47} {
		r := record("topic", i, 60, 20)
		var b body
		if err := json.Unmarshal(r.Value, &b); err != nil {
			t.Fatal(err)
		}
		if b.Report != "u00000007" || b.Peer != "u50000007" || b.ReadTime <= last.ReadTime ||
			string(r.Key) != b.Report+"|"+b.Peer {
			t.Errorf("record %d is %s: %s", i, r.Key, r.Value)
		}
		last = b
	}
}
