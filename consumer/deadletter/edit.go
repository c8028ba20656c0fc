package deadletter

import (
	"bytes"
	"encoding/json"
	"strconv"
	"unicode/utf8"

	"markread/consumer/event"
	"markread/consumer/printable"
)

// Form is what can be had of a letter's event.
type Form int

// The forms.
const (
	Whole Form = iota // emitted again, it has the T that it had
	// it has no T: its MsgReadTime is noReadTime, which no worker and no emit takes
	Timeless
	Raw // the value is no JSON object, and is as it was
)

// noReadTime stands for a time that is not known. Left out, emit would take now for it, and
// messages would be read that the user has not seen.
const noReadTime = `"unknown"`

// Editable returns a letter's event as one line of JSON, as it would have to be emitted again:
// MsgReadTime is the T that it has, so that time that has passed since does not move it; other
// fields are as they were.
func (l *Letter) Editable() (line []byte, form Form) {
	value := event.TrimByteOrderMark(l.Record.Value)
	members, ok := membersOf(value)
	if !ok {
		return l.Record.Value, Raw
	}
	line = append(line, '{')
	add := func(name, value []byte) {
		if len(line) > 1 {
			line = append(line, ',')
		}
		line = append(append(append(line, name...), ':'), value...)
	}
	// Of a name that repeats the last one counts. What is in a misspelt one is the time that was
	// meant, so the event time must not take its place.
	last, misspelt := -1, false
	for i, m := range members {
		if m.name == readTimeField {
			last = i
		}
		misspelt = misspelt || m.name != readTimeField && event.MeantField(m.name) == readTimeField
	}
	for i, m := range members {
		if m.name == readTimeField && (i != last || string(m.value) == "null") {
			continue
		}
		add(m.rawName, m.value)
	}
	if last < 0 || string(members[last].value) == "null" {
		at := []byte(noReadTime)
		form = Timeless
		if l.EventTime != nil && (last >= 0 || !misspelt) {
			at, form = strconv.AppendInt(nil, l.EventTime.Unix(), 10), Whole
		}
		add([]byte(`"`+readTimeField+`"`), at)
	}
	return printable.Append(nil, append(line, '}')), form
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
