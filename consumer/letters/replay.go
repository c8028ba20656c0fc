package letters

import (
	"strconv"
	"time"

	"markread/consumer"
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

// Judge returns a letter's event as a worker would decode it after a replay at this time, and whether it can be replayed.
//
// The record has no time of its own: without an event time, T must not become the time of the replay.
func Judge(r consumer.Record, now time.Time) (consumer.Event, Obstacle) {
	if _, omitted := r.Header(omittedHeader); omitted {
		return consumer.Event{}, Omitted
	}
	event := consumer.Decode(consumer.Record{Key: r.Key, Value: r.Value, Headers: replayHeaders(r, r.Replays())}, now)
	if event.Invalid != nil {
		return event, Invalid
	}
	return event, Replayable
}

// replayHeaders are the headers of a replayed record: the producer's, the event time of the letter if it has one, and how often it was replayed.
func replayHeaders(r consumer.Record, replays int) []consumer.Header {
	headers := r.OwnHeaders()
	if at, _ := r.Header(eventTimeHeader); at != "" {
		headers = append(headers, consumer.Header{Key: eventTimeHeader, Value: []byte(at)})
	}
	return append(headers, consumer.Header{Key: replaysHeader, Value: strconv.AppendInt(nil, int64(replays), 10)})
}

// Publication makes the record that is published for the event of a plan, of its letter's record.
func (l *Found) Publication(r consumer.Record) consumer.Message {
	// Beyond the largest count a record would count as never replayed.
	return consumer.Message{Key: r.Key, Value: r.Value, Headers: replayHeaders(r, min(int(l.highest)+1, consumer.MaxReplays))}
}

// Resolve makes the record that resolves a letter, to be written to the letter's partition: its key, no value.
func Resolve(letter consumer.Record, how State) consumer.Message {
	return consumer.Message{Key: letter.Key, Headers: []consumer.Header{
		{Key: resolvesHeader, Value: []byte(IDOf(letter).String())},
		{Key: resolutionHeader, Value: []byte(how.String())},
	}}
}
