package letters

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"
	"time"
	"unicode/utf8"

	"markread/consumer"
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
	Record       consumer.Record
}

// Origin is where the record of a letter was read first, and by whom.
type Origin struct {
	Topic     string `json:"topic"`
	Partition *int64 `json:"partition"`
	Offset    *int64 `json:"offset"`
	Group     string `json:"group"`
}

// Parse reads the record of a letter.
func Parse(r consumer.Record, state State) Letter {
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
		if n := number(name); n != nil && *n < 1<<31 {
			return int(*n)
		}
		return otherwise
	}
	fields := consumer.Peek(r.Value)
	l := Letter{
		ID: IDOf(r), State: state, Kind: kind, Message: text(messageHeader),
		Report: fields.Report, Peer: fields.Peer, ReadTime: fields.ReadTime, FailedAt: failedAt(r).UTC(),
		Origin:   Origin{text(originHeader + "topic"), number(originHeader + "partition"), number(originHeader + "offset"), text(originHeader + "group")},
		Attempts: count(attemptsHeader, 0), Collapsed: max(1, count(collapsedHeader, 1)), Replays: r.Replays(), Lane: text(laneHeader),
		Omitted: text(omittedHeader), Record: r,
	}
	// As a replay would read it: a malformed time is none.
	if event := consumer.Decode(consumer.Record{Headers: replayHeaders(r, 0)}, time.Time{}); !event.EventTime.IsZero() {
		at := event.EventTime.UTC()
		l.EventTime = &at
	}
	return l
}

// document is a letter as the contract has it in JSON.
type document struct {
	ID            string          `json:"id"`
	State         string          `json:"state"`
	Class         string          `json:"class"`
	Code          string          `json:"code"`
	Message       string          `json:"message"`
	Report        *string         `json:"report"`
	Peer          *string         `json:"peer"`
	ReadTime      *int64          `json:"read_time"`
	EventTime     *string         `json:"event_time"`
	FailedAt      *string         `json:"failed_at"`
	Origin        Origin          `json:"origin"`
	DeliveryCount int             `json:"delivery_count"`
	Collapsed     int             `json:"collapsed"`
	Replays       int             `json:"replays"`
	Lane          string          `json:"lane"`
	Key           json.RawMessage `json:"key,omitempty"` // null is not left out
	KeyBase64     json.RawMessage `json:"key_base64,omitempty"`
	Value         json.RawMessage `json:"value,omitempty"`
	ValueBase64   json.RawMessage `json:"value_base64,omitempty"`
	Headers       [][2]string     `json:"headers,omitempty"`
}

// JSON returns the letter as one line of JSON, with its headers if they are wanted. It is harmless on a terminal.
func (l *Letter) JSON(headers bool) []byte {
	d := document{
		ID: l.ID.String(), State: l.State.String(), Class: l.Class, Code: l.Code, Message: l.Message,
		Report: l.Report, Peer: l.Peer, ReadTime: l.ReadTime, FailedAt: rfc3339(&l.FailedAt), EventTime: rfc3339(l.EventTime), Origin: l.Origin,
		DeliveryCount: l.Attempts, Collapsed: l.Collapsed, Replays: l.Replays, Lane: l.Lane,
	}
	d.Key, d.KeyBase64 = bytesOf(l.Record.Key)
	d.Value, d.ValueBase64 = bytesOf(l.Record.Value)
	if headers {
		for _, h := range l.Record.Headers {
			d.Headers = append(d.Headers, [2]string{h.Key, string(h.Value)})
		}
	}
	line, _ := json.Marshal(d) // nothing in it can fail
	return harmless(line)
}

// rfc3339 is nil for what has no such form.
func rfc3339(t *time.Time) *string {
	if t == nil || t.IsZero() || t.Year() < 0 || t.Year() > 9999 {
		return nil
	}
	text := t.UTC().Format(time.RFC3339Nano)
	return &text
}

// bytesOf returns bytes as text if they are UTF-8, else in base64.
func bytesOf(b []byte) (text, base64Text json.RawMessage) {
	switch {
	case b == nil:
		return json.RawMessage("null"), nil
	case utf8.Valid(b):
		text, _ = json.Marshal(string(b))
		return text, nil
	}
	base64Text, _ = json.Marshal(base64.StdEncoding.EncodeToString(b))
	return nil, base64Text
}

// harmless escapes in JSON what could steer a terminal and encoding/json leaves as it is: such characters occur in strings only.
func harmless(line []byte) []byte {
	isHarmless := func(r rune) bool {
		return r < 0x7f || r > 0x9f && !(r >= 0x200b && r <= 0x200f) && !(r >= 0x202a && r <= 0x202e) && !(r >= 0x2060 && r <= 0x206f) && r != 0xfeff
	}
	if bytes.IndexFunc(line, func(r rune) bool { return !isHarmless(r) }) < 0 {
		return line
	}
	var out []byte
	for _, r := range string(line) {
		if isHarmless(r) {
			out = utf8.AppendRune(out, r)
		} else {
			out = fmt.Appendf(out, `\u%04x`, r)
		}
	}
	return out
}
