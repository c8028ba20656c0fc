package event

import (
	"bytes"
	"encoding/json"
	"strconv"
	"unicode/utf8"
)

// rawEvent holds the raw JSON values of the members that make an event, and the names of members
// that are meant for them; see MeantField.
type rawEvent struct{ values, intended eventFields }

// eventFields has a text for each field of an event; nil: absent.
type eventFields struct{ report, peer, readTime []byte }

// of returns the place of a field's text, nil if the name is none of a field's.
func (f *eventFields) of(name string) *[]byte {
	switch name {
	case reportField:
		return &f.report
	case peerField:
		return &f.peer
	case readTimeField:
		return &f.readTime
	}
	return nil
}

// parseRawEvent reads the value of an event. encoding/json into a struct would not do: it takes
// names in any case, replaces bytes that are not UTF-8, and of a repeated name merges rather than
// takes the last. It decides whether the value is JSON; every shortcut below is safe on that.
func parseRawEvent(value []byte) (raw rawEvent, err error) {
	value = TrimByteOrderMark(value)
	if !EachMember(value, func(name, member []byte) {
		if f := raw.values.of(string(name)); f != nil {
			*f = member
		} else if f := raw.intended.of(IntendedField(name)); f != nil {
			*f = name
		}
	}) {
		return raw, notAnObject(value)
	}
	return raw, nil
}

// TrimByteOrderMark cuts off the byte order marks that a value or a line begins with: some editors
// and programs put one before UTF-8 text, and files that are joined have several.
func TrimByteOrderMark(value []byte) []byte {
	for bytes.HasPrefix(value, []byte("\uFEFF")) {
		value = value[len("\uFEFF"):]
	}
	return value
}

// EachMember gives each member of a JSON object to each, in order, those too that repeat: its name
// and its raw value. false: the value is none.
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
			each([]byte(text), member)
		}
		rest = bytes.TrimLeft(bytes.TrimPrefix(bytes.TrimLeft(rest, jsonSpace), []byte{','}),
			jsonSpace)
	}
	return true
}

const jsonSpace = " \t\r\n"

// cutValue cuts the JSON value that b begins with off what follows it. b must be valid.
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
			continue // within a number or a literal, which ends at one of the above
		}
		if depth == 0 {
			return b[:i+1], b[i+1:]
		}
	}
	return b, nil
}

// unquote returns the text of a JSON string; false: it is none.
func unquote(raw []byte) (string, bool) {
	switch {
	case len(raw) == 0 || raw[0] != '"':
		return "", false
	case bytes.IndexByte(raw, '\\') < 0:
		return string(raw[1 : len(raw)-1]), true
	}
	var s string
	err := json.Unmarshal(raw, &s)
	return s, err == nil
}

// Fields is what can be read of a value that need not be an event. What can't is nil.
type Fields struct {
	Report, Peer *string
	ReadTime     *int64 // MsgReadTime; an event without it is not given another here
}

// ParseLenient reads what it can of a value, valid or not: for people who look for it.
func ParseLenient(value []byte) Fields {
	raw, err := parseRawEvent(value)
	if err != nil {
		return Fields{}
	}
	text := func(raw []byte) *string {
		if s, ok := unquote(raw); ok {
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
