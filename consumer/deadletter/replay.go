package deadletter

import (
	"strconv"
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

// CheckReplay returns a letter's event as a worker would decode it after a replay at this time, and whether it can be replayed.
//
// The record has no time of its own: without an event time, T must not become the time of the replay.
func CheckReplay(r event.Record, now time.Time) (event.Event, Obstacle) {
	if _, omitted := r.Header(omittedHeader); omitted {
		return event.Event{}, Omitted
	}
	event := event.Decode(event.Record{Key: r.Key, Value: r.Value, Headers: replayHeaders(r, r.Replays())}, now)
	if event.Invalid != nil {
		return event, Invalid
	}
	return event, Replayable
}

// replayHeaders are the headers of a replayed record: the producer's, the event time of the letter if it has one, and how often it was replayed.
func replayHeaders(r event.Record, replays int) []event.Header {
	headers := r.OwnHeaders()
	if at, _ := r.Header(eventTimeHeader); at != "" {
		headers = append(headers, event.Header{Key: eventTimeHeader, Value: []byte(at)})
	}
	return append(headers, event.Header{Key: replaysHeader, Value: strconv.AppendInt(nil, int64(replays), 10)})
}

// Publication makes the record that is published for the event of a plan, of its letter's record.
func (l *Entry) Publication(r event.Record) event.Message {
	// Beyond the largest count a record would count as never replayed.
	return event.Message{Key: r.Key, Value: r.Value, Headers: replayHeaders(r, min(int(l.highest)+1, event.MaxReplays))}
}

// Resolve makes the record that resolves a letter, to be written to the letter's partition: its key, no value.
func Resolve(letter event.Record, how State) event.Message {
	return event.Message{Key: letter.Key, Headers: []event.Header{
		{Key: resolvesHeader, Value: []byte(IDOf(letter).String())},
		{Key: resolutionHeader, Value: []byte(how.String())},
	}}
}
