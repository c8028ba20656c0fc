package worker_test

import (
	"bytes"
	"fmt"
	"math"
	"reflect"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"

	"markread/worker"
	"markread/worker/console/sample"
)

// The console knows a worker by its metrics only: a sample of a real worker, which is paused with
// events waiting, has every field. A renamed metric or label is missing in it.
func TestConsoleReadsTheMetrics(t *testing.T) {
	inBubble(t, func(s *stack) {
		w := s.start(func(o *worker.Options) { o.Version, o.Commit, o.MaxPending = "v1", "abc", 1 })
		time.Sleep(20 * time.Second)
		s.publish(topics.Live, eventJSON("reader", "peer", time.Now().Unix()), "not an event")
		time.Sleep(10 * time.Second)
		w.Pause("", "")
		paused := time.Now()
		s.publish(topics.Live, eventJSON("other", "peer", time.Now().Unix()))
		time.Sleep(10 * time.Second)

		registry := prometheus.NewPedanticRegistry()
		registry.MustRegister(w)
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		var text bytes.Buffer
		for _, f := range families {
			if _, err := expfmt.MetricFamilyToText(&text, f); err != nil {
				t.Fatal(err)
			}
		}
		parsed, err := sample.Parse(time.Now(), &text)
		if err != nil {
			t.Fatal(err)
		}
		m, err := sample.Decode(time.Now(), families)
		if err != nil {
			t.Fatal(err)
		}
		if a, b := fmt.Sprint(parsed), fmt.Sprint(m); a != b {
			t.Errorf("the text says %s\nthe process says %s", a, b)
		}
		wantSampled(t, m)
		if len(m.Held) != 1 || m.Held[0].Reason != "paused" || m.Held[0].Lane != "all" ||
			m.Held[0].Since.Sub(paused).Abs() > time.Millisecond {
			t.Errorf("held: %v", m.Held)
		}
		if live := m.Lanes[0]; live.Received != 3 || live.Finished != [4]float64{1, 0, 0, 1} ||
			live.Conversations != 1 || live.Events != 1 || live.Ages.Quantile(.5) < 0 ||
			live.Topic != topics.Live || !live.Paused || m.Lanes[1].Topic != topics.Backfill {
			t.Errorf("live: %+v", live)
		}
		if m.Calls != [5]float64{1, 0, 0, 0, 0} || m.CallCodes[sample.Code{Class: "ok",
			Code: "0"}] != 1 || m.Letters[sample.Code{Class: "invalid"}] != 1 {
			t.Errorf("calls %v, %v, dead letters %v", m.Calls, m.CallCodes, m.Letters)
		}
		if m.Version != "v1" || m.Commit != "abc" || !m.Ready || m.LastSuccess.IsZero() ||
			len(m.Partitions) != 8 {
			t.Errorf("the worker: %+v", m)
		}
		for _, p := range m.Partitions {
			if math.IsNaN(p.Lag) || math.IsNaN(p.Oldest) || math.IsNaN(p.RetentionLeft) {
				t.Errorf("a partition: %+v", p)
			}
		}
		s.mustStop(w)
	})
}

// wantSampled reports each number of a sample that is not known.
func wantSampled(t *testing.T, m *sample.Member) {
	t.Helper()
	var walk func(name string, v reflect.Value)
	walk = func(name string, v reflect.Value) {
		switch v.Kind() {
		case reflect.Float64:
			if math.IsNaN(v.Float()) {
				t.Errorf("%s is not known", name)
			}
		case reflect.Array:
			for i := range v.Len() {
				walk(fmt.Sprintf("%s[%d]", name, i), v.Index(i))
			}
		case reflect.Struct:
			for i := range v.NumField() {
				if v.Type() != reflect.TypeFor[time.Time]() {
					walk(name+"."+v.Type().Field(i).Name, v.Field(i))
				}
			}
		}
	}
	walk("sample", reflect.ValueOf(*m))
}
