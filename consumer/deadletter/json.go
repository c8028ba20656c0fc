package deadletter

import (
	"bytes"
	"encoding/json"
	"strconv"
	"time"
	"unicode/utf8"

	"markread/consumer/event"
	"markread/consumer/printable"
)

// letterJSON is the JSON form of a dead letter, in `ls --json` and `show --json`.
type letterJSON struct {
	ID            string       `json:"id"`
	State         string       `json:"state"`
	Class         string       `json:"class"`
	Code          string       `json:"code"`
	Message       string       `json:"message"`
	Report        *string      `json:"report"`
	Peer          *string      `json:"peer"`
	ReadTime      *int64       `json:"read_time"`
	EventTime     *time.Time   `json:"event_time"`
	FailedAt      *time.Time   `json:"failed_at"`
	Origin        event.Origin `json:"origin"`
	DeliveryCount int          `json:"delivery_count"`
	Collapsed     int          `json:"collapsed"`
	Replays       int          `json:"replays"`
	Lane          string       `json:"lane"`
	Key           any          `json:"key,omitempty"` // a string or null
	KeyBase64     []byte       `json:"key_base64,omitempty"`
	Value         any          `json:"value,omitempty"`
	ValueBase64   []byte       `json:"value_base64,omitempty"`

	Headers       any         `json:"headers,omitempty"` // [][2]string
	HeadersBase64 [][2][]byte `json:"headers_base64,omitempty"`
}

// AppendJSON appends the dead letter to b as one line of JSON, with the record's headers if headers
// is true. A header whose name or value is not UTF-8 goes to headers_base64, with both in base64.
// The line is safe to print on a terminal.
func (l *Letter) AppendJSON(b []byte, headers bool) []byte {
	j := letterJSON{
		ID: l.ID.String(), State: l.State.String(), Class: l.Class, Code: l.Code,
		Message: l.Message, Report: l.Report, Peer: l.Peer, ReadTime: l.ReadTime,
		EventTime: timeJSON(l.EventTime), FailedAt: timeJSON(&l.FailedAt),
		Origin:        l.Origin,
		DeliveryCount: l.Attempts, Collapsed: l.Collapsed, Replays: l.Replays, Lane: l.Lane,
	}
	j.Key, j.KeyBase64 = textOrBase64(l.Record.Key)
	j.Value, j.ValueBase64 = textOrBase64(l.Record.Value)
	if headers {
		text := [][2]string{}
		for _, h := range l.Record.Headers {
			if utf8.ValidString(h.Key) && utf8.Valid(h.Value) {
				text = append(text, [2]string{h.Key, string(h.Value)})
			} else { // a null value is shown as an empty one
				j.HeadersBase64 = append(j.HeadersBase64,
					[2][]byte{[]byte(h.Key), append([]byte{}, h.Value...)})
			}
		}
		j.Headers = text
	}
	var line bytes.Buffer
	encoder := json.NewEncoder(&line)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(j); err != nil {
		panic(err) // can't happen: strings, numbers and times with four-digit years
	}
	return printable.Append(b, bytes.TrimRight(line.Bytes(), "\n"))
}

// timeJSON returns the time in UTC, or nil if RFC 3339 can't express it.
func timeJSON(t *time.Time) *time.Time {
	if t == nil || t.IsZero() || t.Year() < 0 || t.Year() > 9999 {
		return nil
	}
	utc := t.UTC()
	return &utc
}

// textOrBase64 returns b as text (nil as JSON null), or unchanged as base64 if it is not UTF-8.
func textOrBase64(b []byte) (text any, base64 []byte) {
	switch {
	case b == nil:
		return (*string)(nil), nil
	case utf8.Valid(b):
		return string(b), nil
	}
	return nil, b
}

// Form is how complete the result of Editable is.
type Form int

// The forms.
const (
	Complete Form = iota // if emitted again, the event has the same T
	// its T is unknown: MsgReadTime is unknownReadTime, which no worker and no emit accepts
	NoReadTime
	Raw // the value is not a JSON object, and is unchanged
)

// unknownReadTime stands for an unknown read time. If MsgReadTime were omitted, emit would use the
// present, and messages would be marked as read that the user has not seen.
const unknownReadTime = `"unknown"`

// Editable returns the event of a dead letter as one line of JSON, to be edited and emitted again.
// MsgReadTime is set to the event's T, so that the time that has passed does not move it; other
// fields are unchanged.
func (l *Letter) Editable() (line []byte, form Form) {
	// If a name is repeated, the last one counts. A misspelt MsgReadTime holds the time that was
	// intended, so the event time must not replace it.
	var readTime []byte
	misspelt := false
	if !event.EachMember(l.Record.Value, func(name, value []byte) {
		switch event.ReadTimeField {
		case string(name):
			readTime = value
		case event.IntendedField(name):
			misspelt = true
		}
	}) {
		return l.Record.Value, Raw
	}
	line = append(line, '{')
	add := func(name string, value []byte) {
		if len(line) > 1 {
			line = append(line, ',')
		}
		quoted, _ := json.Marshal(name)
		line = append(append(append(line, quoted...), ':'), value...)
	}
	null := readTime == nil || string(readTime) == "null"
	event.EachMember(l.Record.Value, func(name, value []byte) {
		if string(name) != event.ReadTimeField || !null && &value[0] == &readTime[0] {
			add(string(name), value)
		}
	})
	switch {
	case null && l.EventTime != nil && (readTime != nil || !misspelt):
		add(event.ReadTimeField, strconv.AppendInt(nil, l.EventTime.Unix(), 10))
	case null:
		add(event.ReadTimeField, []byte(unknownReadTime))
		form = NoReadTime
	}
	var compact bytes.Buffer
	_ = json.Compact(&compact, append(line, '}')) // can't fail: built from valid JSON
	return printable.Append(nil, compact.Bytes()), form
}
