//go:build exam && linux

package exam

import (
	"bytes"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"markread/cmd/markread/exam/kit"
)

// TestExamMemoryHeld: conversations that wait during a hold take at most 400 bytes of resident
// memory each.
func TestExamMemoryHeld(t *testing.T) {
	t.Parallel()
	conversations := 1_000_000
	if testing.Short() {
		conversations = 250_000
	}
	k := kit.StartBroker(t)
	im := kit.StartRecorder(t, "-rate", "200")
	gate := kit.StartProxy(t, im.URL)
	gate.Refuse()
	w := kit.StartWorker(t, k, gate.URL, "--max-pending", strconv.Itoa(2*conversations))
	w.WaitReady(t)
	before := memory(w.Proc, t, "VmRSS")
	produceBulk(t, k, k.Live, conversations, func(i int) kit.Event {
		return kit.Event{Conversation: kit.Conversation{Report: fmt.Sprintf("user%010d", i),
			Peer: fmt.Sprintf("user%010d", i*7%conversations)}, ReadTime: time.Now().Unix()}
	})
	kit.Wait(t, "all are in memory", 2*time.Minute, func() bool {
		return kit.Scrape(t, w.Admin).
			Sum("markread_backlog_conversations") == float64(conversations)
	})
	after, most := memory(w.Proc, t, "VmRSS"), memory(w.Proc, t, "VmHWM")
	each := float64(after) / float64(conversations)
	kit.Figure(t, "memory-held", "%d conversations held: %.0f bytes of RSS each (%d MiB; %d MiB "+
		"before, %d MiB at most)", conversations, each, after>>20, before>>20, most>>20)
	limit := 400 * conversations
	if testing.Short() {
		limit += 50 << 20 // a worker with nothing in memory
	}
	kit.Check(t, after <= limit, "%d bytes of RSS for %d conversations", after, conversations)
	w.Stop(t, syscall.SIGTERM, kit.StopLimit)
}

// TestExamMemoryEvents: a backfill with many events per conversation takes at most 300 MiB, and
// does not delay live events.
func TestExamMemoryEvents(t *testing.T) {
	if testing.Short() {
		t.Skip("skipped: it takes three minutes")
	}
	const (
		conversations = 100_000
		events        = 10_000_000
		limit         = 300 << 20
		seconds       = 90
	)
	k := kit.StartBroker(t)
	im := kit.StartRecorder(t, "-rate", "200", "-latency", "2ms")
	now := time.Now().Unix()
	produceBulk(t, k, k.Backfill, events, func(i int) kit.Event {
		c := i * 7919 % conversations
		return kit.Event{Conversation: kit.Conversation{Report: fmt.Sprintf("user%010d", c),
			Peer: "peer" + strconv.Itoa(c%97)}, ReadTime: now - int64(events-i)/1000}
	})
	w := kit.StartWorker(t, k, im.URL)
	var most int
	var produced []time.Time
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for i := range 10 * seconds {
		<-tick.C
		most = max(most, memory(w.Proc, t, "VmRSS"))
		if i < 20 { // wait for the backfill to begin
			continue
		}
		produced = append(produced, time.Now())
		e := kit.Event{Conversation: kit.Conversation{Report: "live-" +
			strconv.Itoa(len(produced)-1), Peer: "p"}, ReadTime: time.Now().Unix()}
		k.Client.Produce(kit.Context(t), kit.RecordOf(k.Live, e), func(_ *kgo.Record, err error) {
			if err != nil {
				t.Errorf("produce: %v", err)
			}
		})
	}
	k.WaitCommitted(t, 30*time.Second, k.Live)
	m := kit.Scrape(t, w.Admin)
	pending := m.Sum("markread_backlog_events")
	left := k.Lag(t, k.Backfill)
	w.Stop(t, syscall.SIGTERM, kit.StopLimit)
	delay := make([]time.Duration, 0, len(produced))
	arrivals := im.Arrivals(t)
	for _, a := range arrivals {
		if number, ok := strings.CutPrefix(a.Report, "live-"); ok {
			i, _ := strconv.Atoi(number)
			delay = append(delay, time.Unix(0, a.Wall).Sub(produced[i]))
		}
	}
	if len(delay) != len(produced) {
		t.Fatalf("%d calls for %d live events", len(delay), len(produced))
	}
	slices.Sort(delay)
	p99, traffic := delay[len(delay)*99/100], kit.MeasureCalls(arrivals)
	kit.Figure(t, "memory-events",
		"%d events over %d conversations: %d MiB of RSS at most; after %d s %.0f events in "+
			"memory, %d not committed; %d live events beside: produce to arrival p50 %v, p99 %v, "+
			"most %v; %v", events, conversations, most>>20, seconds, pending, left, len(delay),
		delay[len(delay)/2].Round(time.Microsecond), p99.Round(time.Microsecond),
		delay[len(delay)-1].Round(time.Microsecond), traffic)
	kit.Check(t, most <= limit, "%d bytes of RSS", most)
	kit.Check(t, left > events/2, "the backfill ran dry: the test proves nothing")
	kit.Check(t, p99 <= 300*time.Millisecond, "live p99 %v, at most 300 ms allowed", p99)
	kit.Check(t, traffic.MostIn1s <= 200, "%d arrivals in one second", traffic.MostIn1s)
}

