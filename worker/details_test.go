package worker_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"markread/consumer/broker/brokertest"
	"markread/consumer/event"
	"markread/consumer/kafkaclient"
	"markread/imclient/sandbox"
	"markread/worker"
	"markread/worker/console"
)

// Details describes the oldest event of a partition once it is 15 s old, and a pause, with who and
// why; both are in the log, too, on one line and bounded.
func TestDetails(t *testing.T) {
	inBubble(t, func(s *stack) {
		s.fault(sandbox.Faults{Rules: []sandbox.Rule{{Kind: sandbox.KindCode, Code: 60008,
			Report: "stuck"}}})
		log := &lockedLog{}
		w := s.start(func(o *worker.Options) { o.Log, o.Attempts = zerolog.New(log), 1000 })
		if d := w.Details(); !d.Outside.IsZero() {
			t.Error("it has left no generation yet: it is starting, not out of the group")
		}
		time.Sleep(20 * time.Second)
		s.publish(topics.Live, eventJSON("stuck", "peer", time.Now().Unix()))
		for range 10 {
			s.publish(topics.Live, eventJSON("other", "peer", time.Now().Unix()))
			time.Sleep(time.Second)
		}
		if d := w.Details(); len(d.Partitions)+len(d.Holds) != 0 || !d.Outside.IsZero() {
			t.Errorf("after 10 s: %+v", d)
		}
		time.Sleep(10 * time.Second)
		d := w.Details()
		if len(d.Partitions) != 1 || d.Partitions[0].Oldest == nil {
			t.Fatalf("after 20 s: %+v", d)
		}
		c := conversation(t, w, "stuck")
		p := d.Partitions[0]
		if p.Topic != topics.Live || p.Lane != "live" || p.OldestSeconds < 19 ||
			p.Oldest.Attempts < 3 || p.Oldest.AttemptsOf != 1000 || p.Oldest.Code != "60008" ||
			p.Oldest.Message == "" || p.Oldest.RetryAt == nil || time.Until(*p.Oldest.RetryAt) < 0 ||
			p.Oldest.Report != "stuck" || p.Oldest.Peer != "peer" || c.Waiting == nil ||
			c.Waiting.Code != "60008" || c.Waiting.Message != p.Oldest.Message ||
			p.Oldest.WaitsFor != "retry" ||
			c.Waiting.Attempts != p.Oldest.Attempts || p.Partition != c.Partition.Partition {
			t.Errorf("stuck: %+v, %+v; the conversation %+v", p, p.Oldest, c)
		}

		w.Pause("alice\u202e", "deploying\n"+strings.Repeat("the fix ", 50))
		d = w.Details()
		if len(d.Holds) != 1 {
			t.Fatalf("paused: %+v", d)
		}
		h := d.Holds[0]
		if h.Reason != "paused" || h.Lane != "all" || h.By != "alice?" || len(h.Why) > 200 ||
			!strings.HasPrefix(h.Detail, "paused by alice?: deploying the fix the fix ") ||
			h.Do == "" || h.NextProbeAt != nil || time.Since(h.Since) > time.Second {
			t.Errorf("paused: %+v", h)
		}
		if p := d.Partitions[0]; p.Oldest.WaitsFor != "hold" {
			t.Errorf("paused: %+v", p.Oldest)
		}
		w.Resume("bob", false)
		begun, ended := log.withMessage(t, "calls are held"), log.withMessage(t, "no longer held")
		if len(begun) != 1 || begun[0]["by"] != "alice?" || begun[0]["why"] != h.Why ||
			len(ended) != 1 || ended[0]["ended_by"] != "bob" {
			t.Errorf("logged %v, %v", begun, ended)
		}
		s.mustStop(w)
		if d := w.Details(); time.Since(d.Outside) > time.Minute || len(d.Partitions) != 0 {
			t.Errorf("stopped: %+v", d)
		}
	})
}

// During an outage Details has the failure's code and when the next probe is made.
func TestDetailsOfAnOutage(t *testing.T) {
	inBubble(t, func(s *stack) {
		s.fault(sandbox.Faults{Rules: []sandbox.Rule{{Kind: sandbox.KindStatus, Status: 502}}})
		w := s.start(nil)
		time.Sleep(20 * time.Second)
		for i := range 20 {
			s.publish(topics.Live, eventJSON(fmt.Sprint("reader", i), "peer", time.Now().Unix()))
		}
		time.Sleep(10 * time.Second)
		d := w.Details()
		if len(d.Holds) != 1 || d.Holds[0].Reason != "outage" || d.Holds[0].Code != "http_502" ||
			d.Holds[0].NextProbeAt == nil || d.Holds[0].Detail == "" {
			t.Errorf("%+v", d.Holds)
		}
		s.mustStop(w)
	})
}

