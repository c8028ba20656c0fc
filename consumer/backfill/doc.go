// Package backfill turns files of read states, CSV or one JSON object a line, into records for the
// backfill topic. It judges each row as the worker would judge an event, keeps the largest T of
// each conversation in a bounded window, and publishes one record for each when the window is full,
// or everything is read. It does not call the API, and does not read the topic.
//
// It promises:
//   - A row is rejected with its reason, or a record of its conversation with at least its T is
//     acknowledged.
//   - Memory is bounded whatever the size of the inputs, of a row, or of a window of zstd's.
//   - After a crash, a resumed run repeats at most what was not acknowledged when the state was
//     last saved, and the rows read behind it.
//
// Non-obvious:
//   - The mark of the state is the row that the oldest conversation of the window first came from.
//     The conversations of rows before it are acknowledged, with the largest T up to then.
//   - The rejects are on the disk before a state that counts them is.
//   - The state has a hash of what was read of the files: a run continues only if that is
//     unchanged. Changes behind it are found by size and time.
//   - No read time is guessed: a row without one is a reject, or has the one that was given.
//   - A position is one of the decompressed content: resuming decompresses again, which is far
//     faster than publishing.
package backfill
