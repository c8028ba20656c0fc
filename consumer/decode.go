package consumer

import "time"

// Decode applies the contract's rules to a record. latest is the later of the worker's clock and the last
// Date of the IM server: a read time may be at most five minutes ahead of it. Decode is pure.
func Decode(record Record, latest time.Time) Event {
	return Event{Record: record}
}

// Key returns the recommended record key for a conversation.
func Key(report, peer string) []byte { return []byte(report + "|" + peer) }
