//go:build exam && unix

// Package exam holds the acceptance tests: they run the product as processes, from its command
// line, and check the promises of the contract from outside: which calls arrive at the IM server
// and how fast, which offsets are committed, and which dead letters are written, under load,
// faults, kills, freezes and rebalances. They share no code with the product's logic; see package
// kit for how to run them. Tests that call t.Parallel mostly wait; the others need the machine to
// themselves. Package cluster has the tests that disturb a real Kafka.
//
// "T" is the time up to which a conversation is read, as in the contract. Each test logs its
// figures with kit.Figure, and fails with "the test proves nothing" if the situation that it is
// about did not occur.
package exam

import (
	"testing"

	"markread/cmd/markread/exam/kit"
)

func TestMain(m *testing.M) { kit.Main(m) }
