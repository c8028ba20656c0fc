package consumer_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"markread/consumer/broker/brokertest"
	"markread/consumer/event"
)

// With message.timestamp.type=LogAppendTime, an event's time is when the broker appended it.
func TestRealLogAppendTime(t *testing.T) {
	t.Parallel()
	for setting, ours := range map[string]bool{"CreateTime": true, "LogAppendTime": false} {
		t.Run(setting, func(t *testing.T) {
			t.Parallel()
			if !ours {
				needCluster(t, "the embedded broker accepts the setting, but ignores it")
			}
			// the records are old: keep them
			r := onBroker(t, 1, "message.timestamp.type="+setting, "retention.ms=-1")
			produced := time.UnixMilli(1_600_000_000_000)
			before := time.Now()
			for _, codec := range []kgo.CompressionCodec{kgo.NoCompression(), kgo.GzipCompression(),
				kgo.SnappyCompression(), kgo.Lz4Compression(), kgo.ZstdCompression()} {
				c := r.kgo(kgo.RecordPartitioner(kgo.ManualPartitioner()),
					kgo.ProducerBatchCompression(codec))
				for i := range 3 {
					record := &kgo.Record{Topic: r.topics.Live, Value: fmt.Appendf(nil,
						`{"Report_Account":"r%d","Peer_Account":"p"}`, i),
						Timestamp: produced.Add(time.Duration(i) * time.Minute)}
					c.Produce(t.Context(), record, nil)
				}
				if err := c.Flush(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			after := time.Now()
			m := r.join(r.client())
			r.waitForOffsets(m, r.topics.Live, 0, offsets(0, 15))
			for i, e := range m.all() {
				if want := produced.Add(time.Duration(i%3) * time.Minute); ours &&
					(!e.Record.Time.Equal(want) || e.ReadTime != want.Unix()) {
					t.Errorf("%d: time %v, T %d, want %v", i, e.Record.Time, e.ReadTime, want)
				}
				if at := e.Record.Time; !ours && (at.Before(before.Add(-time.Second)) ||
					at.After(after.Add(time.Second)) || e.ReadTime != at.Unix()) {
					t.Errorf("%d: time %v, T %d, want between %v and %v", i, at, e.ReadTime, before,
						after)
				}
			}
			m.leave()
		})
	}
}

// A producer uses transactions. Aborted records are not delivered. Records of an open transaction,
// and all records after them, are delivered when it ends. The lag becomes 0 although the log ends
// with a marker.
func TestRealTransactions(t *testing.T) {
	t.Parallel()
	r := onBroker(t, 1)
	m := r.join(r.client())
	c := r.kgo(kgo.TransactionalID(r.group), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	write := func(n int) {
		t.Helper()
		if err := c.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		for i := range n {
			// a batch each
			if err := c.ProduceSync(t.Context(), &kgo.Record{Topic: r.topics.Live,
				Value: brokertest.Value(i)}).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
	}
	end := func(how kgo.TransactionEndTry) {
		t.Helper()
		if err := c.EndTransaction(t.Context(), how); err != nil {
			t.Fatal(err)
		}
	}
	write(3)
	end(kgo.TryCommit) // 0 to 2, marker 3
	r.waitForOffsets(m, r.topics.Live, 0, offsets(0, 3))
	r.waitForCommit(m, r.topics.Live, 0, 4)
	write(3)
	end(kgo.TryAbort) // 4 to 6, marker 7
	r.waitForCommit(m, r.topics.Live, 0, 8)

	write(2)                       // 8, 9: open
	r.publish(r.topics.Live, 0, 2) // 10, 11, of another producer
	r.eventually(10*time.Second, "the end is known",
		func() bool { return state(m.generation(), r.topics.Live, 0).HighWatermark == 12 })
	r.publish(r.topics.Backfill, 0, 1)
	// by then, records before the known end would have been delivered, too
	r.waitFor(m, r.topics.Backfill, 0, 1)
	if got := m.delivered(r.topics.Live, 0); !slices.Equal(got, offsets(0, 3)) {
		t.Errorf("delivered before the transaction ended: %v", got)
	}
	end(kgo.TryAbort) // marker 12
	r.waitForOffsets(m, r.topics.Live, 0, []int64{0, 1, 2, 10, 11})
	r.waitForCommit(m, r.topics.Live, 0, 13)
	write(1)
	end(kgo.TryCommit) // 13, marker 14
	r.waitForOffsets(m, r.topics.Live, 0, []int64{0, 1, 2, 10, 11, 13})
	r.waitForCommit(m, r.topics.Live, 0, 15)
	m.leave()

	// Start within aborted records.
	for _, from := range []int64{5, 9} {
		again := r.joinFrom(from)
		want := slices.DeleteFunc([]int64{0, 1, 2, 10, 11, 13},
			func(o int64) bool { return o < from })
		r.waitForOffsets(again, r.topics.Live, 0, want)
		r.waitForCommit(again, r.topics.Live, 0, 15)
		again.leave()
	}
}

// joinFrom commits an offset for the group, which must have no members, and joins it.
func (r *realTest) joinFrom(offset int64) *member {
	r.Helper()
	r.setCommitted(r.topics.Live, 0, offset)
	return r.join(r.client())
}

func (r *realTest) setCommitted(topic string, partition int, offset int64) {
	r.Helper()
	code := r.tryCommit(commitOf{topic: topic, partition: partition, offset: offset,
		generation: -1})
	if code != 0 {
		r.Fatalf("commit without a group: error %d", code)
	}
}

// commitOf is a commit of one partition, as any client may send it.
type commitOf struct {
	topic     string
	partition int
	offset    int64
	// -1, without a member id: anyone may commit for a group without members
	generation int32
	member     string
	metadata   string
}

func (c commitOf) request(group string) *kmsg.OffsetCommitRequest {
	request := kmsg.NewPtrOffsetCommitRequest()
	request.Group, request.Generation, request.MemberID = group, c.generation, c.member
	t := kmsg.NewOffsetCommitRequestTopic()
	p := kmsg.NewOffsetCommitRequestTopicPartition()
	p.Partition, p.Offset, p.Metadata = int32(c.partition), c.offset, &c.metadata
	t.Topic, t.Partitions = c.topic, append(t.Partitions, p)
	request.Topics = append(request.Topics, t)
	return request
}

func (r *realTest) tryCommit(c commitOf) int16 {
	r.Helper()
	request := c.request(r.group)
	request.Topics[0].TopicID = r.topicID(c.topic)
	return mustRequest(r, request).Topics[0].Partitions[0].ErrorCode
}

// Compaction leaves holes. All remaining records are delivered, without one fetch for each hole,
// and the committed offset reaches the end.
func TestRealCompactionHoles(t *testing.T) {
	t.Parallel()
	r := onBroker(t, 1, "cleanup.policy=compact", "segment.ms=100",
		"min.cleanable.dirty.ratio=0.001", "delete.retention.ms=0", "max.compaction.lag.ms=200")
	const rounds, keys = 40, 50
	for round := range rounds {
		var records []*kgo.Record
		for i := range keys {
			if i%5 == round%5 || round == 0 { // so that batches keep some of their records
				records = append(records, &kgo.Record{Topic: r.topics.Live,
					Key: fmt.Appendf(nil, "k%d", i), Value: brokertest.Value(i)})
			}
		}
		r.send(records...)
	}
	read := func() (found []int64) {
		first, end := r.logRange(r.topics.Live, 0)
		c := r.kgo(kgo.ConsumePartitions(
			map[string]map[int32]kgo.Offset{r.topics.Live: {0: kgo.NewOffset().At(first)}}))
		defer c.Close()
		for next := int64(0); next < end; {
			for _, record := range c.PollFetches(t.Context()).Records() {
				found = append(found, record.Offset)
				next = record.Offset + 1
			}
		}
		return found
	}
	_, written := r.logRange(r.topics.Live, 0)
	roll := time.NewTicker(250 * time.Millisecond)
	defer roll.Stop()
	var left []int64
	for began := time.Now(); left == nil || len(left) >= int(written)/2; left = read() {
		switch {
		case r.cluster != nil:
			r.cluster.Compact()
		case time.Since(began) > time.Minute:
			t.Skip("skipped: the cluster's log cleaner has not run for a minute; start it with " +
				"log.cleaner.backoff.ms=500")
		default:
			<-roll.C // the broker checks the segment's age when something is written
			r.send(&kgo.Record{Topic: r.topics.Live, Key: []byte("rolls the segment"),
				Value: brokertest.Value(0)})
		}
	}
	_, end := r.logRange(r.topics.Live, 0)
	t.Logf("%d records of %d are left", len(left), end)
	var fetches fetchCounter
	m := r.join(r.client(fetches.DialContext))
	r.waitForCommit(m, r.topics.Live, 0, end)
	// a few for the records, and one each 2 s for each of two partitions
	if n := fetches.n.Load(); n < 1 || n > 30 {
		t.Errorf("%d fetches for %d records", n, len(left))
	}
	// The cleaner may have continued meanwhile. The member may then have received fewer records
	// than were left before, but at least the ones that are left now.
	got, now := m.delivered(r.topics.Live, 0), read()
	for _, o := range now {
		if !slices.Contains(got, o) {
			t.Errorf("offset %d was not delivered", o)
		}
	}
	for _, o := range got {
		if !slices.Contains(left, o) {
			t.Errorf("offset %d was delivered, but was not there", o)
		}
	}
	m.leave()
}

// fetchCounter is a dial function that counts the fetches on its connections.
type fetchCounter struct{ n atomic.Int32 }

func (f *fetchCounter) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
	return countedConn{conn, f}, err
}

type countedConn struct {
	net.Conn
	fetches *fetchCounter
}

func (c countedConn) Write(b []byte) (int, error) {
	if len(b) > 8 && binary.BigEndian.Uint32(b) == uint32(len(b)-4) &&
		binary.BigEndian.Uint16(b[4:]) == uint16(kmsg.Fetch) {
		c.fetches.n.Add(1)
	}
	return c.Conn.Write(b)
}

// Retention deletes records before they are read: the number of lost records is counted and logged,
// and the rest is read.
func TestRealRetentionWhileAway(t *testing.T) {
	t.Parallel()
	r := onBroker(t, 1)
	r.publish(r.topics.Live, 0, 10)
	m := r.join(r.client())
	r.waitForCommit(m, r.topics.Live, 0, 10)
	m.leave()
	r.publish(r.topics.Live, 0, 20)
	r.deleteRecords(r.topics.Live, 0, 17)
	m = r.join(r.client())
	r.waitForOffsets(m, r.topics.Live, 0, offsets(17, 30))
	r.waitForCommit(m, r.topics.Live, 0, 30)
	r.checkLost(m, 10, 17, 7)
	m.leave()
}

func (r *realTest) checkLost(m *member, from, to, n int64) {
	r.Helper()
	if lost := m.generation().Lost(); lost[r.topics.Live] != n || len(lost) != 1 {
		r.Errorf("lost %v, want %d", lost, n)
	}
	lines := r.log.Lines("retention deleted events before they were read")
	if len(lines) != 1 || lines[0]["level"] != "error" || lines[0]["offset"] != float64(from) ||
		lines[0]["next_offset"] != float64(to) || lines[0]["lost"] != float64(n) {
		r.Errorf("logged: %v", lines)
	}
}

func TestRealRetentionWhilePaused(t *testing.T) {
	t.Parallel()
	r := onBroker(t, 1)
	r.publish(r.topics.Live, 0, 10)
	m := r.join(r.client())
	r.waitForCommit(m, r.topics.Live, 0, 10)
	m.set(func() { m.full = true })
	r.publish(r.topics.Live, 0, 1) // ends the waiting fetch, if there still is one
	r.eventually(10*time.Second, "no fetch waits", func() bool {
		return len(m.delivered(r.topics.Live, 0)) == 11 || state(m.generation(), r.topics.Live, 0).
			HighWatermark >= 11
	})
	r.publish(r.topics.Live, 0, 20) // 11 to 30
	r.deleteRecords(r.topics.Live, 0, 20)
	m.set(func() { m.full = false })
	r.waitFor(m, r.topics.Live, 0, 10+1+11)
	r.waitForOffsets(m, r.topics.Live, 0, append(offsets(0, 11), offsets(20, 31)...))
	r.waitForCommit(m, r.topics.Live, 0, 31)
	r.checkLost(m, 11, 20, 9)
	m.leave()
}

// New partitions are detected and assigned.
func TestRealPartitionsAdded(t *testing.T) {
	needCluster(t, "partition counts are checked every 10 s")
	t.Parallel()
	r := onBroker(t, 1)
	members := []*member{r.join(r.client()), r.join(r.client())}
	r.eventually(30*time.Second, "both have joined", func() bool {
		state, n := r.state()
		return state == "Stable" && n == 2 && members[0].generation() != nil &&
			members[1].generation() != nil
	})
	request := kmsg.NewPtrCreatePartitionsRequest()
	topic := kmsg.NewCreatePartitionsRequestTopic()
	topic.Topic, topic.Count = r.topics.Live, 4
	request.Topics, request.TimeoutMillis = append(request.Topics, topic), 10000
	mustRequest(r, request)
	began := time.Now()
	r.eventually(10*time.Second, "the partition is there",
		func() bool { return len(r.describe(r.topics.Live).Partitions) == 4 })
	r.publish(r.topics.Live, 3, 5)
	r.eventually(40*time.Second, "the new partition is read",
		func() bool { return r.committed(r.topics.Live, 3) == 5 })
	t.Logf("a new partition was read after %v", time.Since(began))
	assigned := map[event.TopicPartition]int{}
	for _, m := range members {
		for _, tp := range m.generation().Assigned() {
			assigned[tp]++
		}
		if n := len(m.generation().All()); n != 5 {
			t.Errorf("a member knows %d partitions, want 5", n)
		}
		m.leave()
	}
	if len(assigned) != 5 {
		t.Errorf("assigned: %v", assigned)
	}
}

// When another broker becomes the leader, fetches go there. Nothing is lost or delivered twice. The
// test logs how long no events arrive.
func TestRealLeaderMoves(t *testing.T) {
	t.Parallel()
	r := onBroker(t, 1)
	nodes := r.describe(r.topics.Live).Partitions[0].Replicas
	for r.cluster != nil && len(nodes) < 3 {
		node, _, err := r.cluster.AddNode(-1, 0)
		if err != nil {
			t.Fatal(err)
		}
		nodes = append(nodes, node)
	}
	if len(nodes) < 3 {
		t.Skip("skipped: three nodes are needed")
	}
	m := r.join(r.client())
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	producer := r.kgo(kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(0))
	sent := make(chan int64, 1)
	go func() { // an event every 20 ms, in the order of the log
		var n int64
		next := time.NewTicker(20 * time.Millisecond)
		defer next.Stop()
		for ; ctx.Err() == nil; <-next.C {
			if producer.ProduceSync(context.Background(), &kgo.Record{Topic: r.topics.Live,
				Value: brokertest.Value(int(n))}).FirstErr() == nil {
				n++
			}
		}
		sent <- n
	}()
	for i := range 3 {
		r.eventually(30*time.Second, "events arrive",
			func() bool { return len(m.delivered(r.topics.Live, 0)) >= 10*(i+1) })
		old := r.describe(r.topics.Live).Partitions[0].Leader
		nodes = append(nodes[1:], nodes[0])
		began := time.Now()
		r.moveLeader(nodes)
		led := time.Now()
		_, end := r.logRange(r.topics.Live, 0)
		r.eventually(20*time.Second, "events arrive from the new leader", func() bool {
			got := m.delivered(r.topics.Live, 0)
			return len(got) > 0 && got[len(got)-1] >= end
		})
		t.Logf("broker %d after %d: elected in %v, continued after %v", nodes[0], old,
			led.Sub(began), time.Since(led))
	}
	stop()
	n := <-sent
	_, end := r.logRange(r.topics.Live, 0)
	if end < n {
		t.Errorf("the log ends at %d, sent %d", end, n)
	}
	r.waitForOffsets(m, r.topics.Live, 0, offsets(0, end))
	r.waitForCommit(m, r.topics.Live, 0, end)
	if turns := m.generationCount(); turns != 1 {
		t.Errorf("%d generations", turns)
	}
	m.leave()
}
