package deadletter

import (
	"time"

	"markread/consumer/event"
)

// Obstacle is why a letter can't be replayed.
type Obstacle uint8

// The obstacles.
const (
	Replayable Obstacle = iota // none
	Invalid                    // its record is no event
	Omitted                    // its value was too large for the topic, and is not in it

	obstacleCount = 3
)

// CheckReplay returns a letter's event as a worker would decode it after a replay at this time, and
// whether it can be replayed.
//
// The record has no time of its own: without an event time, T must not become the time of the
// replay.
func CheckReplay(r event.Record, now time.Time) (event.Event, Obstacle) {
	if _, omitted := event.ValueOmitted(r); omitted {
		return event.Event{}, Omitted
	}
	event := event.Decode(event.Record{Key: r.Key, Value: r.Value,
		Headers: r.ReplayHeaders(r.Replays())}, now)
	if event.Invalid != nil {
		return event, Invalid
	}
	return event, Replayable
}

// Publication makes the record that is published for the event of a plan, of its letter's record.
func (l *Entry) Publication(r event.Record) event.Message {
	// Beyond the largest count a record would count as never replayed.
	return event.Message{Key: r.Key, Value: r.Value,
		Headers: r.ReplayHeaders(min(int(l.highest)+1, event.MaxReplays))}
}
