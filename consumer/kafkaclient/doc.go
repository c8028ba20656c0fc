// Package kafkaclient connects to Kafka and sends requests. It is the only package that imports
// kafka-go, and it works around the traps of that library. It keeps no group state, and it knows
// neither what events mean nor what happens to dead letters.
//
// It promises:
//   - Every request has its own deadline. Transient failures are retried until that deadline or the
//     end of the caller's context.
//   - Bytes that others wrote (records, lengths) are decoded with bounds; a Memory bounds what
//     fetches keep.
//   - An error names what failed and where and, if a person has to fix it, what to do. It contains
//     no password.
//   - All in-sync replicas acknowledge a published message; otherwise the error says that the
//     message may be missing.
//
// # Files
//
//	client.go                 Options and Client
//	dial.go sasl.go           one connection: TLS, the SASL handshake, its time limits
//	diagnose.go refused.go    waiting for a broker, and why a broker refuses us
//	errors.go unreadable.go   clearer texts for kafka-go's errors
//	retry.go                  backoff, and which errors are transient
//	session.go describe.go    brokers, topics and their settings, as one broker describes them
//	group.go groupapi.go      requests of the group protocol, including commits
//	fetch.go fetchapi.go      fetching from a partition
//	batches.go                the fetched records
//	memory.go                 the memory for them, which later fetches reuse
//	offsets.go scan.go        offsets of a topic, and reading it to its current end
//	publish.go                publishing
//
// # Non-obvious
//
//   - kafka-go's ConsumerGroup, Reader, Writer, Heartbeat and LeaveGroup are not used. The code
//     that replaces each states the reason (ConsumerGroup: member in package consumer).
//   - kafka-go serves metadata from a cache that is up to 2 s old, and hides failures to refresh
//     it. RefreshMetadata drops the cache. The metadata of a topic that was just created has to be
//     requested repeatedly.
//   - Each connection sets up TLS and SASL from the current files (dial.go): certificates and
//     passwords may be renewed while a worker runs.
//   - By default kafka-go has no deadline, and an abandoned request keeps its connection until the
//     response or the deadline.
package kafkaclient
