package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"markread/cmd/markread/cli/clitest"
	"markread/cmd/markread/cli/config"
	"markread/cmd/markread/cli/terminal"
	"markread/consumer/broker"
	"markread/consumer/deadletter"
	"markread/consumer/event"
	"markread/consumer/kafkaclient"
	"markread/worker/groupstatus"
)

// statusOf runs `markread status --json`, which must succeed.
func statusOf(t *testing.T, args ...string) (r groupstatus.Report) {
	t.Helper()
	got := try(t, nil, "", append([]string{"status", "--json"}, args...)...)
	if got.Status != ExitOK || got.Stderr != "" {
		t.Fatalf("%+v", got)
	}
	if err := json.Unmarshal([]byte(got.Stdout), &r); err != nil {
		t.Fatalf("%v: %s", err, got.Stdout)
	}
	return r
}

// addRecords writes records to partition 0 of the dead-letter topic. Headers are pairs of name and
// value.
func addRecords(t *testing.T, brokers string, records ...[]string) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers),
		kgo.DefaultProduceTopic("mark-read-dead-letters"),
		kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for _, headers := range records {
		r := &kgo.Record{}
		if headers[0] != "markread.resolves" {
			r.Value = []byte("{}")
		}
		for i := 0; i < len(headers); i += 2 {
			r.Headers = append(r.Headers,
				kgo.RecordHeader{Key: headers[i], Value: []byte(headers[i+1])})
		}
		if err := client.ProduceSync(t.Context(), r).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
}

func deadLetter(class, code, replays string) []string {
	return []string{"markread.class", class, "markread.code", code, "markread.replays", replays}
}

func resolution(id, how string) []string {
	return []string{"markread.resolves", id, "markread.resolution", how}
}

