//go:build exam && unix

package exam

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"markread/cmd/markread/exam/kit"
)

// TestExamUsage: wrong usage and wrong configuration end with exit status 2 and exactly one line,
// on standard error, that names what is wrong.
func TestExamUsage(t *testing.T) {
	const key = kit.KeyVariable
	run := []string{"run", "--brokers", "127.0.0.1:1", "--im-url", "http://127.0.0.1:1",
		"--im-app-id", kit.AppID, "--admin-addr", "127.0.0.1:0"}
	with := func(more ...string) []string { return append(run[:len(run):len(run)], more...) }
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	rows := []struct {
		name  string
		args  []string
		env   []string
		names string
	}{
		{"unknown command", []string{"frobnicate"}, nil, "frobnicate"},
		{"unknown flag", with("--frobnicate"), []string{key}, "--frobnicate"},
		{"stray argument", with("stray"), []string{key}, "stray"},
		{"no brokers", []string{"run", "--im-url", "http://127.0.0.1:1", "--im-app-id", kit.AppID},
			[]string{key}, "--brokers"},
		{"no app", []string{"run", "--brokers", "127.0.0.1:1", "--im-url", "http://127.0.0.1:1"},
			[]string{key}, "--im-app-id"},
		{"no key", with(), nil, "MARKREAD_IM_KEY"},
		{"key twice", with(), []string{key, "MARKREAD_IM_KEY_FILE=/dev/null"},
			"MARKREAD_IM_KEY_FILE"},
		{"key file missing", with(), []string{"MARKREAD_IM_KEY_FILE=/no/such/file"},
			"/no/such/file"},
		{"IM timeout as short as the server's", with("--im-timeout", "3s"), []string{key},
			"--im-timeout"},
		{"IM timeout too long for the session", with("--im-timeout", "11500ms", "--drain-timeout",
			"20s"), []string{key}, "--im-timeout"},
		{"drain shorter than a call", with("--drain-timeout", "5500ms"), []string{key},
			"--drain-timeout"},
		{"drain longer than a rebalance", with("--drain-timeout", "46s"), []string{key},
			"--drain-timeout"},
		{"topics equal", with("--dead-letter-topic", "mark-read"), []string{key}, "topic"},
		{"lanes equal", with("--backfill-topic", "mark-read"), []string{key}, "topic"},
		{"no rate at a real server", with("--im-url", "https://im.invalid", "--rate", "0"),
			[]string{key}, "--uncapped"},
		{"rate negative", with("--rate", "-1"), []string{key}, "--rate"},
		{"rate not a number", with("--rate", "fast"), []string{key}, "--rate"},
		{"plain http elsewhere", with("--im-url", "http://im.invalid"), []string{key},
			"--im-insecure"},
		{"unknown region", with("--im-url", "atlantis"), []string{key}, "--im-url"},
		{"no attempts", with("--attempts", "0"), []string{key}, "--attempts"},
		{"backoff upside down", with("--backoff-initial", "1m", "--backoff-max", "1s"),
			[]string{key}, "--backoff"},
		{"log level", with("--log-level", "loud"), []string{key}, "--log-level"},
		{"log format", with("--log-format", "xml"), []string{key}, "--log-format"},
		{"SASL mechanism", with("--sasl", "gssapi"), []string{key}, "--sasl"},
		{"SASL without user", with("--sasl", "plain"), []string{key, "MARKREAD_SASL_PASSWORD=p"},
			"--sasl-user"},
		{"SASL without password", with("--sasl", "plain", "--sasl-user", "u"), []string{key},
			"MARKREAD_SASL_PASSWORD"},
		{"user without SASL", with("--sasl-user", "u"), []string{key}, "--sasl-user"},
		{"password twice", with("--sasl", "plain", "--sasl-user", "u"),
			[]string{key, "MARKREAD_SASL_PASSWORD=p", "MARKREAD_SASL_PASSWORD_FILE=/dev/null"},
			"MARKREAD_SASL_PASSWORD_FILE"},
		{"password file missing", with("--sasl", "plain", "--sasl-user", "u"),
			[]string{key, "MARKREAD_SASL_PASSWORD_FILE=/no/such/file"},
			"MARKREAD_SASL_PASSWORD_FILE"},
		{"password file empty", with("--sasl", "plain", "--sasl-user", "u"),
			[]string{key, "MARKREAD_SASL_PASSWORD_FILE=" + empty}, "MARKREAD_SASL_PASSWORD_FILE"},
		{"password that SCRAM can't have", with("--sasl", "scram-sha-512", "--sasl-user", "u"),
			[]string{key, "MARKREAD_SASL_PASSWORD=a\tb"}, "--sasl"},
		{"authority without TLS", with("--tls-ca", "/etc/hostname"), []string{key}, "--tls-ca"},
		{"authority missing", with("--tls", "--tls-ca", "/no/such/ca.crt"), []string{key},
			"--tls-ca"},
		{"authority not PEM", with("--tls", "--tls-ca", empty), []string{key}, "--tls-ca"},
		{"certificate without its key", with("--tls", "--tls-cert", empty), []string{key},
			"--tls-key"},
		{"certificate not PEM", with("--tls", "--tls-cert", empty, "--tls-key", empty),
			[]string{key}, "--tls-cert"},
		{"certificate itself", with("--tls", "--tls-ca", "-----BEGIN CERTIFICATE-----"),
			[]string{key}, "--tls-ca"},
		{"broker without a port", []string{"run", "--brokers", "kafka", "--im-app-id", kit.AppID},
			[]string{key}, "--brokers"},
		{"broker as a URL", []string{"run", "--brokers", "kafka://kafka:9092", "--im-app-id",
			kit.AppID}, []string{key}, "--brokers"},
		{"broker with a password", []string{"run", "--im-app-id", kit.AppID},
			[]string{key, "MARKREAD_BROKERS=u:p@kafka:9092"}, "MARKREAD_BROKERS"},
		{"calls in flight with a rate", with("--max-in-flight", "5"), []string{key},
			"--max-in-flight"},
		{"topic with a space", with("--topic", "mark read"), []string{key}, "--topic"},
		{"group empty", with("--group", ""), []string{key}, "--group"},
		{"admin address", with("--admin-addr", "8780"), []string{key}, "--admin-addr"},
		{"no replays", with("--max-replays", "0"), []string{key}, "--max-replays"},
		{"variable not a number", with(), []string{key, "MARKREAD_RATE=fast"}, "rate"},
		{"secret as a flag", with("--im-key", kit.Key), []string{key}, "--im-key"},
		{"emit without a peer", []string{"emit", "--brokers", "127.0.0.1:1", "--report", "r"}, nil,
			"--peer"},
		{"emit with a bad time", []string{"emit", "--brokers", "127.0.0.1:1", "--report", "r",
			"--peer", "p", "--read-time", "soon"}, nil, "--read-time"},
		{"call without a report", []string{"call", "--im-url", "http://127.0.0.1:1", "--im-app-id",
			kit.AppID, "--peer", "p"}, []string{key}, "--report"},
		{"sandbox with a bad address", []string{"sandbox", "--addr", "nowhere", "--app-id",
			kit.AppID}, []string{key}, "--addr"},
		{"dev with negative traffic", []string{"dev", "--traffic", "-1"}, nil, "--traffic"},
	}
	for _, row := range rows {
		t.Run(strings.ReplaceAll(row.name, " ", "-"), func(t *testing.T) {
			p := kit.Start(t, "markread", "product", row.env, row.args...)
			code := p.Exit(t, 10*time.Second)
			kit.Check(t, code == 2, "exit %d, want 2", code)
			lines := p.Stderr.Lines()
			kit.Check(t, len(lines) == 1, "%d lines on standard error, want 1:\n%s", len(lines),
				strings.Join(lines, "\n"))
			kit.Check(t, strings.Contains(p.Stderr.String(), row.names),
				"standard error does not name %q: %s", row.names, p.Stderr.String())
			kit.Check(t, p.Stdout.String() == "", "standard output: %s", p.Stdout.String())
			kit.Check(t, !strings.Contains(p.Stderr.String(), kit.Key),
				"the key is in the output: %s", p.Stderr.String())
		})
	}
	kit.Figure(t, "usage", "%d wrong usages", len(rows))
}

