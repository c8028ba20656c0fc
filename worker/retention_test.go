package worker

import (
	"math"
	"testing"
	"time"

	"markread/consumer"
	"markread/consumer/event"
	"markread/consumer/kafkaclient"
)

func TestRetentionLeft(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	hourAgo, oldest := now.Add(-time.Hour), &consumer.Oldest{Offset: 3}
	unreadable := &kafkaclient.Unreadable{Offset: 4}
	day := map[string]time.Duration{"mark-read": 24 * time.Hour}
	forever := map[string]time.Duration{"mark-read": kafkaclient.Forever}
	for name, c := range map[string]struct {
		state     consumer.PartitionState
		retention map[string]time.Duration
		want      float64 // NaN: not known
	}{
		"an event waits":      {consumer.PartitionState{Oldest: oldest, Written: hourAgo}, day, 82800},
		"and all is read":     {consumer.PartitionState{Oldest: oldest, Written: hourAgo, AllRead: true}, day, 82800},
		"nothing waits":       {consumer.PartitionState{AllRead: true, Written: hourAgo}, day, 86400},
		"nothing was written": {consumer.PartitionState{AllRead: true}, day, 86400},
		"more is to be read":  {consumer.PartitionState{Written: hourAgo}, day, 82800},
		"nothing is read yet": {consumer.PartitionState{}, day, math.NaN()},
		"unreadable from the beginning": {consumer.PartitionState{Unreadable: unreadable}, day,
			math.NaN()},
		"without a timestamp": {consumer.PartitionState{Oldest: oldest, AllRead: true}, day,
			math.NaN()},
		"older than a day": {consumer.PartitionState{Oldest: oldest,
			Written: now.Add(-25 * time.Hour)}, day, 0},
		"ahead of our clock": {consumer.PartitionState{Oldest: oldest,
			Written: now.Add(time.Hour)}, day, 86400},
		"kept forever": {consumer.PartitionState{Oldest: oldest, Written: hourAgo}, forever,
			math.Inf(1)},
		"kept forever, its time is not known": {consumer.PartitionState{}, forever, math.Inf(1)},
		"unknown retention":                   {consumer.PartitionState{AllRead: true}, nil, math.NaN()},
	} {
		c.state.TopicPartition = event.TopicPartition{Topic: "mark-read", Partition: 3}
		got, known := partition{PartitionState: c.state}.retentionLeft(now, c.retention)
		if known == math.IsNaN(c.want) || known && got != c.want {
			t.Errorf("%s: %v, %t; want %v", name, got, known, c.want)
		}
	}
}
