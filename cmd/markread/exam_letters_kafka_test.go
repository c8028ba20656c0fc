//go:build exam && linux

package main

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestExamLettersTransactions: letters that somebody wrote in a transaction are there when it is committed, and not before; those of an aborted one never
// are; and the markers that transactions leave are no records to wait for.
func TestExamLettersTransactions(t *testing.T) {
	t.Parallel()
	k := examStartBroker(t)
	x := examStartTransactor(t, k, "letters", kgo.RequiredAcks(kgo.AllISRAcks()))
	now := time.Now()
	letter := func(report string) *kgo.Record {
		return examLetter{examEvent: examEvent{examConversation{report, "p"}, now.Unix() - 100}, class: "rejected", code: "90048", failedAt: now}.record(k.letters)
	}
	transaction := func(report string, end kgo.TransactionEndTry) {
		t.Helper()
		if err := x.cl.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		if err := x.cl.ProduceSync(examContext(t), letter(report), letter(report)).FirstErr(); err != nil {
			t.Fatal(err)
		}
		if err := x.cl.EndTransaction(examContext(t), end); err != nil {
			t.Fatal(err)
		}
	}
	readers := func() (all []string) {
		for _, l := range k.listed(t) {
			all = append(all, l["report"].(string))
		}
		slices.Sort(all)
		return all
	}
	transaction("good", kgo.TryCommit)
	transaction("bad", kgo.TryAbort)
	k.produce(t, letter("plain"))
	if got := readers(); !slices.Equal(got, []string{"good", "good", "plain"}) {
		t.Errorf("letters of %v", got)
	}
	began := time.Now()
	if err := x.cl.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	if err := x.cl.ProduceSync(examContext(t), letter("open")).FirstErr(); err != nil {
		t.Fatal(err)
	}
	if got := readers(); slices.Contains(got, "open") {
		t.Errorf("letters of %v, one of them in an open transaction", got)
	}
	took := time.Since(began)
	examCheck(t, took < 10*time.Second, "ls waits %v for a transaction", took)
	out := k.deadLetters(t, 0, "replay", "--yes", "--report", "good").stdout.String()
	examCheck(t, strings.HasPrefix(out, "replayed 2 letters of 1 conversation"), "replay says %q", out)
	if err := x.cl.EndTransaction(examContext(t), kgo.TryCommit); err != nil {
		t.Fatal(err)
	}
	var got []string
	examWait(t, "the open letter is there", 20*time.Second, func() bool {
		got = readers()
		return slices.Equal(got, []string{"open", "plain"})
	})
	examFigure(t, "letters-transactions", "committed, aborted and open ones: open letters of %v in the end; ls beside an open transaction took %v",
		got, took.Round(time.Millisecond))
}

// TestExamClusterLetters: what a user may not do is said in one line, before anything is published. Kafka itself judges.
func TestExamClusterLetters(t *testing.T) {
	c := examDisturb(t)
	v := c.variables(t)
	now := time.Now()
	c.produce(t, examLetter{examEvent: examEvent{examConversation{"a", "b"}, now.Unix() - 100}, class: "rejected", code: "90048", failedAt: now}.record(c.letters))
	try := func(u examUser, status int, says string, args ...string) {
		t.Helper()
		args = slices.Concat([]string{"dead-letters"}, args, []string{"--brokers", v["SASL_PLAINTEXT"], "--dead-letter-topic", c.letters}, u.flags())
		if args[1] == "replay" {
			args = append(args, "--topic", c.live, "--backfill-topic", c.backfill)
		}
		p := examStart(t, "dead-letters", "product", []string{"MARKREAD_SASL_PASSWORD=" + u.password}, args...)
		if code := p.exit(t, time.Minute); code != status {
			t.Errorf("dead-letters %v ended with %d, want %d", args, code, status)
		}
		if out := p.stdout.String() + p.stderr.String(); !strings.Contains(out, says) {
			t.Errorf("dead-letters %v does not say %q: %s", args, says, out)
		}
	}
	nobody := c.newUser(t, "letters-nobody")
	try(nobody, 1, c.letters, "ls")
	reader := c.newUser(t, "letters-reader")
	c.allow(t, reader.name, kmsg.ACLResourceTypeTopic, c.letters, kmsg.ACLOperationRead)
	try(reader, 0, "1 open", "ls")
	c.allow(t, reader.name, kmsg.ACLResourceTypeTopic, c.backfill, kmsg.ACLOperationWrite)
	try(reader, 1, "Write of the topic", "replay", "--yes")
	try(reader, 1, "Write of the topic", "discard", "--all", "--yes")
	before := c.ends(t, c.backfill)
	operator := c.newUser(t, "letters-operator")
	c.allow(t, operator.name, kmsg.ACLResourceTypeTopic, c.letters, kmsg.ACLOperationRead)
	c.allow(t, operator.name, kmsg.ACLResourceTypeTopic, c.letters, kmsg.ACLOperationWrite)
	try(operator, 1, c.backfill, "replay", "--yes")
	for p, end := range c.ends(t, c.backfill) {
		examCheck(t, end == before[p], "something was published to partition %d", p.partition)
	}
	c.allow(t, operator.name, kmsg.ACLResourceTypeTopic, c.backfill, kmsg.ACLOperationWrite)
	try(operator, 0, "replayed 1 letter", "replay", "--yes")
}
