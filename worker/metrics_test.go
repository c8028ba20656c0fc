package worker_test

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"markread/imclient/sandbox"
	"markread/worker"
)

// gather returns the values of a worker's counters and gauges, and the number of observations of
// its histograms, by name and label values.
func gather(t *testing.T, w *member) map[string]float64 {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(w)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]float64{}
	for _, f := range families {
		for _, m := range f.Metric {
			name := []string{strings.TrimPrefix(f.GetName(), "markread_")}
			for _, l := range m.Label {
				name = append(name, l.GetValue())
			}
			values[strings.Join(name, " ")] = m.GetCounter().GetValue() + m.GetGauge().GetValue() +
				float64(m.GetHistogram().GetSampleCount())
		}
	}
	return values
}

// wantMetrics compares values with the wanted ones; NaN is wanted for a missing one.
func wantMetrics(t *testing.T, when string, got, want map[string]float64) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(want)) {
		v, ok := got[name]
		if wanted := want[name]; ok == math.IsNaN(wanted) || ok && v != wanted {
			t.Errorf("%s: %s is %v (exists: %t), want %v", when, name, v, ok, wanted)
		}
	}
}

const day = 24 * 3600 // the embedded broker's retention, in seconds

// The gauges of one worker of two: shares, partitions, holds and what is left of the retention.
func TestMetricsGauges(t *testing.T) {
	inBubble(t, func(s *stack) {
		missing := math.NaN()
		w := s.start(func(o *worker.Options) {
			o.MaxPending, o.Settings = 3, map[string]string{"max-pending": "3"}
		})
		wantMetrics(t, "at the start", gather(t, w), map[string]float64{
			"setting_info max-pending 3": 1, "setting_info group markread": 1,
			"setting_info topic mark-read":                          1,
			"setting_info backfill-topic mark-read-backfill":        1,
			"setting_info dead-letter-topic mark-read-dead-letters": 1,
			"quota_rate": 200, "max_pending": 3, "last_success_timestamp_seconds": 0,
			"topic_info live mark-read": 1, "topic_info backfill mark-read-backfill": 1,
			"fetching_paused live": 0, "fetching_paused backfill": 0,
			"calls_total 60011 throttled": 0, "calls_total timeout transient": 0,
			"calls_total http_429 throttled": 0, "dead_letters_total invalid ": 0,
			"dead_letters_total exhausted timeout": 0, "dead_letters_total rejected 90003": 0,
			"commit_failures_total network": 0, "commit_failures_total 25": 0,
			"calls_total 70003 held": 0, "calls_total 90003 rejected": 0, "calls_total 0 ok": 0,
		})
		other := s.start(nil)
		time.Sleep(20 * time.Second)
		wantMetrics(t, "idle", gather(t, w), map[string]float64{
			"group_partitions": 8, "assigned_partitions": 4, "quota_rate": 200, "quota_share": 100,
			"last_success_timestamp_seconds":          0,
			"hold_since_timestamp_seconds all paused": missing,
		})
		s.mustStop(other)
		time.Sleep(20 * time.Second)
		w.Pause("", "")
		paused := time.Now()
		for i := range 40 {
			s.publish(topics.Live, eventJSON(fmt.Sprint("reader", i), "peer", paused.Unix()))
		}
		time.Sleep(time.Hour)
		got := gather(t, w)
		wantMetrics(t, "paused", got, map[string]float64{
			"group_partitions": 8, "assigned_partitions": 8, "quota_share": 200, "held paused": 1,
			"hold_since_timestamp_seconds all paused": float64(paused.UnixMilli()) / 1000,
			"fetching_paused live":                    1, "fetching_paused backfill": 1,
		})
		for p := range 4 {
			left := got[fmt.Sprintf("retention_left_seconds %d mark-read", p)]
			if left > day-3600+5 || left < day-3600-5 {
				t.Errorf("partition %d: %v s are left after an hour of a day", p, left)
			}
			wantMetrics(t, "no backfill", got, map[string]float64{
				fmt.Sprintf("retention_left_seconds %d mark-read-backfill", p): day})
		}
		w.Resume("", false)
		w.waitSettled(t, 40)
		got = gather(t, w)
		last := got["last_success_timestamp_seconds"] - float64(paused.Add(time.Hour).Unix())
		if last < 0 || last > 3 {
			t.Errorf("the last success was %v s after the pause", last)
		}
		wantMetrics(t, "resumed", got, map[string]float64{
			"hold_since_timestamp_seconds all paused": missing, "fetching_paused live": 0,
			"retention_left_seconds 0 mark-read": day, "held paused": 0,
		})
		s.mustStop(w)
		wantMetrics(t, "stopped", gather(t, w), map[string]float64{
			"group_partitions": 8, "assigned_partitions": 0, "fetching_paused live": 0})
	})
}

