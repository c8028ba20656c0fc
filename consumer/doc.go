// Package consumer is a member of the group: it joins, reads its partitions, and commits what has
// finished. It does not decide anything about events: it decodes records (event.Decode), hands them
// to a Sink, and is told when each has finished (Generation.Finish). When to commit, what to retry
// and what becomes a dead letter is the worker's business. Requests and connections are package
// kafkaclient's.
//
// It promises:
//   - An offset is committed only when every event before it has finished, only forward, and only
//     while this member belongs to the generation that it got the partition in.
//   - Every record that a consumer may see is delivered in each generation, from the committed
//     offset on, in order within its partition. Aborted transactions are filtered. What retention
//     deleted before it was read is counted and logged; a recreated topic is read from its
//     beginning, and logged.
//   - No failure of a broker or a connection ends it. It retries at least every 2 s, and logs that
//     at most once in 10 s for each kind.
//   - Memory is bounded by the sink's Room, whatever producers write and however many partitions
//     there are: 32 MiB of fetched and undelivered bytes, unless one batch is larger; one chunk of
//     records for each of four decoders; and 16 bytes for each event that has not finished.
//   - What a producer wrote wrong is delivered as a Damage, and its partition continues. What can't
//     be fetched, or was damaged later, is retried, and never skipped: the partition is Unreadable.
//
// # Packages
//
//	event/        both wire formats: what is an event, and what is in a dead letter
//	batch/        batches of records, decoded with bounds (pure)
//	kafkaclient/  connections and requests; the only importer of kafka-go
//	offsets/      what has finished, and the commit metadata (pure)
//	admin/        brokers, topics and their settings, lag
//	deadletter/   writes, indexes, replays and discards dead letters
//	backfill/     files of read states become events
//	broker/       the embedded broker; brokertest/ has it in virtual time
//	logthrottle/  log lines that repeat
//	printable/    text of others, made printable
//
// # Files
//
//	group.go member.go assign.go          joining, assigning, leaving
//	memberdata.go quotaterms.go           what members write for each other
//	agreement.go                          whether to trust it
//	generation.go membership.go           what is owned between two rebalances, and heartbeats
//	commit.go                             offsets, with what has finished beyond them
//	partition.go fingerprint.go           reading a partition; is it still the same log?
//	unreadable.go                         since when it can't be read, and why
//	describe.go groupkind.go               describing a group; groups that workers can't use
//
// # Non-obvious
//
//   - Arrival order is tracked, not offsets: logs have holes.
//   - The heartbeat continues until serve has returned. Without it the session ends during a long
//     drain, and the last commit is refused.
//   - Whoever may join the group may write anything to its other members, and may lead it. The
//     shares of the workers add up to the rate all the same: see agreement.go.
//   - A generation's number does not identify it; the *Generation does. See Generation.
//   - Kafka 4 lets a worker join a group of the newer protocol (KIP-848), and then assigns its
//     partitions. Nobody leads such a group: see join in member.go.
//   - A group is described here and not in admin, because that reads what members write for each
//     other (memberdata.go).
package consumer
