package worker

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"markread/consumer"
	"markread/consumer/event"
	"markread/consumer/kafkaclient"
)

// The console and the metrics of a partition that can't be read, and of one whose lag is unknown. A
// lag of 0 would say that everything was read, and the oldest waiting event may be one that nobody
// has read.
func TestUnreadableIsShown(t *testing.T) {
	at := time.Unix(1_800_000_000, 0).UTC()
	since := at.Add(-90 * time.Second)
	at10 := &kafkaclient.Unreadable{Since: since, Offset: 10, Reason: "no leader", Do: "start it"}
	nowhere := &kafkaclient.Unreadable{Since: since, Offset: -1, Reason: "no leader"}
	aged := func(age time.Duration) *consumer.Oldest {
		return &consumer.Oldest{Offset: 3, Time: at.Add(-age)}
	}
	const none = -1.0
	for name, c := range map[string]struct {
		state       consumer.PartitionState
		lag, oldest float64
		json        string // what follows "lag":
	}{
		"it can be read": {consumer.PartitionState{Committed: 10, HighWatermark: 12, Lag: 2}, 2, 0,
			`2,"oldest_unfinished":null,"unreadable":null}`},
		"all is read": {consumer.PartitionState{Committed: 10, HighWatermark: 10}, 0, 0,
			`0,"oldest_unfinished":null,"unreadable":null}`},
		"not fetched yet": {consumer.PartitionState{Committed: 10, HighWatermark: -1}, none, 0,
			`null,"oldest_unfinished":null,"unreadable":null}`},
		"beyond the end": {consumer.PartitionState{Committed: 10, HighWatermark: 7}, none, 0,
			`null,"oldest_unfinished":null,"unreadable":null}`},
		"unreadable, more is there": {consumer.PartitionState{Committed: 10, HighWatermark: 12,
			Lag: 2, Unreadable: at10}, 2, 90,
			`2,"oldest_unfinished":null,"unreadable":{"since":"` + since.Format(time.RFC3339) +
				`","offset":10,"reason":"no leader"}}`},
		"unreadable, the end is not known": {consumer.PartitionState{Committed: 10,
			HighWatermark: -1, Unreadable: at10}, none, 90, `null,`},
		"unreadable, nothing more was there": {consumer.PartitionState{Committed: 10,
			HighWatermark: 10, Unreadable: at10}, none, 90,
			`null,"oldest_unfinished":null,"unreadable":{"since"`},
		"unreadable beyond the end": {consumer.PartitionState{Committed: 10, HighWatermark: 7,
			Unreadable: at10}, none,
			90, `null,`},
		"unreadable from the beginning": {consumer.PartitionState{Committed: -1, HighWatermark: -1,
			Unreadable: nowhere}, none, 90,
			`null,"oldest_unfinished":null,"unreadable":{"since":"` + since.Format(time.RFC3339) +
				`","offset":null,`},
		"an older event waits": {consumer.PartitionState{Committed: 3, HighWatermark: 12, Lag: 9,
			Unreadable: at10, Oldest: aged(time.Hour)}, 9, 3600, `9,`},
		"a newer event waits": {consumer.PartitionState{Committed: 3, HighWatermark: 12, Lag: 9,
			Unreadable: at10, Oldest: aged(time.Minute)}, 9, 90, `9,`},
		"an event ahead of our clock": {consumer.PartitionState{Committed: 3, HighWatermark: 4,
			Lag: 1, Oldest: aged(-time.Minute)}, 1, 0, `1,`},
	} {
		c.state.TopicPartition = event.TopicPartition{Topic: "mark-read", Partition: 3}
		p := partition{PartitionState: c.state}
		s := snapshot{at: at, partitions: []partition{p}}
		gauges := map[*prometheus.Desc]float64{}
		s.collectPartitions(func(d *prometheus.Desc, v float64, labels ...string) {
			if strings.Join(labels, "/") != "mark-read/3" {
				t.Errorf("%s: labels %q", name, labels)
			}
			gauges[d] = v
		})
		lag, known := gauges[descLag]
		if known != (c.lag != none) || known && lag != c.lag {
			t.Errorf("%s: markread_partition_lag %v, %t; want %v", name, lag, known, c.lag)
		}
		if gauges[descOldest] != c.oldest || s.lane(event.Live).OldestSeconds != c.oldest {
			t.Errorf("%s: oldest %v and %v, want %v", name, gauges[descOldest],
				s.lane(event.Live).OldestSeconds, c.oldest)
		}
		want := 0.0
		if c.state.Unreadable != nil {
			want = 1
		}
		if v, ok := gauges[descUnreadable]; !ok || v != want {
			t.Errorf("%s: markread_partition_unreadable %v, %t; want %v", name, v, ok, want)
		}
		shown := p.toConsole(at, nil)
		b, err := json.Marshal(shown)
		if err != nil {
			t.Fatal(err)
		}
		if _, rest, _ := strings.Cut(string(b), `"lag":`); !strings.HasPrefix(rest, c.json) {
			t.Errorf("%s: %s, want lag %s", name, b, c.json)
		}
	}
}
