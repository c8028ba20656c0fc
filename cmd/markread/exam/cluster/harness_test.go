//go:build exam && unix

package cluster

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

	"markread/cmd/markread/exam/kit"
)

// clusterDir is the environment variable that names the folder of a cluster of three nodes, started
// by deploy/kafka/kafka, that the tests may disturb.
const clusterDir = "MARKREAD_TEST_KAFKA"

const nodes = 3

// cluster is that cluster, with topics for one test. All its nodes run again when the test has
// ended.
type cluster struct {
	*kit.Kafka
	dir string
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	dir := os.Getenv(clusterDir)
	if dir == "" {
		t.Skipf("skipped: it needs a cluster of three nodes that it may disturb, started by "+
			"deploy/kafka/kafka; %s names its folder", clusterDir)
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{dir: dir}
	c.script(t, "start")
	brokers := regexp.MustCompile(`(?m)^PLAINTEXT=(\S+)$`).FindStringSubmatch(c.script(t, "env"))
	if brokers == nil {
		t.Fatalf("%s does not contain the brokers' addresses", c.script(t, "env"))
	}
	c.Kafka = kit.UniqueNames(t, brokers[1])
	t.Cleanup(func() {
		for n := 1; n <= nodes; n++ {
			// fails for a node that does not run
			_ = c.command(context.Background(), "thaw", strconv.Itoa(n)).Run()
		}
		c.script(t, "start")
	})
	c.CreateTopics(t, kit.NewTopics(kit.Partitions, c.Topics()...)...)
	c.waitInSync(t)
	return c
}

func (c *cluster) command(ctx context.Context, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "../../../../deploy/kafka/kafka",
		append([]string{"--dir", c.dir}, args...)...)
}

// script runs a command of deploy/kafka/kafka and returns its output.
func (c *cluster) script(t *testing.T, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	cmd := c.command(ctx, args...)
	cmd.WaitDelay = time.Second // in case a node that it starts keeps the output open
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("kafka %v: %v\n%s", args, err, out)
	}
	return string(out)
}

func (c *cluster) nodeCommand(t *testing.T, command string, n int32) {
	t.Helper()
	c.script(t, command, strconv.Itoa(int(n)))
}

// waitInSync waits until all replicas of all partitions are in sync, and returns how long that
// took.
func (c *cluster) waitInSync(t *testing.T) time.Duration {
	t.Helper()
	began := time.Now()
	behind := "no response"
	defer func() {
		if t.Failed() {
			t.Logf("not in sync: %s", behind)
		}
	}()
	kit.Wait(t, "all replicas are in sync", time.Minute, func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		all := kmsg.NewPtrMetadataRequest()
		all.Topics = nil
		found, err := all.RequestWith(ctx, c.Client)
		if err != nil {
			behind = err.Error()
			return false
		}
		behind = ""
		for _, topic := range found.Topics {
			for _, p := range topic.Partitions {
				if len(p.ISR) < len(p.Replicas) || p.Leader < 0 {
					behind = fmt.Sprintf("%s %d: leader %d, replicas %v, in sync %v", *topic.Topic,
						p.Partition, p.Leader, p.Replicas, p.ISR)
				}
			}
		}
		return len(found.Brokers) == nodes && behind == ""
	})
	return time.Since(began)
}

// leaders returns the node that leads each of the topic's partitions.
func (c *cluster) leaders(t *testing.T, topic string) map[int32]int32 {
	t.Helper()
	found, err := c.Metadata(kit.Context(t), topic)
	if err != nil {
		t.Fatal(err)
	}
	out := map[int32]int32{}
	for _, p := range found[0].Partitions {
		out[p.Partition] = p.Leader
	}
	return out
}

// coordinator returns the node that coordinates the test's group.
func (c *cluster) coordinator(t *testing.T) int32 {
	t.Helper()
	req := kmsg.NewPtrFindCoordinatorRequest()
	req.CoordinatorKey = c.Group
	req.CoordinatorKeys = []string{c.Group}
	response, err := req.RequestWith(kit.Context(t), c.Client)
	if err != nil {
		t.Fatalf("find coordinator: %v", err)
	}
	if len(response.Coordinators) == 1 {
		if err := kerr.ErrorForCode(response.Coordinators[0].ErrorCode); err != nil {
			t.Fatalf("find coordinator: %v", err)
		}
		return response.Coordinators[0].NodeID
	}
	return response.NodeID
}

// otherLeader returns a node, not in the list, that leads partitions of the live topic.
func (c *cluster) otherLeader(t *testing.T, not ...int32) int32 {
	t.Helper()
	for _, leader := range c.leaders(t, c.Live) {
		if !slices.Contains(not, leader) {
			return leader
		}
	}
	t.Fatalf("no node but %v leads partitions of %s", not, c.Live)
	return 0
}
