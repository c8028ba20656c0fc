package engine

import (
	"bytes"
	"encoding/binary"
	"strconv"
	"time"

	"markread/consumer/event"
)

// A waiting conversation keeps the record of its best event, because a dead letter would need it,
// and in a large backlog the records are most of the memory. So each is packed into few bytes,
// which begin with the conversation's ID and store nothing twice.

// accountSeparator separates the accounts in an ID. Accounts are printable ASCII, so neither
// contains it.
const accountSeparator = '\n'

// packing says which optional parts are packed, in addition to the ID, the partition and the
// offset.
type packing byte

const (
	packsBackfill packing = 1 << iota // the lane is backfill
	packsTime                         // the record's timestamp
	packsKey                          // only if it is not the recommended one
	packsValue                        // only if it is neither of these two:
	numberTime                        // the usual value, with MsgReadTime as a number
	stringTime                        // the usual value, with MsgReadTime as a string
	packsHeaders
)

// appendUsual appends the value that most producers write: no white space, no other fields.
func appendUsual(b, report, peer []byte, readTime int64, quote string) []byte {
	b = append(append(b, usualReport...), report...)
	b = append(append(b, usualPeer...), peer...)
	b = append(append(b, usualTime...), quote...)
	return append(append(strconv.AppendInt(b, readTime, 10), quote...), '}')
}

// valueForm returns numberTime or stringTime for a value that appendUsual would restore, else
// packsValue. A valid event's read time is written without leading zeros, so its digits need not be
// compared.
func valueForm(value, report, peer []byte) packing {
	rest, ok := value, true
	for _, part := range [5][]byte{usualReport, report, usualPeer, peer, usualTime} {
		if rest, ok = bytes.CutPrefix(rest, part); !ok {
			return packsValue
		}
	}
	form, end := numberTime, "}"
	if len(rest) > 0 && rest[0] == '"' {
		form, end, rest = stringTime, `"}`, rest[1:]
	}
	for len(rest) > 0 && rest[0] >= '0' && rest[0] <= '9' {
		rest = rest[1:]
	}
	if string(rest) != end {
		return packsValue
	}
	return form
}

var (
	usualReport = []byte(`{"` + event.ReportField + `":"`)
	usualPeer   = []byte(`","` + event.PeerField + `":"`)
	usualTime   = []byte(`","` + event.ReadTimeField + `":`)
)

// packer packs events, and keeps its buffers.
type packer struct{ packed, text []byte }

// pack returns a valid event in few bytes, valid until the next call. The first idLen bytes, 65 at
// most, are the ID of its conversation. The read time, the attempts and the Ref are not packed: the
// backlog has them.
func (p *packer) pack(e *event.Event) (packed []byte, idLen uint8) {
	r := &e.Record
	b := append(append(append(p.packed[:0], e.Report...), accountSeparator), e.Peer...)
	idLen = uint8(len(b))
	b = append(b, accountSeparator, 0)
	b = binary.AppendUvarint(b, uint64(r.Partition))
	b = binary.AppendUvarint(b, uint64(r.Offset))
	var parts packing
	if len(r.Headers) > 0 {
		parts |= packsHeaders
		b = packHeaders(b, r.Headers)
	}
	if e.Lane == event.Backfill {
		parts |= packsBackfill
	}
	if !r.Time.IsZero() {
		parts |= packsTime
		b = binary.AppendVarint(b, r.Time.UnixMilli())
	}
	if !event.IsKey(r.Key, e.Report, e.Peer) {
		parts |= packsKey
		b = packBytes(b, r.Key)
	}
	value := valueForm(r.Value, e.Report, e.Peer)
	if parts |= value; value == packsValue {
		b = shorten(b, r.Value, p.commonWords(e.Report, e.Peer))
	}
	b[int(idLen)+1] = byte(parts)
	p.packed = b
	return b, idLen
}

// unpack returns a copy of the event that was packed, which had this read time. It must have come
// from one of topics.
func unpack(packed []byte, readTime int64, topics event.Topics) event.Event {
	report, rest, _ := bytes.Cut(packed, []byte{accountSeparator})
	peer, rest, _ := bytes.Cut(rest, []byte{accountSeparator})
	parts, u := packing(rest[0]), unpacker{rest[1:]}
	e := event.Event{Report: bytes.Clone(report), Peer: bytes.Clone(peer), ReadTime: readTime}
	r := &e.Record
	r.Topic = topics.Live
	if parts&packsBackfill != 0 {
		e.Lane, r.Topic = event.Backfill, topics.Backfill
	}
	r.Partition, r.Offset = int(u.uvarint()), int64(u.uvarint())
	if parts&packsHeaders != 0 {
		r.Headers = u.headers()
	}
	if parts&packsTime != 0 {
		r.Time = time.UnixMilli(u.varint())
	}
	if r.Key = event.Key(report, peer); parts&packsKey != 0 {
		r.Key = u.bytes()
	}
	switch {
	case parts&numberTime != 0:
		r.Value = appendUsual(nil, report, peer, readTime, "")
	case parts&stringTime != 0:
		r.Value = appendUsual(nil, report, peer, readTime, `"`)
	default:
		r.Value = expand(u.rest, new(packer).commonWords(report, peer))
	}
	e.EventTime, _ = event.EventTime(*r) // an event with an error here would not have been valid
	e.Replays = r.Replays()
	return e
}

// packedPosition is what follows the ID in a packed event: 1 byte with the parts, at most 5 with
// the partition and at most 9 with the offset.
type packedPosition [1 + 5 + 9]byte

