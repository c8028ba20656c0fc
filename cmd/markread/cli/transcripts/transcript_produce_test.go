package transcripts

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/twmb/franz-go/pkg/kgo"
	saslplain "github.com/twmb/franz-go/pkg/sasl/plain"
)

// scriptProduce writes a record as another program might.
func scriptProduce(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 4 {
		ts.Fatalf("usage: produce TOPIC PARTITION KEY VALUE NAME=VALUE…")
	}
	partition, err := strconv.ParseInt(args[1], 10, 32)
	ts.Check(err)
	bytes := func(text string) []byte {
		if text == "null" {
			return nil
		}
		return []byte(unescape(ts, text))
	}
	record := &kgo.Record{Topic: args[0], Partition: int32(partition), Key: bytes(args[2]),
		Value: bytes(args[3])}
	for _, h := range args[4:] {
		name, value, _ := strings.Cut(h, "=")
		record.Headers = append(record.Headers, kgo.RecordHeader{Key: name, Value: bytes(value)})
	}
	options := []kgo.Opt{kgo.SeedBrokers(strings.Split(ts.Getenv("MARKREAD_BROKERS"), ",")...),
		kgo.RecordPartitioner(kgo.ManualPartitioner())}
	if ts.Getenv("MARKREAD_SASL") != "" {
		options = append(options,
			kgo.SASL(saslplain.Auth{User: "admin", Pass: "admin"}.AsMechanism()))
	}
	client, err := kgo.NewClient(options...)
	ts.Check(err)
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	ts.Check(client.ProduceSync(ctx, record).FirstErr())
}

// scriptLetter writes the dead letter of an event that failed on 2026-03-01 at 02:48.
func scriptLetter(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: letter PARTITION KEY VALUE NAME=VALUE…")
	}
	headers := []string{
		"__dlq.errors.topic=mark-read", "__dlq.errors.partition=3", "__dlq.errors.offset=4711",
		"__dlq.errors.group=markread",
		"__dlq.errors.delivery.count=1",
		"__dlq.errors.message=ErrorCode 90048, the account does not exist",
		"markread.class=rejected", "markread.code=90048", "markread.event-time=1772333280123",
		"markread.failed-at=2026-03-01T02:48:01.5Z",
		"markread.collapsed=1", "markread.replays=0", "markread.lane=live",
	}
	for _, h := range args[3:] {
		name, _, _ := strings.Cut(h, "=")
		headers = slices.DeleteFunc(headers,
			func(other string) bool { return strings.HasPrefix(other, name+"=") })
		headers = append(headers, h)
	}
	scriptProduce(ts, neg,
		append([]string{"mark-read-dead-letters", args[0], args[1], args[2]}, headers...))
}

// unescape replaces Go's escapes, because scripts have no escapes of their own.
func unescape(ts *testscript.TestScript, text string) string {
	text, err := strconv.Unquote(`"` + strings.ReplaceAll(text, `"`, `\"`) + `"`)
	ts.Check(err)
	return text
}
