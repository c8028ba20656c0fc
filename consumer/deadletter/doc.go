// Package deadletter writes dead letters to their topic, finds them there, and replays or discards
// them. Commands and console share it. It asks nobody for confirmation and shows nothing. The
// format of a dead letter, headers and all, is in package event (deadletter.go there).
//
// It promises:
//   - A letter is written once for each Write that succeeds; nothing of the record is lost but what
//     the topic is too small for.
//   - A letter is resolved only when its event is acknowledged by all replicas of the topic that it
//     is replayed to. So a replay that is interrupted anywhere, killed even, loses no letter. At
//     worst some are replayed once more: then a worker finds their T covered, or calls once too
//     often.
//   - What is read ends where the topic ended when reading began: a replay does not meet its own
//     letters.
//   - No record that somebody else has written there makes it fail: what is neither a letter nor a
//     resolution is counted.
//   - Memory is bounded: 64 bytes for each letter of the topic, about 170 for each that is
//     replayed, and one part (see listBytes, workBytes) of the records themselves. Who wants the
//     records reads the topic twice, and knows what became of each letter the second time.
//
// # Files
//
//	writer.go bound.go   writing a letter, and how large it may be
//	letters.go           IDs, states, and the headers that tell what a record is
//	index.go             what became of all letters of a topic, and how many there are of each kind
//	filter.go find.go    which letters somebody asks for, oldest first, in parts that fit into memory
//	letter.go json.go    what one letter says, and the same as a line of JSON
//	plan.go replay.go    which letters a replay publishes, which they cover, and the records for that
//	edit.go              a letter's event, to be edited by hand
//	store.go show.go     the topic: find, list, show, replay, discard
//	unread.go            partitions that end, for us, before their end
//
// # Non-obvious
//
//   - The states depend on whole topics: a letter is open until a resolution of it is found, which
//     may be its partition's last record.
//   - A letter that was resolved stays so: the first resolution counts, a later one of the same
//     letter changes nothing. A resolution may be about a letter that retention has deleted.
//   - What is replayed has the event time of the letter, not that of its replay: T must not move. A
//     letter without one is replayed only if its event has a MsgReadTime.
//   - Two replays at the same time publish and resolve twice. The first resolution of a letter
//     counts; the second publication is one of those that a worker collapses, or finds covered.
//   - A partition may end, for us, before its end: at a batch with a wrong checksum, or where its
//     leader is gone. A letter before that may be resolved by a record behind it. So it is neither
//     replayed nor discarded unless it is named: see Known. Records of others that can't be decoded
//     hide nothing: markread wrote none of them.
//   - Letters of one conversation are published as one event, and those that it covers are resolved
//     when all events are published. A replay that is killed before leaves them open, and the next
//     publishes the newest of them: a T that is covered already. One that is interrupted resolves
//     them.
package deadletter
