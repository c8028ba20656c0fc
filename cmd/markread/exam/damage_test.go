//go:build exam && linux

package exam

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"markread/cmd/markread/exam/kit"
)

// TestExamDamage: 10,000 events on 12 partitions, and among them 200 batches written by a hostile
// or broken producer. Each good event is applied, each damaged record or range of records becomes
// one dead letter with the number of records it stands for, all offsets are committed, and memory
// stays bounded.
func TestExamDamage(t *testing.T) {
	t.Parallel()
	events, damages := 10_000, 200
	if testing.Short() {
		events, damages = 3000, 60 // still each kind twice
	}
	k := kit.StartBroker(t)
	im := kit.StartRecorder(t, "-rate", "1000")
	good := kit.OneEventEach(kit.Conversations("good", events))
	raw := k.NewClient(t, kgo.MaxVersions(kversion.V2_3_0()))
	kinds := damagedBatches(t)
	want := map[string]int{} // markread.collapsed to the number of dead letters that have it
	accepted := map[string]int{}
	for i := range damages {
		from, to := i*events/damages, (i+1)*events/damages
		k.ProduceTo(t, k.Live, good[from:to],
			func(n int) int32 { return int32(n % kit.Partitions) })
		kind := kinds[i%len(kinds)]
		inside := kit.NewEvent("inside"+strconv.Itoa(i), "p", time.Now().Unix())
		batch := kind.batch(kit.RecordOf(k.Live, inside).Value)
		if produceRaw(t, raw, k.Live, int32(i*7%kit.Partitions), batch) != 0 {
			continue // a real Kafka refuses some of the batches
		}
		accepted[kind.name]++
		for _, stands := range kind.collapsed {
			want[stands]++
		}
		for range kind.goodEvents {
			good = append(good, inside)
		}
	}
	w := kit.StartWorker(t, k, im.URL, "--rate", "1000")
	k.WaitCommitted(t, 2*time.Minute, k.Live)
	peak := memory(w.Proc, t, "VmHWM")
	w.Stop(t, syscall.SIGTERM, kit.StopLimit)
	kit.CompareReadTimes(t, kit.Largest(good), kit.ReadTimes(im.Arrivals(t)))
	got, sum := map[string]int{}, 0
	for _, letter := range k.ReadAll(t, k.DeadLetters) {
		ours := markreadHeaders(letter)
		got[ours["markread.collapsed"]]++
		sum++
		kit.Check(t, ours["markread.class"] == "invalid" && ours["markread.code"] == "" &&
			len(letter.Value) == 0 && ours["markread.value-omitted"] != "",
			"class %q, code %q, a value of %d bytes, omitted %q", ours["markread.class"],
			ours["markread.code"], len(letter.Value), ours["markread.value-omitted"])
	}
	kit.Check(t, fmt.Sprint(got) == fmt.Sprint(want),
		"dead letters by markread.collapsed: %v, want %v", got, want)
	kit.Check(t, peak <= 300<<20, "%d bytes of RSS", peak)
	kit.Figure(t, "damage", "%d events applied, %d dead letters of %v; %d MiB of RSS at most",
		len(good), sum, accepted, peak>>20)
}

// damagedBatch is one kind of damaged batch.
type damagedBatch struct {
	name       string
	batch      func(event []byte) []byte
	collapsed  []string // markread.collapsed of each dead letter
	goodEvents int      // how many valid copies of the event the batch contains
}

