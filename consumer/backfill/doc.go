// Package backfill turns files of read states, CSV or one JSON object per line, into records for
// the backfill topic. It checks each row as the worker checks an event, keeps the largest T of each
// conversation in a bounded window, and publishes one record for each conversation when the window
// is full or everything is read. It does not call the API, and does not read the topic.
//
// It promises:
//   - A row is rejected with its reason, or a record of its conversation with at least its T is
//     acknowledged.
//   - Memory is bounded whatever the size of the inputs, of a row, or of zstd's window.
//   - After a crash a resumed run repeats at most what was not acknowledged when the state was last
//     saved, and the rows read after that.
//
// Non-obvious:
//   - The position in the state is the row that added the oldest conversation to the window. The
//     conversations of earlier rows are acknowledged, with their largest T up to that position.
//   - Rejects are synced to the disk before a state that counts them.
//   - The state has a hash of what was read of the files: a run continues only if that is
//     unchanged. Changes after it are detected by size and modification time.
//   - No read time is guessed: a row without one is rejected, or gets the given one.
//   - A position is an offset in the decompressed content. To resume means to decompress again,
//     which is far faster than publishing.
package backfill
