package groupstatus

import (
	"fmt"
	"testing"
	"time"
)

var ratesAt = time.Date(2026, 3, 1, 3, 0, 0, 0, time.UTC)

// partitionAt returns a partition's lag; committed -1: no commit.
func partitionAt(number int, committed, end, finished int64) PartitionLag {
	p := PartitionLag{Partition: number, End: &end, Lag: new(end - max(0, committed)),
		Finished: finished}
	if committed >= 0 {
		p.Committed = &committed
	}
	return p
}

func topicOf(partitions ...PartitionLag) TopicLag {
	return TopicLag{Topic: "t", Partitions: partitions}
}

// unknown returns a partition whose leader does not respond.
func unknown(number int) PartitionLag {
	return PartitionLag{Partition: number, Unreadable: &Unreadable{}}
}

// lost is p after retention has deleted n unread events and p's lag counts from the ones that are
// left.
func lost(n int64, p PartitionLag) PartitionLag {
	p.Lost, p.Lag = n, new(*p.Lag-n)
	return p
}

func textOf[N any](n *N) string {
	if n == nil {
		return "-"
	}
	return fmt.Sprint(*n)
}

func TestTopicRates(t *testing.T) {
	for name, c := range map[string]struct {
		before, now TopicLag
		want        string // in and done, over 10 seconds
	}{
		"nothing happens": {topicOf(partitionAt(0, 5, 9, 0)), topicOf(partitionAt(0, 5, 9, 0)),
			"0 0"},
		"two partitions": {topicOf(partitionAt(0, 5, 9, 0), partitionAt(1, 0, 100, 0)),
			topicOf(partitionAt(0, 9, 9, 0), partitionAt(1, 66, 120, 0)), "2 7"},
		"growing": {topicOf(partitionAt(0, 0, 9, 0)), topicOf(partitionAt(0, 10, 99, 0)), "9 1"},
		"finished out of order": {topicOf(partitionAt(0, 0, 100, 10)),
			topicOf(partitionAt(0, 0, 100, 60)), "0 5"},
		"then committed": {topicOf(partitionAt(0, 0, 100, 60)),
			topicOf(partitionAt(0, 70, 100, 0)), "0 1"},
		"first commit": {topicOf(partitionAt(0, -1, 100, 0)), topicOf(partitionAt(0, 50, 100, 0)),
			"0 5"},
		"no commit, retention deletes": {topicOf(partitionAt(0, -1, 100, 0)),
			topicOf(PartitionLag{End: new(int64(100)), Lag: new(int64(60))}), "0 0"},
		"retention deletes": {topicOf(partitionAt(0, 10, 100, 0)),
			topicOf(lost(40, partitionAt(0, 10, 100, 0))), "0 0"},
		"after the deletion": {topicOf(lost(40, partitionAt(0, 10, 100, 0))),
			topicOf(partitionAt(0, 60, 100, 0)), "0 1"},
		"recreated": {topicOf(partitionAt(0, 50, 100, 0), partitionAt(1, 0, 5, 0)),
			topicOf(partitionAt(0, 50, 60, 0), partitionAt(1, 0, 9, 0)), "- -"},
		"group's offsets reset": {topicOf(partitionAt(0, 50, 100, 0)),
			topicOf(partitionAt(0, 0, 120, 0)), "2 -"},
		"one becomes unknown": {topicOf(partitionAt(0, 0, 100, 0), partitionAt(1, 0, 100, 0)),
			topicOf(partitionAt(0, 20, 100, 0), unknown(1)), "0 2"},
		"one becomes known": {topicOf(partitionAt(0, 0, 100, 0), unknown(1)),
			topicOf(partitionAt(0, 20, 100, 0), partitionAt(1, 90, 100, 0)), "0 2"},
		"all unknown": {topicOf(unknown(0)), topicOf(unknown(0)), "- -"},
		"a new partition": {topicOf(partitionAt(0, 0, 100, 0)),
			topicOf(partitionAt(0, 0, 110, 0), partitionAt(1, 40, 50, 0)), "1 0"},
	} {
		r := RatesOf(&Report{At: ratesAt, Lag: &Lag{Topics: []TopicLag{c.before}}},
			&Report{At: ratesAt.Add(10 * time.Second), Lag: &Lag{Topics: []TopicLag{c.now}}})
		topic := r.Topics["t"]
		if got := textOf(topic.In) + " " + textOf(topic.Done); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

func TestRatesOfWorkerAndLetters(t *testing.T) {
	worker := func(started int, calls int64) *Worker {
		return &Worker{StartedAt: ratesAt.Add(time.Duration(started)), Calls: calls}
	}
	letters := func(reading int, n StateCounts) *DeadLetters {
		return &DeadLetters{Reading: reading, StateCounts: n}
	}
	two := 2 * time.Second
	for name, c := range map[string]struct {
		before, now Report
		took        time.Duration
		want        string // calls, written
	}{
		"usual": {Report{Worker: worker(0, 10), Letters: letters(1, StateCounts{Open: 5})},
			Report{Worker: worker(0, 30),
				Letters: letters(1, StateCounts{Open: 4, Parked: 1, Replayed: 2, Discarded: 3})},
			two, "10 5"},
		"worker restarted": {Report{Worker: worker(0, 10)}, Report{Worker: worker(1, 30)}, two,
			"- -"},
		"counter went back": {Report{Worker: worker(0, 10)}, Report{Worker: worker(0, 9)}, two,
			"- -"},
		"not known before": {Report{}, Report{Worker: worker(0, 9), Letters: letters(1,
			StateCounts{})}, two, "- -"},
		"not known now": {Report{Worker: worker(0, 9), Letters: letters(1, StateCounts{})},
			Report{}, two, "- -"},
		"read again": {Report{Letters: letters(1, StateCounts{Open: 5})},
			Report{Letters: letters(2, StateCounts{Open: 9})}, two, "- -"},
		"partly read": {Report{Letters: letters(0, StateCounts{Open: 5})},
			Report{Letters: letters(0, StateCounts{Open: 9})}, two, "- -"},
		"the clock went back": {Report{Worker: worker(0, 10)}, Report{Worker: worker(0, 30)}, -two,
			"- -"},
	} {
		c.before.At, c.now.At = ratesAt, ratesAt.Add(c.took)
		r := RatesOf(&c.before, &c.now)
		if got := textOf(r.Calls) + " " + textOf(r.Written); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
	if r := RatesOf(nil, &Report{Worker: worker(0, 9)}); r.Calls != nil {
		t.Errorf("the first report has a rate: %+v", r)
	}
}
