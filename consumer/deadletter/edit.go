package deadletter

import (
	"bytes"
	"encoding/json"
	"strconv"

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
	// Of a name that repeats the last one counts. What is in a misspelt one is the time that was
	// meant, so the event time must not take its place.
	var readTime []byte
	misspelt := false
	if !event.EachMember(l.Record.Value, func(name, value []byte) {
		switch readTimeField {
		case string(name):
			readTime = value
		case event.MeantField(name):
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
		if string(name) != readTimeField || !null && &value[0] == &readTime[0] {
			add(string(name), value)
		}
	})
	switch {
	case null && l.EventTime != nil && (readTime != nil || !misspelt):
		add(readTimeField, strconv.AppendInt(nil, l.EventTime.Unix(), 10))
	case null:
		add(readTimeField, []byte(noReadTime))
		form = Timeless
	}
	var compact bytes.Buffer
	_ = json.Compact(&compact, append(line, '}')) // it is JSON, made of JSON
	return printable.Append(nil, compact.Bytes()), form
}

const readTimeField = "MsgReadTime"
