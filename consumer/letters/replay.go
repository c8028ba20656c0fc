package letters

import (
	"hash/fnv"
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

// hashOf tells conversations apart, but for some that nobody will meet: what is published together is compared.
func hashOf(e consumer.Event) uint64 {
	return hashText(string(consumer.Key(e.Report, e.Peer)))
}

func hashText(text string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(text)) // it never fails
	return h.Sum64()
}

// Publication is one record to publish, and the letters that are replayed with it.
type Publication struct {
	Message consumer.Message
	Letters []consumer.Record

	readTime int64
	failedAt time.Time
	from     consumer.Record
	replays  int
}

// Collapse makes the records to publish of letters that are replayed: of each conversation one, with the largest T; of equally large ones the later
// one. They come in the order of each conversation's first letter. What can't be replayed (any more) is returned as well.
func Collapse(records []consumer.Record, now time.Time) (publications []Publication, stuck []consumer.Record) {
	type conversation struct{ report, peer string }
	index := map[conversation]int{}
	for _, r := range records {
		event, obstacle := Judge(r, now)
		if obstacle != Replayable {
			stuck = append(stuck, r)
			continue
		}
		c := conversation{event.Report, event.Peer}
		i, ok := index[c]
		if !ok {
			i = len(publications)
			index[c] = i
			publications = append(publications, Publication{})
		}
		publications[i].take(r, event)
	}
	for i := range publications {
		p := &publications[i]
		// Beyond the largest count a record would count as never replayed.
		p.Message = consumer.Message{Key: p.from.Key, Value: p.from.Value, Headers: replayHeaders(p.from, min(p.replays+1, consumer.MaxReplays))}
	}
	return publications, stuck
}

// take adds a letter of the conversation.
func (p *Publication) take(r consumer.Record, event consumer.Event) {
	at := failedAt(r)
	if len(p.Letters) == 0 || event.ReadTime > p.readTime || event.ReadTime == p.readTime && p.isBefore(r, at) {
		p.from, p.readTime, p.failedAt = r, event.ReadTime, at
	}
	p.replays = max(p.replays, r.Replays())
	p.Letters = append(p.Letters, r)
}

// isBefore reports whether the letter that is to be published is older than r.
func (p *Publication) isBefore(r consumer.Record, at time.Time) bool {
	if p.from.Partition == r.Partition {
		return p.from.Offset < r.Offset
	}
	return p.failedAt.Before(at)
}

// Resolve makes the record that resolves a letter, to be written to the letter's partition: its key, no value.
func Resolve(letter consumer.Record, how State) consumer.Message {
	return consumer.Message{Key: letter.Key, Headers: []consumer.Header{
		{Key: resolvesHeader, Value: []byte(IDOf(letter).String())},
		{Key: resolutionHeader, Value: []byte(how.String())},
	}}
}
