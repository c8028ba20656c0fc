package deadletter

import (
	"bytes"
	"encoding/json"
	"markread/consumer/printable"
	"time"
	"unicode/utf8"
)

// letterJSON is a letter in `ls --json` and `show --json`.
type letterJSON struct {
	ID            string     `json:"id"`
	State         string     `json:"state"`
	Class         string     `json:"class"`
	Code          string     `json:"code"`
	Message       string     `json:"message"`
	Report        *string    `json:"report"`
	Peer          *string    `json:"peer"`
	ReadTime      *int64     `json:"read_time"`
	EventTime     *time.Time `json:"event_time"`
	FailedAt      *time.Time `json:"failed_at"`
	Origin        originJSON `json:"origin"`
	DeliveryCount int        `json:"delivery_count"`
	Collapsed     int        `json:"collapsed"`
	Replays       int        `json:"replays"`
	Lane          string     `json:"lane"`
	Key           any        `json:"key,omitempty"` // a string or null
	KeyBase64     []byte     `json:"key_base64,omitempty"`
	Value         any        `json:"value,omitempty"`
	ValueBase64   []byte     `json:"value_base64,omitempty"`

	Headers       any         `json:"headers,omitempty"` // [][2]string
	HeadersBase64 [][2][]byte `json:"headers_base64,omitempty"`
}

// originJSON is an event.Origin; the order is the documents'.
type originJSON struct {
	Topic     string `json:"topic"`
	Partition *int64 `json:"partition"`
	Offset    *int64 `json:"offset"`
	Group     string `json:"group"`
}

// AppendJSON appends the letter as one line of JSON, with its headers if they are wanted: those
// that are no UTF-8, in name or value, under another name, both in base64. It is harmless on a
// terminal.
func (l *Letter) AppendJSON(b []byte, headers bool) []byte {
	j := letterJSON{
		ID: l.ID.String(), State: l.State.String(), Class: l.Class, Code: l.Code,
		Message: l.Message, Report: l.Report, Peer: l.Peer, ReadTime: l.ReadTime,
		EventTime: timeJSON(l.EventTime), FailedAt: timeJSON(&l.FailedAt),
		Origin:        originJSON{l.Origin.Topic, l.Origin.Partition, l.Origin.Offset, l.Origin.Group},
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
		panic(err) // texts, numbers and times of four-digit years can be written
	}
	return printable.Append(b, bytes.TrimRight(line.Bytes(), "\n"))
}

// timeJSON returns the time in UTC; nil if it has no form in RFC 3339.
func timeJSON(t *time.Time) *time.Time {
	if t == nil || t.IsZero() || t.Year() < 0 || t.Year() > 9999 {
		return nil
	}
	utc := t.UTC()
	return &utc
}

// textOrBase64 returns bytes as text, null included; if they are no UTF-8, as they are.
func textOrBase64(b []byte) (text any, base64 []byte) {
	switch {
	case b == nil:
		return (*string)(nil), nil
	case utf8.Valid(b):
		return string(b), nil
	}
	return nil, b
}