// A worker that has found no broker is cut off, not out of its group.
func TestDetailsWithoutBroker(t *testing.T) {
	inBubble(t, func(s *stack) {
		network := &brokertest.CuttableDialer{Dial: s.dial}
		network.Cut(true)
		kafka, err := kafkaclient.New(kafkaclient.Options{Brokers: []string{s.broker.Addr()},
			ClientID: "test", Dial: network.DialContext, Log: zerolog.Nop()})
		if err != nil {
			t.Fatal(err)
		}
		defer kafka.Close()
		w := s.start(func(o *worker.Options) { o.Kafka = kafka })
		time.Sleep(5 * time.Second)
		if d := w.Details(); d.NoBroker || !d.Outside.IsZero() {
			t.Errorf("after 5 s: %+v", d)
		}
		time.Sleep(10 * time.Second)
		if d := w.Details(); !d.NoBroker {
			t.Error("after 15 s: a broker has responded")
		}
		network.Cut(false)
		time.Sleep(30 * time.Second)
		if d := w.Details(); d.NoBroker {
			t.Error("it is in the group, without a broker")
		}
		network.Cut(true)
		time.Sleep(time.Minute)
		if d := w.Details(); d.Outside.IsZero() || d.NoBroker {
			t.Errorf("a minute without a broker: %+v", d)
		}
		network.Cut(false)
		time.Sleep(30 * time.Second)
		if d := w.Details(); !d.Outside.IsZero() {
			t.Error("it is in the group again, and outside")
		}
		s.mustStop(w)
	})
}

// conversation returns what the worker knows of an account's conversation with peer.
func conversation(t *testing.T, w *member, report string) console.Conversation {
	t.Helper()
	c, err := w.Conversation(t.Context(), report, "peer")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// A conversation's partition is where the recommended key puts it, whoever owns it.
func TestConversationsPartition(t *testing.T) {
	inBubble(t, func(s *stack) {
		loading := s.broker.Cluster().Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.JoinGroup},
			Err: kerr.CoordinatorLoadInProgress, Count: -1})
		w := s.start(nil)
		if c := conversation(t, w, "a"); c.Partition != nil || c.Here {
			t.Errorf("before the first generation: %+v", c)
		}
		loading.Remove()
		other := s.start(nil)
		time.Sleep(30 * time.Second)
		here := map[bool]int{}
		for i := range 40 {
			report := fmt.Sprint("reader", i)
			c, o := conversation(t, w, report), conversation(t, other, report)
			want := kafkaclient.PartitionOf(event.Key(report, "peer"), 4)
			if c.Partition == nil || c.Partition.Partition != want ||
				c.Partition.Topic != topics.Live || c.Here == o.Here || *o.Partition != *c.Partition {
				t.Errorf("%s: %+v, %+v, want partition %d", report, c, o, want)
			}
			here[c.Here]++
		}
		if here[true] == 0 || here[false] == 0 {
			t.Errorf("%v of 40 are here", here)
		}
		s.mustStop(other)
		s.mustStop(w)
	})
}

// The list of rejected events has the server's message, and why an invalid event is invalid.
func TestRejectedEvents(t *testing.T) {
	inBubble(t, func(s *stack) {
		w := s.start(nil)
		s.publish(topics.Live, eventJSON("nobody", "peer", time.Now().Unix()))
		time.Sleep(20 * time.Second)
		s.publish(topics.Backfill, `{"Report_Account":"alice","Peer_Account":"peer",`+
			`"MsgReadTime":"yesterday"}`)
		time.Sleep(20 * time.Second)
		list := w.Rejected()
		if len(list) != 2 {
			t.Fatalf("%+v", list)
		}
		rejected, invalid := list[1], list[0]
		if rejected.Report != "nobody" || rejected.Peer != "peer" || rejected.Code == "" ||
			rejected.Class != "rejected" || !strings.Contains(rejected.Message, rejected.Code) ||
			rejected.Topic != topics.Live || rejected.Lane != "live" ||
			invalid.Report != "alice" || invalid.Code != "" || invalid.Class != "invalid" ||
			invalid.Topic != topics.Backfill || invalid.Lane != "backfill" ||
			!strings.Contains(invalid.Message, "yesterday") {
			t.Errorf("%+v", list)
		}
		s.mustStop(w)
	})
}
