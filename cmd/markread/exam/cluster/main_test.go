//go:build exam && unix

// Package cluster holds the acceptance tests that need a real Kafka of three nodes: they stop, kill
// and freeze its nodes, rotate its certificates and passwords, withhold permissions, and connect
// with wrong settings. MARKREAD_TEST_KAFKA names the cluster's folder, as started by
// deploy/kafka/kafka; without it the tests are skipped. They don't start or remove the cluster;
// each uses topics of its own and leaves all nodes running.
package cluster

import (
	"testing"

	"markread/cmd/markread/exam/kit"
)

func TestMain(m *testing.M) { kit.Main(m) }
