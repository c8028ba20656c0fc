//go:build exam && unix

package main

import (
	"bytes"
	"encoding/json"
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
	"markread/consumer/broker"
)

const (
	unreadableWithin    = 15 * time.Second // after the break, and after the repair
	unreadablePartition = 2                // of 4
	unreadableEach      = 10               // events for each partition, before the break and during it
)

// TestExamUnreadable: one of four partitions can't be read. That is shown in all places within 15 s,
// and no longer than 15 s after the repair; the other partitions go on, and nothing is lost that Kafka
// still has.
func TestExamUnreadable(t *testing.T) {
	for name, breaks := range map[string]func(t *testing.T, b *examDamagingBroker) (repair func() (lost int)){
		"no permission": unreadableFault(kerr.TopicAuthorizationFailed, kmsg.Fetch),
		"no leader":     unreadableFault(kerr.NotLeaderForPartition, kmsg.Fetch, kmsg.ListOffsets),
		"frozen leader": unreadableFrozen,
		"wrong CRC":     unreadableDamaged,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			examUnreadable(t, name, breaks)
		})
	}
}

func examUnreadable(t *testing.T, name string, breaks func(*testing.T, *examDamagingBroker) func() int) {
	events := examOneEach(examConversations("u", 8*unreadableEach))
	before, during := events[:4*unreadableEach], events[4*unreadableEach:]
	first := during[unreadablePartition]
	b := examStartDamagingBroker(t, `"`+first.report+`"`)
	k := examConnect(t, b.Broker.Addr(), examDefaults)
	sandbox := examStartSandbox(t)
	w := examStartWorker(t, k, sandbox.url)
	w.ready(t)
	k.produceTo(t, k.live, before, func(i int) int32 { return int32(i % 4) })
	k.settled(t, 30*time.Second, k.live)
	examCheck(t, w.unreadable(t) == "", "before the break: %s", w.unreadable(t))

	repair := breaks(t, b)
	began := time.Now()
	status := k.status(t)
	plain := examRecordOf(k.live, first) // a batch of its own, without compression
	plain.Partition = unreadablePartition
	k.producePlain(t, plain)
	k.produceTo(t, k.live, slices.DeleteFunc(slices.Clone(during), func(e examEvent) bool { return e == first }), func(i int) int32 {
		if i >= unreadablePartition {
			i++
		}
		return int32(i % 4)
	})
	examWait(t, "the worker shows it in four places", unreadableWithin, func() bool { return w.unreadable(t) == "state console gauge log" })
	shown := time.Since(began)
	code := status.exit(t, 20*time.Second)
	examCheck(t, code == cli.ExitFailed && strings.Contains(status.stdout.String(), "UNREADABLE mark-read/2") && status.duration < unreadableWithin,
		"status ended with %d after %v: %s", code, status.duration, status.stdout.tail(20))
	examCheck(t, strings.Contains(status.stderr.String(), "partition 2 can't be read"), "status: %s", status.stderr.tail(3))

	// The others go on.
	others, of2 := before, []examEvent{}
	for i, e := range during {
		if i%4 == unreadablePartition {
			of2 = append(of2, e)
		} else {
			others = append(others, e)
		}
	}
	examWait(t, "the other partitions' events are applied", unreadableWithin, func() bool { return len(sandbox.pointers(t)) >= len(others) })
	examComparePointers(t, examLargest(others), sandbox.pointers(t))
	scrape := examScrape(t, w.admin)
	lag, known := scrape[`markread_partition_lag{partition="2",topic="mark-read"}`]
	oldest := scrape[`markread_partition_oldest_unfinished_seconds{partition="2",topic="mark-read"}`]
	examCheck(t, !known || lag > 0, "the lag of what was not read is %v", lag)
	examCheck(t, oldest > 4, "the oldest event waits for %v s", oldest)

	lost := repair()
	repaired := time.Now()
	examWait(t, "the worker shows the repair", unreadableWithin, func() bool { return w.unreadable(t) == "" })
	cleared := time.Since(repaired)
	k.settled(t, unreadableWithin, k.live)
	status = k.status(t)
	code = status.exit(t, 20*time.Second)
	examCheck(t, code == cli.ExitOK && time.Since(repaired) < unreadableWithin, "status ended with %d, %v after the repair: %s",
		code, time.Since(repaired), status.stdout.tail(20))
	examComparePointers(t, examLargest(append(others, of2[lost:]...)), sandbox.pointers(t))
	counted := examScrape(t, w.admin).sum("markread_events_lost_total")
	examCheck(t, counted == float64(lost), "%v events counted as lost, want %d", counted, lost)
	bad, good := w.loggedUnreadable()
	examCheck(t, bad == 1 && good == 1, "%d lines at the break and %d at the repair, want 1 of each", bad, good)
	examFigure(t, "unreadable, "+name, "shown after %v, gone %v after the repair; %s", shown.Round(10*time.Millisecond),
		cleared.Round(10*time.Millisecond), examScrape(t, w.admin).balance(t))
	w.stop(t, syscall.SIGTERM, examStopLimit)
}

