//go:build exam && unix

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestExamUsage: wrong usage and wrong configuration end with 2 and exactly one line, on standard error, that names what is wrong.
func TestExamUsage(t *testing.T) {
	const key = "MARKREAD_IM_KEY=" + examKey
	run := []string{"run", "--brokers", "127.0.0.1:1", "--im-url", "http://127.0.0.1:1", "--im-app-id", examAppID, "--admin-addr", "127.0.0.1:0"}
	with := func(more ...string) []string { return append(run[:len(run):len(run)], more...) }
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	rows := []struct {
		name string
		args []string
		env  []string
		says string
	}{
		{"unknown command", []string{"frobnicate"}, nil, "frobnicate"},
		{"unknown flag", with("--frobnicate"), []string{key}, "--frobnicate"},
		{"stray argument", with("stray"), []string{key}, "stray"},
		{"no brokers", []string{"run", "--im-url", "http://127.0.0.1:1", "--im-app-id", examAppID}, []string{key}, "--brokers"},
		{"no app", []string{"run", "--brokers", "127.0.0.1:1", "--im-url", "http://127.0.0.1:1"}, []string{key}, "--im-app-id"},
		{"no key", with(), nil, "MARKREAD_IM_KEY"},
		{"key twice", with(), []string{key, "MARKREAD_IM_KEY_FILE=/dev/null"}, "MARKREAD_IM_KEY_FILE"},
		{"key file missing", with(), []string{"MARKREAD_IM_KEY_FILE=/no/such/file"}, "/no/such/file"},
		{"IM timeout as short as the server's", with("--im-timeout", "3s"), []string{key}, "--im-timeout"},
		{"IM timeout too long for the session", with("--im-timeout", "11500ms", "--drain-timeout", "20s"), []string{key}, "--im-timeout"},
		{"drain shorter than a call", with("--drain-timeout", "5500ms"), []string{key}, "--drain-timeout"},
		{"drain longer than a rebalance", with("--drain-timeout", "46s"), []string{key}, "--drain-timeout"},
		{"topics equal", with("--dead-letter-topic", "mark-read"), []string{key}, "topic"},
		{"lanes equal", with("--backfill-topic", "mark-read"), []string{key}, "topic"},
		{"no rate at a real server", with("--im-url", "https://im.invalid", "--rate", "0"), []string{key}, "--uncapped"},
		{"rate negative", with("--rate", "-1"), []string{key}, "--rate"},
		{"rate no number", with("--rate", "fast"), []string{key}, "--rate"},
		{"plain http elsewhere", with("--im-url", "http://im.invalid"), []string{key}, "--im-insecure"},
		{"unknown region", with("--im-url", "atlantis"), []string{key}, "--im-url"},
		{"no attempts", with("--attempts", "0"), []string{key}, "--attempts"},
		{"backoff upside down", with("--backoff-initial", "1m", "--backoff-max", "1s"), []string{key}, "--backoff"},
		{"log level", with("--log-level", "loud"), []string{key}, "--log-level"},
		{"log format", with("--log-format", "xml"), []string{key}, "--log-format"},
		{"SASL mechanism", with("--sasl", "gssapi"), []string{key}, "--sasl"},
		{"SASL without user", with("--sasl", "plain"), []string{key, "MARKREAD_SASL_PASSWORD=p"}, "--sasl-user"},
		{"SASL without password", with("--sasl", "plain", "--sasl-user", "u"), []string{key}, "MARKREAD_SASL_PASSWORD"},
		{"user without SASL", with("--sasl-user", "u"), []string{key}, "--sasl-user"},
		{"password twice", with("--sasl", "plain", "--sasl-user", "u"), []string{key, "MARKREAD_SASL_PASSWORD=p", "MARKREAD_SASL_PASSWORD_FILE=/dev/null"}, "MARKREAD_SASL_PASSWORD_FILE"},
		{"password file missing", with("--sasl", "plain", "--sasl-user", "u"), []string{key, "MARKREAD_SASL_PASSWORD_FILE=/no/such/file"}, "MARKREAD_SASL_PASSWORD_FILE"},
		{"password file empty", with("--sasl", "plain", "--sasl-user", "u"), []string{key, "MARKREAD_SASL_PASSWORD_FILE=" + empty}, "MARKREAD_SASL_PASSWORD_FILE"},
		{"password that SCRAM can't have", with("--sasl", "scram-sha-512", "--sasl-user", "u"), []string{key, "MARKREAD_SASL_PASSWORD=a\tb"}, "--sasl"},
		{"authority without TLS", with("--tls-ca", "/etc/hostname"), []string{key}, "--tls-ca"},
		{"authority missing", with("--tls", "--tls-ca", "/no/such/ca.crt"), []string{key}, "--tls-ca"},
		{"authority no PEM", with("--tls", "--tls-ca", empty), []string{key}, "--tls-ca"},
		{"certificate without its key", with("--tls", "--tls-cert", empty), []string{key}, "--tls-key"},
		{"certificate no PEM", with("--tls", "--tls-cert", empty, "--tls-key", empty), []string{key}, "--tls-cert"},
		{"certificate itself", with("--tls", "--tls-ca", "-----BEGIN CERTIFICATE-----"), []string{key}, "--tls-ca"},
		{"broker without a port", []string{"run", "--brokers", "kafka", "--im-app-id", examAppID}, []string{key}, "--brokers"},
		{"broker as a URL", []string{"run", "--brokers", "kafka://kafka:9092", "--im-app-id", examAppID}, []string{key}, "--brokers"},
		{"broker with a password", []string{"run", "--im-app-id", examAppID}, []string{key, "MARKREAD_BROKERS=u:p@kafka:9092"}, "MARKREAD_BROKERS"},
		{"calls at a time with a rate", with("--max-in-flight", "5"), []string{key}, "--max-in-flight"},
		{"topic with a blank", with("--topic", "mark read"), []string{key}, "--topic"},
		{"group empty", with("--group", ""), []string{key}, "--group"},
		{"admin address", with("--admin-addr", "8780"), []string{key}, "--admin-addr"},
		{"no replays", with("--max-replays", "0"), []string{key}, "--max-replays"},
		{"variable no number", with(), []string{key, "MARKREAD_RATE=fast"}, "rate"},
		{"secret as a flag", with("--im-key", examKey), []string{key}, "--im-key"},
		{"emit without a peer", []string{"emit", "--brokers", "127.0.0.1:1", "--report", "r"}, nil, "--peer"},
		{"emit with a bad time", []string{"emit", "--brokers", "127.0.0.1:1", "--report", "r", "--peer", "p", "--read-time", "soon"}, nil, "--read-time"},
		{"call without a report", []string{"call", "--im-url", "http://127.0.0.1:1", "--im-app-id", examAppID, "--peer", "p"}, []string{key}, "--report"},
		{"sandbox with a bad address", []string{"sandbox", "--addr", "nowhere", "--app-id", examAppID}, []string{key}, "--addr"},
		{"dev with negative traffic", []string{"dev", "--traffic", "-1"}, nil, "--traffic"},
	}
	for _, row := range rows {
		t.Run(strings.ReplaceAll(row.name, " ", "-"), func(t *testing.T) {
			p := examStart(t, "markread", "product", row.env, row.args...)
			code := p.exit(t, 10*time.Second)
			examCheck(t, code == 2, "exit %d, want 2", code)
			lines := p.stderr.lines()
			examCheck(t, len(lines) == 1, "%d lines on standard error, want 1:\n%s", len(lines), strings.Join(lines, "\n"))
			examCheck(t, strings.Contains(p.stderr.String(), row.says), "standard error does not name %q: %s", row.says, p.stderr.String())
			examCheck(t, p.stdout.String() == "", "standard output: %s", p.stdout.String())
			examCheck(t, !strings.Contains(p.stderr.String(), examKey), "the key is in the output: %s", p.stderr.String())
		})
	}
	examFigure(t, "usage", "%d wrong usages", len(rows))
}