// produceBulk produces n events.
func produceBulk(t *testing.T, k *kit.Kafka, topic string, n int, event func(i int) kit.Event) {
	t.Helper()
	const at = 100_000
	for from := 0; from < n; from += at {
		records := make([]*kgo.Record, 0, at)
		for i := from; i < min(n, from+at); i++ {
			records = append(records, kit.RecordOf(topic, event(i)))
		}
		k.Produce(t, records...)
	}
}

// memory returns a memory line of the process's status in /proc, in bytes.
func memory(p *kit.Proc, t *testing.T, name string) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`(?m)^` + name + `:\s+(\d+) kB$`).FindSubmatch(status)
	if found == nil {
		t.Fatalf("no %s in %s", name, status)
	}
	kilobytes, _ := strconv.Atoi(string(found[1]))
	return kilobytes << 10
}

// TestExamMemoryBatches: batches of 9 MB on each of 24 partitions, and records that decompress to
// 400 MB, take at most 300 MiB of resident memory.
func TestExamMemoryBatches(t *testing.T) {
	t.Parallel()
	const limit = 300 << 20
	partitions := 24
	if testing.Short() {
		partitions = 6 // still each codec
	}
	k := kit.StartBroker(t)
	im := kit.StartRecorder(t, "-rate", "200")
	k.Live += "-large"
	largeTopic(t, k.Client, k.Live, int32(partitions), 20<<20)
	codecs := []kgo.CompressionCodec{kgo.NoCompression(), kgo.GzipCompression(),
		kgo.SnappyCompression(), kgo.Lz4Compression(), kgo.ZstdCompression()}
	events, bombs := 0, 0
	for partition := range int32(partitions) {
		cl := largeProducer(t, k, codecs[int(partition)%len(codecs)])
		var records []*kgo.Record
		for size := 0; size < 9<<20; events++ {
			r := kit.RecordOf(k.Live,
				kit.Event{Conversation: kit.Conversation{Report: "r" + strconv.Itoa(events%1000),
					Peer: "p" + strconv.Itoa(int(partition))}, ReadTime: time.Now().Unix()})
			r.Partition = partition
			records = append(records, r)
			size += len(r.Value) + len(r.Key) + 10
		}
		// gzip and zstd; the others don't compress it enough
		if partition == 1 || partition == 4 {
			value := append([]byte(`{"Report_Account":"a","x":"`),
				bytes.Repeat([]byte("A"), 400<<20)...)
			records = append(records,
				&kgo.Record{Topic: k.Live, Partition: partition, Value: value})
			bombs++
		}
		if err := cl.ProduceSync(kit.Context(t), records...).FirstErr(); err != nil {
			t.Fatalf("produce: %v", err)
		}
		cl.Close()
	}
	w := kit.StartWorker(t, k, im.URL, "--backfill-topic", "")
	kit.Wait(t, "all records are received", 2*time.Minute, func() bool {
		return kit.Scrape(t, w.Admin).Sum("markread_events_received_total") == float64(events+bombs)
	})
	kit.Wait(t, "the large records are dead letters", time.Minute,
		func() bool { return len(k.ReadAll(t, k.DeadLetters)) == bombs })
	peak := memory(w.Proc, t, "VmHWM")
	w.Stop(t, syscall.SIGTERM, kit.StopLimit)
	for _, letter := range k.ReadAll(t, k.DeadLetters) {
		ours := markreadHeaders(letter)
		kit.Check(t, ours["markread.class"] == "invalid" && ours["markread.collapsed"] == "1" &&
			len(letter.Value) == 0 && len(ours["markread.value-omitted"]) == 9,
			"dead letter %v with a value of %d bytes", ours, len(letter.Value))
	}
	kit.Figure(t, "memory-batches",
		"%d events in %d batches of 9 MB, %d records of 400 MB: %d MiB of RSS at most", events,
		partitions, bombs, peak>>20)
	kit.Check(t, peak <= limit, "%d bytes of RSS", peak)
}

