//go:build exam && unix

package main

// How the product tells where it listens, when it was told to take any port.
const (
	examAdminLine    = `"addr":"(127\.0\.0\.1:\d+)"`
	examSandboxLine  = `(127\.0\.0\.1:\d+)`
	examDevKafkaLine = `(127\.0\.0\.1:\d+)`
	examDevIMLine    = `(127\.0\.0\.1:\d+)`
	examDevAdminLine = `(127\.0\.0\.1:\d+)`
)