// TestExamTopics: a missing topic ends `run` with exit status 1 and the advice how to create it;
// --create-topics creates all three.
func TestExamTopics(t *testing.T) {
	k := kit.StartBrokerWithoutTopics(t)
	im := kit.StartRecorder(t)
	p := kit.Start(t, "markread", "product", []string{kit.KeyVariable}, k.RunArgs(im.URL)...)
	code := p.Exit(t, 30*time.Second)
	kit.Check(t, code == 1, "exit %d, want 1", code)
	output := p.Stderr.String()
	kit.Check(t, strings.Contains(output, k.Live) && strings.Contains(output, "--create-topics"),
		"standard error names neither topic nor --create-topics:\n%s", output)

	w := kit.StartWorker(t, k, im.URL, "--create-topics")
	w.WaitReady(t)
	events := kit.OneEventEach(kit.Conversations("topics", 20))
	kit.ProduceEvents(t, k, k.Live, events[:10])
	kit.ProduceEvents(t, k, k.Backfill, events[10:])
	k.WaitCommitted(t, 30*time.Second, k.Live, k.Backfill)
	partitions := map[string]int{}
	for p := range k.EndOffsets(t, k.Topics()...) {
		partitions[p.Topic]++
	}
	for _, topic := range k.Topics() {
		kit.Check(t, partitions[topic] == 12, "%s has %d partitions, want 12", topic,
			partitions[topic])
	}
	kit.CompareReadTimes(t, kit.Largest(events), kit.ReadTimes(im.Arrivals(t)))
}