// An idle partition that can't be read has nothing unfinished from before it became unreadable: its
// retention counts from then, not from its last record, which may be long gone.
func TestRetentionLeftOfAnUnreadablePartition(t *testing.T) {
	inBubble(t, func(s *stack) {
		w := s.start(nil)
		for i := range 40 {
			s.publish(topics.Live, eventJSON(fmt.Sprint("reader", i), "peer", time.Now().Unix()))
		}
		w.waitSettled(t, 40)
		time.Sleep(time.Hour)
		s.broker.Cluster().Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch, kmsg.ListOffsets},
			Topic: topics.Live, Err: kerr.NotLeaderForPartition, Count: -1})
		time.Sleep(10 * time.Minute)
		got := gather(t, w)
		for p := range 4 {
			left := got[fmt.Sprintf("retention_left_seconds %d mark-read", p)]
			unread := got[fmt.Sprintf("partition_oldest_unfinished_seconds %d mark-read", p)]
			if unread < 590 || left < day-unread-40 || left > day-unread+1 {
				t.Errorf("partition %d: %v s are left %v s after the last good fetch", p, left,
					unread)
			}
		}
		s.mustStop(w)
	})
}

// The topics' retention is read every minute. While it can't be read, the last known one counts,
// also after a rebalance.
func TestRetentionIsKept(t *testing.T) {
	inBubble(t, func(s *stack) {
		denied := s.broker.Cluster().Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.DescribeConfigs},
			Err: kerr.TopicAuthorizationFailed, Count: -1})
		w := s.start(nil)
		time.Sleep(20 * time.Second)
		wantMetrics(t, "denied", gather(t, w), map[string]float64{
			"retention_left_seconds 0 mark-read": math.NaN()})
		denied.Remove()
		time.Sleep(time.Minute)
		s.broker.Cluster().Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.DescribeConfigs},
			Err: kerr.RequestTimedOut, Count: -1})
		time.Sleep(2 * time.Minute)
		other := s.start(nil)
		time.Sleep(20 * time.Second)
		s.mustStop(other)
		time.Sleep(20 * time.Second)
		want := map[string]float64{"generations_total": 3}
		for p := range 4 {
			want[fmt.Sprintf("retention_left_seconds %d mark-read", p)] = day
		}
		wantMetrics(t, "later", gather(t, w), want)
		s.mustStop(w)
	})
}

// Backfill pauses at half of the memory, while live events are still fetched.
func TestFetchingPausedByLane(t *testing.T) {
	inBubble(t, func(s *stack) {
		w := s.start(func(o *worker.Options) { o.MaxPending = 100 })
		time.Sleep(20 * time.Second)
		w.Pause("", "")
		for i := range 70 {
			s.publish(topics.Live, eventJSON(fmt.Sprint("reader", i), "peer", time.Now().Unix()))
		}
		time.Sleep(10 * time.Second)
		wantMetrics(t, "70 of 100", gather(t, w), map[string]float64{
			"fetching_paused live": 0, "fetching_paused backfill": 1})
		s.mustStop(w)
	})
}

// While the server throttles, the limit is below the share.
func TestMetricsOfThrottling(t *testing.T) {
	inBubble(t, func(s *stack) {
		w := s.start(nil)
		time.Sleep(20 * time.Second)
		s.fault(sandbox.Faults{Rules: []sandbox.Rule{{Kind: sandbox.KindCode, Code: 60007}}})
		s.publishMany(topics.Live, "reader", 0, 600)
		time.Sleep(10 * time.Second)
		got := gather(t, w)
		wantMetrics(t, "throttled", got, map[string]float64{"quota_rate": 200, "quota_share": 200})
		if limit := got["quota_limit"]; limit < 1 || limit > 150 {
			t.Errorf("the limit is %v", limit)
		}
		s.mustStop(w)
	})
}

// A hold of one lane names it, and each result that a server can cause is counted.
func TestMetricsOfFailures(t *testing.T) {
	inBubble(t, func(s *stack) {
		s.fault(sandbox.Faults{Rules: []sandbox.Rule{{Kind: sandbox.KindCode, Code: 90003}}})
		s.publishMany(topics.Backfill, "nobody", 0, 600)
		w := s.start(nil)
		time.Sleep(30 * time.Second)
		got := gather(t, w)
		wantMetrics(t, "rejected", got, map[string]float64{
			"held rejections": 1, "hold_since_timestamp_seconds live rejections": math.NaN()})
		if since := got["hold_since_timestamp_seconds backfill rejections"]; since == 0 {
			t.Error("no lane is held for rejections")
		}
		if n := got["calls_total 90003 rejected"]; n < 475 {
			t.Errorf("%v rejected calls", n)
		}
		s.mustStop(w)
	})
}

// Without a rate there is no quota.
func TestMetricsWithoutARate(t *testing.T) {
	inBubble(t, func(s *stack) {
		w := s.start(func(o *worker.Options) { o.Rate, o.MaxInFlight = 0, 10 })
		missing := math.NaN()
		wantMetrics(t, "--rate 0", gather(t, w), map[string]float64{"quota_rate": missing,
			"quota_share": missing, "quota_limit": missing})
		s.mustStop(w)
	})
}
