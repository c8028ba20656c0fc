package worker_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kerr"

	"markread/imclient/sandbox"
	"markread/worker"
)

func TestMainJob(t *testing.T) {
	inBubble(t, func(s *stack) {
		now := time.Now().Unix()
		var values []string
		for i := range 500 {
			for j := range 4 {
				values = append(values,
					eventJSON(fmt.Sprint("reader", i), "peer", now-int64((i*7+j*13)%50)))
			}
		}
		values = append(values, `{"Report_Account":"x"}`, eventJSON("nobody-1", "peer", now))
		s.publish(topics.Live, values...)
		s.publish(topics.Backfill, eventJSON("reader1", "peer", now-1000),
			eventJSON("old", "peer", now-1000))
		w := s.start(nil)
		w.waitSettled(s.t, 2004)
		for i := range 500 {
			want := int64(0)
			for j := range 4 {
				want = max(want, now-int64((i*7+j*13)%50))
			}
			if got, _ := s.sandbox.ReadTime(fmt.Sprint("reader", i), "peer"); got != want {
				t.Errorf("reader%d read up to %d, want %d", i, got, want)
			}
		}
		n := w.State().Totals
		if n.Received != 2004 || n.DeadLettered != 2 || n.Returned != 0 {
			t.Errorf("totals %+v", n)
		}
		if stats := s.sandbox.Stats(); n.Calls > 510 {
			t.Errorf("%d calls for 502 conversations: %+v", n.Calls, stats)
		}
		s.mustStop(w)
	})
}

// A shutdown under load: the events of finished calls are committed, so that none is called again.
func TestStopAndContinue(t *testing.T) {
	inBubble(t, func(s *stack) {
		s.publishMany(topics.Live, "reader", 0, 6000)
		for range 5 {
			w := s.start(nil)
			time.Sleep(4 * time.Second)
			s.mustStop(w)
			n := w.State().Totals
			if n.Received != n.Applied+n.Collapsed+n.Superseded+n.DeadLettered+n.Returned {
				t.Errorf("after a stop: %+v", n)
			}
		}
		w := s.start(nil)
		w.waitSettled(s.t, 1)
		s.mustStop(w)
		calls := map[string]int{}
		for _, a := range s.sandbox.Arrivals() {
			calls[a.Report]++
		}
		repeated := 0
		for i := range 6000 {
			switch n := calls[fmt.Sprint("reader", i)]; {
			case n == 0:
				t.Fatalf("reader%d was lost", i)
			case n > 1:
				repeated++
			}
		}
		if repeated > 0 {
			t.Errorf("%d conversations were called again after a clean stop", repeated)
		}
	})
}

// A shutdown whose last commit fails is unclean, and Run reports that.
func TestStopWithoutKafka(t *testing.T) {
	inBubble(t, func(s *stack) {
		s.publishMany(topics.Live, "reader", 0, 2000)
		w := s.start(nil)
		time.Sleep(4 * time.Second)
		s.broker.Close()
		time.Sleep(100 * time.Millisecond)
		began := time.Now()
		if err := w.stop(); err == nil {
			t.Error("a clean stop without Kafka")
		}
		if took := time.Since(began); took > 15*time.Second {
			t.Errorf("the stop took %v", took)
		}
	})
}

// A shutdown while the server hangs ends within the drain timeout, because the calls have a shorter
// timeout.
func TestStopWhileCallsHang(t *testing.T) {
	inBubble(t, func(s *stack) {
		s.fault(sandbox.Faults{Rules: []sandbox.Rule{{Kind: sandbox.KindHang}}})
		s.publish(topics.Live, eventJSON("a", "b", time.Now().Unix()),
			eventJSON("c", "d", time.Now().Unix()))
		w := s.start(nil)
		time.Sleep(3 * time.Second)
		began := time.Now()
		s.mustStop(w)
		if took := time.Since(began); took > 6*time.Second {
			t.Errorf("the stop took %v", took)
		}
		if n := w.State().Totals; n.Received != 2 || n.Returned != 2 || n.DeadLettered != 0 {
			t.Errorf("totals %+v", n)
		}
	})
}