// A committed offset beyond the end of the log is an error: it does not mean that the group is at
// the end, because nobody has read the events.
func TestStatusBeyondTheEnd(t *testing.T) {
	clitest.NoLeaks(t)
	b := clitest.StartBroker(t, "mark-read", "mark-read-backfill", "mark-read-dead-letters")
	request := kmsg.NewPtrOffsetCommitRequest()
	topic, partition := kmsg.NewOffsetCommitRequestTopic(),
		kmsg.NewOffsetCommitRequestTopicPartition()
	request.Group, request.Generation, topic.Topic, partition.Offset = "markread", -1, "mark-read",
		500
	topic.Partitions = append(topic.Partitions, partition)
	request.Topics = append(request.Topics, topic)
	client, err := kgo.NewClient(kgo.SeedBrokers(b.Addr()), kgo.MaxVersions(kversion.V3_5_0()),
		kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if err := client.ProduceSync(t.Context(),
		&kgo.Record{Topic: "mark-read", Partition: 0, Value: []byte("{}")}).
		FirstErr(); err != nil {
		t.Fatal(err)
	}
	if answer, err := request.RequestWith(t.Context(), client); err != nil ||
		answer.Topics[0].Partitions[0].ErrorCode != 0 {
		t.Fatal(answer, err)
	}
	got := try(t, nil, "", "status", "--brokers", b.Addr())
	const found = "offset 500 is beyond the log's end, 1"
	if got.Status != ExitFailed || !strings.Contains(got.Stderr, found) ||
		!strings.Contains(got.Stderr, "recreated") ||
		!strings.Contains(got.Stdout, found) {
		t.Errorf("%+v", got)
	}
	got = try(t, nil, "", "status", "--json", "--brokers", b.Addr())
	var r groupstatus.Report
	if err := json.Unmarshal([]byte(got.Stdout), &r); err != nil || got.Status != ExitFailed ||
		len(r.Errors) != 1 ||
		r.Lag.Lag == nil || *r.Lag.Lag != 1 || r.Lag.Topics[0].Partitions[0].Beyond != 499 {
		t.Errorf("%+v %v", got, err)
	}
}

// Two workers, of which one is held and so behind, and dead letters of several kinds, some of them
// resolved: status shows all of it.
func TestStatusOfAGroup(t *testing.T) {
	clitest.NoLeaks(t)
	_, im := server(t)
	b := clitest.StartBroker(t, "mark-read", "mark-read-backfill", "mark-read-dead-letters")
	addRecords(t, b.Addr(), deadLetter("rejected", "90048", "0"),
		deadLetter("rejected", "90048", "2"),
		deadLetter("rejected", "90048", "2"), deadLetter("exhausted", "timeout", "0"),
		resolution("0:0", "discarded"), resolution("0:2", "replayed"), []string{"foreign", "x"})

	first, adminOfFirst := beginWorker(t, b.Addr(), im)
	_, _ = beginWorker(t, b.Addr(), im)
	var r groupstatus.Report
	clitest.WaitUntil(t, "two members", func() bool {
		r = statusOf(t, "--brokers", b.Addr())
		return r.Group.State == "stable" && len(r.Group.Members) == 2 && r.Group.Rate != nil
	})
	if r.Worker != nil || *r.Group.Rate != 200 || r.Group.Assigned != 4 ||
		*r.Group.Partitions != 4 ||
		len(r.Group.Notes) != 0 {
		t.Errorf("%+v", r.Group)
	}
	for _, m := range r.Group.Members {
		if *m.Share != 100 || *m.Rate != 200 || m.Note != "" || m.ClientID != "markread" ||
			!strings.HasPrefix(m.Host, "127.0.0.1") || len(m.Assigned) != 2 {
			t.Errorf("%+v", m)
		}
	}
	if want := (groupstatus.DeadLetters{Topic: "mark-read-dead-letters",
		StateCounts: groupstatus.StateCounts{Open: 2,
			Parked: 0, Replayed: 1, Discarded: 1}, Foreign: 1, Kinds: []groupstatus.Kind{
			{Class: "rejected", Code: "90048",
				StateCounts: groupstatus.StateCounts{Open: 1, Parked: 0, Replayed: 1,
					Discarded: 1}}, {Class: "exhausted", Code: "timeout",
				StateCounts: groupstatus.StateCounts{Open: 1, Parked: 0, Replayed: 0,
					Discarded: 0}},
		}}); !slices.Equal(r.Letters.Kinds, want.Kinds) ||
		r.Letters.StateCounts != want.StateCounts ||
		r.Letters.Foreign != 1 || r.Letters.Topic != want.Topic {
		t.Errorf("%+v, want %+v", r.Letters, want)
	}
	if r := statusOf(t, "--brokers", b.Addr(), "--max-replays", "2"); r.Letters.Open != 1 ||
		r.Letters.Parked != 1 {
		t.Errorf("%+v", r.Letters)
	}

	// One worker is paused; events of its partition wait.
	if r := try(t, nil, "", "pause", "--admin-url", "http://"+adminOfFirst); r.Status != ExitOK {
		t.Fatalf("%+v", r)
	}
	r = statusOf(t, "--brokers", b.Addr(), "--admin-url", "http://"+adminOfFirst)
	if r.Worker == nil || r.Worker.Member == nil || len(r.Worker.Held) != 1 ||
		r.Worker.Held[0].Reason != "paused" ||
		!r.Worker.Ready || r.Worker.Note != "" {
		t.Fatalf("%+v", r.Worker)
	}
	mine := slices.IndexFunc(r.Group.Members,
		func(m groupstatus.Member) bool { return m.ID == *r.Worker.Member })
	partition := r.Group.Members[mine].Assigned[0].Partitions[0]
	client, err := kgo.NewClient(kgo.SeedBrokers(b.Addr()),
		kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for p := range int32(2) {
		for _, account := range []string{"a", "b", "c"} {
			record := &kgo.Record{Topic: "mark-read", Partition: p,
				Value:     []byte(clitest.EventJSON(account, int(p))),
				Timestamp: time.Now().Add(-time.Minute)}
			if err := client.ProduceSync(t.Context(), record).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
	}
	clitest.WaitUntil(t, "the other worker's commit, and a backlog", func() bool {
		r = statusOf(t, "--brokers", b.Addr(), "--admin-url", "http://"+adminOfFirst)
		return *r.Lag.Lag == 3 && r.Worker.Lanes.Live.Events == 3
	})
	behind := r.Lag.Topics[0].Partitions[partition]
	if *behind.Lag != 3 || *behind.Member != *r.Worker.Member || behind.Oldest == nil ||
		*behind.Oldest < 59 ||
		*behind.Oldest > 120 || behind.Committed != nil && *behind.Committed != 0 ||
		*behind.End != 3 {
		t.Errorf("%+v", behind)
	}
	if other := r.Lag.Topics[0].Partitions[1-partition]; *other.Lag != 0 ||
		*other.Member == *r.Worker.Member ||
		*other.Committed != 3 {
		t.Errorf("%+v", other)
	}
	if l := r.Lag.Topics; len(l) != 2 || l[0].Lane != "live" || l[1].Lane != "backfill" ||
		l[1].Topic != "mark-read-backfill" || *l[1].Lag != 0 {
		t.Errorf("%+v", l)
	}
	text := try(t, nil, "", "status", "--brokers", b.Addr(), "--admin-url", "http://"+adminOfFirst)
	for _, want := range []string{"group markread: STABLE, 2 members, 4 of 4 partitions assigned",
		"lag: 3 events",
		"HELD: paused for", "2 open, 0 parked, 1 replayed, 1 discarded"} {
		if text.Status != ExitOK || text.Stderr != "" || !strings.Contains(text.Stdout, want) {
			t.Errorf("no %q in %+v", want, text)
		}
	}

	// A worker of another group is not shown as part of this group.
	r = statusOf(t, "--brokers", b.Addr(), "--group", "another", "--backfill-topic=", "--admin-url",
		"http://"+adminOfFirst)
	if r.Group.State != "absent" || len(r.Group.Members) != 0 || *r.Lag.Lag != 6 ||
		len(r.Lag.Topics) != 1 ||
		!strings.Contains(r.Worker.Note, `"markread", not in "another"`) {
		t.Errorf("%+v %+v %+v", r.Group, r.Lag, r.Worker)
	}
	if status := first.Stop(); status != ExitOK {
		t.Errorf("stop: %d", status)
	}
}

// If something can't be read, one line says so, the rest is shown, and the command fails.
func TestStatusOfAPart(t *testing.T) {
	b := clitest.StartBroker(t, "mark-read", "mark-read-dead-letters")
	addRecords(t, b.Addr(), deadLetter("invalid", "", "0"))
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_,
			_ = w.Write([]byte(`{"held":[]}`))
	}))
	t.Cleanup(page.Close)
	for name, c := range map[string]struct {
		args  []string
		want  []string // in that line
		shown []string
		not   []string
	}{
		"no backfill topic": {nil,
			[]string{`"mark-read-backfill" (--backfill-topic)`, "run --create-topics"},
			[]string{"group markread: ABSENT", "lag: 0", "1 open"}, []string{"backfill "}},
		"no live topic": {[]string{"--backfill-topic=", "--topic", "none"},
			[]string{`"none" (--topic)`},
			[]string{"lag: not known", "1 open"}, nil},
		"no dead-letter": {[]string{"--backfill-topic=", "--dead-letter-topic", "none"},
			[]string{`"none" (--dead-letter-topic)`}, []string{"lag: 0", "dead letters: not known"},
			nil},
		"no worker": {[]string{"--backfill-topic=", "--admin-url", "http://127.0.0.1:1"},
			[]string{"no worker listens", "--admin-url"}, []string{"lag: 0", "1 open"},
			[]string{"worker http"}},
		"another's URL": {[]string{"--backfill-topic=", "--admin-url", page.URL},
			[]string{"is not a markread worker", "--admin-url"}, []string{"lag: 0", "1 open"},
			[]string{"worker http"}},
		"several are missing": {[]string{"--topic", "none", "--admin-url", "http://127.0.0.1:1"},
			[]string{`"none"`, `"mark-read-backfill"`, "--admin-url"},
			[]string{"lag: not known", "1 open"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // each waits a second, because a missing topic may just have been created
			r := try(t, nil, "", append([]string{"status", "--brokers", b.Addr()}, c.args...)...)
			line := strings.ReplaceAll(clitest.LastLine(t, r.Stderr), `\"`, `"`)
			if r.Status != ExitFailed || strings.Count(r.Stderr, "\n") != 1 {
				t.Errorf("%+v", r)
			}
			for _, want := range c.want {
				if !strings.Contains(line, want) {
					t.Errorf("no %s in %s", want, line)
				}
			}
			for _, want := range c.shown {
				if !strings.Contains(r.Stdout, want) {
					t.Errorf("no %s in %s", want, r.Stdout)
				}
			}
			for _, not := range c.not {
				if strings.Contains(r.Stdout, not) {
					t.Errorf("%s in %s", not, r.Stdout)
				}
			}
			asJSON := try(t, nil, "",
				append([]string{"status", "--json", "--brokers", b.Addr()}, c.args...)...)
			var document groupstatus.Report
			if err := json.Unmarshal([]byte(asJSON.Stdout), &document); err != nil ||
				asJSON.Status != ExitFailed ||
				strings.Join(document.Errors, "; ") != line {
				t.Errorf("%v: %+v, want the error %s", err, asJSON, line)
			}
		})
	}
}

