package worker_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"markread/consumer/event"
	"markread/imclient/sandbox"
)

// succeededBetween counts the calls that succeeded between two moments.
func (s *stack) succeededBetween(from, to time.Time) (n int) {
	for _, a := range s.sandbox.Arrivals() {
		if a.Applied && a.Code == 0 && !a.At.Before(from) && a.At.Before(to) {
			n++
		}
	}
	return n
}

// letterCount returns how many records the dead-letter topic has.
func (s *stack) letterCount() (n int64) {
	for _, p := range s.broker.Cluster().PartitionInfos(topics.DeadLetter) {
		n += p.HighWatermark
	}
	return n
}

// committed returns the sum of the committed offsets.
func (s *stack) committed() (n int64) {
	group := s.broker.Cluster().GroupInfo("markread")
	if group == nil {
		return 0
	}
	for _, partitions := range group.Commits {
		for _, c := range partitions {
			n += c.Offset
		}
	}
	return n
}

func (s *stack) fault(f sandbox.Faults) {
	s.t.Helper()
	if err := s.sandbox.SetFaults(f); err != nil {
		s.t.Fatal(err)
	}
}

// refuseLetters makes the broker refuse records of the dead-letter topic, until the fault is
// removed.
func (s *stack) refuseLetters(err *kerr.Error) *kfake.FaultHandle {
	return s.broker.Cluster().Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce},
		Topic: topics.DeadLetter, Err: err, Count: -1})
}

// publishMany publishes n events of n conversations, numbered from first.
func (s *stack) publishMany(topic, name string, first, n int) {
	s.t.Helper()
	values := make([]string, n)
	for i := range values {
		values[i] = eventJSON(fmt.Sprint(name, first+i), "peer", time.Now().Unix())
	}
	s.publish(topic, values...)
}

// publishSteadily publishes n events per second for so long, each of another conversation, numbered
// from first. It returns how many it published.
func (s *stack) publishSteadily(first, n int, long time.Duration) (published int) {
	kafka := s.kafka()
	defer kafka.Close()
	publisher := kafka.Publisher(topics.Live)
	for end := time.Now().Add(long); time.Now().Before(end); time.Sleep(time.Second) {
		var messages []event.Message
		for range n {
			report := fmt.Sprint("reader", first+published)
			messages = append(messages, event.Message{Key: event.Key(report, "peer"),
				Value: []byte(eventJSON(report, "peer", time.Now().Unix()))})
			published++
		}
		if err := publisher.Publish(context.Background(), messages...); err != nil {
			s.t.Error(err)
		}
	}
	return published
}

func (s *stack) heldFor(m *member, reason string) bool {
	for _, h := range m.Held() {
		if h.Reason == reason {
			return true
		}
	}
	return false
}

// oneIsEnough skips all cases but one in a short run.
func oneIsEnough(t *testing.T, this bool) {
	t.Helper()
	if testing.Short() && !this {
		t.Skip("one case is enough for a short run")
	}
}

// tooLongForARace skips tests that take long with the race detector and have no goroutines that
// other tests don't have.
func tooLongForARace(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("skipped: too long for a short run")
	}
}

