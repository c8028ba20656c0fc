// Package consumer is all of markread's Kafka: what the worker reads and commits, the dead letters it writes,
// what the tools publish, the topics it needs. No other package imports a Kafka client, except consumer/broker,
// the embedded broker.
//
// It does not decide anything about events. It decodes records (Decode), hands them to a Sink, and is told
// when each has reached its end (Generation.Finish). When to commit, what to retry and what to write as a dead
// letter is the worker's business.
//
// It promises:
//   - An offset is committed only when every event before it has finished, only forward, and only while this
//     member belongs to the generation that it got the partition in.
//   - Every record that a consumer may see is delivered in each generation, from the committed offset on, in
//     order within its partition. Aborted transactions are filtered. What retention deleted before it was read
//     is counted and logged; a topic that was made again is read from its beginning, and logged.
//   - No failure of a broker or a connection ends it. It waits, at most 2 s between two tries, and says so in
//     the log, not more than once in 10 s for each kind, with the number of those left out.
//   - Memory is bounded by the sink's Room, whatever producers write and however many partitions there are:
//     32 MiB of fetched bytes that were not delivered, unless one batch is larger; one chunk of records for each
//     of four decoders; and 16 bytes for each event that has not been settled.
//   - What a producer wrote wrong is delivered as a Damage, and the rest of its partition goes on. What can't be
//     fetched, or was damaged after its producer wrote it, is retried, and never skipped: the partition is
//     Unreadable, in its state and in the log.
//   - A letter is written once for each Write that succeeds; nothing of the record is lost but what the topic
//     is too small for.
//
// # Files
//
//	event.go decode.go object.go          a record becomes an event
//	offsets/                              what has finished (pure)
//	thin/                                 log lines that repeat
//	partition.go fetch.go batches.go      reading a partition
//	unreadable.go landmark.go             can it be read, and is it still the same log?
//	fetchapi.go memory.go                 the response to a fetch, and the memory for it
//	batch/                                batches of records, decoded with bounds (pure)
//	generation.go commit.go membership.go what is owned between two rebalances
//	group.go member.go assign.go          joining, assigning, leaving
//	memberdata.go agreement.go            what members write for each other, and whether to trust it
//	letters.go letterbound.go             dead letters, and how large they may be
//	publish.go produce.go                 writing
//	backfill/                             files of read states become records
//	letters/                              what became of each dead letter (pure), and letters/office, which works on them
//	extent.go scan.go                     reading a topic to its present end
//	groupview.go lag.go record.go         looking at a group, and at records, from outside
//	groupkind.go                          groups that workers can't use
//	inspect.go inspecttopics.go           looking at brokers and topics, before a worker uses them
//	topics.go permissions.go              what topics there must be, and what this user may do with them
//	connect.go reach.go                   brokers: the connections that a client keeps, and looking for the first
//	dial.go sasl.go conn.go refused.go    one connection: TLS and SASL, its limits, and why it was refused
//	groupapi.go                           requests that kafka-go gets wrong
//	plainly.go                            errors of kafka-go in words that fit
//
// # Non-obvious
//
//   - Arrival order is tracked, not offsets: logs have holes.
//   - The heartbeat goes on in the drain, until serve has returned. Without it the session ends during a long
//     drain, and the last commit is refused.
//   - Whoever may join the group may write anything to its other members, and may lead it. The shares of
//     the workers add up to the rate all the same: see accept and confirm in agreement.go.
//   - A generation's number does not identify it; the *Generation does. See Generation.
//   - kafka-go's ConsumerGroup, Reader and Writer are not used. The reasons stand beside member, fetch and
//     produce; those for its Heartbeat and LeaveGroup in groupapi.go, for its
//     decoding of records in fetchapi.go.
//   - kafka-go answers metadata from a cache that is up to 2 s old, and hides that it could not renew it.
//     refresh drops it. What must be new (a topic that was just created) has to be asked for again and again.
//   - TLS and SASL are done in the dial function (dial.go), so that both are set up anew for each connection:
//     certificates and passwords may be renewed while a worker runs.
//   - Kafka 4 lets a worker join a group of the newer protocol (KIP-848), and then assigns its
//     partitions. Nobody leads such a group: see join in member.go.
//   - Every request has a deadline of its own: kafka-go's default is none, and an abandoned request keeps its
//     connection until the answer or the deadline comes.
package consumer