// TestExamTopics: a missing topic ends `run` with 1 and says how to make it; --create-topics makes all three.
func TestExamTopics(t *testing.T) {
	k := examStartBrokerWithoutTopics(t)
	im := examStartRecorder(t)
	p := examStart(t, "markread", "product", []string{"MARKREAD_IM_KEY=" + examKey}, k.run(im.url)...)
	code := p.exit(t, 30*time.Second)
	examCheck(t, code == 1, "exit %d, want 1", code)
	said := p.stderr.String()
	examCheck(t, strings.Contains(said, k.live) && strings.Contains(said, "--create-topics"), "standard error names neither topic nor --create-topics:\n%s", said)

	w := examStartWorker(t, k, im.url, "--create-topics")
	w.ready(t)
	events := examOneEach(examConversations("topics", 20))
	examProduceEvents(t, k, k.live, events[:10])
	examProduceEvents(t, k, k.backfill, events[10:])
	k.settled(t, 30*time.Second, k.live, k.backfill)
	partitions := map[string]int{}
	for p := range k.ends(t, k.topics()...) {
		partitions[p.topic]++
	}
	for _, topic := range k.topics() {
		examCheck(t, partitions[topic] == 12, "%s has %d partitions, want 12", topic, partitions[topic])
	}
	examComparePointers(t, examLargest(events), examPointers(im.arrivals(t)))
}

// TestExamCall: one call by hand, whose exit status says how it went, and a variable that nothing reads is one warning.
func TestExamCall(t *testing.T) {
	im := examStartRecorder(t)
	call := func(report string) *examProc {
		return examStart(t, "call", "product", []string{"MARKREAD_IM_KEY=" + examKey, "MARKREAD_NONSENSE=1"},
			"call", "--im-url", im.url, "--im-app-id", examAppID, "--report", report, "--peer", "p", "--read-time", "1700000000")
	}
	good := call("r")
	code := good.exit(t, 20*time.Second)
	examCheck(t, code == 0, "exit %d, want 0", code)
	warned := good.stderr.lines()
	examCheck(t, len(warned) == 1 && strings.Contains(warned[0], "MARKREAD_NONSENSE"), "want one warning of MARKREAD_NONSENSE:\n%s", strings.Join(warned, "\n"))
	examCheck(t, strings.Contains(good.stdout.String(), "admin_set_msg_read"), "the request is not shown:\n%s", good.stdout.String())

	bad := call("reject-90048-r")
	code = bad.exit(t, 20*time.Second)
	examCheck(t, code == 1, "exit %d, want 1", code)
	examCheck(t, strings.Contains(bad.stdout.String()+bad.stderr.String(), "90048"), "the code is not shown:\n%s", bad.stdout.String())
	got := im.arrivals(t)
	examCheck(t, len(got) == 2 && got[0].ReadTime == 1_700_000_000 && got[0].Report == "r", "the recorder saw %v", got)
}
