//go:build exam && unix

package exam

import (
	"bytes"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"markread/cmd/markread/cli"
	"markread/cmd/markread/exam/kit"
	"markread/consumer/broker"
)

const (
	unreadableWithin    = 15 * time.Second // after the fault begins, and after the repair
	unreadablePartition = 2                // of 4 partitions
	// events of each partition, before the fault and during it
	eventsPerPartition = 10
)

// TestExamUnreadable: one of four partitions can't be read. Within 15 s the worker shows that in
// all places, and within 15 s of the repair no longer. The other partitions continue, and no event
// is lost that Kafka still has.
func TestExamUnreadable(t *testing.T) {
	t.Parallel()
	for name, breaks := range map[string]func(t *testing.T,
		b *corruptingBroker) (repair func() (lost int)){
		"no permission": unreadableFault(kerr.TopicAuthorizationFailed, kmsg.Fetch),
		"no leader":     unreadableFault(kerr.NotLeaderForPartition, kmsg.Fetch, kmsg.ListOffsets),
		"frozen leader": unreadableFrozen,
		"wrong CRC":     unreadableCorrupted,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			unreadableCase(t, name, breaks)
		})
	}
}

func unreadableCase(t *testing.T, name string,
	breaks func(*testing.T, *corruptingBroker) func() int) {
	events := kit.OneEventEach(kit.Conversations("u", 8*eventsPerPartition))
	before, during := events[:4*eventsPerPartition], events[4*eventsPerPartition:]
	first := during[unreadablePartition]
	b := startCorruptingBroker(t, `"`+first.Report+`"`)
	k := kit.Connect(t, b.Broker.Addr(), kit.Defaults)
	sandbox := kit.StartSandbox(t)
	w := kit.StartWorker(t, k, sandbox.URL)
	w.WaitReady(t)
	k.ProduceTo(t, k.Live, before, func(i int) int32 { return int32(i % 4) })
	k.WaitCommitted(t, 30*time.Second, k.Live)
	kit.Check(t, placesShown(w, t) == "", "before the fault: %s", placesShown(w, t))

	repair := breaks(t, b)
	began := time.Now()
	status := startStatus(k, t)
	plain := kit.RecordOf(k.Live, first) // its own batch, without compression
	plain.Partition = unreadablePartition
	producePlain(k, t, plain)
	k.ProduceTo(t, k.Live, slices.DeleteFunc(slices.Clone(during),
		func(e kit.Event) bool { return e == first }), func(i int) int32 {
		if i >= unreadablePartition {
			i++
		}
		return int32(i % 4)
	})
	kit.Wait(t, "the worker shows it in four places", unreadableWithin,
		func() bool { return placesShown(w, t) == "state console gauge log" })
	shown := time.Since(began)
	code := status.Exit(t, 20*time.Second)
	kit.Check(t, code == cli.ExitFailed &&
		strings.Contains(status.Stdout.String(), "UNREADABLE mark-read/2") &&
		status.Duration < unreadableWithin,
		"status ended with %d after %v: %s", code, status.Duration, status.Stdout.Tail(20))
	kit.Check(t, strings.Contains(status.Stderr.String(), "partition 2 can't be read"),
		"status: %s", status.Stderr.Tail(3))

	// The others continue.
	others, of2 := before, []kit.Event{}
	for i, e := range during {
		if i%4 == unreadablePartition {
			of2 = append(of2, e)
		} else {
			others = append(others, e)
		}
	}
	kit.Wait(t, "the other partitions' events are applied", unreadableWithin,
		func() bool { return len(sandbox.ReadTimes(t)) >= len(others) })
	kit.CompareReadTimes(t, kit.Largest(others), sandbox.ReadTimes(t))
	scrape := kit.Scrape(t, w.Admin)
	lag, known := scrape[`markread_partition_lag{partition="2",topic="mark-read"}`]
	oldest := scrape[`markread_partition_oldest_unfinished_seconds`+
		`{partition="2",topic="mark-read"}`]
	kit.Check(t, !known || lag > 0, "the lag of the unread records is %v", lag)
	kit.Check(t, oldest > 4, "the oldest event has waited %v s", oldest)

	lost := repair()
	repaired := time.Now()
	kit.Wait(t, "the worker shows the repair", unreadableWithin,
		func() bool { return placesShown(w, t) == "" })
	cleared := time.Since(repaired)
	k.WaitCommitted(t, unreadableWithin, k.Live)
	status = startStatus(k, t)
	code = status.Exit(t, 20*time.Second)
	kit.Check(t, code == cli.ExitOK && time.Since(repaired) < unreadableWithin,
		"status ended with %d, %v after the repair: %s", code, time.Since(repaired),
		status.Stdout.Tail(20))
	kit.CompareReadTimes(t, kit.Largest(append(others, of2[lost:]...)), sandbox.ReadTimes(t))
	counted := kit.Scrape(t, w.Admin).Sum("markread_events_lost_total")
	kit.Check(t, counted == float64(lost), "%v events counted as lost, want %d", counted, lost)
	bad, good := countUnreadableLines(w)
	kit.Check(t, bad == 1 && good == 1,
		"%d lines at the fault and %d at the repair, want 1 of each", bad, good)
	kit.Figure(t, "unreadable, "+name, "shown after %v, gone %v after the repair; %s",
		shown.Round(10*time.Millisecond), cleared.Round(10*time.Millisecond),
		kit.Scrape(t, w.Admin).Balance(t))
	w.Stop(t, syscall.SIGTERM, kit.StopLimit)
}

