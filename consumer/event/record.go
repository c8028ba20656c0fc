package event

import (
	"strconv"
)

// Header returns the value of the last header of that name, as Kafka's own lastHeader does; false:
// there is none.
func (r Record) Header(name string) (value string, ok bool) {
	b, ok := lastHeader(r.Headers, name)
	return string(b), ok
}

// Replays returns how often a dead letter of the event was replayed.
func (r Record) Replays() int { return replays(r.Headers) }

// MaxReplays is the largest count of replays that a record may have. A larger one counts as none.
const MaxReplays = 1000

// Fields is what can be read of a value that need not be an event. What can't is nil.
type Fields struct {
	Report, Peer *string
	ReadTime     *int64 // MsgReadTime; an event without it is not given another here
}

// ParseLenient reads what it can of a value, valid or not: for people who look for it.
func ParseLenient(value []byte) Fields {
	o, err := parseRawEvent(value)
	if err != nil {
		return Fields{}
	}
	text := func(raw []byte) *string {
		if raw == nil {
			return nil
		}
		if s, ok := unquote(raw); ok {
			return &s
		}
		return nil
	}
	f := Fields{Report: text(o.values.report), Peer: text(o.values.peer)}
	digits := string(o.values.readTime)
	if s := text(o.values.readTime); s != nil {
		digits = *s
	}
	if t, err := strconv.ParseInt(digits, 10, 64); err == nil && isDigits(digits) && t > 0 {
		f.ReadTime = &t
	}
	return f
}