// status itself detects an unreadable partition, names it with reason and remedy, and fails until
// the partition is readable; other partitions are shown as usual.
func TestStatusOfAnUnreadablePartition(t *testing.T) {
	b := clitest.StartBroker(t, "mark-read", "mark-read-dead-letters")
	args := []string{"status", "--brokers", b.Addr(), "--backfill-topic="}
	fault := b.Cluster().Fault(kfake.Fault{
		Keys: []kmsg.Key{kmsg.Fetch}, Topic: "mark-read", Partitions: []int32{1},
		Err:   kerr.TopicAuthorizationFailed,
		Count: -1,
	})
	r := try(t, nil, "", args...)
	if r.Status != ExitFailed || strings.Count(r.Stderr, "\n") != 1 ||
		!strings.Contains(r.Stderr, `topic \"mark-read\", partition 1 can't be read: [29]`) ||
		!strings.Contains(r.Stderr, "grant this worker's user Read") {
		t.Errorf("%+v", r)
	}
	for _, want := range []string{"lag: not known; 1 partition CAN'T BE READ\n",
		"  ! UNREADABLE mark-read/1 at offset 0: [29]", "2 without a commit"} {
		if !strings.Contains(r.Stdout, want) {
			t.Errorf("no %q in\n%s", want, r.Stdout)
		}
	}
	var document groupstatus.Report
	asJSON := try(t, nil, "", append(args, "--json")...)
	if err := json.Unmarshal([]byte(asJSON.Stdout), &document); err != nil ||
		asJSON.Status != ExitFailed ||
		len(document.Errors) != 1 {
		t.Fatalf("%v: %+v", err, asJSON)
	}
	partitions := document.Lag.Topics[0].Partitions
	if p := partitions[1]; p.Unreadable == nil || *p.Unreadable.Offset != 0 || p.Lag != nil ||
		document.Lag.Lag != nil {
		t.Errorf("%s", asJSON.Stdout)
	}
	if p := partitions[0]; p.Unreadable != nil || p.Lag == nil || *p.Lag != 0 {
		t.Errorf("%s", asJSON.Stdout)
	}
	fault.Remove()
	if r := statusOf(t, args[1:]...); *r.Lag.Lag != 0 ||
		r.Lag.Topics[0].Partitions[1].Unreadable != nil {
		t.Errorf("%+v", r.Lag)
	}
}

