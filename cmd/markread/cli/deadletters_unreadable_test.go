package cli

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"markread/cmd/markread/cli/clitest"
	"markread/worker/format"
	"markread/worker/groupstatus"
)

const deadLetterTopic = "mark-read-dead-letters"

// addDeadLetters writes dead letters of these accounts to one partition of the dead-letter topic,
// each in a batch that fills a fetch response.
func addDeadLetters(t *testing.T, brokers string, partition int32, accounts ...string) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers), kgo.DefaultProduceTopic(deadLetterTopic),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchCompression(kgo.NoCompression()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for _, account := range accounts {
		r := &kgo.Record{Partition: partition, Key: []byte(account + "|p"),
			Value: fmt.Appendf(nil, `{"Report_Account":%q,"Peer_Account":"p"}`, account)}
		for _, h := range [][2]string{
			{"markread.class", "rejected"}, {"markread.code", "90048"},
			{"markread.event-time", "1700000000000"},
			{"markread.failed-at", "2026-03-01T02:48:00Z"}, {"own", strings.Repeat("x", 300_000)},
		} {
			r.Headers = append(r.Headers, kgo.RecordHeader{Key: h[0], Value: []byte(h[1])})
		}
		if err := client.ProduceSync(t.Context(), r).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
}

// addDamagedRecord writes a batch with a correct checksum that claims three records, none of which
// can be decoded.
func addDamagedRecord(t *testing.T, brokers string, partition int32) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers), kgo.MaxVersions(kversion.V2_3_0()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	batch := kmsg.RecordBatch{Magic: 2, ProducerID: -1, ProducerEpoch: -1, FirstSequence: -1,
		NumRecords:      3,
		LastOffsetDelta: 2, Records: []byte{0xff, 0xff, 0xff}}
	raw := batch.AppendTo(nil)
	binary.BigEndian.PutUint32(raw[8:], uint32(len(raw)-12))
	binary.BigEndian.PutUint32(raw[17:],
		crc32.Checksum(raw[21:], crc32.MakeTable(crc32.Castagnoli)))
	request := kmsg.NewPtrProduceRequest()
	request.Acks, request.TimeoutMillis = -1, 5000
	topic, of := kmsg.NewProduceRequestTopic(), kmsg.NewProduceRequestTopicPartition()
	of.Partition, of.Records, topic.Topic = partition, raw, deadLetterTopic
	topic.Partitions = append(topic.Partitions, of)
	request.Topics = append(request.Topics, topic)
	response, err := client.Request(t.Context(), request)
	if err == nil {
		err = kerr.ErrorForCode(response.(*kmsg.ProduceResponse).Topics[0].Partitions[0].ErrorCode)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// warningsIn returns a log's warnings about unreadable parts, as "partition:first-last message".
func warningsIn(log string) (all []string) {
	for line := range strings.Lines(log) {
		var w struct {
			Level, Message, Reason, Do string
			Partition, Offset          int64
			Last                       int64 `json:"last_offset"`
		}
		if json.Unmarshal([]byte(line), &w) == nil && w.Level == "warn" && w.Reason != "" &&
			w.Do != "" {
			text, _, _ := strings.Cut(w.Message, ";")
			all = append(all, fmt.Sprintf("%d:%d-%d %s", w.Partition, w.Offset, w.Last, text))
		}
	}
	return all
}

// Commands process the readable part of the dead-letter topic, name the unreadable parts, and exit
// with 1.
func TestDeadLettersThatCannotBeRead(t *testing.T) {
	const cannot, damaged = "a part of the topic can't be read", "records can't be decoded"
	for name, c := range map[string]struct {
		damaged, cut bool
		notes        []string
		open         int // dead letters that ls counts
		left         int // skipped, because their partition is truncated
		parts        string
	}{
		"damaged records": {damaged: true, notes: []string{"0:1-3 " + damaged}, open: 4,
			parts: "1 part"},
		"a partition": {cut: true, notes: []string{"1:1-1 " + cannot}, open: 3, left: 1,
			parts: "1 part"},
		"both, in two partitions": {damaged: true, cut: true,
			notes: []string{"0:1-3 " + damaged, "1:1-1 " + cannot},
			open:  3, left: 1, parts: "2 parts"},
	} {
		t.Run(name, func(t *testing.T) {
			b := clitest.StartBroker(t, "mark-read", "mark-read-backfill", deadLetterTopic)
			addDeadLetters(t, b.Addr(), 0, "a")
			if c.damaged {
				addDamagedRecord(t, b.Addr(), 0)
			}
			addDeadLetters(t, b.Addr(), 0, "b")
			addDeadLetters(t, b.Addr(), 1, "c", "d")
			if c.cut {
				b.Cluster().Fault(kfake.Fault{
					Keys: []kmsg.Key{kmsg.Fetch}, Topic: deadLetterTopic, Partitions: []int32{1},
					Err: kerr.TopicAuthorizationFailed, Count: -1,
					When: func(r kmsg.Request) bool {
						p := r.(*kmsg.FetchRequest).Topics[0].Partitions[0]
						return p.Partition == 1 && p.FetchOffset > 0
					},
				})
			}
			does := func(what string, args ...string) clitest.Result {
				t.Helper()
				r := try(t, nil, "", append(args, "--brokers", b.Addr())...)
				if line := clitest.LastLine(t, r.Stderr); r.Status != ExitFailed ||
					!strings.HasPrefix(line, c.parts+` of topic "mark-read-dead-letters" can't `+
						`be read`) {
					t.Errorf("%v: %d: %s", args, r.Status, line)
				}
				if got := warningsIn(r.Stderr); !slices.Equal(got, c.notes) {
					t.Errorf("%v: %q, want %q", args, got, c.notes)
				}
				if !strings.Contains(r.Stdout, what) {
					t.Errorf("%v: %s, want %s", args, r.Stdout, what)
				}
				return r
			}
			does(fmt.Sprintf("%d open", c.open), "dead-letters", "ls")
			lines := 0
			for line := range strings.Lines(does(`"report":"c"`, "dead-letters", "ls", "--json").
				Stdout) {
				if lines++; !json.Valid([]byte(line)) {
					t.Errorf("no JSON: %s", line)
				}
			}
			if lines != c.open {
				t.Errorf("%d letters are listed, want %d", lines, c.open)
			}
			left := ""
			if c.left > 0 {
				left = "; 1 skipped: their partition can't be read to its end"
			}
			n := c.open - c.left
			does(fmt.Sprintf("would replay %d dead letters of %d conversations to "+
				"mark-read-backfill%s", n, n, left), "dead-letters", "replay", "--dry-run")
			does("discarded 1 dead letter\n", "dead-letters", "discard", "--report", "a", "--yes")
			does(fmt.Sprintf("replayed %s of %s to mark-read-backfill%s",
				format.Count(n-1, "dead letter"),
				format.Count(n-1, "conversation"), left), "dead-letters", "replay", "--yes")

			r := try(t, nil, "", "status", "--json", "--brokers", b.Addr())
			var report groupstatus.Report
			if err := json.Unmarshal([]byte(r.Stdout), &report); err != nil ||
				r.Status != ExitFailed ||
				report.Letters == nil {
				t.Fatalf("%+v, %v", r, err)
			}
			if report.Letters.Open != int64(c.left) || report.Letters.Discarded != 1 ||
				report.Letters.Replayed != int64(n-1) || len(report.Errors) != len(c.notes) {
				t.Errorf("%+v %+v %q", report.Letters.StateCounts, report.Letters, report.Errors)
			}
			if c.cut {
				r := does("replayed 1 dead letter of 1 conversation",
					"dead-letters", "replay", "1:0", "--yes")
				if !strings.Contains(r.Stderr, "selected, but it may be resolved already") {
					t.Error(r.Stderr)
				}
				if r := try(t, nil, "", "dead-letters", "show", "1:0", "--brokers",
					b.Addr()); r.Status != ExitFailed ||
					!strings.Contains(r.Stdout, "letter 1:0: ") || len(warningsIn(r.Stderr)) != 1 {
					t.Errorf("%+v", r)
				}
				if r := try(t, nil, "", "dead-letters", "show", "1:1", "--brokers",
					b.Addr()); r.Status != ExitFailed ||
					!strings.Contains(clitest.LastLine(t, r.Stderr), "partition 1, offset 1: ") {
					t.Errorf("%+v", r)
				}
				if r := try(t, nil, "", "dead-letters", "replay", "1:1", "--yes", "--brokers",
					b.Addr()); !strings.Contains(r.Stderr, `"reason":"it can't be read"`) {
					t.Errorf("%+v", r)
				}
			}
		})
	}
}

// A damaged record's dead letter shows what is known of it, and that it can't be replayed.
func TestLettersOfDamagedRecordsAreShown(t *testing.T) {
	b := clitest.StartBroker(t, "mark-read", "mark-read-backfill", deadLetterTopic)
	addRecords(t, b.Addr(),
		append(deadLetter("invalid", "", "0"), "markread.collapsed", "2147483648",
			"markread.value-omitted", "93"))
	if r := try(t, nil, "", "dead-letters", "ls", "--json", "--brokers",
		b.Addr()); r.Status != ExitOK ||
		!strings.Contains(r.Stdout, `"collapsed":2147483648`) {
		t.Errorf("%+v", r)
	}
	if r := try(t, nil, "", "dead-letters", "replay", "--yes", "--brokers",
		b.Addr()); r.Status != ExitRejected ||
		!strings.Contains(r.Stdout, "omitted as too large or damaged") {
		t.Errorf("%+v", r)
	}
}
