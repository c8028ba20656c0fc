// Package event has both wire formats: the mark-read event (Decode) and the dead letter
// (DeadLetter), with the names of their headers. It reads and writes bytes only: it connects to
// nothing, and does not decide what becomes of an event.
//
// It promises that Decode never fails: what is no event has the reason in Invalid, in words that
// name the field and show its value, truncated and printable; and that the message of a dead letter
// has all that its record had, unless the caller leaves parts out because the topic refused it.
package event