// A partition that a worker can't read is a failure even if status can read it.
func TestStatusOfAWorkerThatCannotRead(t *testing.T) {
	b := clitest.StartBroker(t, "mark-read", "mark-read-dead-letters")
	admin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"held":[],"group":{"name":"markread"},
			"partitions":[{"topic":"mark-read","partition":1,
			"unreadable":{"since":"2026-03-01T00:00:00Z","offset":10,
			"reason":"no\u001b[31m leader\u202e"}}]}`))
	}))
	t.Cleanup(admin.Close)
	r := try(t, nil, "", "status", "--brokers", b.Addr(), "--backfill-topic=", "--admin-url",
		admin.URL)
	if r.Status != ExitFailed || !strings.Contains(r.Stderr,
		"the worker at "+admin.URL+" can't read 1 partition, the first is mark-read/1: no?[31m "+
			"leader?") {
		t.Errorf("%+v", r)
	}
	for _, want := range []string{"lag: 0 events\n", "  UNREADABLE: mark-read/1 at offset 10 for ",
		", since 2026-03-01 00:00:00 UTC: no?[31m leader?\n"} {
		if !strings.Contains(r.Stdout, want) {
			t.Errorf("no %q in\n%s", want, r.Stdout)
		}
	}
}

// A refused authentication is named immediately; nothing is shown, because nothing is known.
func TestStatusRefused(t *testing.T) {
	b := clitest.StartBroker(t) // it has no users
	r := try(t, []string{"MARKREAD_SASL_PASSWORD=canary-password"}, "", "status", "--brokers",
		b.Addr(), "--sasl", "plain", "--sasl-user", "mallory")
	if r.Status != ExitFailed || r.Stdout != "" ||
		!strings.Contains(clitest.LastLine(t, r.Stderr), "--sasl-user") ||
		strings.Contains(r.Stderr, "canary") {
		t.Errorf("%+v", r)
	}
}

// statusInVirtualTime runs status against a broker in virtual time; with dead, no broker can be
// dialled.
func statusInVirtualTime(t *testing.T, dead bool,
	test func(t *testing.T, cluster *kfake.Cluster, l *groupstatus.Options)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var network kfake.VirtualNetwork
		topics := event.Topics{Live: "live", DeadLetter: "letters"}
		b, err := broker.Start(broker.Options{Addr: "127.0.0.1:9092", Partitions: 2,
			Listen: network.Listen,
			Topics: []string{"live", "letters"}})
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		dial := network.DialContext
		if dead {
			dial = func(context.Context, string, string) (net.Conn, error) {
				return nil,
					errors.New("connection refused")
			}
		}
		kafka, err := kafkaclient.New(kafkaclient.Options{Brokers: []string{b.Addr()}, Dial: dial,
			Log: zerolog.Nop()})
		if err != nil {
			t.Fatal(err)
		}
		defer kafka.Close()
		test(t, b.Cluster(),
			&groupstatus.Options{Kafka: kafka, Group: "g", Topics: topics, MaxReplays: 3})
	})
}

// A watch shows what changed since its last refresh, reads of the dead-letter topic only what is
// new, and continues after a failure. Its error is that of the last refresh.
func TestStatusWatch(t *testing.T) {
	statusInVirtualTime(t, false,
		func(t *testing.T, cluster *kfake.Cluster, l *groupstatus.Options) {
			var read []int64 // offsets, by refresh
			l.Reading = func(o kafkaclient.TopicOffsets) (func(event.Record), func()) {
				read = append(read, o.Size())
				return func(event.Record) {}, func() {}
			}
			letters, events := deadletter.NewWriter(l.Kafka, "letters"), l.Kafka.Publisher("live")
			write := func(dead, live int) {
				for range dead {
					if err := letters.Write(t.Context(), event.DeadLetter{Class: "invalid",
						Event: event.Event{Record: event.Record{Key: []byte("k"),
							Value: []byte("v")}}}); err != nil {
						t.Fatal(err)
					}
				}
				for range live {
					if err := events.Publish(t.Context(), event.Message{}); err != nil {
						t.Fatal(err)
					}
				}
			}
			write(20, 0)
			ctx, stop := context.WithCancel(t.Context())
			var out clitest.Buffer
			ended := make(chan error)
			go func() { // awaited below
				ended <- watchStatus(ctx, &out, nil, 2*time.Second,
					groupstatus.NewCollector(*l).Report)
			}()
			shows := func(texts ...string) {
				t.Helper()
				for _, text := range texts {
					if !strings.Contains(out.String(), text) {
						t.Errorf("no %q in\n%s", text, &out)
					}
				}
			}
			time.Sleep(time.Second)
			shows(" UTC, every 2.0s\n\ngroup g: ABSENT",
				"live   0     -        -      -        -  ", "\n  new: -\n")
			write(3, 10)
			time.Sleep(2 * time.Second)
			shows("live   10    -        5      0        +5/s  ",
				"\n  new: 3 since the last refresh, 3 since 2000-01-01 00:00:00 UTC\n")
			fault := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.DescribeGroups},
				Err: kerr.UnknownServerError, Count: -1})
			time.Sleep(2 * time.Second)
			shows(" UTC, every 2.0s\n  ! group \"g\": [-1] Unknown", "\n\ngroup: not known\n",
				"live   10    -        0      0        steady  ",
				"\n  new: 0 since the last refresh, 3 since 2000-01-01 00:00:00 UTC\n")
			fault.Remove()
			write(1, 0)
			time.Sleep(2 * time.Second)
			shows("\n  new: 1 since the last refresh, 4 since 2000-01-01 00:00:00 UTC\n")
			stop()
			if err := <-ended; err != nil {
				t.Error(err)
			}
			if tables := strings.Split(out.String(), "\n\n2000-01-01 "); len(tables) != 4 {
				t.Errorf("%d tables in\n%s", len(tables), &out)
			}
			// the last known one again: all have the same key
			if want := []int64{20, 3 + 1, 1, 1 + 1}; !slices.Equal(read, want) {
				t.Errorf("read %d offsets, want %d", read, want)
			}
		})
}

// On a terminal the first line appears at once. A small window shows a hold with what to do, whole;
// only rows of tables are cut.
func TestStatusWatchOnATerminal(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	var out bytes.Buffer
	columns := 80
	screen := terminal.NewScreen(&out, func() (int, int, error) { return 24, columns, nil })
	draws := func() []string { return strings.Split(out.String(), "\x1b[H")[1:] }
	err := watchStatus(ctx, io.Discard, screen, time.Nanosecond,
		func(context.Context) *groupstatus.Report {
			switch n := len(draws()); n {
			case 1:
				if !strings.Contains(draws()[0], " UTC, every 0.0s: reading …\x1b[K") {
					t.Errorf("%q", draws()[0])
				}
			case 2:
				columns = 120
			default:
				stop()
			}
			r := sampleReport()
			live := &r.Lag.Topics[0]
			live.Partitions = live.Partitions[:11] // without the unreadable one
			return r
		})
	if err != nil || len(draws()) != 3 {
		t.Fatalf("%v, %q", err, out.String())
	}
	for i, want := range [][]string{{
		"    observed: 5 calls in a row got no ErrorCode, the last:\n" +
			"      openim/admin_set_msg_read: no connection to the server\n" +
			"      (console.tim.qq.com)\n" +
			"    do: check --im-url, name resolution, the firewall's rules for outgoing\n" +
			"      connections, and the proxy if the environment names one\n",
		"  2   markread-9a41   10.0.3.18   100     mark-read 6-11, mark-read-backfill 6…\n",
	}, {
		"    do: check --im-url, name resolution, the firewall's rules for outgoing connections, " +
			"and the proxy if the\n      environment names one\n",
		"  2   markread-9a41   10.0.3.18   100     mark-read 6-11, mark-read-backfill 6-11\n",
	}} {
		text := strings.ReplaceAll(draws()[1+i], "\x1b[K", "")
		for _, lines := range want {
			if !strings.Contains(text, lines) {
				t.Errorf("no\n%s in\n%s", lines, text)
			}
		}
	}
}

// The interval is from start to start. A refresh that takes longer delays the next one: they never
// overlap.
func TestStatusWatchInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		begin, takes := time.Now(), []float64{0, 0.5, 3, 0.5, 0, 0}
		var starts []float64
		err := watchStatus(ctx, io.Discard, nil, 2*time.Second,
			func(context.Context) *groupstatus.Report {
				n := len(starts)
				starts = append(starts, time.Since(begin).Seconds())
				if len(starts) == len(takes) {
					stop()
				}
				time.Sleep(time.Duration(takes[n] * float64(time.Second)))
				return &groupstatus.Report{At: time.Now()}
			})
		if want := []float64{0, 2, 4, 7, 9, 11}; err != nil || !slices.Equal(starts, want) {
			t.Errorf("%v, want %v; %v", starts, want, err)
		}
	})
}

// A watch ends with the errors of the last complete refresh: as status itself does.
func TestStatusWatchEnds(t *testing.T) {
	good, bad := []string(nil), []string{"one", "two"}
	for name, c := range map[string]struct {
		refreshes [][]string // their errors; the last one is interrupted
		want      string
	}{
		"good":                       {[][]string{bad, good, bad}, "<nil>"},
		"bad":                        {[][]string{good, bad, good}, "one; two"},
		"before the first refresh":   {[][]string{bad}, "interrupted"},
		"after the first, while bad": {[][]string{bad, bad}, "one; two"},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx, stop := context.WithCancel(t.Context())
			n := 0
			var out clitest.Buffer
			err := watchStatus(ctx, &out, nil, time.Second, func(context.Context) *groupstatus.Report {
				if n++; n == len(c.refreshes) {
					stop()
				}
				return &groupstatus.Report{At: time.Now(), Errors: c.refreshes[n-1]}
			})
			if tables := strings.Count(out.String(), "every"); fmt.Sprint(err) != c.want ||
				tables != len(c.refreshes)-1 {
				t.Errorf("%s: %v, want %s; %d tables", name, err, c.want, tables)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) { // while it waits for the next refresh
		ctx, stop := context.WithTimeout(t.Context(), time.Second)
		defer stop()
		begin := time.Now()
		err := watchStatus(ctx, io.Discard, nil, time.Hour,
			func(context.Context) *groupstatus.Report { return &groupstatus.Report{} })
		if err != nil || time.Since(begin) != time.Second {
			t.Errorf("%v after %s", err, time.Since(begin))
		}
	})
	broken := errors.New("file is full")
	if err := watchStatus(t.Context(), brokenWriter{broken}, nil, time.Hour,
		func(context.Context) *groupstatus.Report {
			return &groupstatus.Report{}
		}); !errors.Is(err, broken) {
		t.Error(err)
	}
}

type brokenWriter struct{ err error }

func (w brokenWriter) Write([]byte) (int, error) { return 0, w.err }

func TestStatusWatchUsage(t *testing.T) {
	for value, want := range map[string]string{
		"--watch":           "--watch: needs an interval such as 2s",
		"--watch --json":    "--watch: needs an interval such as 2s",
		"--watch 2":         "--watch: 2 has no unit: 2s",
		"--watch=0s":        "--watch: must be at least 1s",
		"--watch=-2s":       "--watch: must be at least 1s",
		"--watch 999ms":     "--watch: must be at least 1s",
		"--watch often":     `--watch: "often" is not a duration such as 5s or 500ms`,
		"--json --watch 1s": "--watch shows tables, not --json: repeat `status --json` instead",
	} {
		p := &process{env: config.NewEnvironment(nil)}
		selected, err := p.parse(append([]string{"status", "--brokers", "k:1"},
			strings.Fields(value)...))
		if err == nil {
			err = selected.(*statusCommand).validate(p.env)
		}
		if wrong, ok := errors.AsType[*config.UsageError](err); !ok || wrong.Error() != want {
			t.Errorf("%s: %v, want %s", value, err, want)
		}
	}
}
