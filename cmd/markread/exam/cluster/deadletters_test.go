//go:build exam && unix

package cluster

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"markread/cmd/markread/exam/kit"
)

// TestExamClusterLetters: a missing permission is reported in one line, before anything is
// published. Kafka itself decides.
func TestExamClusterLetters(t *testing.T) {
	c := newCluster(t)
	v := c.variables(t)
	now := time.Now()
	c.Produce(t, kit.DeadLetter{Event: kit.NewEvent("a", "b", now.Unix()-100), Class: "rejected",
		Code: "90048", FailedAt: now}.Record(c.DeadLetters))
	try := func(u user, status int, output string, args ...string) {
		t.Helper()
		args = slices.Concat([]string{"dead-letters"}, args, []string{"--brokers",
			v["SASL_PLAINTEXT"], "--dead-letter-topic", c.DeadLetters}, u.flags())
		if args[1] == "replay" {
			args = append(args, "--topic", c.Live, "--backfill-topic", c.Backfill)
		}
		p := kit.Start(t, "dead-letters", "product",
			[]string{"MARKREAD_SASL_PASSWORD=" + u.password}, args...)
		if code := p.Exit(t, time.Minute); code != status {
			t.Errorf("dead-letters %v ended with %d, want %d", args, code, status)
		}
		if out := p.Stdout.String() + p.Stderr.String(); !strings.Contains(out, output) {
			t.Errorf("dead-letters %v does not print %q: %s", args, output, out)
		}
	}
	nobody := c.newUser(t, "letters-nobody")
	try(nobody, 1, c.DeadLetters, "ls")
	reader := c.newUser(t, "letters-reader")
	c.allow(t, reader.name, kmsg.ACLResourceTypeTopic, c.DeadLetters, kmsg.ACLOperationRead)
	try(reader, 0, "1 open", "ls")
	c.allow(t, reader.name, kmsg.ACLResourceTypeTopic, c.Backfill, kmsg.ACLOperationWrite)
	try(reader, 1, "Write of the topic", "replay", "--yes")
	try(reader, 1, "Write of the topic", "discard", "--all", "--yes")
	before := c.EndOffsets(t, c.Backfill)
	operator := c.newUser(t, "letters-operator")
	c.allow(t, operator.name, kmsg.ACLResourceTypeTopic, c.DeadLetters, kmsg.ACLOperationRead)
	c.allow(t, operator.name, kmsg.ACLResourceTypeTopic, c.DeadLetters, kmsg.ACLOperationWrite)
	try(operator, 1, c.Backfill, "replay", "--yes")
	for p, end := range c.EndOffsets(t, c.Backfill) {
		kit.Check(t, end == before[p], "something was published to partition %d", p.Partition)
	}
	c.allow(t, operator.name, kmsg.ACLResourceTypeTopic, c.Backfill, kmsg.ACLOperationWrite)
	try(operator, 0, "replayed 1 dead letter", "replay", "--yes")
}
