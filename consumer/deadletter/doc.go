// Package deadletter writes dead letters to their topic, finds them there, and replays or discards
// them. It asks nobody for confirmation and shows nothing. The format of a dead letter, headers and
// all, is in package event (deadletter.go there).
//
// It promises:
//   - A letter is written once for each Write that succeeds; nothing of the record is lost but what
//     the topic is too small for.
//   - A letter is resolved only when all replicas of the topic that it is replayed to have its
//     event. A replay that is interrupted anywhere, killed even, loses no letter; at worst some are
//     replayed once more, and a worker finds their T covered, or calls once too often.
//   - What is read ends where the topic ended when reading began: a replay does not meet its own
//     letters.
//   - Records that somebody else has written there don't make it fail: they are counted.
//   - Memory is bounded: 64 bytes for each letter of the topic, about 170 for each that is
//     replayed, and one part (see listBytes, workBytes) of the records themselves. To see records,
//     the topic is read twice; the second time it is known what became of each letter.
//
// # Files
//
//	writer.go             writing a letter, and how large it may be
//	letters.go json.go    a letter, its ID and state; the same as JSON; its event, to be edited
//	index.go              all letters of a topic: states, counts, and those that somebody asks for
//	plan.go               which letters a replay publishes, which they cover, and the records
//	store.go show.go      the topic: find, list, show, replay, discard
//	unread.go             partitions that end, for us, before their end
//
// # Non-obvious
//
//   - The states depend on whole topics: a letter is open until a resolution of it is found, which
//     may be its partition's last record.
//   - The first resolution of a letter counts; later ones change nothing. A resolution may be about
//     a letter that retention has deleted.
//   - What is replayed has the event time of the letter, not that of its replay: T must not move. A
//     letter without one is replayed only if its event has a MsgReadTime.
//   - Two replays at the same time publish and resolve twice: a worker collapses the second
//     publication, or finds it covered.
//   - A partition may end, for us, before its end: at a batch with a wrong checksum, or where its
//     leader is gone. A letter before that may be resolved by a record behind it, so it is neither
//     replayed nor discarded unless it is named: see Known. Records of others that can't be decoded
//     hide nothing: markread wrote none of them.
//   - Letters of one conversation are published as one event, and those that it covers are resolved
//     when all events are published. A replay that is killed before leaves them open, and the next
//     publishes the newest of them: a T that is covered already. One that is interrupted resolves
//     them.
package deadletter
