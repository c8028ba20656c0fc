package cli

import (
	"testing"

	"markread/cmd/markread/cli/clitest"
)

func try(t *testing.T, env []string, stdin string, args ...string) clitest.Result {
	t.Helper()
	return clitest.Commands(Run).Try(t, env, stdin, args...)
}

func begin(t *testing.T, env []string, args ...string) *clitest.Running {
	t.Helper()
	return clitest.Commands(Run).Begin(t, env, args...)
}

func beginWorker(t *testing.T, brokers, im string, extra ...string) (*clitest.Running, string) {
	t.Helper()
	return clitest.Commands(Run).BeginWorker(t, brokers, im, extra...)
}
