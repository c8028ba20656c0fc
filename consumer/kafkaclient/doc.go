// Package kafkaclient connects to Kafka and makes requests. It is the only importer of kafka-go,
// and the home of its traps. It knows no group state, no events' meaning and no dead letters' fate.
//
// It promises:
//   - Every request has a deadline of its own, and no failure passes without a retry that is
//     bounded by it or by the caller's context.
//   - Bytes that others wrote (records, lengths) are decoded with bounds; what a fetch keeps is
//     bounded by a Memory.
//   - An error names what failed and where, and, if it is a person's to repair, what to do. It
//     contains no password.
//   - A message is acknowledged by all in-sync replicas, or its error says that it may not be
//     there.
//
// # Files
//
//	client.go                 Options and Client
//	dial.go sasl.go           one connection: TLS, the SASL handshake, its limits
//	reach.go refused.go       looking for the first broker, and why one refused
//	errors.go unreadable.go   errors of kafka-go in words that fit
//	retry.go                  backoff, and which errors are transient
//	session.go describe.go    brokers, topics and their settings, as one broker describes them
//	group.go groupapi.go      requests of the group protocol, commits among them
//	fetch.go fetchapi.go      fetching from a partition
//	batches.go memory.go      its records, and the memory for them
//	offsets.go scan.go        offsets of a topic, and reading it to its present end
//	publish.go                writing
//
// # Non-obvious
//
//   - kafka-go's ConsumerGroup, Reader, Writer, Heartbeat and LeaveGroup are not used. The reasons
//     stand beside what replaces them (ConsumerGroup: member in package consumer).
//   - kafka-go answers metadata from a cache that is up to 2 s old, and hides that it could not
//     renew it. RefreshMetadata drops it. A topic that was just created has to be asked for again
//     and again.
//   - TLS and SASL are set up anew for each connection (dial.go): certificates and passwords may be
//     renewed while a worker runs.
//   - kafka-go's default is no deadline, and an abandoned request keeps its connection until the
//     response or the deadline comes.
package kafkaclient
