package engine

import (
	"bytes"
	"encoding/binary"
	"strings"
	"time"

	"markread/consumer/event"
)

// A waiting conversation keeps the record of its best event, because a dead letter would need it,
// and in a large backlog the records are most of the memory. So each is packed into one string,
// which begins with the conversation's ID, contains no pointers, and stores nothing twice.

// accountSeparator separates the accounts in an ID. Accounts are printable ASCII, so neither
// contains it.
const accountSeparator = "\n"

func conversationID(report, peer string) string { return report + accountSeparator + peer }

// packing says which optional parts are packed, in addition to the ID, the partition, the offset,
// the headers and the value.
type packing byte

const (
	packsBackfill packing = 1 << iota // the lane is backfill
	packsTime                         // the record's timestamp
	packsKey                          // only if it is not the recommended one
)

// pack returns a valid event in few bytes. The first idLen bytes, 65 at most, are the ID of its
// conversation. The read time, the attempts and the Ref are not packed: the backlog has them.
func pack(e *event.Event) (packed string, idLen uint8) {
	r := &e.Record
	b := append(make([]byte, 0, 256), conversationID(string(e.Report), string(e.Peer))...)
	idLen = uint8(len(b))
	b = append(b, accountSeparator+"\x00"...)
	b = binary.AppendUvarint(b, uint64(r.Partition))
	b = binary.AppendUvarint(b, uint64(r.Offset))
	var p packing
	if e.Lane == event.Backfill {
		p |= packsBackfill
	}
	if !r.Time.IsZero() {
		p |= packsTime
		b = binary.AppendVarint(b, r.Time.UnixMilli())
	}
	if !bytes.Equal(r.Key, event.Key(e.Report, e.Peer)) {
		p |= packsKey
		b = packBytes(b, r.Key)
	}
	b = packHeaders(b, r.Headers)
	b = shorten(b, r.Value, commonWords(string(e.Report), string(e.Peer)))
	b[int(idLen)+len(accountSeparator)] = byte(p)
	return string(b), idLen
}

// unpack returns the event that was packed. It must have come from one of topics.
func unpack(packed string, topics event.Topics) event.Event {
	report, rest, _ := strings.Cut(packed, accountSeparator)
	peer, rest, _ := strings.Cut(rest, accountSeparator)
	u := unpacker{[]byte(rest[1:])}
	p := packing(rest[0])
	e := event.Event{Report: []byte(report), Peer: []byte(peer)}
	r := &e.Record
	r.Topic = topics.Live
	if p&packsBackfill != 0 {
		e.Lane, r.Topic = event.Backfill, topics.Backfill
	}
	r.Partition, r.Offset = int(u.uvarint()), int64(u.uvarint())
	if p&packsTime != 0 {
		r.Time = time.UnixMilli(u.varint())
	}
	if r.Key = event.Key(report, peer); p&packsKey != 0 {
		r.Key = u.bytes()
	}
	r.Headers = u.headers()
	r.Value = expand(u.rest, commonWords(report, peer))
	e.EventTime, _ = event.EventTime(*r) // an event with an error here would not have been valid
	e.Replays = r.Replays()
	return e
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

func packHeaders(b []byte, headers []event.Header) []byte {
	b = binary.AppendUvarint(b, uint64(len(headers)))
	for _, h := range headers {
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

func (u *unpacker) bytes() []byte {
	n := u.uvarint()
	if n == 0 {
		return nil
	}
	part := bytes.Clone(u.rest[:n-1])
	u.rest = u.rest[n-1:]
	return part
}

func (u *unpacker) headers() []event.Header {
	n := u.uvarint()
	if n == 0 {
		return nil
	}
	headers := make([]event.Header, n)
	for i := range headers {
		headers[i] = event.Header{Key: string(u.bytes()), Value: u.bytes()}
	}
	return headers
}

// commonWords returns the words that nearly every value contains. The byte i+1, which JSON doesn't
// use, stands for word i.
func commonWords(report, peer string) [5]string {
	return [5]string{
		`"Report_Account":`, `"Peer_Account":`, `"MsgReadTime":`,
		`"` + report + `"`, `"` + peer + `"`,
	}
}

// shorten appends a JSON text with its common words replaced.
func shorten(b, value []byte, words [5]string) []byte {
next:
	for i := 0; i < len(value); {
		if value[i] == '"' {
			for n, word := range words {
				if len(value)-i >= len(word) && string(value[i:i+len(word)]) == word {
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
func expand(short []byte, words [5]string) []byte {
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
