//go:build exam && unix

package cluster

import (
	"fmt"
	"testing"
	"time"
)

// The longest allowed time without a call: for a restart that is announced to the cluster, and for
// a node that stops responding.
const (
	plannedLimit   = 10 * time.Second
	unplannedLimit = 20 * time.Second
)

// TestExamClusterRollingRestart: the three nodes are restarted one after the other, as in an
// upgrade, each when all replicas are in sync again; two rounds. In a short run only the group's
// coordinator.
func TestExamClusterRollingRestart(t *testing.T) {
	c := newCluster(t)
	l := startLoad(t, c, 1000)
	nodes := []int32{1, 2, 3, 1, 2, 3}
	if testing.Short() {
		nodes = []int32{c.coordinator(t)}
	}
	for _, n := range nodes {
		l.phase(fmt.Sprintf("restart of node %d, coordinator %d", n, c.coordinator(t)), func() {
			c.nodeCommand(t, "stop", n)
			c.script(t, "start")
			c.waitInSync(t)
		})
	}
	l.end(t, "cluster-rolling-restart", plannedLimit)
}

// TestExamClusterFrozenBroker: a node is frozen for 30 s: it does not respond, and its connections
// stay open. First a node that leads partitions, then the group's coordinator; in a short run only
// the latter, for 20 s.
func TestExamClusterFrozenBroker(t *testing.T) {
	frozen := 30 * time.Second
	if testing.Short() {
		frozen = 20 * time.Second
	}
	c := newCluster(t)
	l := startLoad(t, c, 2600)
	freeze := func(what string, n int32) {
		l.phase(fmt.Sprintf("node %d, %s, frozen", n, what), func() {
			began := time.Now()
			c.nodeCommand(t, "freeze", n)
			<-time.After(time.Until(began.Add(frozen)))
			c.nodeCommand(t, "thaw", n)
			<-time.After(3 * time.Second) // it was fenced meanwhile, and learns that only now
			c.waitInSync(t)
		})
	}
	if !testing.Short() {
		freeze("a leader", c.otherLeader(t, c.coordinator(t)))
	}
	freeze("the coordinator", c.coordinator(t))
	l.end(t, "cluster-frozen-broker", unplannedLimit)
}

// TestExamClusterKilledLeader: the node that coordinates the group and leads partitions is killed,
// and is back after 20 s, in a short run after 14 s: the other nodes fence it after 9 s.
func TestExamClusterKilledLeader(t *testing.T) {
	away := 20 * time.Second
	if testing.Short() {
		away = 14 * time.Second
	}
	c := newCluster(t)
	l := startLoad(t, c, 2600)
	n := c.coordinator(t)
	leads := 0
	for _, leader := range c.leaders(t, c.Live) {
		if leader == n {
			leads++
		}
	}
	l.phase(fmt.Sprintf("node %d, the coordinator and leader of %d live partitions, killed", n,
		leads), func() {
		began := time.Now()
		c.nodeCommand(t, "kill", n)
		<-time.After(time.Until(began.Add(away)))
		c.script(t, "start")
		c.waitInSync(t)
	})
	l.end(t, "cluster-killed-leader", unplannedLimit)
}