// TestExamCall: one call by hand. The exit status is the result, and an unknown MARKREAD_ variable
// is one warning.
func TestExamCall(t *testing.T) {
	im := kit.StartRecorder(t)
	call := func(report string) *kit.Proc {
		return kit.Start(t, "call", "product", []string{kit.KeyVariable, "MARKREAD_NONSENSE=1"},
			"call", "--im-url", im.URL, "--im-app-id", kit.AppID, "--report", report, "--peer", "p",
			"--read-time", "1700000000")
	}
	good := call("r")
	code := good.Exit(t, 20*time.Second)
	kit.Check(t, code == 0, "exit %d, want 0", code)
	warned := good.Stderr.Lines()
	kit.Check(t, len(warned) == 1 && strings.Contains(warned[0], "MARKREAD_NONSENSE"),
		"want one warning of MARKREAD_NONSENSE:\n%s", strings.Join(warned, "\n"))
	kit.Check(t, strings.Contains(good.Stdout.String(), "admin_set_msg_read"),
		"the request is not shown:\n%s", good.Stdout.String())

	bad := call("reject-90048-r")
	code = bad.Exit(t, 20*time.Second)
	kit.Check(t, code == 1, "exit %d, want 1", code)
	kit.Check(t, strings.Contains(bad.Stdout.String()+bad.Stderr.String(), "90048"),
		"the code is not shown:\n%s", bad.Stdout.String())
	got := im.Arrivals(t)
	kit.Check(t, len(got) == 2 && got[0].ReadTime == 1_700_000_000 && got[0].Report == "r",
		"the recorder saw %v", got)
}

// dev is a `markread dev` process.
type dev struct {
	*kit.Proc
	kafka, im, admin string
}

func startDev(t *testing.T, extra ...string) *dev {
	t.Helper()
	args := append([]string{"dev", "--kafka-addr", "127.0.0.1:0", "--im-addr", "127.0.0.1:0",
		"--admin-addr", "127.0.0.1:0", "--console-addr", "127.0.0.1:0"}, extra...)
	d := &dev{Proc: kit.Start(t, "dev", "product", nil, args...)}
	d.kafka = d.Line(t, kit.DevKafkaLine, 20*time.Second)[1]
	d.im = "http://" + d.Line(t, kit.DevIMLine, 20*time.Second)[1]
	d.admin = "http://" + d.Line(t, kit.DevAdminLine, 20*time.Second)[1]
	return d
}

// readPointer returns, from dev's sandbox, a conversation's read time (-1: none) and its number of
// unread messages.
func (d *dev) readPointer(t *testing.T, c kit.Conversation) (readTime int64, unread int) {
	t.Helper()
	query := url.Values{"report": {c.Report}, "peer": {c.Peer}}.Encode()
	row := kit.GetJSON[struct {
		ReadTime *int64 `json:"read_time"`
		Unread   int    `json:"unread"`
	}](t, d.im+"/sandbox/read-time?"+query)
	if row.ReadTime == nil {
		return -1, row.Unread
	}
	return *row.ReadTime, row.Unread
}

