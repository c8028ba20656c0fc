//go:build exam && unix

package main

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"time"
)

// examDev is a `markread dev` process.
type examDev struct {
	*examProc
	kafka, im, admin string
}

func examStartDev(t *testing.T, extra ...string) *examDev {
	t.Helper()
	args := append([]string{"dev", "--kafka-addr", "127.0.0.1:0", "--im-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0"}, extra...)
	d := &examDev{examProc: examStart(t, "dev", "product", nil, args...)}
	d.kafka = d.line(t, examDevKafkaLine, 20*time.Second)[1]
	d.im = "http://" + d.line(t, examDevIMLine, 20*time.Second)[1]
	d.admin = "http://" + d.line(t, examDevAdminLine, 20*time.Second)[1]
	return d
}

// ask asks dev's sandbox for a conversation's read pointer (-1: none) and how many messages are unread.
func (d *examDev) ask(t *testing.T, c examConversation) (readTime int64, unread int) {
	t.Helper()
	var row struct {
		ReadTime *int64 `json:"read_time"`
		Unread   int    `json:"unread"`
	}
	body := examGet(t, d.im+"/sandbox/read-time?"+url.Values{"report": {c.report}, "peer": {c.peer}}.Encode())
	if err := json.Unmarshal([]byte(body), &row); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	if row.ReadTime == nil {
		return -1, row.Unread
	}
	return *row.ReadTime, row.Unread
}

// emit runs `markread emit` against dev's broker.
func (d *examDev) emit(t *testing.T, stdin string, args ...string) {
	t.Helper()
	p := examStartWithInput(t, "emit", "product", nil, stdin, append([]string{"emit", "--brokers", d.kafka}, args...)...)
	if code := p.exit(t, 20*time.Second); code != 0 {
		t.Fatalf("emit ended with %d", code)
	}
}

// TestExamDev: one command, traffic flows, an event that somebody emits is applied, Ctrl-C ends it with 0, --data-dir keeps the data.
func TestExamDev(t *testing.T) {
	dir := t.TempDir()
	d := examStartDev(t, "--data-dir", dir, "--traffic", "50")
	up := time.Since(d.started)
	var metrics examMetrics
	examWait(t, "sample traffic is applied", 20*time.Second, func() bool {
		metrics = examScrape(t, d.admin)
		return metrics.sum("markread_events_total", `outcome="applied"`) >= 20
	})
	flowing := time.Since(d.started)

	// What dev suggests to try: three messages to alice are unread, until she reads them.
	_, unread := d.ask(t, examConversation{"alice", "bob"})
	examCheck(t, unread == 3, "%d unread messages at first, want 3", unread)
	d.emit(t, "", "--report", "alice", "--peer", "bob")
	examWait(t, "alice's messages are read", 20*time.Second, func() bool {
		_, unread := d.ask(t, examConversation{"alice", "bob"})
		return unread == 0
	})
	readTime := time.Now().Unix() - 30
	second, third := examConversation{"exam-reader", "second"}, examConversation{"exam-reader", "third"}
	d.emit(t, fmt.Sprintf("{\"Report_Account\":\"exam-reader\",\"Peer_Account\":\"second\"}\n"+
		"{\"Report_Account\":\"exam-reader\",\"Peer_Account\":\"third\",\"MsgReadTime\":\"%d\"}\n", readTime))
	examWait(t, "the events from standard input are applied", 20*time.Second, func() bool {
		now, _ := d.ask(t, second)
		then, _ := d.ask(t, third)
		return now >= readTime+30 && then == readTime
	})

	k := examConnect(t, d.kafka, examDefaults)
	before, committed := k.ends(t, k.live), k.committed(t)
	took := d.stop(t, syscall.SIGINT, examStopLimit)

	// Again on the same directory, without traffic: the records and the group's offsets are still there, and nothing is left to do.
	again := examStartDev(t, "--data-dir", dir, "--traffic", "0")
	k = examConnect(t, again.kafka, examDefaults)
	after := k.ends(t, k.live)
	records := int64(0)
	for p, end := range before {
		records += end
		examCheck(t, after[p] >= end, "%s %d ended at %d, after the restart at %d", p.topic, p.partition, end, after[p])
	}
	now := k.committed(t)
	for p, offset := range committed {
		examCheck(t, now[p] >= offset, "%s %d was committed to %d, after the restart to %d", p.topic, p.partition, offset, now[p])
	}
	k.settled(t, 30*time.Second, k.live)

	// A port that is taken is said so, at once.
	taken := examStart(t, "dev", "product", nil, "dev", "--kafka-addr", again.kafka, "--im-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0")
	code := taken.exit(t, 20*time.Second)
	examCheck(t, code == 1, "dev on a taken port ended with %d, want 1", code)
	said := taken.stderr.lines()
	examCheck(t, len(said) == 1 && strings.Contains(said[0], again.kafka) && strings.Contains(said[0], "--kafka-addr"),
		"a taken port must be told in one line that names it and --kafka-addr:\n%s", strings.Join(said, "\n"))

	stopped := again.stop(t, syscall.SIGINT, examStopLimit)
	examFigure(t, "dev", "listening after %v, 20 events applied after %v; Ctrl-C took %v and %v; %d records kept",
		up.Round(time.Millisecond), flowing.Round(time.Millisecond), took.Round(time.Millisecond), stopped.Round(time.Millisecond), records)
}