// placesShown returns the places where the worker shows that the partition can't be read. It fails
// if another partition is shown.
func placesShown(w *kit.Worker, t *testing.T) string {
	t.Helper()
	var places []string
	state := kit.GetJSON[struct {
		Partitions []struct {
			Topic      string
			Partition  int
			Unreadable *struct {
				Since  time.Time
				Offset *int64
				Reason string
			}
		}
	}](t, w.Admin+"/api/state")
	for _, p := range state.Partitions {
		if u := p.Unreadable; u != nil {
			kit.Check(t, p.Topic == "mark-read" && p.Partition == unreadablePartition,
				"%s/%d is unreadable: %+v", p.Topic, p.Partition, u)
			kit.Check(t, time.Since(u.Since) < time.Minute && *u.Offset == eventsPerPartition &&
				u.Reason != "", "/api/state shows %+v", u)
			places = append(places, "state")
		}
	}
	overview := kit.GetJSON[struct {
		Partitions []struct {
			Topic      string
			Partition  int
			Unreadable *struct{ Reason string }
		}
	}](t, w.Admin+"/api/overview")
	for _, p := range overview.Partitions {
		if u := p.Unreadable; u != nil {
			kit.Check(t, p.Topic == "mark-read" && p.Partition == unreadablePartition &&
				u.Reason != "", "the console shows %s/%d: %+v", p.Topic, p.Partition, u)
			places = append(places, "console")
		}
	}
	scrape := kit.Scrape(t, w.Admin)
	if scrape[`markread_partition_unreadable{partition="2",topic="mark-read"}`] == 1 {
		places = append(places, "gauge")
	}
	kit.Check(t, scrape.Sum("markread_partition_unreadable") <= 1,
		"the gauge is 1 for several partitions")
	if bad, good := countUnreadableLines(w); bad > good {
		places = append(places, "log")
	}
	return strings.Join(places, " ")
}

// countUnreadableLines counts the log lines at the fault and at the repair of the partition.
func countUnreadableLines(w *kit.Worker) (bad, good int) {
	for _, entry := range kit.Entries[struct {
		Level, Topic, Reason, Do, Message string
		Partition                         int
	}](&w.Stderr) {
		if entry.Topic != "mark-read" || entry.Partition != unreadablePartition {
			continue
		}
		switch {
		case entry.Level == "error" && entry.Reason != "" && entry.Do != "" &&
			strings.HasPrefix(entry.Message, "partition can't be read"):
			bad++
		case entry.Message == "partition can be read again":
			good++
		}
	}
	return bad, good
}

