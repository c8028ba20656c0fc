package deadletter

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"markread/consumer/event"
)

// AppendJSON appends the letter as one line of JSON, with its headers if they are wanted: those that are no UTF-8, in name or value, under another name,
// both in base64. It is harmless on a terminal.
//
// It is not encoding/json: lists are long, and that takes half of their time; and it leaves in strings what can steer a terminal.
func (l *Letter) AppendJSON(b []byte, headers bool) []byte {
	b = append(b, '{')
	b = appendText(b, "id", l.ID.String())
	b = appendText(b, "state", l.State.String())
	b = appendText(b, "class", l.Class)
	b = appendText(b, "code", l.Code)
	b = appendText(b, "message", l.Message)
	b = appendTextOrNull(b, "report", l.Report)
	b = appendTextOrNull(b, "peer", l.Peer)
	b = appendNumber(b, "read_time", l.ReadTime)
	b = appendTime(b, "event_time", l.EventTime)
	b = appendTime(b, "failed_at", &l.FailedAt)
	b = append(appendName(b, "origin"), '{')
	b = appendText(b, "topic", l.Origin.Topic)
	b = appendNumber(b, "partition", l.Origin.Partition)
	b = appendNumber(b, "offset", l.Origin.Offset)
	b = append(appendText(b, "group", l.Origin.Group), `},`...)
	for _, n := range []struct {
		name  string
		value int
	}{{"delivery_count", l.Attempts}, {"collapsed", l.Collapsed}, {"replays", l.Replays}} {
		value := int64(n.value)
		b = appendNumber(b, n.name, &value)
	}
	b = appendText(b, "lane", l.Lane)
	b = appendBytes(b, "key", l.Record.Key)
	b = appendBytes(b, "value", l.Record.Value)
	if headers {
		var text, binary []event.Header
		for _, h := range l.Record.Headers {
			if utf8.ValidString(h.Key) && utf8.Valid(h.Value) {
				text = append(text, h)
			} else {
				binary = append(binary, h)
			}
		}
		b = appendPairs(b, "headers", text, appendString)
		if len(binary) > 0 {
			b = appendPairs(b, "headers_base64", binary, func(b []byte, text string) []byte {
				return append(base64.StdEncoding.AppendEncode(append(b, '"'), []byte(text)), '"')
			})
		}
	}
	return append(b, '}')
}

// appendPairs appends headers as pairs of name and value.
func appendPairs(b []byte, name string, headers []event.Header, appendOne func([]byte, string) []byte) []byte {
	b = append(appendName(b, name), '[')
	for i, h := range headers {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(appendOne(append(b, '['), h.Key), ',')
		b = append(appendOne(b, string(h.Value)), ']')
	}
	return append(b, ']')
}

// appendName appends the name of a member, after a comma unless it is the first.
func appendName(b []byte, name string) []byte {
	if last := b[len(b)-1]; last != '{' && last != ',' {
		b = append(b, ',')
	}
	return append(append(append(b, '"'), name...), '"', ':')
}

func appendText(b []byte, name, text string) []byte { return appendString(appendName(b, name), text) }

func appendTextOrNull(b []byte, name string, text *string) []byte {
	if text == nil {
		return append(appendName(b, name), "null"...)
	}
	return appendText(b, name, *text)
}

func appendNumber(b []byte, name string, n *int64) []byte {
	if n == nil {
		return append(appendName(b, name), "null"...)
	}
	return strconv.AppendInt(appendName(b, name), *n, 10)
}

// appendTime appends a time in RFC 3339, null if there is none that has this form.
func appendTime(b []byte, name string, t *time.Time) []byte {
	if t == nil || t.IsZero() || t.Year() < 0 || t.Year() > 9999 {
		return append(appendName(b, name), "null"...)
	}
	b = append(appendName(b, name), '"')
	return append(t.UTC().AppendFormat(b, time.RFC3339Nano), '"')
}

// appendBytes appends bytes as text, if they are no UTF-8 in base64 under another name.
func appendBytes(b []byte, name string, bytes []byte) []byte {
	switch {
	case bytes == nil:
		return append(appendName(b, name), "null"...)
	case utf8.Valid(bytes):
		return appendText(b, name, string(bytes))
	}
	b = append(appendName(b, name+"_base64"), '"')
	return append(base64.StdEncoding.AppendEncode(b, bytes), '"')
}

// appendString appends a JSON string, in which everything that could steer a terminal is escaped.
func appendString(b []byte, text string) []byte {
	b = append(b, '"')
	for _, r := range text { // what is no UTF-8 becomes U+FFFD
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r >= 0x20 && r < 0x7f:
			b = append(b, byte(r))
		default:
			b = appendHarmless(b, r)
		}
	}
	return append(b, '"')
}

// appendHarmless appends a rune as it is if a terminal shows it in its place, else escaped as in JSON: control characters, what changes the direction
// of what is around it, tags that nobody sees.
func appendHarmless(b []byte, r rune) []byte {
	switch high, low := utf16.EncodeRune(r); {
	case strconv.IsPrint(r):
		return utf8.AppendRune(b, r)
	case high != utf8.RuneError: // beyond U+FFFF
		return fmt.Appendf(b, `\u%04x\u%04x`, high, low)
	}
	return fmt.Appendf(b, `\u%04x`, r)
}
