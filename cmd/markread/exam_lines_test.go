//go:build exam && unix

package main

// How the product tells where it listens, when it was told to take any port.
const (
	examAdminLine    = `"addr":"(127\.0\.0\.1:\d+)".*admin server listens`
	examSandboxLine  = `IM sandbox +http://(127\.0\.0\.1:\d+)\s`
	examDevKafkaLine = `Kafka +(127\.0\.0\.1:\d+)\s`
	examDevIMLine    = `IM server +http://(127\.0\.0\.1:\d+)/`
	examDevAdminLine = `console +http://(127\.0\.0\.1:\d+)/`
)