// until waits until is returns true, at most atMost, and returns how long that took.
func (s *stack) until(what string, atMost time.Duration, is func() bool) time.Duration {
	s.t.Helper()
	began := time.Now()
	for !is() {
		if time.Since(began) > atMost {
			s.t.Errorf("not within %v: %s", atMost, what)
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	return time.Since(began)
}

// In an outage of half an hour hardly a call is made and nothing is dead-lettered; 5 s after it,
// the longest interval between probes, the worker is at full speed.
func TestTotalOutage(t *testing.T) {
	tooLongForARace(t) // TestOutageHolds has the same goroutines
	for _, kind := range []sandbox.Rule{
		{Kind: sandbox.KindStatus, Status: 502}, {Kind: sandbox.KindHang},
		{Kind: sandbox.KindCode, Code: 91000},
	} {
		t.Run(string(kind.Kind), func(t *testing.T) {
			inBubble(t, func(s *stack) {
				w := s.start(nil)
				published := s.publishSteadily(0, 5, time.Minute)
				before := s.sandbox.Stats().Calls
				s.fault(sandbox.Faults{Rules: []sandbox.Rule{kind}})
				published += s.publishSteadily(published, 5, 30*time.Minute)
				during := s.sandbox.Stats().Calls - before
				if n := s.letterCount(); n > 0 {
					t.Errorf("%d dead letters", n)
				}
				if during > 450 {
					t.Errorf("%d calls during the outage, want at most 450", during)
				}
				if !s.heldFor(w, "outage") {
					t.Error("no hold")
				}
				s.fault(sandbox.Faults{})
				ended := time.Now()
				time.Sleep(15 * time.Second)
				rate := float64(s.succeededBetween(ended.Add(5*time.Second),
					ended.Add(15*time.Second))) / 10
				if rate < 190 {
					t.Errorf("%.0f calls a second from 5 s on, want 190", rate)
				}
				w.waitSettled(t, int64(published))
				n := w.State().Totals
				attempts := float64(n.Calls) / float64(published)
				if attempts > 1.1 || s.letterCount() > 0 {
					t.Errorf("%.3f attempts an event, %d dead letters", attempts, s.letterCount())
				}
				s.mustStop(w)
				t.Logf("%d events; %d calls during the outage; %.0f calls a second from 5 s "+
					"after it; %.3f attempts an event", published, during, rate, attempts)
			})
		})
	}
}

// During an outage, a single event gives no evidence for one, because no other conversation fails.
// It waits, and is applied.
func TestSingleEventInAnOutage(t *testing.T) {
	for _, rule := range []sandbox.Rule{{Kind: sandbox.KindStatus, Status: 502},
		{Kind: sandbox.KindHang}, {Kind: sandbox.KindReset}} {
		t.Run(string(rule.Kind), func(t *testing.T) {
			oneIsEnough(t, rule.Kind == sandbox.KindStatus)
			inBubble(t, func(s *stack) {
				w := s.start(nil)
				time.Sleep(5 * time.Second)
				s.fault(sandbox.Faults{Rules: []sandbox.Rule{rule}})
				s.publishMany(topics.Live, "lonely", 0, 1)
				time.Sleep(20 * time.Minute)
				calls := s.sandbox.Stats().Calls
				if calls > 280 || s.letterCount() > 0 {
					t.Errorf("%d calls, %d dead letters", calls, s.letterCount())
				}
				s.fault(sandbox.Faults{})
				took := s.until("applied", 11*time.Second,
					func() bool { _, ok := s.sandbox.ReadTime("lonely0", "peer"); return ok })
				w.waitSettled(t, 1)
				s.mustStop(w)
				t.Logf("%d calls in 20 minutes; applied %v after the outage", calls, took)
			})
		})
	}
}

// Committed offsets survive brokers that are unreachable for less than a session: no rebalance, no
// repeats, no loss.
func TestBrokerDownForFiveSeconds(t *testing.T) {
	inBubble(t, func(s *stack) {
		s.publishMany(topics.Live, "reader", 0, 6000)
		w := s.start(nil)
		time.Sleep(10 * time.Second)
		generation := *w.State().Group.Generation
		s.dropConnections(5 * time.Second)
		took := s.until("a commit", 10*time.Second, func() bool { return s.committed() > 2500 })
		w.waitSettled(t, 6000)
		if now := *w.State().Group.Generation; now != generation {
			t.Errorf("generation %d, was %d", now, generation)
		}
		n := w.State().Totals
		if n.Calls != 6000 || n.Returned != 0 || s.letterCount() > 0 {
			t.Errorf("totals %+v, %d dead letters", n, s.letterCount())
		}
		s.mustStop(w)
		t.Logf("commits resumed %v after the brokers came back; %d calls for 6000 events", took,
			n.Calls)
	})
}

// Two per cent of the calls hang until they time out. They cost their permits, and little else.
func TestSomeCallsHang(t *testing.T) {
	tooLongForARace(t)
	inBubble(t, func(s *stack) {
		s.publishMany(topics.Live, "reader", 0, 12_000)
		s.fault(sandbox.Faults{Rules: []sandbox.Rule{{Kind: sandbox.KindHang, Share: 0.02}},
			Seed: 1})
		w := s.start(nil)
		time.Sleep(10 * time.Second)
		from := time.Now()
		time.Sleep(40 * time.Second)
		rate := float64(s.succeededBetween(from, time.Now())) / 40
		if rate < 0.85*200 {
			t.Errorf("%.0f calls a second, want 170", rate)
		}
		if s.heldFor(w, "outage") {
			t.Error("held for an outage")
		}
		s.fault(sandbox.Faults{})
		w.waitSettled(t, 12_000)
		if n := s.letterCount(); n > 0 {
			t.Errorf("%d dead letters", n)
		}
		s.mustStop(w)
		t.Logf("%.0f calls a second", rate)
	})
}

// Some conversations always hang. The others don't wait for them.
func TestSomeConversationsAlwaysHang(t *testing.T) {
	inBubble(t, func(s *stack) {
		var rules []sandbox.Rule
		for i := range 60 {
			rules = append(rules,
				sandbox.Rule{Kind: sandbox.KindHang, Report: fmt.Sprint("reader", i*50)})
		}
		s.fault(sandbox.Faults{Rules: rules})
		s.publishMany(topics.Live, "reader", 0, 3000)
		began := time.Now()
		w := s.start(nil)
		ideal := time.Duration(2940.0/200*float64(time.Second)) + time.Second
		took := s.until("all others applied", 10*time.Minute,
			func() bool { return s.sandbox.Stats().Applied == 2940 })
		if limit := ideal * 13 / 10; time.Since(began) > limit {
			t.Errorf("took %v, want %v", took, limit)
		}
		if s.heldFor(w, "outage") {
			t.Error("held for an outage")
		}
		s.fault(sandbox.Faults{})
		w.waitSettled(t, 3000)
		if n := s.letterCount(); n > 0 {
			t.Errorf("%d dead letters", n)
		}
		s.mustStop(w)
		t.Logf("the others took %v; ideal is %v", took, ideal)
	})
}

// dropConnections closes, for so long, each connection to the brokers on which a request arrives.
func (s *stack) dropConnections(long time.Duration) {
	var again atomic.Bool
	again.Store(true)
	s.broker.Cluster().Control(func(kmsg.Request) (kmsg.Response, error, bool) {
		if !again.Load() {
			s.broker.Cluster().DropControl()
			return nil, nil, false
		}
		s.broker.Cluster().KeepControl()
		return nil, errors.New("down"), true
	})
	time.Sleep(long)
	again.Store(false)
}
