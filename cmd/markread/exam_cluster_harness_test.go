//go:build exam && unix

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// examClusterDir is the variable that names the folder of a cluster of three nodes, made by deploy/kafka/kafka, that the exam may disturb.
const examClusterDir = "MARKREAD_TEST_KAFKA"

const examNodes = 3

// examCluster is that cluster, with topics of the row's own. All its nodes run again when the row has ended.
type examCluster struct {
	*examKafka
	dir string
}

func examDisturb(t *testing.T) *examCluster {
	t.Helper()
	dir := os.Getenv(examClusterDir)
	if dir == "" {
		t.Skipf("skipped: it needs a cluster of three nodes that it may disturb, made by deploy/kafka/kafka; %s names its folder", examClusterDir)
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		t.Fatal(err)
	}
	c := &examCluster{dir: dir}
	c.script(t, "start")
	brokers := regexp.MustCompile(`(?m)^PLAINTEXT=(\S+)$`).FindStringSubmatch(c.script(t, "env"))
	if brokers == nil {
		t.Fatalf("%s does not say where the brokers are", c.script(t, "env"))
	}
	c.examKafka = examOwnNames(t, brokers[1])
	t.Cleanup(func() {
		for n := 1; n <= examNodes; n++ {
			_ = c.command(context.Background(), "thaw", strconv.Itoa(n)).Run() // it fails for one that does not run
		}
		c.script(t, "start")
	})
	c.createTopics(t, c.topics()...)
	c.inSync(t)
	return c
}

func (c *examCluster) command(ctx context.Context, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "../../deploy/kafka/kafka", append([]string{"--dir", c.dir}, args...)...)
}

// script runs a command of deploy/kafka/kafka and returns what it prints.
func (c *examCluster) script(t *testing.T, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	cmd := c.command(ctx, args...)
	cmd.WaitDelay = time.Second // a node that it starts keeps nothing of ours open, but who knows
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("kafka %v: %v\n%s", args, err, out)
	}
	return string(out)
}

func (c *examCluster) node(t *testing.T, command string, n int32) {
	t.Helper()
	c.script(t, command, strconv.Itoa(int(n)))
}

// inSync waits until all replicas of all partitions of the cluster are in sync, and returns how long that took.
func (c *examCluster) inSync(t *testing.T) time.Duration {
	t.Helper()
	began := time.Now()
	behind := "no answer"
	defer func() {
		if t.Failed() {
			t.Logf("not in sync: %s", behind)
		}
	}()
	examWait(t, "all replicas are in sync", time.Minute, func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		all := kmsg.NewPtrMetadataRequest()
		all.Topics = nil
		found, err := all.RequestWith(ctx, c.cl)
		if err != nil {
			behind = err.Error()
			return false
		}
		behind = ""
		for _, topic := range found.Topics {
			for _, p := range topic.Partitions {
				if len(p.ISR) < len(p.Replicas) || p.Leader < 0 {
					behind = fmt.Sprintf("%s %d: leader %d, replicas %v, in sync %v", *topic.Topic, p.Partition, p.Leader, p.Replicas, p.ISR)
				}
			}
		}
		return len(found.Brokers) == examNodes && behind == ""
	})
	return time.Since(began)
}

// leaders returns the node that leads each of the topic's partitions.
func (c *examCluster) leaders(t *testing.T, topic string) map[int32]int32 {
	t.Helper()
	found, err := c.layout(examContext(t), topic)
	if err != nil {
		t.Fatal(err)
	}
	out := map[int32]int32{}
	for _, p := range found[0].Partitions {
		out[p.Partition] = p.Leader
	}
	return out
}

// coordinator returns the node that coordinates the row's group.
func (c *examCluster) coordinator(t *testing.T) int32 {
	t.Helper()
	req := kmsg.NewPtrFindCoordinatorRequest()
	req.CoordinatorKey = c.group
	req.CoordinatorKeys = []string{c.group}
	answer, err := req.RequestWith(examContext(t), c.cl)
	if err != nil {
		t.Fatalf("find coordinator: %v", err)
	}
	if len(answer.Coordinators) == 1 {
		if err := kerr.ErrorForCode(answer.Coordinators[0].ErrorCode); err != nil {
			t.Fatalf("find coordinator: %v", err)
		}
		return answer.Coordinators[0].NodeID
	}
	return answer.NodeID
}

// another returns a node that is none of these and leads partitions of the live topic.
func (c *examCluster) another(t *testing.T, not ...int32) int32 {
	t.Helper()
	for _, leader := range c.leaders(t, c.live) {
		if !slices.Contains(not, leader) {
			return leader
		}
	}
	t.Fatalf("no node but %v leads partitions of %s", not, c.live)
	return 0
}
