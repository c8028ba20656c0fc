package consumer

import (
	"context"
	"encoding/binary"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Letter is a dead letter: an event that can't be applied, and why.
type Letter struct {
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

// LetterWriter writes dead letters to one topic. It is safe for concurrent use.
type LetterWriter struct {
	client *Client
	topic  string
}

// Letters returns a writer of dead letters to topic.
func (c *Client) Letters(topic string) *LetterWriter {
	c.use(topic)
	return &LetterWriter{c, topic}
}

// Write writes one letter and returns when all in-sync replicas have it. It tries once, for at most 5 s; the
// caller retries. After an error the letter may have been written nevertheless.
//
// A letter that the topic refuses as too large is written without the record's value, and if it is still too
// large without its headers, then without its key: headers say what was left out, and how much it was.
func (w *LetterWriter) Write(ctx context.Context, letter Letter) error {
	partitions, err := w.client.partitionCount(ctx, w.topic)
	if err != nil {
		return err
	}
	partition := letterPartition(letter.Event.Record, partitions)
	for omit := omitNothing; ; omit++ {
		err := w.client.produce(ctx, w.topic, partition, []Message{letterMessage(letter, omit)})
		if err == nil || !tooLarge(err) || omit == omitKey {
			return err
		}
	}
}

// letterPartition keeps the letters of one key together. Without a key they are spread by where they come from.
func letterPartition(r Record, partitions int) int {
	key := r.Key
	if key == nil {
		key = binary.BigEndian.AppendUint64([]byte(r.Topic), uint64(r.Partition)<<40^uint64(r.Offset))
	}
	return partitionOf(key, partitions)
}

// omission says what of the record is left out of its letter, each step on top of the one before.
type omission int

const (
	omitNothing omission = iota
	omitValue
	omitHeaders
	omitKey
)

// letterMessage makes the record of a letter.
func letterMessage(l Letter, omit omission) Message {
	r := l.Event.Record
	m := Message{Key: r.Key, Value: r.Value}
	own := keptHeaders(r.Headers)
	if omit < omitHeaders {
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
	if omit >= omitValue {
		m.Value = []byte{} // not null: a null value is what resolutions have
		add("markread.value-omitted", strconv.Itoa(len(r.Value)))
	}
	if omit >= omitHeaders {
		add("markread.headers-omitted", strconv.Itoa(len(own)))
	}
	if omit >= omitKey {
		m.Key = nil
		add("markread.key-omitted", strconv.Itoa(len(r.Key)))
	}
	return m
}

// keptHeaders returns the record's own headers: not those that a letter has, which a producer may have
// forged, or which are of an earlier life of the event.
func keptHeaders(headers []Header) []Header {
	var kept []Header
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