// Unreachable brokers make a worker unready after a minute. It stays healthy: a restart would not
// help.
func TestReadyAndHealthy(t *testing.T) {
	inBubble(t, func(s *stack) {
		w := s.start(nil)
		time.Sleep(10 * time.Minute)
		if !w.Ready() || w.Healthy() != nil {
			t.Errorf("an idle member: ready %v, healthy %v", w.Ready(), w.Healthy())
		}
		s.broker.Close()
		time.Sleep(10 * time.Minute)
		if w.Ready() || w.Healthy() != nil {
			t.Errorf("without brokers: ready %v, healthy %v", w.Ready(), w.Healthy())
		}
		if outside := time.Since(w.Details().Outside); outside < 9*time.Minute ||
			outside > 10*time.Minute {
			t.Errorf("outside of a generation for %v, as the details say", outside)
		}
	})
}

// While the dead-letter topic refuses, nothing is lost, nothing is committed beyond a dead letter,
// and the topic is not flooded; afterwards it gets all dead letters.
func TestDeadLetterTopicRefuses(t *testing.T) {
	inBubble(t, func(s *stack) {
		refuses := s.refuseLetters(kerr.NotEnoughReplicas)
		w := s.start(nil)
		time.Sleep(3 * time.Second)
		s.publish(topics.Live, slices.Repeat([]string{"no event"}, 300)...)
		time.Sleep(20 * time.Second)
		state := w.State()
		if state.Totals.DeadLettered != 0 || state.Totals.Received != 300 {
			t.Errorf("totals %+v", state.Totals)
		}
		for _, p := range state.Partitions {
			if u := p.OldestUnfinished; u != nil &&
				(*p.Committed != 0 || u.WaitsFor != "dead-letter") {
				t.Errorf("%s/%d: committed %d, waits for %s", p.Topic, p.Partition, *p.Committed,
					u.WaitsFor)
			}
		}
		if n := refuses.Hits(); n < 10 || n > 2*64+25 {
			t.Errorf("%d writes in 20 s", n)
		}
		refuses.Remove()
		w.waitSettled(s.t, 300)
		if n := w.State().Totals.DeadLettered; n != 300 {
			t.Errorf("%d dead-lettered", n)
		}
		s.mustStop(w)
	})
}

// A backfill that fills its half of the memory pauses and resumes, and live events don't wait for
// it.
func TestFetchingPausesAndResumes(t *testing.T) {
	inBubble(t, func(s *stack) {
		now := time.Now().Unix()
		s.publishMany(topics.Backfill, "reader", 0, 6000)
		w := s.start(func(o *worker.Options) { o.MaxPending = 20 })
		time.Sleep(5 * time.Second)
		if n := w.State().Lanes.Backfill.Conversations; n == 0 || n > 4*512 {
			t.Errorf("%d conversations in memory: the bound is 10 and a chunk of 512 for each of "+
				"4 partitions", n)
		}
		for w.State().Lanes.Backfill.Conversations > 15 {
			time.Sleep(time.Second)
		}
		s.publish(topics.Live, eventJSON("live", "peer", now))
		time.Sleep(time.Second)
		if got, _ := s.sandbox.ReadTime("live", "peer"); got != now {
			t.Error("a live event waits behind a full backfill")
		}
		w.waitSettled(s.t, 6001)
		s.mustStop(w)
	})
}

// Conversations whose calls keep failing fill a lane's memory. The other lane's events pass, and
// finished events free capacity.
func TestBacklogFullOfRetries(t *testing.T) {
	tooLongForARace(t)
	inBubble(t, func(s *stack) {
		s.fault(sandbox.Faults{Rules: []sandbox.Rule{{Kind: sandbox.KindCode, Code: 60008,
			Conversations: 0.5}}})
		w := s.start(func(o *worker.Options) { o.MaxPending, o.Attempts = 20, 1000 })
		s.publishMany(topics.Backfill, "bulk", 0, 6000)
		time.Sleep(5 * time.Minute)
		before := w.State()
		if n := before.Lanes.Backfill.Conversations; n < 10 || before.Totals.Applied == 0 ||
			before.Totals.Received == 6000 {
			t.Errorf("%d backfill conversations wait, %d events received, %d applied: the memory "+
				"is not full of retries", n, before.Totals.Received, before.Totals.Applied)
		}
		published := 0
		for i := 0; published < 20; i++ {
			s.publishMany(topics.Live, "live", i, 1)
			published++
			time.Sleep(time.Second)
		}
		passed := 0
		for i := range published {
			if at, _ := s.sandbox.ReadTime(fmt.Sprint("live", i), "peer"); at != 0 {
				passed++
			}
		}
		if passed < 5 {
			t.Errorf("%d of %d live events passed the full backfill, half of them could", passed,
				published)
		}
		s.publishMany(topics.Live, "more", 0, 6000)
		time.Sleep(5 * time.Minute)
		if n := w.State().Lanes.Live.Conversations; n < 20 {
			t.Errorf("%d live conversations wait", n)
		}
		s.fault(sandbox.Faults{})
		w.waitSettled(s.t, int64(12_000+published))
		if n := w.State().Totals; n.DeadLettered != 0 || n.Applied != int64(12_000+published) {
			t.Errorf("totals %+v", n)
		}
		s.mustStop(w)
	})
}

