package overview

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"testing"
	"time"

	"markread/worker/console/sample"
)

var start = time.Date(2026, 12, 1, 14, 0, 0, 0, time.UTC)

// world is a group of workers that are observed every second.
type world struct {
	t       *testing.T
	b       *builder
	at      time.Time
	workers map[string]*simulated
	kafka   *Kafka
	details *Details
	latest  Overview
}

// simulated is a worker. Its changes happen each second.
type simulated struct {
	m                        sample.Member
	received, calls, refused float64 // a second
	silent                   string
	details                  *Details
}

func newWorld(t *testing.T, scope string, names ...string) *world {
	w := &world{t: t, b: newBuilder(scope, "markread"), at: start, workers: map[string]*simulated{}}
	for _, name := range names {
		w.add(name)
	}
	return w
}

// add adds a worker that has run for an hour and owns two partitions of each lane.
func (w *world) add(name string) *simulated {
	s := &simulated{received: 50, calls: 50, m: sample.Member{
		Version: "v1", Started: w.at.Add(-time.Hour), Ready: true,
		Rate: 200, Share: 200, Limit: 200, MaxPending: 1000_000, Assigned: 4,
		Generations: 1, LastSuccess: w.at,
		CallCodes: map[sample.Code]float64{}, Lost: map[string]float64{}}}
	n := 2 * len(w.workers)
	for i, topic := range []string{"mark-read", "mark-read-backfill"} {
		s.m.Lanes[i].Topic = topic
		for p := n; p < n+2; p++ {
			s.m.Partitions = append(s.m.Partitions, sample.Partition{Topic: topic, Number: p,
				RetentionLeft: 86400})
		}
	}
	w.workers[name] = s
	return s
}

func (w *world) hold(name, reason, lane string) {
	m := &w.workers[name].m
	m.Held = append(slices.Clone(m.Held), sample.Held{Reason: reason, Lane: lane, Since: w.at})
}

// run lets seconds pass. The backlog is what was received and not called.
func (w *world) run(seconds int) *world {
	for range seconds {
		w.at = w.at.Add(time.Second)
		in := Input{At: w.at, Kafka: w.kafka, Details: w.details}
		for _, name := range slices.Sorted(maps.Keys(w.workers)) {
			s := w.workers[name]
			s.m.At = w.at
			s.m.Calls[0] += s.calls
			s.m.Calls[2] += s.refused
			l := &s.m.Lanes[0]
			l.Received += s.received
			l.Finished[0] += s.calls
			l.Ages[3] += s.calls
			l.Conversations = max(0, l.Conversations+s.received-s.calls)
			l.Events = l.Conversations
			if s.calls > 0 {
				s.m.LastSuccess = w.at
			}
			sampled := s.m
			sampled.CallCodes, sampled.Lost = maps.Clone(s.m.CallCodes), maps.Clone(s.m.Lost)
			sampled.Partitions = slices.Clone(s.m.Partitions)
			m := Member{Worker: Worker{Name: name, Silent: s.silent}, Sample: &sampled,
				Details: s.details}
			if w.b.scope == "group" {
				m.Address = name
			}
			if s.silent != "" {
				m.Sample = nil
			}
			in.Members = append(in.Members, m)
		}
		w.latest = w.b.build(in)
		if _, err := json.Marshal(w.latest); err != nil {
			w.t.Fatal(err)
		}
		checkTexts(w.t, "sentence."+w.latest.Sentence.Key, w.latest.Sentence.Params)
		for _, h := range w.latest.Happened[:min(3, len(w.latest.Happened))] {
			checkTexts(w.t, "happening."+h.Kind, h.Params)
		}
	}
	return w
}

// age sets the age of the oldest event of a worker's partition.
func (w *world) age(name string, partition int, seconds float64) {
	w.workers[name].m.Partitions[partition].Oldest = seconds
}

// aging lets time pass while the oldest event of a partition stays the same.
func (w *world) aging(seconds int, name string, partitions ...int) {
	for range seconds {
		for _, p := range partitions {
			w.workers[name].m.Partitions[p].Oldest++
		}
		w.run(1)
	}
}

// want compares the sentence, and its parameters as text.
func (w *world) want(what, key, severity string, params map[string]any) {
	w.t.Helper()
	s := w.latest.Sentence
	if s.Key != key || s.Severity != severity {
		w.t.Errorf("%s: %s, %s %v; want %s, %s", what, s.Key, s.Severity, s.Params, key, severity)
		return
	}
	for _, name := range slices.Sorted(maps.Keys(params)) {
		got, want := plain(s.Params[name]), plain(params[name])
		if got != want {
			w.t.Errorf("%s: %s is %s, want %s", what, name, got, want)
		}
	}
}

// plain returns a value as JSON, numbers with two decimals.
func plain(v any) string {
	b, _ := json.Marshal(v)
	var f float64
	if json.Unmarshal(b, &f) == nil && string(b) != "null" {
		return fmt.Sprint(math.Round(f*100) / 100)
	}
	return string(b)
}
