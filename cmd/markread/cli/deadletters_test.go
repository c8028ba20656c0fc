package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"markread/cmd/markread/cli/clitest"
	"markread/consumer/deadletter"
	"markread/consumer/event"
)

// Compaction would remove dead letters once they are resolved, and others: nothing is written to a
// compacted topic.
func TestCompactedDeadLetterTopicIsRefused(t *testing.T) {
	b := clitest.StartBroker(t, "mark-read-backfill")
	if err := b.Cluster().
		CreateTopic("mark-read-dead-letters", 2,
			map[string]string{"cleanup.policy": "compact"}); err != nil {
		t.Fatal(err)
	}
	clitest.AddDeadLetters(t, b.Addr(), 1)
	for _, args := range [][]string{{"replay"}, {"discard", "--all"}} {
		r := try(t, nil, "",
			append(append([]string{"dead-letters"}, args...), "--brokers", b.Addr(), "--yes")...)
		if r.Status != ExitFailed || r.Stdout != "" ||
			!strings.Contains(r.Stderr, "cleanup.policy=compact") ||
			strings.Count(r.Stderr, "\n") != 1 {
			t.Errorf("%v: %+v", args, r)
		}
	}
	if r := try(t, nil, "", "dead-letters", "ls", "--brokers", b.Addr()); r.Status != ExitOK ||
		!strings.Contains(r.Stdout, "1 open") {
		t.Errorf("%+v", r)
	}
}

// Ctrl-C during a replay: published events are resolved, the report says what was done, and the
// next replay does the rest.
func TestInterruptedReplay(t *testing.T) {
	clitest.NoLeaks(t)
	b := clitest.StartBroker(t, "mark-read", "mark-read-backfill", "mark-read-dead-letters")
	const all, part = 12_000, 5_000
	clitest.AddDeadLetters(t, b.Addr(), all)
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	// After the first events of the first batch.
	b.Cluster().Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "mark-read-backfill",
		Observe: true, Count: -1,
		When: func(kmsg.Request) bool {
			interrupt()
			return true
		}})
	var stdout, stderr clitest.Buffer
	status := Run(ctx, []string{"dead-letters", "replay", "--brokers", b.Addr(), "--yes", "--json"},
		nil, strings.NewReader(""), &stdout, &stderr)
	var report struct{ Letters, Conversations int }
	if err := json.Unmarshal([]byte(stdout.String()), &report); err != nil ||
		report.Letters != part ||
		report.Conversations != part {
		t.Errorf("%s: %v", stdout.String(), err)
	}
	if line := clitest.LastLine(t, stderr.String()); status != ExitFailed ||
		line != "interrupted after 5,000 of 12,000 dead letters; the rest is unchanged" {
		t.Errorf("%d: %s", status, line)
	}
	published := func() (n int64) {
		for p := range int32(2) {
			n += b.Cluster().PartitionInfo("mark-read-backfill", p).HighWatermark
		}
		return n
	}
	if n := published(); n != part {
		t.Errorf("%d events are published", n)
	}
	r := try(t, nil, "", "dead-letters", "replay", "--brokers", b.Addr(), "--yes")
	if n := published(); r.Status != ExitOK || n != all ||
		!strings.HasPrefix(r.Stdout, "replayed 7,000 dead letters of 7,000 conversations to "+
			"mark-read-backfill") {
		t.Errorf("%+v, %d published", r, n)
	}
}

// If the broker refuses the resolutions, unexpectedly, the replay ends immediately: it must not
// publish events that it can't resolve.
func TestRefusedResolutions(t *testing.T) {
	b := clitest.StartBroker(t, "mark-read", "mark-read-backfill", "mark-read-dead-letters")
	clitest.AddDeadLetters(t, b.Addr(), 12_000)
	b.Cluster().Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "mark-read-dead-letters",
		Err: kerr.PolicyViolation, Count: -1})
	r := try(t, nil, "", "dead-letters", "replay", "--brokers", b.Addr(), "--yes")
	line := clitest.LastLine(t, r.Stderr)
	if r.Status != ExitFailed || !strings.HasPrefix(r.Stdout, "replayed 0 dead letters of 5,000 "+
		"conversations") ||
		strings.Count(r.Stderr, "\n") != 1 ||
		!strings.Contains(line, "5,000 dead letters may have been published and would be "+
			"replayed once more") ||
		!strings.Contains(line, "resolutions of dead letters not written") {
		t.Errorf("%+v", r)
	}
}

// A dead letter from another program may contain anything, of any length: show stays readable.
func TestShowIsBounded(t *testing.T) {
	long := strings.Repeat("x", 800_000)
	r := event.Record{Key: []byte(long),
		Value: fmt.Appendf(nil, `{"Report_Account":%q,"Peer_Account":%q}`, long, long)}
	for _, name := range []string{
		"markread.class", "markread.code", "markread.lane", "__dlq.errors.topic",
		"__dlq.errors.group",
		"__dlq.errors.message", "markread.value-omitted", "h" + long,
	} {
		r.Headers = append(r.Headers, event.Header{Key: name, Value: []byte(long)})
	}
	for i := range 1000 {
		r.Headers = append(r.Headers,
			event.Header{Key: fmt.Sprint("trace-", i), Value: []byte("y")})
	}
	var out strings.Builder
	if err := printDeadLetter(&out, &deadletter.View{Letter: deadletter.Parse(r, deadletter.Open)},
		time.Now()); err != nil {
		t.Fatal(err)
	}
	if n := out.Len(); n > 20_000 ||
		!strings.Contains(out.String(), "… and 951 more, which --json shows") {
		t.Errorf("%d bytes: %.200s", n, out.String())
	}
}