// Two workers share the quota, and one takes over from the other.
func TestTwoWorkers(t *testing.T) {
	inBubble(t, func(s *stack) {
		now := time.Now().Unix()
		s.publishMany(topics.Live, "reader", 0, 8000)
		a := s.start(nil)
		time.Sleep(5 * time.Second)
		b := s.start(nil)
		time.Sleep(15 * time.Second)
		if x, y := a.State().Quota, b.State().Quota; *x.Share+*y.Share != 200 || *x.Share != 100 {
			t.Errorf("shares %d and %d", *x.Share, *y.Share)
		}
		s.mustStop(a)
		b.waitSettled(s.t, 1)
		s.mustStop(b)
		stats := s.sandbox.Stats()
		if stats.MaxPerSecond > 200 {
			t.Errorf("%d arrivals in a second", stats.MaxPerSecond)
		}
		for i := range 8000 {
			if got, _ := s.sandbox.ReadTime(fmt.Sprint("reader", i), "peer"); got != now {
				t.Fatalf("reader%d: read up to %d, want %d", i, got, now)
			}
		}
	})
}

// An outage: no dead letter, few calls, and everything is applied when it is over.
func TestOutageHolds(t *testing.T) {
	inBubble(t, func(s *stack) {
		w := s.start(nil)
		time.Sleep(5 * time.Second)
		s.fault(sandbox.Faults{Rules: []sandbox.Rule{{Kind: sandbox.KindStatus, Status: 502}}})
		s.publishMany(topics.Live, "reader", 0, 2000)
		time.Sleep(5 * time.Minute)
		state := w.State()
		if len(state.Held) != 1 || state.Held[0].Reason != "outage" || !state.Ready {
			t.Errorf("held %+v, ready %v", state.Held, state.Ready)
		}
		if state.Totals.DeadLettered != 0 || state.Totals.Calls > 120 {
			t.Errorf("totals %+v", state.Totals)
		}
		s.fault(sandbox.Faults{})
		w.waitSettled(s.t, 2000)
		if state := w.State(); state.Totals.DeadLettered != 0 || len(state.Held) != 0 {
			t.Errorf("after it: %+v", state)
		}
		s.mustStop(w)
	})
}

// The contract's sums, at any moment: received = outcomes + backlog + returned.
func TestMetricsAddUp(t *testing.T) {
	inBubble(t, func(s *stack) {
		now := time.Now().Unix()
		var values []string
		for i := range 3000 {
			values = append(values, eventJSON(fmt.Sprint("reader", i%700), "peer", now-int64(i%9)),
				fmt.Sprintf(`{"Report_Account":"reader%d"}`, i))
		}
		s.publish(topics.Live, values...)
		w := s.start(nil)
		registry := prometheus.NewPedanticRegistry()
		registry.MustRegister(w)
		for range 40 {
			time.Sleep(100 * time.Millisecond)
			families, err := registry.Gather()
			if err != nil {
				t.Fatal(err)
			}
			sum := map[string]float64{}
			for _, f := range families {
				for _, m := range f.Metric {
					sum[f.GetName()] += m.GetCounter().GetValue() + m.GetGauge().GetValue()
				}
			}
			received := sum["markread_events_received_total"]
			if got := sum["markread_events_total"] + sum["markread_backlog_events"] +
				sum["markread_events_returned_total"]; got != received {
				t.Fatalf("%v events received, %v accounted for", received, got)
			}
		}
		s.mustStop(w)
		families, _ := registry.Gather()
		names := []string{}
		for _, f := range families {
			names = append(names, f.GetName())
		}
		for _, name := range []string{"markread_calls_total", "markread_held",
			"markread_quota_limit",
			"markread_build_info", "markread_event_age_seconds",
			"markread_ready", "markread_events_lost_total", "markread_dead_letters_total",
			"markread_commit_failures_total"} {
			if !slices.Contains(names, name) {
				t.Errorf("%s is missing", name)
			}
		}
	})
}
