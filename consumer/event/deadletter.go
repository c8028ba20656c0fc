package event

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"markread/consumer/printable"
)

// The headers of dead letters and of resolutions; the first six as in Kafka's KIP-1191. Events have
// HeaderEventTime and HeaderReplays, too.
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

// LetterOverhead bounds what a dead letter needs beyond its record, in bytes: markread's headers
// and the batch around it.
const LetterOverhead = 64 << 10

// The classes of dead letters.
const (
	ClassInvalid   = "invalid"   // the record is not a valid event
	ClassRejected  = "rejected"  // the server rejected it
	ClassExhausted = "exhausted" // its attempts failed too often
)

// DeadLetter is a dead letter to write: an event that can't be applied, and the reason.
type DeadLetter struct {
	Event     Event
	Class     string
	Code      string // the API's error code or the label of the failure; "" for invalid
	Message   string // truncated to 1,000 bytes
	Attempts  int    // counted attempts; 0 for invalid
	Collapsed int    // number of events that it stands for, including its own
	FailedAt  time.Time
	Group     string
}

const maxLetterMessage = 1000 // bytes

// Omission selects the parts of the record that its dead letter omits.
type Omission struct{ value, headers, key bool }

// Omissions are the forms of a dead letter in the order in which they are tried; the first that
// fits is written. The value is omitted first, as the contract says. If the dead letter does not
// fit even without its value, but does without its headers, only the headers are omitted.
var Omissions = []Omission{
	{},
	{value: true},
	{headers: true},
	{value: true, headers: true},
	{value: true, headers: true, key: true},
}

// Encode returns the record of the dead letter. The value of a damaged record is not available, and
// so always omitted.
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
		m.Value = []byte{} // not null: only resolutions have a null value
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

// Letter is the parsed record of a dead letter. A field that is missing or can't be parsed is nil
// or 0.
type Letter struct {
	Kind
	Message      string
	Report, Peer *string
	ReadTime     *int64     // MsgReadTime of its event
	EventTime    *time.Time // when the user read
	FailedAt     time.Time
	Origin       Origin
	Attempts     int // counted attempts
	Collapsed    int // number of events that it stands for
	Replays      int
	Lane         string
	Omitted      string // size of the omitted value; "": the value is present
	Record       Record
}

// Origin is where the original record was read, and by which group.
type Origin struct {
	Topic     string `json:"topic"`
	Partition *int64 `json:"partition"`
	Offset    *int64 `json:"offset"`
	Group     string `json:"group"`
}

// Kind is the class and code of a dead letter: why it was written.
type Kind struct{ Class, Code string }

// KindOf returns the kind of a dead letter. ok is false if the record is not a dead letter.
func KindOf(r Record) (kind Kind, ok bool) {
	class, ok := r.Header(headerClass)
	code, _ := r.Header(headerCode)
	return Kind{class, code}, ok
}

// FailedAt returns when the event of a dead letter failed. If the header is missing or malformed,
// it returns the timestamp of the record.
func FailedAt(r Record) time.Time {
	text, _ := r.Header(headerFailedAt)
	if t, err := time.Parse(time.RFC3339Nano, text); err == nil {
		return t
	}
	return r.Time
}

// ValueOmitted reports whether a dead letter lacks its value, and the size that the value had.
func ValueOmitted(r Record) (size string, omitted bool) { return r.Header(headerValueOmitted) }

// ReadLetter parses the record of a dead letter.
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
	// As a replay would read it: a malformed time counts as none, and the dead letter's timestamp
	// is not the event time.
	at, err := EventTime(Record{Headers: r.ReplayHeaders(0)})
	if at = at.UTC(); err == nil && !at.IsZero() {
		l.EventTime = &at
	}
	return l
}

// ReplayHeaders returns the headers for republishing the record of a dead letter: the producer's
// headers, the event time of the dead letter if it has one, and the replay count.
func (r Record) ReplayHeaders(replays int) []Header {
	headers := r.ProducerHeaders()
	if at, _ := r.Header(HeaderEventTime); at != "" {
		headers = append(headers, Header{Key: HeaderEventTime, Value: []byte(at)})
	}
	return append(headers,
		Header{Key: HeaderReplays, Value: strconv.AppendInt(nil, int64(replays), 10)})
}

// ProducerHeaders returns the headers that the producer wrote. It omits the headers of dead
// letters, which may be forged or left from an earlier replay, and the headers that control how an
// event is decoded.
func (r Record) ProducerHeaders() []Header {
	return slices.DeleteFunc(slices.Clone(r.Headers), func(h Header) bool {
		return strings.HasPrefix(h.Key, "markread.") || strings.HasPrefix(h.Key, "__dlq.")
	})
}