func damagedBatches(t *testing.T) []damagedBatch {
	t.Helper()
	encoder, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	record := func(value []byte, offset, length, headers int64) []byte {
		b := []byte{0}
		for _, v := range []int64{0, offset, -1, length} {
			b = binary.AppendVarint(b, v)
		}
		b = binary.AppendVarint(append(b, value...), headers)
		return append(binary.AppendVarint(nil, int64(len(b))), b...)
	}
	batch := func(codec int16, count int32, records ...[]byte) []byte {
		now := time.Now().UnixMilli()
		all := bytes.Join(records, nil)
		if codec == 4 {
			all = encoder.EncodeAll(all, nil)
		}
		return sealBatch(kmsg.RecordBatch{Attributes: codec, NumRecords: count,
			LastOffsetDelta: count - 1, FirstTimestamp: now, MaxTimestamp: now, Records: all})
	}
	one := func(name string, of func(event []byte, n int64) []byte) []damagedBatch {
		var kinds []damagedBatch
		for _, codec := range []int16{0, 4} {
			kinds = append(kinds, damagedBatch{fmt.Sprintf("%s/%d", name, codec),
				func(e []byte) []byte { return batch(codec, 1, of(e, 0)) }, []string{"1"}, 0},
				damagedBatch{fmt.Sprintf("%s within/%d", name, codec), func(e []byte) []byte {
					n := int64(len(e))
					return batch(codec, 3, record(e, 0, n, 0), of(e, 1), record(e, 2, n, 0))
				}, []string{"1"}, 2})
		}
		return kinds
	}
	var kinds []damagedBatch
	add := func(some ...damagedBatch) { kinds = append(kinds, some...) }
	add(one("2^31 headers",
		func(e []byte, at int64) []byte { return record(e, at, int64(len(e)), 1<<31) })...)
	add(one("offset 100",
		func(e []byte, _ int64) []byte { return record(e, 100, int64(len(e)), 0) })...)
	add(one("offset 2^30",
		func(e []byte, _ int64) []byte { return record(e, 1<<30, int64(len(e)), 0) })...)
	add(one("offset -5",
		func(e []byte, _ int64) []byte { return record(e, -5, int64(len(e)), 0) })...)
	add(one("a value of 2^31 more",
		func(e []byte, at int64) []byte { return record(e, at, int64(len(e))+1<<31, 0) })...)
	large := bytes.Repeat([]byte(" "), 5<<20)
	add(damagedBatch{"5 MB", func(e []byte) []byte {
		n := int64(len(e))
		return batch(4, 3, record(e, 0, n, 0), record(large, 1, int64(len(large)), 0),
			record(e, 2, n, 0))
	}, []string{"1"}, 2})
	garbage := func(codec int16, count int32, b []byte) []byte {
		now := time.Now().UnixMilli()
		return sealBatch(kmsg.RecordBatch{Attributes: codec, NumRecords: count,
			LastOffsetDelta: count - 1, FirstTimestamp: now, MaxTimestamp: now, Records: b})
	}
	for codec := int16(1); codec <= 7; codec++ {
		add(damagedBatch{fmt.Sprintf("garbage/%d", codec), func([]byte) []byte {
			return garbage(codec, 7, []byte("\xff\xff\xff\xff\xff\xff\xff\xff garbage"))
		},
			[]string{"7"}, 0})
	}
	add(damagedBatch{"fewer records than announced",
		func(e []byte) []byte { return batch(0, 5, record(e, 0, int64(len(e)), 0)) }, []string{"4"},
		1})
	return kinds
}

func sealBatch(k kmsg.RecordBatch) []byte {
	k.PartitionLeaderEpoch, k.Magic, k.ProducerID, k.ProducerEpoch, k.FirstSequence = -1, 2, -1, -1,
		-1
	raw := k.AppendTo(nil)
	binary.BigEndian.PutUint32(raw[8:], uint32(len(raw)-12))
	binary.BigEndian.PutUint32(raw[17:],
		crc32.Checksum(raw[21:], crc32.MakeTable(crc32.Castagnoli)))
	return raw
}

// produceRaw produces the bytes of a batch and returns the broker's error code.
func produceRaw(t *testing.T, cl *kgo.Client, topic string, partition int32, raw []byte) int16 {
	t.Helper()
	r := kmsg.NewPtrProduceRequest()
	r.Acks, r.TimeoutMillis = -1, 5000
	r.Topics = []kmsg.ProduceRequestTopic{{Topic: topic,
		Partitions: []kmsg.ProduceRequestTopicPartition{{Partition: partition, Records: raw}}}}
	response, err := r.RequestWith(kit.Context(t), cl)
	if err != nil {
		t.Fatalf("produce a raw batch: %v", err)
	}
	return response.Topics[0].Partitions[0].ErrorCode
}
