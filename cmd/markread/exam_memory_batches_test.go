//go:build exam && linux

package main

import (
	"bytes"
	"fmt"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestExamMemoryBatches: batches of 9 MB on each of 24 partitions, and records that decompress to 400 MB, take at most 300 MiB of resident memory.
func TestExamMemoryBatches(t *testing.T) {
	t.Parallel()
	const limit = 300 << 20
	partitions := 24
	if testing.Short() {
		partitions = 6 // has each codec
	}
	k := examStartBroker(t)
	im := examStartRecorder(t, "-rate", "200")
	k.live += "-large"
	examLargeTopic(t, k.cl, k.live, int32(partitions), 20<<20)
	codecs := []kgo.CompressionCodec{kgo.NoCompression(), kgo.GzipCompression(), kgo.SnappyCompression(), kgo.Lz4Compression(), kgo.ZstdCompression()}
	events, bombs := 0, 0
	for partition := range int32(partitions) {
		cl := examLargeProducer(t, k, codecs[int(partition)%len(codecs)])
		var records []*kgo.Record
		for size := 0; size < 9<<20; events++ {
			r := examRecordOf(k.live, examEvent{examConversation{"r" + strconv.Itoa(events%1000), "p" + strconv.Itoa(int(partition))}, time.Now().Unix()})
			r.Partition = partition
			records = append(records, r)
			size += len(r.Value) + len(r.Key) + 10
		}
		if partition == 1 || partition == 4 { // with gzip and with zstd; the others compress it too little
			value := append([]byte(`{"Report_Account":"a","x":"`), bytes.Repeat([]byte("A"), 400<<20)...)
			records = append(records, &kgo.Record{Topic: k.live, Partition: partition, Value: value})
			bombs++
		}
		if err := cl.ProduceSync(examContext(t), records...).FirstErr(); err != nil {
			t.Fatalf("produce: %v", err)
		}
		cl.Close()
	}
	w := examStartWorker(t, k, im.url, "--backfill-topic", "")
	examWait(t, "all is taken in", 2*time.Minute, func() bool {
		return examScrape(t, w.admin).sum("markread_events_received_total") == float64(events+bombs)
	})
	examWait(t, "the large records are dead letters", time.Minute, func() bool { return len(k.readAll(t, k.letters)) == bombs })
	peak := w.memory(t, "VmHWM")
	w.stop(t, syscall.SIGTERM, examStopLimit)
	for _, letter := range k.readAll(t, k.letters) {
		ours := examOurHeaders(letter)
		examCheck(t, ours["markread.class"] == "invalid" && ours["markread.collapsed"] == "1" && len(letter.Value) == 0 && len(ours["markread.value-omitted"]) == 9,
			"letter %v with a value of %d bytes", ours, len(letter.Value))
	}
	examFigure(t, "memory-batches", "%d events in %d batches of 9 MB, %d records of 400 MB: %d MiB of RSS at most", events, partitions, bombs, peak>>20)
	examCheck(t, peak <= limit, "%d bytes of RSS", peak)
}

// TestExamMemoryPartitions: 2,000 partitions with 300 KB each take at most 300 MiB of resident memory.
func TestExamMemoryPartitions(t *testing.T) {
	if testing.Short() {
		t.Skip("skipped: it takes two minutes")
	}
	const (
		partitions = 2000
		each       = 2600
		limit      = 300 << 20
	)
	k := examStartBroker(t)
	im := examStartRecorder(t, "-rate", "200")
	k.live += "-many"
	examLargeTopic(t, k.cl, k.live, partitions, 1<<20)
	cl := examLargeProducer(t, k, kgo.NoCompression())
	for partition := range int32(partitions) {
		records := make([]*kgo.Record, each)
		for i := range records {
			records[i] = examRecordOf(k.live, examEvent{examConversation{"r" + strconv.Itoa(i%1000), "p"}, time.Now().Unix()})
			records[i].Key, records[i].Partition = nil, partition
			records[i].Value = append(records[i].Value, bytes.Repeat([]byte(" "), 30)...)
		}
		if err := cl.ProduceSync(examContext(t), records...).FirstErr(); err != nil {
			t.Fatalf("produce: %v", err)
		}
	}
	cl.Close()
	w := examStartWorker(t, k, im.url, "--backfill-topic", "")
	examWait(t, "all is taken in", 3*time.Minute, func() bool {
		return examScrape(t, w.admin).sum("markread_events_received_total") == partitions*each
	})
	peak := w.memory(t, "VmHWM")
	w.stop(t, syscall.SIGTERM, examStopLimit)
	examFigure(t, "memory-partitions", "%d partitions, %d events: %d MiB of RSS at most", partitions, partitions*each, peak>>20)
	examCheck(t, peak <= limit, "%d bytes of RSS", peak)
}

// examLargeTopic makes a topic that takes large batches.
func examLargeTopic(t *testing.T, cl *kgo.Client, name string, partitions int32, bytes int) {
	t.Helper()
	topic := kmsg.NewCreateTopicsRequestTopic()
	topic.Topic, topic.NumPartitions, topic.ReplicationFactor = name, partitions, 1
	topic.Configs = []kmsg.CreateTopicsRequestTopicConfig{{Name: "max.message.bytes", Value: kmsg.StringPtr(fmt.Sprint(bytes))}}
	req := kmsg.NewPtrCreateTopicsRequest()
	req.TimeoutMillis, req.Topics = 30_000, []kmsg.CreateTopicsRequestTopic{topic}
	answer, err := req.RequestWith(examContext(t), cl)
	if err == nil {
		err = kerr.ErrorForCode(answer.Topics[0].ErrorCode)
	}
	if err != nil {
		t.Fatalf("create topic %s: %v", name, err)
	}
}

// examLargeProducer produces what it is given for one partition as one batch.
func examLargeProducer(t *testing.T, k *examKafka, codec kgo.CompressionCodec) *kgo.Client {
	t.Helper()
	cl, err := kgo.NewClient(k.seeds(), kgo.ProducerBatchCompression(codec), kgo.ProducerBatchMaxBytes(900<<20), kgo.BrokerMaxWriteBytes(1<<30),
		kgo.MaxBufferedBytes(1<<31), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(100*time.Millisecond), kgo.MaxBufferedRecords(1_000_000))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}