// emit runs `markread emit` against dev's broker.
func (d *dev) emit(t *testing.T, stdin string, args ...string) {
	t.Helper()
	p := kit.StartPrepared(t, "emit", "product", nil, kit.Stdin(stdin),
		append([]string{"emit", "--brokers", d.kafka}, args...)...)
	if code := p.Exit(t, 20*time.Second); code != 0 {
		t.Fatalf("emit ended with %d", code)
	}
}

// TestExamDev: one command, after which traffic flows and an emitted event is applied. Ctrl-C ends
// it with exit status 0, and --data-dir keeps the data.
func TestExamDev(t *testing.T) {
	dir := t.TempDir()
	d := startDev(t, "--data-dir", dir, "--traffic", "50")
	up := time.Since(d.Started)
	var metrics kit.Metrics
	kit.Wait(t, "sample traffic is applied", 20*time.Second, func() bool {
		metrics = kit.Scrape(t, d.admin)
		return metrics.Sum("markread_events_total", `outcome="applied"`) >= 20
	})
	flowing := time.Since(d.Started)

	// What dev suggests: three messages to alice are unread until she reads them.
	_, unread := d.readPointer(t, kit.Conversation{Report: "alice", Peer: "bob"})
	kit.Check(t, unread == 3, "%d unread messages at the start, want 3", unread)
	d.emit(t, "", "--report", "alice", "--peer", "bob")
	kit.Wait(t, "alice's messages are read", 20*time.Second, func() bool {
		_, unread := d.readPointer(t, kit.Conversation{Report: "alice", Peer: "bob"})
		return unread == 0
	})
	readTime := time.Now().Unix() - 30
	second, third := kit.Conversation{Report: "exam-reader", Peer: "second"},
		kit.Conversation{Report: "exam-reader", Peer: "third"}
	d.emit(t, fmt.Sprintf(
		"{\"Report_Account\":\"exam-reader\",\"Peer_Account\":\"second\"}\n"+
			"{\"Report_Account\":\"exam-reader\",\"Peer_Account\":\"third\","+
			"\"MsgReadTime\":\"%d\"}\n", readTime))
	kit.Wait(t, "the events from standard input are applied", 20*time.Second, func() bool {
		now, _ := d.readPointer(t, second)
		then, _ := d.readPointer(t, third)
		return now >= readTime+30 && then == readTime
	})

	k := kit.Connect(t, d.kafka, kit.Defaults)
	before, committed := k.EndOffsets(t, k.Live), k.Committed(t)
	took := d.Stop(t, syscall.SIGINT, kit.StopLimit)

	// Again on the same directory, without traffic: the records and the group's offsets are still
	// there, and no event is left to apply.
	again := startDev(t, "--data-dir", dir, "--traffic", "0")
	k = kit.Connect(t, again.kafka, kit.Defaults)
	after := k.EndOffsets(t, k.Live)
	records := int64(0)
	for p, end := range before {
		records += end
		kit.Check(t, after[p] >= end, "%s %d ended at %d, after the restart at %d", p.Topic,
			p.Partition, end, after[p])
	}
	now := k.Committed(t)
	for p, offset := range committed {
		kit.Check(t, now[p] >= offset, "%s %d was committed to %d, after the restart to %d",
			p.Topic, p.Partition, offset, now[p])
	}
	k.WaitCommitted(t, 30*time.Second, k.Live)

	// A port in use is reported immediately.
	inUse := kit.Start(t, "dev", "product", nil, "dev", "--kafka-addr", again.kafka, "--im-addr",
		"127.0.0.1:0", "--admin-addr", "127.0.0.1:0", "--console-addr", "127.0.0.1:0")
	code := inUse.Exit(t, 20*time.Second)
	kit.Check(t, code == 1, "dev on a port in use ended with %d, want 1", code)
	lines := inUse.Stderr.Lines()
	kit.Check(t, len(lines) == 1 && strings.Contains(lines[0], again.kafka) &&
		strings.Contains(lines[0], "--kafka-addr"),
		"a port in use must be reported in one line that names it and --kafka-addr:\n%s",
		strings.Join(lines, "\n"))

	stopped := again.Stop(t, syscall.SIGINT, kit.StopLimit)
	kit.Figure(t, "dev", "listening after %v, 20 events applied after %v; Ctrl-C took %v and %v; "+
		"%d records kept", up.Round(time.Millisecond), flowing.Round(time.Millisecond),
		took.Round(time.Millisecond), stopped.Round(time.Millisecond), records)
}
