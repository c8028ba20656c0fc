//go:build exam && unix

package kit

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// DeadLetter is a dead letter written according to the contract, without the product's code.
type DeadLetter struct {
	Event
	Class, Code string
	FailedAt    time.Time
	replays     int
	NoReadTime  bool // the event has no MsgReadTime: its T is its event time
}

func (l DeadLetter) Record(topic string) *kgo.Record {
	value := fmt.Sprintf(`{"Report_Account":%q,"Peer_Account":%q,"MsgReadTime":%d}`, l.Report,
		l.Peer, l.ReadTime)
	if l.NoReadTime {
		value = fmt.Sprintf(`{"Report_Account":%q,"Peer_Account":%q}`, l.Report, l.Peer)
	}
	r := &kgo.Record{Topic: topic, Key: l.Key(), Value: []byte(value)}
	for _, h := range [][2]string{
		{"trace", "4bf92f3577b34da6a3ce929d0e0e4736"},
		{"__dlq.errors.topic", "mark-read"}, {"__dlq.errors.partition", "3"},
		{"__dlq.errors.offset", "4711"}, {"__dlq.errors.group", "markread"},
		{"__dlq.errors.delivery.count", "1"},
		{"__dlq.errors.message", `openim/admin_set_msg_read: ErrorCode 90048, the account does ` +
			`not exist; the server says "account is not exist". What to do: ` +
			`check that the producer writes account ids that exist, and import the account if it ` +
			`should exist`},
		{"markread.class", l.Class}, {"markread.code", l.Code},
		{"markread.event-time", strconv.FormatInt(l.ReadTime*1000, 10)},
		{"markread.failed-at", l.FailedAt.UTC().Format(time.RFC3339Nano)},
		{"markread.collapsed", "1"},
		{"markread.replays", strconv.Itoa(l.replays)}, {"markread.lane", "live"},
	} {
		r.Headers = append(r.Headers, kgo.RecordHeader{Key: h[0], Value: []byte(h[1])})
	}
	return r
}

// ProduceDeadLetters writes n dead letters.
func ProduceDeadLetters(t *testing.T, k *Kafka, n int, letter func(i int) DeadLetter) {
	t.Helper()
	const at = 20_000
	for from := 0; from < n; from += at {
		var records []*kgo.Record
		for i := from; i < min(n, from+at); i++ {
			records = append(records, letter(i).Record(k.DeadLetters))
		}
		k.Produce(t, records...)
	}
}
