package event

import (
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	// What a dead letter may need beyond the record it is about: our headers, the batch around it.
	LetterOverhead = 64 << 10
)

// DeadLetter is a dead letter: an event that can't be applied, and why.
type DeadLetter struct {
	Event     Event
	Class     string // invalid, rejected or exhausted
	Code      string // the API's error code or the label of the failure; "" for invalid
	Message   string // cut to 1,000 bytes
	Attempts  int    // counted attempts; 0 for invalid
	Collapsed int    // how many events the letter stands for, its own included
	FailedAt  time.Time
	Group     string
}

const maxLetterMessage = 1000 // bytes

// Omission is what of the record is left out of its letter.
type Omission struct{ value, headers, key bool }

// Omissions are the forms of a letter in the order in which they are tried: the first that fits is written.
// The value goes first, as the contract says; if the letter does not fit even without it, but without its
// headers, only they are left out.
var Omissions = []Omission{
	{},
	{value: true},
	{headers: true},
	{value: true, headers: true},
	{value: true, headers: true, key: true},
}

// LetterMessage makes the record of a letter. The value of a damaged record was never there: it is always omitted.
func LetterMessage(l DeadLetter, omit Omission) Message {
	r := l.Event.Record
	m := Message{Key: r.Key, Value: r.Value}
	own := keptHeaders(r.Headers)
	if !omit.headers {
		m.Headers = own
	}
	add := func(name, value string) { m.Headers = append(m.Headers, Header{Key: name, Value: []byte(value)}) }
	add("__dlq.errors.topic", r.Topic)
	add("__dlq.errors.partition", strconv.Itoa(r.Partition))
	add("__dlq.errors.offset", strconv.FormatInt(r.Offset, 10))
	add("__dlq.errors.group", l.Group)
	add("__dlq.errors.delivery.count", strconv.Itoa(l.Attempts))
	add("__dlq.errors.message", cut(l.Message, maxLetterMessage))
	add("markread.class", l.Class)
	add("markread.code", l.Code)
	add(eventTimeHeader, millis(l.Event.EventTime))
	add("markread.failed-at", l.FailedAt.UTC().Format(time.RFC3339Nano))
	add("markread.collapsed", strconv.Itoa(l.Collapsed))
	add(replaysHeader, strconv.Itoa(l.Event.Replays))
	add("markread.lane", l.Event.Lane.String())
	if omit.value || r.Damage != nil {
		size := int64(len(r.Value))
		if r.Damage != nil {
			size = r.Damage.Size
		}
		m.Value = []byte{} // not null: a null value is what resolutions have
		add("markread.value-omitted", strconv.FormatInt(size, 10))
	}
	if omit.headers {
		add("markread.headers-omitted", strconv.Itoa(len(own)))
	}
	if omit.key {
		m.Key = nil
		add("markread.key-omitted", strconv.Itoa(len(r.Key)))
	}
	return m
}

// keptHeaders returns the record's own headers: not those that a letter has, which a producer may have
// forged, or which are of an earlier life of the event.
func keptHeaders(headers []Header) []Header {
	kept := make([]Header, 0, len(headers)) // there may be half a million
	for _, h := range headers {
		if !strings.HasPrefix(h.Key, "markread.") && !strings.HasPrefix(h.Key, "__dlq.") {
			kept = append(kept, h)
		}
	}
	return kept
}

func millis(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return strconv.FormatInt(t.UnixMilli(), 10)
}

// cut cuts s to at most n bytes of UTF-8.
func cut(s string, n int) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// Message is a record to publish.
type Message struct {
	Key     []byte // nil: null
	Value   []byte // nil: null
	Headers []Header
	Time    time.Time // zero: now
}