// startStatus starts `markread status`.
func startStatus(k *kit.Kafka, t *testing.T) *kit.Proc {
	t.Helper()
	return kit.Start(t, "status", "product", nil, "status", "--brokers", k.Addr)
}

// producePlain produces a record in its own batch, without compression.
func producePlain(k *kit.Kafka, t *testing.T, r *kgo.Record) {
	t.Helper()
	kit.ProduceWith(t, k.NewClient(t, kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchCompression(kgo.NoCompression())), r)
}

func unreadableFault(reason *kerr.Error, keys ...kmsg.Key) func(*testing.T,
	*corruptingBroker) func() int {
	return func(_ *testing.T, b *corruptingBroker) func() int {
		fault := b.Cluster().Fault(kfake.Fault{Keys: keys, Topic: kit.Defaults.Live,
			Partitions: []int32{unreadablePartition}, Err: reason, Count: -1})
		return func() int { fault.Remove(); return 0 }
	}
}

// unreadableFrozen makes the broker not respond to requests for the partition, as if its leader
// were frozen and the other partitions had another leader.
func unreadableFrozen(t *testing.T, b *corruptingBroker) func() int {
	c := b.Cluster()
	thawed := make(chan struct{})
	repair := func() int { close(thawed); return 0 }
	t.Cleanup(func() {
		select {
		case <-thawed:
		default:
			repair()
		}
	})
	for _, key := range []kmsg.Key{kmsg.Fetch, kmsg.ListOffsets} {
		c.ControlKey(int16(key), func(r kmsg.Request) (kmsg.Response, error, bool) {
			c.KeepControl()
			asked := false
			switch r := r.(type) {
			case *kmsg.FetchRequest:
				asked = r.Topics[0].Topic == kit.Defaults.Live &&
					r.Topics[0].Partitions[0].Partition == unreadablePartition
			case *kmsg.ListOffsetsRequest:
				asked = r.Topics[0].Topic == kit.Defaults.Live &&
					r.Topics[0].Partitions[0].Partition == unreadablePartition
			}
			if asked {
				c.SleepControl(func() { <-thawed })
			}
			return nil, nil, false
		})
	}
	return repair
}

// unreadableCorrupted corrupts the first event of the fault in every response of the broker, as its
// disk might; the records before and after it stay intact. The repair deletes the event.
func unreadableCorrupted(t *testing.T, b *corruptingBroker) func() int {
	b.corrupting.Store(true)
	return func() int {
		if err := b.Cluster().
			DeleteRecords(kit.Defaults.Live, unreadablePartition,
				eventsPerPartition+1); err != nil {
			t.Error(err)
		}
		return 1
	}
}

// corruptingBroker is an embedded broker that can corrupt one event in its responses, because a
// batch with a wrong checksum can't be produced.
type corruptingBroker struct {
	*broker.Broker
	net.Listener
	corrupting atomic.Bool
	marker     []byte // in the event's value, and nowhere else
}

func startCorruptingBroker(t *testing.T, marker string) *corruptingBroker {
	t.Helper()
	d := &corruptingBroker{marker: []byte(marker)}
	var err error
	d.Broker, err = broker.Start(broker.Options{Partitions: 4, Topics: kit.Defaults.Topics(),
		Listen: func(network, addr string) (net.Listener, error) {
			var err error
			d.Listener, err = net.Listen(network, addr)
			return d, err
		}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Broker.Close)
	return d
}

func (d *corruptingBroker) Addr() net.Addr { return d.Listener.Addr() }
func (d *corruptingBroker) Close() error   { return d.Listener.Close() }

func (d *corruptingBroker) Accept() (net.Conn, error) {
	conn, err := d.Listener.Accept()
	return &corruptingConn{conn, d}, err
}

type corruptingConn struct {
	net.Conn
	broker *corruptingBroker
}

// Write gets a whole response of the broker.
func (c *corruptingConn) Write(b []byte) (int, error) {
	if i := bytes.Index(b, c.broker.marker); i >= 0 && c.broker.corrupting.Load() {
		b = bytes.Clone(b)
		b[i] ^= 1
	}
	return c.Conn.Write(b)
}
