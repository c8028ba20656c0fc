package event

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"markread/consumer/printable"
)

// This file explains why a record is not a valid event, in terms that help to correct its producer.
// Reasons become dead letters, log lines and parts of pages, so they contain no accounts.

// formats maps the first bytes of a value to a wrong format that it may have.
var formats = []struct{ begins, description string }{
	{"\x1f\x8b", "it is compressed with gzip: compress with the producer's " +
		"compression.type instead"},
	{"\x28\xb5\x2f\xfd", "it is compressed with zstd: compress with the producer's " +
		"compression.type instead"},
	{"\xac\xed\x00\x05", "it is a serialized Java object: use the StringSerializer with JSON"},
	{"\xff\xfe", "it is UTF-16, and must be UTF-8"},
	{"\xfe\xff", "it is UTF-16, and must be UTF-8"},
	{"{\x00", "it is UTF-16, and must be UTF-8"},
	{"\x00{", "it is UTF-16, and must be UTF-8"},
	{"<", "it is XML or HTML"},
	{"{'", "its names are in single quotes: JSON has double quotes"},
	{"eyJ", "it is in base64: write the JSON itself"},
	{"%7B", "it is URL-encoded: write the JSON itself"},
}

// notAnObject returns why a value is not one JSON object.
func notAnObject(value []byte) error {
	text := bytes.TrimLeft(value, jsonSpace)
	switch {
	case value == nil:
		return errors.New("the value is null")
	case len(text) == 0:
		return errors.New("the value is empty: not one JSON object")
	case len(value) > 5 && value[0] == 0 && value[1] == 0: // schema IDs start at 1 or at 100,000
		return fmt.Errorf("the value is not one JSON object: it begins with a schema registry's "+
			"magic byte (0) and the schema ID %d: use a serializer that writes plain JSON",
			binary.BigEndian.Uint32(value[1:]))
	}
	for _, f := range formats {
		if bytes.HasPrefix(text, []byte(f.begins)) {
			return errors.New("the value is not one JSON object: " + f.description)
		}
	}
	if !utf8.Valid(value) {
		at := 0
		for {
			r, size := utf8.DecodeRune(value[at:])
			if r == utf8.RuneError && size == 1 {
				break
			}
			at += size
		}
		return fmt.Errorf("the value is not UTF-8: its byte %d is 0x%02x", at+1, value[at])
	}
	if json.Valid(value) {
		return errors.New("the value is JSON, but " + jsonKind(text))
	}
	var syntax *json.SyntaxError
	err := fmt.Errorf("the value is not one JSON object: %w", json.Unmarshal(value, new(any)))
	if errors.As(err, &syntax) {
		err = fmt.Errorf("%w, at byte %d", err, syntax.Offset)
	}
	return err
}

// jsonKind describes a JSON value that is not an object.
func jsonKind(value []byte) string {
	switch value[0] {
	case '[':
		return "an array, not an object: write a record for each event"
	case '"':
		s, _ := unquote(bytes.TrimRight(value, jsonSpace))
		if bytes.ContainsAny(s, "{[") && json.Valid(s) { // not a number or a word
			return "a string, not an object: it holds JSON, so it was encoded twice"
		}
		return "a string, not an object"
	case 't', 'f':
		return "a boolean, not an object"
	case 'n':
		return "null, not an object"
	}
	return "a number, not an object"
}

// misspelt returns the error of a missing field for which there is a misspelt name.
func misspelt(field string, name []byte) error {
	return fmt.Errorf("%s is missing, but there is %s: did you mean %s?", field,
		printable.Quote(string(name)), field)
}

// explainMissing returns why an account is missing: what the value has instead. intended is a
// misspelt name for it, or nil.
func explainMissing(value []byte, field string, intended []byte) error {
	if intended != nil {
		return misspelt(field, intended)
	}
	has := map[string]bool{}
	envelope := ""
	EachMember(value, func(name, member []byte) {
		has[string(name)] = true
		if envelope == "" && bytes.Contains(member, []byte(field)) {
			envelope = string(name)
		}
	})
	switch {
	case has["payload"] && has["schema"]:
		return fmt.Errorf("%s is missing: the value is an envelope of Kafka Connect: "+
			"set value.converter.schemas.enable=false", field)
	case has["after"] && (has["before"] || has["op"]), has["data"] && has["database"] &&
		has["table"]:
		return fmt.Errorf("%s is missing: the value is a change event of a database (CDC): "+
			"publish only its row", field)
	case has["specversion"]:
		return fmt.Errorf("%s is missing: the value is a CloudEvent: publish only its data", field)
	case envelope != "":
		return newValueError(envelope,
			fmt.Errorf("%s is missing, but is in %s: publish only that", field,
				printable.Quote(envelope)))
	}
	return fmt.Errorf("%s is missing", field)
}

// IntendedField returns the field of an event that a name is intended for, or "". Such a name
// differs from the field's only in case, "_", "-", white space and byte order marks, or is
// MsgReadedTime. It is not accepted as the field: that would hide the mistake from producers whose
// events have other consumers, too.
func IntendedField[text string | []byte](name text) string {
	switch {
	case spells(name, "reportaccount"):
		return ReportField
	case spells(name, "peeraccount"):
		return PeerField
	case spells(name, "msgreadtime"), spells(name, "msgreadedtime"):
		return ReadTimeField
	}
	return ""
}

// separators are bytes that a name may contain by mistake.
const separators = "_- \t\r\n\u00a0\ufeff"

// spells reports whether a name consists of these letters, in any case, and separators. It must be
// fast, because it compares each unknown name of each record; most differ in the first letter.
func spells[text string | []byte](name text, letters string) bool {
	n := 0
	for i := range len(name) {
		lower := name[i] | 0x20 // if it is a letter, in lower case
		switch {
		case n < len(letters) && lower == letters[n]:
			n++
		case lower >= 'a' && lower <= 'z' || strings.IndexByte(separators, name[i]) < 0:
			return false
		}
	}
	return n == len(letters)
}
