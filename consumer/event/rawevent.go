package event

import (
	"bytes"
	"encoding/json"
	"strconv"
	"unicode/utf8"
)

// rawEvent holds the raw JSON values of an event's fields, and misspelt names that are intended for
// them; see IntendedField.
type rawEvent struct{ values, intended eventFields }

// eventFields holds a text for each field of an event; nil: absent.
type eventFields struct{ report, peer, readTime []byte }

// of returns a pointer to the text of a field, or nil if name is not a field's name.
func (f *eventFields) of(name []byte) *[]byte {
	switch string(name) {
	case ReportField:
		return &f.report
	case PeerField:
		return &f.peer
	case ReadTimeField:
		return &f.readTime
	}
	return nil
}

// set stores a member of the object, if its name is a field's, or intended for one.
func (raw *rawEvent) set(name, member []byte) {
	if f := raw.values.of(name); f != nil {
		*f = member
	} else if field := IntendedField(name); field != "" {
		*raw.intended.of([]byte(field)) = name
	}
}

// parse parses the value of an event. raw must be empty.
func (raw *rawEvent) parse(value []byte) error {
	value = TrimByteOrderMark(value)
	if raw.scan(value) {
		return nil
	}
	*raw = rawEvent{}
	return raw.parseStrict(value)
}

// parseStrict parses any value. encoding/json with a struct does not suffice: it accepts names in
// any case, replaces bytes that are not UTF-8, and merges the values of a repeated name instead of
// using the last. json.Valid decides whether the value is JSON; the shortcuts below rely on that.
func (raw *rawEvent) parseStrict(value []byte) error {
	if !EachMember(value, raw.set) {
		return notAnObject(value)
	}
	return nil
}

// TrimByteOrderMark removes the byte order marks at the beginning of a value or line. Some editors
// and programs write one before UTF-8 text, and joined files have several.
func TrimByteOrderMark(value []byte) []byte {
	for bytes.HasPrefix(value, []byte("\uFEFF")) {
		value = value[len("\uFEFF"):]
	}
	return value
}

// EachMember calls each with the name and the raw value of every member of a JSON object, in order,
// including repeated names. It returns false if value is not a JSON object.
func EachMember(value []byte, each func(name, member []byte)) bool {
	rest := bytes.TrimLeft(TrimByteOrderMark(value), jsonSpace)
	if !utf8.Valid(value) || !json.Valid(rest) || rest[0] != '{' {
		return false
	}
	rest = bytes.TrimLeft(rest[1:], jsonSpace)
	for rest[0] != '}' {
		var name, member []byte
		name, rest = cutValue(rest)
		rest = bytes.TrimLeft(rest, jsonSpace)
		rest = bytes.TrimLeft(rest[1:], jsonSpace) // the colon
		member, rest = cutValue(rest)
		if text := name[1 : len(name)-1]; bytes.IndexByte(text, '\\') < 0 {
			each(text, member)
		} else {
			text, _ := unquote(name)
			each(text, member)
		}
		rest = bytes.TrimLeft(bytes.TrimPrefix(bytes.TrimLeft(rest, jsonSpace), []byte{','}),
			jsonSpace)
	}
	return true
}

const jsonSpace = " \t\r\n"

// cutValue splits b after the JSON value that it begins with. b must be valid JSON.
func cutValue(b []byte) (value, rest []byte) {
	depth := 0
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '"':
			for i++; b[i] != '"'; i++ {
				if b[i] == '\\' {
					i++
				}
			}
		case '{', '[':
			depth++
			continue
		case '}', ']':
			if depth == 0 {
				return b[:i], b[i:]
			}
			depth--
		case ',', ':', ' ', '\t', '\r', '\n':
			if depth == 0 {
				return b[:i], b[i:]
			}
			continue
		default:
			continue // in a number or literal, which ends at one of the bytes above
		}
		if depth == 0 {
			return b[:i+1], b[i+1:]
		}
	}
	return b, nil
}

// unquote returns the text of a JSON string. ok is false if raw is not a string.
func unquote(raw []byte) ([]byte, bool) {
	switch {
	case len(raw) == 0 || raw[0] != '"':
		return nil, false
	case bytes.IndexByte(raw, '\\') < 0:
		return raw[1 : len(raw)-1], true
	}
	var s string
	err := json.Unmarshal(raw, &s)
	return []byte(s), err == nil
}

// Fields holds the fields of a value that may not be a valid event. A field that can't be parsed is
// nil.
type Fields struct {
	Report, Peer *string
	ReadTime     *int64 // MsgReadTime; not replaced by the event time
}

// ParseLenient parses as many fields of a value as it can, whether the value is a valid event or
// not. It is for display and filters.
func ParseLenient(value []byte) Fields {
	var raw rawEvent
	if raw.parse(value) != nil {
		return Fields{}
	}
	text := func(raw []byte) *string {
		if b, ok := unquote(raw); ok {
			s := string(b)
			return &s
		}
		return nil
	}
	f := Fields{Report: text(raw.values.report), Peer: text(raw.values.peer)}
	digits := string(raw.values.readTime)
	if s := text(raw.values.readTime); s != nil {
		digits = *s
	}
	if t, err := strconv.ParseInt(digits, 10, 64); err == nil && isDigits(digits) && t > 0 {
		f.ReadTime = &t
	}
	return f
}
