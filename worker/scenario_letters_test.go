package worker_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"markread/consumer/event"
	"markread/imclient/sandbox"
	"markread/worker"
)

// All calls of a lane are rejected: a wrong app is far more likely than wrong events. The lane is
// held after 500 rejections, the other lane continues, and when the accounts exist the lane resumes
// by itself.
func TestEverythingIsRejected(t *testing.T) {
	tooLongForARace(t) // TestAcceptRejections begins in the same way
	inBubble(t, func(s *stack) {
		s.publishMany(topics.Live, "nobody", 0, 3000)
		w := s.start(nil)
		s.until("held", 30*time.Second, func() bool { return s.heldFor(w, "rejections") })
		time.Sleep(time.Second)
		letters := s.letterCount()
		if letters < 500 || letters > 505 {
			t.Errorf("%d dead letters, want 500", letters)
		}
		s.publishMany(topics.Backfill, "reader", 0, 1000)
		other := s.until("the other lane is done", 10*time.Second,
			func() bool { return s.sandbox.Stats().Applied == 1000 })
		calls := s.sandbox.Stats().Calls
		time.Sleep(5 * time.Minute)
		probes := s.sandbox.Stats().Calls - calls
		if s.letterCount() != letters || !s.heldFor(w, "rejections") || probes > 62 || probes < 55 {
			t.Errorf("%d dead letters more, held %+v, %d probes in 5 minutes",
				s.letterCount()-letters, w.Held(), probes)
		}
		for i := range 3000 {
			if err := s.sandbox.Import(fmt.Sprint("nobody", i)); err != nil {
				t.Fatal(err)
			}
		}
		took := s.until("the lane resumes", 6*time.Second,
			func() bool { return !s.heldFor(w, "rejections") })
		w.waitSettled(t, 4000)
		if s.letterCount() != letters || s.sandbox.Stats().Applied != 4000-letters {
			t.Errorf("%d dead letters, %d applied", s.letterCount(), s.sandbox.Stats().Applied)
		}
		s.mustStop(w)
		t.Logf("%d dead letters; the other lane took %v; %d probes in 5 minutes; resumed %v "+
			"after the fix", letters, other, probes, took)
	})
}

// Every record is invalid. Those beyond 500 wait in memory; each event that is applied releases the
// next 500.
func TestEverythingIsInvalid(t *testing.T) {
	inBubble(t, func(s *stack) {
		values := make([]string, 3000)
		for i := range values {
			values[i] = fmt.Sprintf(`{"Report_Account":"%d","Peer_Account":"b",`+
				`"MsgReadTime":"rita"}`, i)
		}
		s.publish(topics.Live, values...)
		w := s.start(nil)
		s.until("held", 10*time.Second, func() bool { return s.heldFor(w, "rejections") })
		why := "the last: invalid: MsgReadTime … is not a whole number of seconds since 1970"
		// anybody may read it, so it contains no accounts
		if held := w.Held(); !strings.HasSuffix(held[0].Detail, why) {
			t.Errorf("held %+v", held)
		}
		s.publishMany(topics.Backfill, "reader", 0, 500)
		time.Sleep(time.Minute)
		letters := s.letterCount()
		if letters != 500 || s.sandbox.Stats().Applied != 500 {
			t.Errorf("%d dead letters, %d applied of the other lane", letters,
				s.sandbox.Stats().Applied)
		}
		s.publishMany(topics.Live, "fixed", 0, 50)
		first := s.until("the lane resumes", 6*time.Second,
			func() bool { return s.letterCount() > 500 })
		took := s.until("all are dead letters", 40*time.Second,
			func() bool { return s.letterCount() == 3000 })
		w.waitSettled(t, 3550)
		if n := s.letterCount(); n != 3000 || s.sandbox.Stats().Applied != 550 ||
			len(w.Held()) > 0 {
			t.Errorf("%d dead letters, %d applied, held %+v", n, s.sandbox.Stats().Applied,
				w.Held())
		}
		s.mustStop(w)
		t.Logf("%d dead letters while held; resumed %v after the first good event, all done "+
			"after %v", letters, first, first+took)
	})
}

// An operator who knows that the events are wrong accepts them as dead letters.
func TestAcceptRejections(t *testing.T) {
	inBubble(t, func(s *stack) {
		s.publishMany(topics.Live, "nobody", 0, 1500)
		s.publishMany(topics.Backfill, "nobody", 5000, 1500)
		w := s.start(nil)
		s.until("held", time.Minute, func() bool { return len(w.Held()) == 2 })
		w.Resume("", false)
		time.Sleep(10 * time.Second)
		if n := s.letterCount(); n > 1010 || len(w.Held()) != 2 {
			t.Errorf("%d dead letters, held %+v", n, w.Held())
		}
		w.Resume("", true)
		w.waitSettled(t, 3000)
		if n := s.letterCount(); n != 3000 || len(w.Held()) > 0 {
			t.Errorf("%d dead letters, held %+v", n, w.Held())
		}
		s.mustStop(w)
	})
}