// TestExamMemoryPartitions: 2,000 partitions with 300 KB each take at most 300 MiB of resident
// memory.
func TestExamMemoryPartitions(t *testing.T) {
	if testing.Short() {
		t.Skip("skipped: it takes two minutes")
	}
	const (
		partitions = 2000
		each       = 2600
		limit      = 300 << 20
	)
	k := kit.StartBroker(t)
	im := kit.StartRecorder(t, "-rate", "200")
	k.Live += "-many"
	largeTopic(t, k.Client, k.Live, partitions, 1<<20)
	cl := largeProducer(t, k, kgo.NoCompression())
	for partition := range int32(partitions) {
		records := make([]*kgo.Record, each)
		for i := range records {
			records[i] = kit.RecordOf(k.Live,
				kit.Event{Conversation: kit.Conversation{Report: "r" + strconv.Itoa(i%1000),
					Peer: "p"}, ReadTime: time.Now().Unix()})
			records[i].Key, records[i].Partition = nil, partition
			records[i].Value = append(records[i].Value, bytes.Repeat([]byte(" "), 30)...)
		}
		if err := cl.ProduceSync(kit.Context(t), records...).FirstErr(); err != nil {
			t.Fatalf("produce: %v", err)
		}
	}
	cl.Close()
	w := kit.StartWorker(t, k, im.URL, "--backfill-topic", "")
	kit.Wait(t, "all records are received", 3*time.Minute, func() bool {
		return kit.Scrape(t, w.Admin).Sum("markread_events_received_total") == partitions*each
	})
	peak := memory(w.Proc, t, "VmHWM")
	w.Stop(t, syscall.SIGTERM, kit.StopLimit)
	kit.Figure(t, "memory-partitions", "%d partitions, %d events: %d MiB of RSS at most",
		partitions, partitions*each, peak>>20)
	kit.Check(t, peak <= limit, "%d bytes of RSS", peak)
}

// largeTopic creates a topic that accepts large batches.
func largeTopic(t *testing.T, cl *kgo.Client, name string, partitions int32, bytes int) {
	t.Helper()
	topic := kmsg.NewCreateTopicsRequestTopic()
	topic.Topic, topic.NumPartitions, topic.ReplicationFactor = name, partitions, 1
	topic.Configs = []kmsg.CreateTopicsRequestTopicConfig{{Name: "max.message.bytes",
		Value: kmsg.StringPtr(fmt.Sprint(bytes))}}
	req := kmsg.NewPtrCreateTopicsRequest()
	req.TimeoutMillis, req.Topics = 30_000, []kmsg.CreateTopicsRequestTopic{topic}
	answer, err := req.RequestWith(kit.Context(t), cl)
	if err == nil {
		err = kerr.ErrorForCode(answer.Topics[0].ErrorCode)
	}
	if err != nil {
		t.Fatalf("create topic %s: %v", name, err)
	}
}

// largeProducer returns a producer that writes its records for one partition as one batch.
func largeProducer(t *testing.T, k *kit.Kafka, codec kgo.CompressionCodec) *kgo.Client {
	t.Helper()
	cl, err := kgo.NewClient(k.Seeds(), kgo.ProducerBatchCompression(codec),
		kgo.ProducerBatchMaxBytes(900<<20), kgo.BrokerMaxWriteBytes(1<<30),
		kgo.MaxBufferedBytes(1<<31), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerLinger(100*time.Millisecond), kgo.MaxBufferedRecords(1_000_000))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}
