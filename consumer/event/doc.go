// Package event implements both wire formats: the mark-read event (Decode) and the dead letter
// (DeadLetter), with the names of their headers. It only reads and writes bytes: it makes no
// connections, and does not decide what happens to an event.
//
// It promises:
//   - Decode never fails. If a record is not a valid event, Invalid has the reason, which names the
//     field and shows its value, truncated and printable.
//   - The record of a dead letter has everything that the original record had, unless the caller
//     omits parts because the topic rejected them.
//
// # Non-obvious
//
//   - scan parses the values that nearly all producers write, in one pass. parseStrict decides
//     about every other value, and has the same result for each that scan accepts.
//   - The accounts of an Event are bytes of its record, which are valid as long as the record's.
//   - Names of fields are case-sensitive. A misspelt name makes the event invalid instead of being
//     accepted: see IntendedField.
//   - Decode reads only two headers of an incoming record, HeaderEventTime and HeaderReplays; log
//     lines and metrics also read HeaderTraceparent. Headers are not trusted: a producer can forge
//     them.
package event
