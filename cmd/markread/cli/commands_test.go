package cli

import "testing"

func try(t *testing.T, env []string, stdin string, args ...string) result {
	t.Helper()
	return commands(Run).Try(t, env, stdin, args...)
}

func begin(t *testing.T, env []string, args ...string) *running {
	t.Helper()
	return commands(Run).Begin(t, env, args...)
}

func beginWorker(t *testing.T, brokers, im string, extra ...string) (*running, string) {
	t.Helper()
	return commands(Run).BeginWorker(t, brokers, im, extra...)
}
