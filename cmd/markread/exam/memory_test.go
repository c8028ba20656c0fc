//go:build exam && linux

package exam

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

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
		return kit.NewEvent(fmt.Sprintf("user%010d", i),
			fmt.Sprintf("user%010d", i*7%conversations), time.Now().Unix())
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
		return kit.NewEvent(fmt.Sprintf("user%010d", c), "peer"+strconv.Itoa(c%97),
			now-int64(events-i)/1000)
	})
	w := kit.StartWorker(t, k, im.URL)
	most := 0
	stop := kit.Poll(t, 100*time.Millisecond,
		func() { most = max(most, memory(w.Proc, t, "VmRSS")) })
	<-time.After(2 * time.Second) // wait for the backfill to begin
	flow := kit.StartTraffic(t, k, k.Live, "live", 10)
	<-time.After((seconds - 2) * time.Second)
	flow.End()
	stop()
	k.WaitCommitted(t, 30*time.Second, k.Live)
	m := kit.Scrape(t, w.Admin)
	pending := m.Sum("markread_backlog_events")
	left := k.Lag(t, k.Backfill)
	w.Stop(t, syscall.SIGTERM, kit.StopLimit)
	arrivals := im.Arrivals(t)
	delays, stats := flow.ArrivalDelays(t, arrivals), kit.MeasureCalls(arrivals)
	kit.Figure(t, "memory-events",
		"%d events over %d conversations: %d MiB of RSS at most; after %d s %.0f events in "+
			"memory, %d not committed; %d live events beside: produce to arrival %v; %v", events,
		conversations, most>>20, seconds, pending, left, len(delays), delays, stats)
	kit.Check(t, most <= limit, "%d bytes of RSS", most)
	kit.Check(t, left > events/2, "the backfill ran dry: the test proves nothing")
	kit.Check(t, delays.Percentile(99) <= 300*time.Millisecond,
		"live %v, a p99 of at most 300 ms allowed", delays)
	kit.Check(t, stats.MostIn1s <= 200, "%d arrivals in one second", stats.MostIn1s)
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
	bytes, err := readMemory(p, name)
	if err != nil {
		t.Fatal(err)
	}
	return bytes
}

func readMemory(p *kit.Proc, name string) (int, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	_, line, _ := strings.Cut(string(status), "\n"+name+":")
	var kilobytes int
	if _, err := fmt.Sscanf(line, "%d kB\n", &kilobytes); err != nil {
		return 0, fmt.Errorf("no %s in %s: %w", name, status, err)
	}
	return kilobytes << 10, nil
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
	largeTopic(t, k, int32(partitions), 20<<20)
	codecs := []kgo.CompressionCodec{kgo.NoCompression(), kgo.GzipCompression(),
		kgo.SnappyCompression(), kgo.Lz4Compression(), kgo.ZstdCompression()}
	events, bombs := 0, 0
	for partition := range int32(partitions) {
		cl := largeProducer(t, k, codecs[int(partition)%len(codecs)])
		var records []*kgo.Record
		for size := 0; size < 9<<20; events++ {
			r := kit.RecordOf(k.Live, kit.NewEvent("r"+strconv.Itoa(events%1000),
				"p"+strconv.Itoa(int(partition)), time.Now().Unix()))
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
		kit.ProduceWith(t, cl, records...)
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
	largeTopic(t, k, partitions, 1<<20)
	cl := largeProducer(t, k, kgo.NoCompression())
	for partition := range int32(partitions) {
		records := make([]*kgo.Record, each)
		for i := range records {
			records[i] = kit.RecordOf(k.Live,
				kit.NewEvent("r"+strconv.Itoa(i%1000), "p", time.Now().Unix()))
			records[i].Key, records[i].Partition = nil, partition
			records[i].Value = append(records[i].Value, bytes.Repeat([]byte(" "), 30)...)
		}
		kit.ProduceWith(t, cl, records...)
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

// largeTopic creates the live topic, which accepts large batches.
func largeTopic(t *testing.T, k *kit.Kafka, partitions int32, bytes int) {
	t.Helper()
	k.CreateTopics(t, kmsg.CreateTopicsRequestTopic{Topic: k.Live, NumPartitions: partitions,
		ReplicationFactor: 1, Configs: []kmsg.CreateTopicsRequestTopicConfig{{
			Name: "max.message.bytes", Value: kmsg.StringPtr(strconv.Itoa(bytes))}}})
}

// largeProducer returns a producer that writes its records for one partition as one batch.
func largeProducer(t *testing.T, k *kit.Kafka, codec kgo.CompressionCodec) *kgo.Client {
	t.Helper()
	return k.NewClient(t, kgo.ProducerBatchCompression(codec), kgo.ProducerBatchMaxBytes(900<<20),
		kgo.BrokerMaxWriteBytes(1<<30), kgo.MaxBufferedBytes(1<<31),
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(100*time.Millisecond),
		kgo.MaxBufferedRecords(1_000_000))
}
