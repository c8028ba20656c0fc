//go:build exam && unix

package main

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

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