// A dead-letter topic that refuses for 10 s holds the calls, is tried once per second, and gets
// each dead letter once.
func TestDeadLetterTopicRefusesForTenSeconds(t *testing.T) {
	for _, code := range []*kerr.Error{kerr.NotEnoughReplicas, kerr.TopicAuthorizationFailed,
		kerr.KafkaStorageError} {
		t.Run(code.Message, func(t *testing.T) {
			oneIsEnough(t, code == kerr.NotEnoughReplicas)
			inBubble(t, func(s *stack) {
				w := s.start(nil)
				time.Sleep(3 * time.Second)
				refuses := s.refuseLetters(code)
				began := time.Now()
				s.publishMany(topics.Live, "nobody", 0, 50)
				s.publishMany(topics.Live, "reader", 0, 4000)
				held := s.until("held", 10*time.Second,
					func() bool { return s.heldFor(w, "dead-letter") })
				tries := refuses.Hits()
				calls := s.sandbox.Stats().Calls
				time.Sleep(time.Until(began.Add(10 * time.Second)))
				if n := refuses.Hits() - tries; n > 5 {
					t.Errorf("%d writes in %v", n, 10*time.Second-held)
				}
				if n := s.sandbox.Stats().Calls - calls; n > 0 {
					t.Errorf("%d calls while held", n)
				}
				refuses.Remove()
				took := s.until("calls resume", 3*time.Second,
					func() bool { return !s.heldFor(w, "dead-letter") })
				w.waitSettled(t, 4050)
				if n := s.letterCount(); n != 50 || s.sandbox.Stats().Applied != 4000 {
					t.Errorf("%d dead letters, %d applied", n, s.sandbox.Stats().Applied)
				}
				s.mustStop(w)
				t.Logf("held after %v, %d writes until then; resumed %v after the fix", held, tries,
					took)
			})
		})
	}
}

// An operator's pause stops the calls of this worker and nothing else.
func TestPause(t *testing.T) {
	inBubble(t, func(s *stack) {
		w := s.start(nil)
		time.Sleep(3 * time.Second)
		w.Pause("", "")
		s.publishMany(topics.Live, "reader", 0, 1000)
		s.publish(topics.Live, "no event")
		time.Sleep(10 * time.Minute)
		if n := s.sandbox.Stats().Calls; n > 0 || s.letterCount() != 1 || !w.Ready() ||
			w.Healthy() != nil {
			t.Errorf("%d calls, %d dead letters, ready %v, healthy %v", n, s.letterCount(),
				w.Ready(), w.Healthy())
		}
		w.Resume("", false)
		w.waitSettled(t, 1001)
		s.mustStop(w)
	})
}

// An outage while the dead-letter topic refuses, and dead letters that wait while calls are held:
// both holds end.
func TestOutageAndRefusedLettersTogether(t *testing.T) {
	inBubble(t, func(s *stack) {
		w := s.start(nil)
		s.publishMany(topics.Live, "before", 0, 500)
		w.waitSettled(t, 500)
		s.fault(sandbox.Faults{Rules: []sandbox.Rule{{Kind: sandbox.KindStatus, Status: 503}}})
		refuses := s.refuseLetters(kerr.NotEnoughReplicas)
		s.publish(topics.Live, slices.Repeat([]string{"no event"}, 20)...)
		s.publishMany(topics.Live, "reader", 0, 2000)
		time.Sleep(time.Minute)
		if !s.heldFor(w, "outage") || !s.heldFor(w, "dead-letter") {
			t.Errorf("held %+v", w.Held())
		}
		s.fault(sandbox.Faults{})
		time.Sleep(30 * time.Second)
		if n := s.sandbox.Stats().Applied; n != 500 {
			t.Errorf("%d applied while the dead letters can't be written", n-500)
		}
		refuses.Remove()
		w.waitSettled(t, 2520)
		if n := s.letterCount(); n != 20 || len(w.Held()) > 0 {
			t.Errorf("%d dead letters, held %+v", n, w.Held())
		}
		s.mustStop(w)
	})
}

// The log names a record whose dead letter is refused, not another one of the same batch.
func TestRefusedRecordIsNamed(t *testing.T) {
	inBubble(t, func(s *stack) {
		const n, refusing = 8, 2
		log := &lockedLog{}
		w := s.start(func(o *worker.Options) { o.Log = zerolog.New(log) })
		refuses := s.broker.Cluster().Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce},
			Topic: topics.DeadLetter, Partitions: []int32{refusing},
			Err: kerr.NotEnoughReplicas, Count: -1})
		// without keys their dead letters are spread over the partitions
		s.publishMessages(topics.Live,
			slices.Repeat([]event.Message{{Value: []byte("no event")}}, n)...)
		time.Sleep(10 * time.Second)
		refuses.Remove()
		w.waitSettled(t, n)
		refused := map[string]bool{} // places of records
		for _, r := range s.read(topics.DeadLetter, n) {
			if r.Partition == refusing {
				refused[headerOf(r, "__dlq.errors.partition")+":"+
					headerOf(r, "__dlq.errors.offset")] = true
			}
		}
		lines := log.withMessage(t, "refuses this")
		if len(lines) == 0 || len(refused) == 0 || len(refused) == n {
			t.Fatalf("%d lines for %v", len(lines), refused)
		}
		for _, line := range lines {
			if place := fmt.Sprint(line["partition"], ":", line["offset"]); !refused[place] {
				t.Errorf("the log names %s; refused are %v", place, refused)
			}
		}
	})
}

func headerOf(r *kgo.Record, key string) string {
	for _, h := range r.Headers {
		if h.Key == key {
			return string(h.Value)
		}
	}
	return ""
}
