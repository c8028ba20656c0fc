package cli

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"markread/imclient"
	"markread/worker/preflight"
)

// What fails alike is one line, what is wrong comes first, and text from outside can't paint the terminal.
func TestCheckReport(t *testing.T) {
	now := time.Date(2026, 3, 1, 3, 0, 0, 0, time.UTC)
	r := preflight.ReportOf(now, preflight.Findings{preflight.Good("broker", "kafka-1.example:9092", "it answers"), preflight.Good("broker", "kafka-2.example:9092", "it answers"), preflight.Warning("replicas", "a", "one copy", "add"), preflight.Good("topic", "a", "12 partitions")},
		preflight.Findings{preflight.Warning("replicas", "b", "one copy", "add"), preflight.Wrong("IM account", "", "no\x1b[31m\nkey", "set it"), preflight.NotChecked("clock", "", "no Date", "")})
	var b bytes.Buffer
	if err := printCheck(&b, r); err != nil {
		t.Fatal(err)
	}
	const want = `WRONG        IM account     no?[31m key
             do: set it
warning      replicas a, b  one copy
             do: add
not checked  clock          no Date
ok           broker (2)     it answers
ok           topic a        12 partitions

1 wrong, 1 warning, 1 not checked, 2 ok
`
	if b.String() != want {
		t.Errorf("%s", b.String())
	}
	if err := checkFailure(r); err == nil || err.Error() != "check: wrong: IM account" || r.OK || r.Warnings != 2 {
		t.Errorf("%+v, %v", r, err)
	}
	if r := preflight.ReportOf(now, preflight.Findings{preflight.Warning("replicas", "a", "one copy", "add")}); !r.OK || checkFailure(r) != nil {
		t.Errorf("a warning fails: %+v", r)
	}
}

// checkNames are the names of all checks; README.md lists them.
var checkNames = []string{
	"broker", "topic", "permission", "replicas", "settings", "cleanup.policy", "retention", "record size", "timestamps", "partition counts", "group", "lag",
	"IM server", "IM account", "clock", "certificate", "admin server", "secret", "secret file", "client certificate", "password", "open files",
}

// sampleCheck is what an operator may see before a first deployment.
func sampleCheck() *preflight.Report {
	found := preflight.Findings{}
	for _, addr := range []string{"kafka-1:9093", "kafka-2:9093", "kafka-3:9093"} {
		found.Add(preflight.Good("broker", addr, "it answers, Kafka 4.4, user markread by scram-sha-512 over TLS"))
	}
	for _, name := range []string{"mark-read", "mark-read-backfill", "mark-read-dead-letters"} {
		found.Add(preflight.Good("topic", name, "12 partitions, 3 copies, kept for 7d00h"))
	}
	found.Add(
		preflight.Warning("retention", "mark-read-dead-letters", "dead letters are deleted after 7d00h, mended or not", "set retention.ms=-1 and retention.bytes=-1 on the topic"),
		preflight.Good("permission", "mark-read", "the user may read"), preflight.Good("permission", "mark-read-backfill", "the user may read"),
		preflight.Wrong("permission", "mark-read-dead-letters", "the user may not write", "give the user Write on the topic (--dead-letter-topic)"),
		preflight.Good("permission", "group markread", "the user may read"), preflight.Good("group", "markread", "no worker runs"),
	)
	for _, name := range []string{"mark-read", "mark-read-backfill"} {
		found.Add(preflight.Good("lag", name, "0 events to do; the group has no offsets: run begins with the oldest record"))
	}
	found.Add(preflight.JudgeCall(preflight.Call{URL: "https://adminapisgp.im.qcloud.com", Sent: statusAt, Came: statusAt.Add(38 * time.Millisecond),
		Err: &imclient.Error{Class: imclient.Held, Label: "60026", ErrorCode: 60026}, Answer: imclient.Answer{Date: statusAt}})...)
	found.Add(preflight.Good("admin server", "", "127.0.0.1:8780 is free"))
	found.Add(preflight.Good("secret file", "MARKREAD_IM_KEY_FILE", "not open to everybody"), preflight.Good("secret file", "MARKREAD_SASL_PASSWORD_FILE", "not open to everybody"))
	return preflight.ReportOf(statusAt, found)
}

// README.md shows what is printed, and knows every name of the JSON document and of a check.
func TestReadmeCheck(t *testing.T) {
	text, r := readme(t), sampleCheck()
	var shown strings.Builder
	if err := printCheck(&shown, r); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(text, shown.String()) {
		t.Errorf("README.md does not show this:\n%s", &shown)
	}
	for _, name := range checkNames {
		if !strings.Contains(text, "`"+name+"`") {
			t.Errorf("README.md does not list the check %s", name)
		}
	}
	r = preflight.ReportOf(statusAt, r.Checks[:1])
	document, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	squeeze := func(s string) string { return strings.Join(strings.Fields(s), "") }
	if !strings.Contains(squeeze(text), squeeze(string(document))) {
		t.Errorf("README.md does not show this:\n%s", document)
	}
}
