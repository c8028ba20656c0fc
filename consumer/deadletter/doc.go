// Package deadletter writes dead letters to their topic, finds them there, and replays or discards
// them. It doesn't ask for confirmation and prints nothing. Package event (deadletter.go) has the
// format of a dead letter, with its headers.
//
// It promises:
//   - Each Write that succeeds writes a dead letter once. Nothing of the record is lost except
//     parts that the topic rejects, mostly for their size.
//   - A dead letter is resolved only when all replicas of the target topic have its event. A replay
//     that is interrupted anywhere, even killed, loses no dead letter. At worst some are replayed
//     once more, and a worker finds their T covered or makes one call too many.
//   - A read ends where the topic ended when the read began: a replay never reads the dead letters
//     that it causes.
//   - Records written by another program cause no failure: they are counted.
//   - Memory is bounded: 64 bytes for each dead letter of the topic (80 with KeepAccounts), about
//     170 for each one that is replayed, and one part of the records themselves (see listBytes,
//     workBytes). To get the records the topic is read twice: only after the first read is the
//     state of each dead letter known.
//
// # Files
//
//	writer.go             writes a dead letter, and finds how large it may be
//	letters.go json.go    a dead letter, its ID and state; its JSON form; its event for editing
//	index.go              all dead letters of a topic: states, counts, filters
//	search.go             dead letters by a filter that was not known when the index was built
//	query.go              a filter as people type it
//	job.go                what replay and discard select; a replay from its plan to its report
//	plan.go               which dead letters a replay publishes, which these cover, the records
//	store.go show.go      operations on the topic: find, list, show, replay, discard
//	unread.go             partitions that can be read only in part
//
// # Non-obvious
//
//   - A state depends on the whole topic: a dead letter is open until a resolution of it is found,
//     and that may be the last record of its partition.
//   - The first resolution of a dead letter counts; later ones change nothing. A resolution may
//     refer to a dead letter that retention has deleted.
//   - A replayed record has the event time of the dead letter, not the time of the replay: T must
//     not move. A dead letter without an event time is replayed only if its event has a
//     MsgReadTime.
//   - A second Find with the same index reads only what was appended. It reads all again if retention
//     has deleted records, or the topic was recreated.
//   - Two concurrent replays publish and resolve twice. A worker collapses the second record, or
//     finds it covered.
//   - A partition may be readable only in part: up to a batch with a wrong checksum, or until its
//     leader becomes unavailable. A later record may resolve a dead letter before that point, so
//     the dead letter is neither replayed nor discarded unless its ID is given: see WithKnownState.
//     A record that can't be decoded hides nothing: markread did not write it.
//   - Of the dead letters of one conversation one event is published. The ones that it covers are
//     resolved after all events are published. A replay that is killed before that leaves them
//     open, and the next replay publishes the newest of them: its T is already covered. A replay
//     that is interrupted resolves them.
package deadletter
