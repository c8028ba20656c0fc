package consumer

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"
)

// object holds the raw JSON values of the members that make an event; nil: absent.
type object struct {
	report, peer, readTime []byte
}

// parseObject reads the value of an event. encoding/json into a struct would not do: it takes names in any
// case, replaces bytes that are not UTF-8, and of a repeated name merges rather than takes the last.
//
// Whether the value is JSON is decided by encoding/json; then walking its members is simple, because every
// shortcut below is safe on valid JSON.
func parseObject(value []byte) (object, error) {
	var o object
	if !utf8.Valid(value) {
		return o, errors.New("the value is not UTF-8")
	}
	if !json.Valid(value) {
		var any json.RawMessage
		return o, fmt.Errorf("the value is not one JSON object: %w", json.Unmarshal(value, &any))
	}
	rest := bytes.TrimLeft(value, jsonSpace)
	if rest[0] != '{' {
		return o, errors.New("the value is JSON, but not an object")
	}
	rest = bytes.TrimLeft(rest[1:], jsonSpace)
	for rest[0] != '}' {
		var name, member []byte
		name, rest = cutValue(rest)
		rest = bytes.TrimLeft(rest, jsonSpace)
		rest = bytes.TrimLeft(rest[1:], jsonSpace) // the colon
		member, rest = cutValue(rest)
		text, _ := unquote(name) // a name may have escapes, too
		switch text {
		case "Report_Account":
			o.report = member
		case "Peer_Account":
			o.peer = member
		case "MsgReadTime":
			o.readTime = member
		}
		rest = bytes.TrimLeft(rest, jsonSpace)
		if rest[0] == ',' {
			rest = bytes.TrimLeft(rest[1:], jsonSpace)
		}
	}
	return o, nil
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

// unquote returns the text of a JSON string; false: it is not a string.
func unquote(raw []byte) (string, bool) {
	if raw[0] != '"' {
		return "", false
	}
	if bytes.IndexByte(raw, '\\') < 0 {
		return string(raw[1 : len(raw)-1]), true
	}
	var s string
	err := json.Unmarshal(raw, &s)
	return s, err == nil
}