// unpackPosition returns a record with only the topic, the partition and the offset.
func unpackPosition(p packedPosition, topics *event.Topics) event.Record {
	u := unpacker{p[1:]}
	r := event.Record{Topic: topics.Live, Partition: int(u.uvarint()), Offset: int64(u.uvarint())}
	if packing(p[0])&packsBackfill != 0 {
		r.Topic = topics.Backfill
	}
	return r
}

// mostTraced is how many headers a record may have for its traceparent to be looked for at each
// call: a record of the largest size can have 500,000.
const mostTraced = 100

// unpackTraceparent returns the traceparent of an event. packed is what follows the ID.
func unpackTraceparent(packed []byte) (last event.Traceparent) {
	if packing(packed[0])&packsHeaders == 0 {
		return last
	}
	u := unpacker{packed[1:]}
	u.uvarint()
	u.uvarint()
	headers := u.uvarint()
	if headers > mostTraced {
		return last
	}
	for range headers {
		switch name, value, t := u.header(); {
		case name == nil:
			last = t
		case string(name) == event.HeaderTraceparent:
			last, _ = event.ParseTraceparent(value)
		}
	}
	return last
}

// packParts returns the key, the value and the headers of any record in one string: stored
// separately, headers take 40 bytes each and more than that as allocations of their own.
func packParts(r *event.Record) string {
	return string(packHeaders(packBytes(packBytes(nil, r.Key), r.Value), r.Headers))
}

// unpackParts restores in the record what packParts has packed.
func unpackParts(packed string, r *event.Record) {
	u := unpacker{[]byte(packed)}
	r.Key, r.Value, r.Headers = u.bytes(), u.bytes(), u.headers()
}

// stripParts removes from the record what packParts packs.
func stripParts(r *event.Record) { r.Key, r.Value, r.Headers = nil, nil, nil }

// packHeaders appends headers. A traceparent of version 00 takes 26 bytes instead of 68, because in
// some topics each record has one. It begins with its version, 0, with which no name begins.
func packHeaders(b []byte, headers []event.Header) []byte {
	b = binary.AppendUvarint(b, uint64(len(headers)))
	for _, h := range headers {
		if h.Key == event.HeaderTraceparent {
			if t, valid := event.ParseTraceparent(h.Value); valid && t[0] == 0 {
				b = append(b, t[:]...)
				continue
			}
		}
		b = packBytes(packBytes(b, []byte(h.Key)), h.Value)
	}
	return b
}

// packBytes appends part with its length; nil and empty differ.
func packBytes(b, part []byte) []byte {
	if part == nil {
		return append(b, 0)
	}
	return append(binary.AppendUvarint(b, uint64(len(part))+1), part...)
}

// unpacker reads what pack has written, from the front of rest.
type unpacker struct{ rest []byte }

func (u *unpacker) uvarint() uint64 {
	v, n := binary.Uvarint(u.rest)
	u.rest = u.rest[n:]
	return v
}

func (u *unpacker) varint() int64 {
	v, n := binary.Varint(u.rest)
	u.rest = u.rest[n:]
	return v
}

func (u *unpacker) bytes() []byte { return bytes.Clone(u.view()) }

// view is bytes without a copy.
func (u *unpacker) view() []byte {
	n := u.uvarint()
	if n == 0 {
		return nil
	}
	part := u.rest[:n-1]
	u.rest = u.rest[n-1:]
	return part
}

// header returns views of the next header's name and value, or a traceparent that is packed without
// its name.
func (u *unpacker) header() (name, value []byte, t event.Traceparent) {
	if u.rest[0] != 0 {
		return u.view(), u.view(), t
	}
	u.rest = u.rest[copy(t[:], u.rest):]
	return nil, nil, t
}

func (u *unpacker) headers() []event.Header {
	n := u.uvarint()
	if n == 0 {
		return nil
	}
	headers := make([]event.Header, n)
	for i := range headers {
		name, value, t := u.header()
		headers[i] = event.Header{Key: string(name), Value: bytes.Clone(value)}
		if name == nil {
			headers[i] = event.Header{Key: event.HeaderTraceparent, Value: t.AppendText(nil)}
		}
	}
	return headers
}

// commonWords returns the words that nearly every value contains. The byte i+1, which JSON doesn't
// use, stands for word i.
func (p *packer) commonWords(report, peer []byte) [5][]byte {
	p.text = append(append(append(p.text[:0], '"'), report...), '"')
	n := len(p.text)
	p.text = append(append(append(p.text, '"'), peer...), '"')
	return [5][]byte{
		[]byte(`"` + event.ReportField + `":`), []byte(`"` + event.PeerField + `":`),
		[]byte(`"` + event.ReadTimeField + `":`), p.text[:n], p.text[n:],
	}
}

// shorten appends a JSON text with its common words replaced.
func shorten(b, value []byte, words [5][]byte) []byte {
next:
	for i := 0; i < len(value); {
		if value[i] == '"' {
			for n, word := range words {
				if bytes.HasPrefix(value[i:], word) {
					b, i = append(b, byte(n+1)), i+len(word)
					continue next
				}
			}
		}
		b = append(b, value[i])
		i++
	}
	return b
}

// expand reverses shorten.
func expand(short []byte, words [5][]byte) []byte {
	var value []byte
	for _, c := range short {
		if c >= 1 && int(c) <= len(words) {
			value = append(value, words[c-1]...)
		} else {
			value = append(value, c)
		}
	}
	return value
}
