package letters

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"unicode/utf8"
)

// Mendable returns a letter's event as one line of JSON, as it would have to be emitted again: MsgReadTime is the T that it has, so that time that has
// passed since does not move it; other fields are as they were. false: the value is no JSON object, and comes back as it is.
func (l *Letter) Mendable() (line []byte, ok bool) {
	value := l.Record.Value
	members, ok := membersOf(value)
	if !ok {
		return value, false
	}
	line = append(line, '{')
	add := func(name, value []byte) {
		if len(line) > 1 {
			line = append(line, ',')
		}
		line = append(append(append(line, name...), ':'), value...)
	}
	// Of a name that repeats the last one counts.
	last := -1
	for i, m := range members {
		if m.name == readTimeField {
			last = i
		}
	}
	for i, m := range members {
		if m.name == readTimeField && (i != last || string(m.value) == "null") {
			continue
		}
		add(m.rawName, m.value)
	}
	if (last < 0 || string(members[last].value) == "null") && l.EventTime != nil && l.EventTime.Unix() > 0 {
		add([]byte(`"`+readTimeField+`"`), strconv.AppendInt(nil, l.EventTime.Unix(), 10))
	}
	return harmless(append(line, '}')), true
}

// harmless escapes in JSON what could steer a terminal: such characters occur in strings only.
func harmless(line []byte) []byte {
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

const readTimeField = "MsgReadTime"

// member is one of a JSON object's.
type member struct {
	name           string
	rawName, value []byte // without white space around and within
}

// membersOf returns the members of a JSON object, in order, those that repeat too.
func membersOf(object []byte) (members []member, ok bool) {
	if !utf8.Valid(object) || !json.Valid(object) {
		return nil, false
	}
	d := json.NewDecoder(bytes.NewReader(object))
	if open, err := d.Token(); err != nil || open != json.Delim('{') {
		return nil, false
	}
	for d.More() {
		token, err := d.Token()
		name, isName := token.(string)
		if err != nil || !isName {
			return nil, false
		}
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			return nil, false
		}
		var value bytes.Buffer
		if err := json.Compact(&value, raw); err != nil {
			return nil, false
		}
		rawName, _ := json.Marshal(name)
		members = append(members, member{name, rawName, value.Bytes()})
	}
	return members, true
}
