//go:build exam && unix

package kit

// Patterns of the lines in which the product prints its addresses. A test that passes port 0 reads
// the port from them.
const (
	AdminLine    = `"addr":"(127\.0\.0\.1:\d+)".*admin server listens`
	SandboxLine  = `IM sandbox +http://(127\.0\.0\.1:\d+)\s`
	DevKafkaLine = `Kafka +(127\.0\.0\.1:\d+)\s`
	DevIMLine    = `IM server +http://(127\.0\.0\.1:\d+)/`
	DevAdminLine = `worker +http://(127\.0\.0\.1:\d+)/`
)
