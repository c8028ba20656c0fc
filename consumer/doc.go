// Package consumer is one member of a consumer group: it joins the group, reads its partitions, and
// commits the offsets of finished events.
//
// It makes no decisions about events. It decodes each record (event.Decode), delivers it to a Sink,
// and is notified when the event has finished (Generation.Finish). The worker decides when to
// commit, what to retry and what becomes a dead letter. Package kafkaclient owns requests and
// connections.
//
// It promises:
//   - It commits an offset only when every event before it has finished, only forward, and only
//     while this member belongs to the generation in which it was assigned the partition.
//   - Each generation delivers every record that a consumer may see, from the committed offset on,
//     in order within its partition. Aborted transactions are filtered out. Records that retention
//     deleted before they were read are counted and logged. A recreated topic is logged and read
//     from its beginning.
//   - No failure of a broker or a connection ends it. It retries at least every 2 s, and logs that
//     at most once in 10 s for each kind of failure.
//   - Memory is bounded by the sink's WaitForCapacity, whatever producers write and however many
//     partitions there are: 32 MiB of fetched and undelivered bytes, unless one batch is larger;
//     one chunk of records for each of four decoders; and 8 bytes for each unfinished event.
//   - Malformed data of a producer is delivered as a Damage, and its partition continues. Data that
//     can't be fetched, or that was damaged after it was written, is retried and never skipped; the
//     partition is Unreadable meanwhile.
//
// # Packages
//
//	event/        both wire formats: mark-read events and dead letters
//	batch/        decodes batches of records, with bounds (pure)
//	kafkaclient/  connections and requests; the only importer of kafka-go
//	offsets/      tracks finished events, encodes the commit metadata (pure)
//	admin/        brokers, topics and their settings, lag
//	deadletter/   writes, indexes, replays and discards dead letters
//	backfill/     turns files of read states into events
//	broker/       the embedded broker; brokertest/ runs it in virtual time
//	logthrottle/  limits repeated log lines
//	printable/    makes text of other programs printable
//
// # Files
//
//	group.go member.go                    join the group, lead it (lead), leave
//	assign.go                             which member gets which partitions
//	memberdata.go quotaterms.go           the data that members publish for each other
//	agreement.go                          checks the assignment that the leader made
//	generation.go membership.go           state between two rebalances; heartbeats
//	commit.go                             commits offsets and commit metadata
//	partition.go fingerprint.go           reads a partition; detects a recreated log
//	unreadable.go                         since when a partition can't be read, and why
//	describe.go groupkind.go              describes a group; groups that workers can't use
//
// # Non-obvious
//
//   - The offset tracker follows arrival order, not offsets: logs have holes.
//   - Heartbeats continue until serve has returned. Without them the session would expire during a
//     long drain, and the coordinator would refuse the last commit.
//   - Anyone who may join the group may publish any data to its members, and may become its leader.
//     The workers' shares still never add up to more than the rate: see agreement.go.
//   - A generation's number does not identify it; the *Generation does. See Generation.
//   - Kafka 4 lets a worker join a group of the newer protocol (KIP-848), and then the brokers
//     assign its partitions. Such a group has no leader: see join in member.go.
//   - This package describes groups, and admin does not, because DescribeGroup decodes the data
//     that members publish for each other (memberdata.go).
package consumer
