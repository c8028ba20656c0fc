//go:build exam && unix

package kit

// How the product tells where it listens, when it was told to take any port.
const (
	AdminLine    = `"addr":"(127\.0\.0\.1:\d+)".*admin server listens`
	SandboxLine  = `IM sandbox +http://(127\.0\.0\.1:\d+)\s`
	DevKafkaLine = `Kafka +(127\.0\.0\.1:\d+)\s`
	DevIMLine    = `IM server +http://(127\.0\.0\.1:\d+)/`
	DevAdminLine = `console +http://(127\.0\.0\.1:\d+)/`
)
