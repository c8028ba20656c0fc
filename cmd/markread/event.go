package main

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"markread/consumer"
)

// eventTimeHeader carries the event time in milliseconds since 1970.
const eventTimeHeader = "markread.event-time"

// newEvent makes an event as a backend should: keyed by its conversation, so that one conversation stays in one partition.
func newEvent(report, peer string, readTime *int64, now time.Time) consumer.Message {
	value, _ := json.Marshal(struct {
		Report   string `json:"Report_Account"`
		Peer     string `json:"Peer_Account"`
		ReadTime *int64 `json:"MsgReadTime,omitempty"`
	}{report, peer, readTime})
	return consumer.Message{Key: consumer.Key(report, peer), Value: value, Time: now}
}

// withEventTime adds the header with the event time, in milliseconds since 1970.
func withEventTime(m consumer.Message, ms int64) consumer.Message {
	m.Headers = []consumer.Header{{Key: eventTimeHeader, Value: strconv.AppendInt(nil, ms, 10)}}
	return m
}

// decode judges a message as the worker will.
func decode(m consumer.Message) consumer.Event {
	return consumer.Decode(consumer.Record{Key: m.Key, Value: m.Value, Headers: m.Headers, Time: m.Time}, time.Now())
}

// checkRead returns a usage error that names the one of --report, --peer and --read-time (nil: not given) that makes no valid event. The rules
// are the worker's own: each flag is tried in an event that is right otherwise.
func checkRead(report, peer string, readTime *int64) error {
	now := time.Now()
	for _, part := range []struct {
		flag, field string
		event       consumer.Message
	}{
		{"--report", "Report_Account", newEvent(report, "peer", nil, now)},
		{"--peer", "Peer_Account", newEvent("reader", peer, nil, now)},
		{"--read-time", "MsgReadTime", newEvent("reader", "peer", readTime, now)},
	} {
		if err := decode(part.event).Invalid; err != nil {
			return usagef("%s", strings.Replace(err.Error(), part.field, part.flag, 1))
		}
	}
	return nil
}

// Event times outside these bounds, in milliseconds since 1970, are another unit: the lower one is in 1973, the upper one in the year 33658.
const (
	minEventTime = 100_000_000_000
	maxEventTime = 999_999_999_999_999
)

// checkEventTime returns a usage error if --event-time is none. It may lie in the future only if there is a read time: else it is one.
func checkEventTime(ms int64, readTime *int64) error {
	switch {
	case ms <= 0:
		return usagef("--event-time %d: must be positive, in milliseconds since 1970", ms)
	case ms < minEventTime:
		return usagef("--event-time %d: must be in milliseconds since 1970; it looks like seconds", ms)
	case ms > maxEventTime:
		return usagef("--event-time %d: must be in milliseconds since 1970; it looks like a smaller unit", ms)
	}
	if e := decode(withEventTime(newEvent("reader", "peer", readTime, time.Now()), ms)); e.Invalid != nil {
		return usagef("--event-time %d is more than 5 minutes ahead", ms) // the rest is checked
	}
	return nil
}