// unreadable names the places where the worker shows that the partition can't be read. That another
// one can't be is a failure.
func (w *examWorker) unreadable(t *testing.T) string {
	t.Helper()
	var places []string
	var state struct {
		Partitions []struct {
			Topic      string
			Partition  int
			Unreadable *struct {
				Since  time.Time
				Offset *int64
				Reason string
			}
		}
	}
	if err := json.Unmarshal([]byte(examGet(t, w.admin+"/api/state")), &state); err != nil {
		t.Fatal(err)
	}
	for _, p := range state.Partitions {
		if u := p.Unreadable; u != nil {
			examCheck(t, p.Topic == "mark-read" && p.Partition == unreadablePartition, "%s/%d is unreadable: %+v", p.Topic, p.Partition, u)
			examCheck(t, time.Since(u.Since) < time.Minute && *u.Offset == unreadableEach && u.Reason != "", "/api/state shows %+v", u)
			places = append(places, "state")
		}
	}
	if page := examGet(t, w.admin+"/"); strings.Contains(page, "Unreadable: 1 partition") && strings.Contains(page, "mark-read, partition 2") {
		places = append(places, "console")
	}
	scrape := examScrape(t, w.admin)
	if scrape[`markread_partition_unreadable{partition="2",topic="mark-read"}`] == 1 {
		places = append(places, "gauge")
	}
	examCheck(t, scrape.sum("markread_partition_unreadable") <= 1, "the gauge is 1 for several partitions")
	if bad, good := w.loggedUnreadable(); bad > good {
		places = append(places, "log")
	}
	return strings.Join(places, " ")
}

// loggedUnreadable counts the lines at the break and at the repair of the partition.
func (w *examWorker) loggedUnreadable() (bad, good int) {
	for _, line := range w.stderr.lines() {
		var entry struct {
			Level, Topic, Reason, Do, Message string
			Partition                         int
		}
		if json.Unmarshal([]byte(line), &entry) != nil || entry.Topic != "mark-read" || entry.Partition != unreadablePartition {
			continue
		}
		switch {
		case entry.Level == "error" && entry.Reason != "" && entry.Do != "" && strings.HasPrefix(entry.Message, "partition can't be read"):
			bad++
		case entry.Message == "partition can be read again":
			good++
		}
	}
	return bad, good
}

// status starts `markread status`.
func (k *examKafka) status(t *testing.T) *examProc {
	t.Helper()
	return examStart(t, "status", "product", nil, "status", "--brokers", k.addr)
}

// producePlain writes a record without compression, in a batch of its own.
func (k *examKafka) producePlain(t *testing.T, r *kgo.Record) {
	t.Helper()
	cl, err := kgo.NewClient(k.seeds(), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchCompression(kgo.NoCompression()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if err := cl.ProduceSync(examContext(t), r).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

func unreadableFault(reason *kerr.Error, keys ...kmsg.Key) func(*testing.T, *examDamagingBroker) func() int {
	return func(_ *testing.T, b *examDamagingBroker) func() int {
		fault := b.Cluster().Fault(kfake.Fault{Keys: keys, Topic: examDefaults.live, Partitions: []int32{unreadablePartition}, Err: reason, Count: -1})
		return func() int { fault.Remove(); return 0 }
	}
}

// unreadableFrozen has the leader answer nothing about the partition. The others have another one, as it were.
func unreadableFrozen(t *testing.T, b *examDamagingBroker) func() int {
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
				asked = r.Topics[0].Topic == examDefaults.live && r.Topics[0].Partitions[0].Partition == unreadablePartition
			case *kmsg.ListOffsetsRequest:
				asked = r.Topics[0].Topic == examDefaults.live && r.Topics[0].Partitions[0].Partition == unreadablePartition
			}
			if asked {
				c.SleepControl(func() { <-thawed })
			}
			return nil, nil, false
		})
	}
	return repair
}

// unreadableDamaged damages the first event of the break wherever the broker sends it, as its disk might
// have; what is before and behind it stays whole. The repair deletes it.
func unreadableDamaged(t *testing.T, b *examDamagingBroker) func() int {
	b.damages.Store(true)
	return func() int {
		if err := b.Cluster().DeleteRecords(examDefaults.live, unreadablePartition, unreadableEach+1); err != nil {
			t.Error(err)
		}
		return 1
	}
}

// examDamagingBroker is an embedded broker that damages what it sends of an event, if told to. (What has a
// wrong checksum can't be produced.)
type examDamagingBroker struct {
	*broker.Broker
	net.Listener
	damages atomic.Bool
	marker  []byte // in the event's value, and nowhere else
}

func examStartDamagingBroker(t *testing.T, marker string) *examDamagingBroker {
	t.Helper()
	d := &examDamagingBroker{marker: []byte(marker)}
	var err error
	d.Broker, err = broker.Start(broker.Options{Partitions: 4, Topics: examDefaults.topics(), Listen: func(network, addr string) (net.Listener, error) {
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

func (d *examDamagingBroker) Addr() net.Addr { return d.Listener.Addr() }
func (d *examDamagingBroker) Close() error   { return d.Listener.Close() }

func (d *examDamagingBroker) Accept() (net.Conn, error) {
	conn, err := d.Listener.Accept()
	return &examDamagingConn{conn, d}, err
}

type examDamagingConn struct {
	net.Conn
	of *examDamagingBroker
}

// Write gets a whole response of the broker.
func (c *examDamagingConn) Write(b []byte) (int, error) {
	if i := bytes.Index(b, c.of.marker); i >= 0 && c.of.damages.Load() {
		b = bytes.Clone(b)
		b[i] ^= 1
	}
	return c.Conn.Write(b)
}
