package event

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"markread/consumer/printable"
)

// The headers of dead letters, and of what resolves them; the first six as in Kafka's KIP-1191.
// Those of events are among them: HeaderEventTime and HeaderReplays.
const (
	headerTopic     = "__dlq.errors.topic"
	headerPartition = "__dlq.errors.partition"
	headerOffset    = "__dlq.errors.offset"
	headerGroup     = "__dlq.errors.group"
	headerAttempts  = "__dlq.errors.delivery.count"
	headerMessage   = "__dlq.errors.message"

	headerClass     = "markread.class"
	headerCode      = "markread.code"
	headerFailedAt  = "markread.failed-at"
	headerCollapsed = "markread.collapsed"
	headerLane      = "markread.lane"

	headerValueOmitted   = "markread.value-omitted"
	headerHeadersOmitted = "markread.headers-omitted"
	headerKeyOmitted     = "markread.key-omitted"

	HeaderEventTime  = "markread.event-time"
	HeaderReplays    = "markread.replays"
	HeaderResolves   = "markread.resolves"
	HeaderResolution = "markread.resolution"
)

// LetterOverhead is what a dead letter may need beyond the record that it is about, in bytes: our
// headers, and the batch around it.
const LetterOverhead = 64 << 10

// The classes of dead letters.
const (
	ClassInvalid   = "invalid"   // the record is no event
	ClassRejected  = "rejected"  // the server does not want it
	ClassExhausted = "exhausted" // it failed too often
)

// DeadLetter is a dead letter to be written: an event that can't be applied, and why.
type DeadLetter struct {
	Event     Event
	Class     string
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

// Omissions are the forms of a letter in the order in which they are tried: the first that fits is
// written. The value goes first, as the contract says; if the letter does not fit even without it,
// but without its headers, only they are left out.
var Omissions = []Omission{
	{},
	{value: true},
	{headers: true},
	{value: true, headers: true},
	{value: true, headers: true, key: true},
}

// Encode makes the record of a letter. The value of a damaged record was never there: it is always
// omitted.
func (l DeadLetter) Encode(omit Omission) Message {
	r := l.Event.Record
	m := Message{Key: r.Key, Value: r.Value}
	own := r.ProducerHeaders()
	if !omit.headers {
		m.Headers = own
	}
	eventTime := ""
	if at := l.Event.EventTime; !at.IsZero() {
		eventTime = strconv.FormatInt(at.UnixMilli(), 10)
	}
	add := func(name, value string) {
		m.Headers = append(m.Headers, Header{Key: name, Value: []byte(value)})
	}
	add(headerTopic, r.Topic)
	add(headerPartition, strconv.Itoa(r.Partition))
	add(headerOffset, strconv.FormatInt(r.Offset, 10))
	add(headerGroup, l.Group)
	add(headerAttempts, strconv.Itoa(l.Attempts))
	add(headerMessage, printable.Truncate(l.Message, maxLetterMessage))
	add(headerClass, l.Class)
	add(headerCode, l.Code)
	add(HeaderEventTime, eventTime)
	add(headerFailedAt, l.FailedAt.UTC().Format(time.RFC3339Nano))
	add(headerCollapsed, strconv.Itoa(l.Collapsed))
	add(HeaderReplays, strconv.Itoa(l.Event.Replays))
	add(headerLane, l.Event.Lane.String())
	if omit.value || r.Damage != nil {
		size := int64(len(r.Value))
		if r.Damage != nil {
			size = r.Damage.Size
		}
		m.Value = []byte{} // not null: a null value is what resolutions have
		add(headerValueOmitted, strconv.FormatInt(size, 10))
	}
	if omit.headers {
		add(headerHeadersOmitted, strconv.Itoa(len(own)))
	}
	if omit.key {
		m.Key = nil
		add(headerKeyOmitted, strconv.Itoa(len(r.Key)))
	}
	return m
}

// Letter is what the record of a dead letter says. What it does not say, or not in a form that can
// be read, is nil or 0.
type Letter struct {
	Kind
	Message      string
	Report, Peer *string
	ReadTime     *int64     // MsgReadTime of its event
	EventTime    *time.Time // when the user read
	FailedAt     time.Time
	Origin       Origin
	Attempts     int // counted ones
	Collapsed    int // how many events it stands for
	Replays      int
	Lane         string
	Omitted      string // how large the value was that the topic did not take; "": it is there
	Record       Record
}

// Origin is where the record of a letter was read first, and by whom.
type Origin struct {
	Topic             string
	Partition, Offset *int64
	Group             string
}

// Kind is why a letter was written.
type Kind struct{ Class, Code string }

// KindOf returns the kind of the letter that a record is; false: it is none.
func KindOf(r Record) (kind Kind, ok bool) {
	class, ok := r.Header(headerClass)
	code, _ := r.Header(headerCode)
	return Kind{class, code}, ok
}

// FailedAt returns when the event of a letter failed; of a letter that does not say so, or says
// nonsense, the time of its record.
func FailedAt(r Record) time.Time {
	text, _ := r.Header(headerFailedAt)
	if t, err := time.Parse(time.RFC3339Nano, text); err == nil {
		return t
	}
	return r.Time
}

// ValueOmitted reports whether a letter lacks the value of its record, and how large that was.
func ValueOmitted(r Record) (size string, omitted bool) { return r.Header(headerValueOmitted) }

// ReadLetter reads the record of a letter.
func ReadLetter(r Record) Letter {
	text := func(name string) string { s, _ := r.Header(name); return s }
	number := func(name string) *int64 {
		n, err := strconv.ParseInt(text(name), 10, 64)
		if err != nil || n < 0 {
			return nil
		}
		return &n
	}
	count := func(name string) int {
		if n := number(name); n != nil && *n <= 1<<31 {
			return int(*n)
		}
		return 0
	}
	l := Letter{
		Message: text(headerMessage), FailedAt: FailedAt(r).UTC(),
		Origin: Origin{text(headerTopic), number(headerPartition), number(headerOffset),
			text(headerGroup)},
		Attempts: count(headerAttempts), Collapsed: max(1, count(headerCollapsed)),
		Replays: r.Replays(), Lane: text(headerLane), Omitted: text(headerValueOmitted), Record: r,
	}
	l.Kind, _ = KindOf(r)
	fields := ParseLenient(r.Value)
	l.Report, l.Peer, l.ReadTime = fields.Report, fields.Peer, fields.ReadTime
	// As a replay would read it: a malformed time is none, and the record's own is not the event's.
	at, err := EventTime(Record{Headers: r.ReplayHeaders(0)})
	if at = at.UTC(); err == nil && !at.IsZero() {
		l.EventTime = &at
	}
	return l
}

// ReplayHeaders returns the headers of a letter's record when it is published again: the
// producer's, the event time of the letter if it has one, and how often it was replayed.
func (r Record) ReplayHeaders(replays int) []Header {
	headers := r.ProducerHeaders()
	if at, _ := r.Header(HeaderEventTime); at != "" {
		headers = append(headers, Header{Key: HeaderEventTime, Value: []byte(at)})
	}
	return append(headers,
		Header{Key: HeaderReplays, Value: strconv.AppendInt(nil, int64(replays), 10)})
}

// OwnHeaders returns the headers that a producer gave the record: not those of letters, which may
// be forged, or of an earlier life of the event, and not those that steer how an event is read.
func (r Record) ProducerHeaders() []Header {
	return slices.DeleteFunc(slices.Clone(r.Headers), func(h Header) bool {
		return strings.HasPrefix(h.Key, "markread.") || strings.HasPrefix(h.Key, "__dlq.")
	})
}
