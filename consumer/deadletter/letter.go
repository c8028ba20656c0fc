package deadletter

import (
	"strconv"
	"time"

	"markread/consumer/event"
)

// Letter is what a letter says. What it does not say, or not in a form that can be read, is nil or 0.
type Letter struct {
	ID
	State State
	Kind
	Message      string
	Report, Peer *string
	ReadTime     *int64     // MsgReadTime of its event
	EventTime    *time.Time // when the user read
	FailedAt     time.Time
	Origin       Origin
	Attempts     int // counted ones
	Collapsed    int // how many events it stands for
	Replays      int
	Lane         string
	Omitted      string // how large the value was that the topic did not take; "": it is there
	Record       event.Record
}

// Origin is where the record of a letter was read first, and by whom.
type Origin struct {
	Topic, Group      string
	Partition, Offset *int64
}

// Parse reads the record of a letter.
func Parse(r event.Record, state State) Letter {
	kind, _ := KindOf(r)
	text := func(name string) string { s, _ := r.Header(name); return s }
	number := func(name string) *int64 {
		n, err := strconv.ParseInt(text(name), 10, 64)
		if err != nil || n < 0 {
			return nil
		}
		return &n
	}
	count := func(name string, otherwise int) int {
		if n := number(name); n != nil && *n <= 1<<31 {
			return int(*n)
		}
		return otherwise
	}
	l := Letter{
		ID: IDOf(r), State: state, Kind: kind, Message: text(messageHeader),
		FailedAt: failedAt(r).UTC(),
		Origin:   Origin{text(originHeader + "topic"), text(originHeader + "group"), number(originHeader + "partition"), number(originHeader + "offset")},
		Attempts: count(attemptsHeader, 0), Collapsed: max(1, count(collapsedHeader, 1)), Replays: r.Replays(), Lane: text(laneHeader),
		Omitted: text(omittedHeader), Record: r,
	}
	fields := event.ParseLenient(r.Value)
	l.Report, l.Peer, l.ReadTime = fields.Report, fields.Peer, fields.ReadTime
	// As a replay would read it: a malformed time is none.
	if event := event.Decode(event.Record{Headers: replayHeaders(r, 0)}, time.Time{}); !event.EventTime.IsZero() {
		at := event.EventTime.UTC()
		l.EventTime = &at
	}
	return l
}
