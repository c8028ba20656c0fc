package event

import "encoding/hex"

// HeaderTraceparent is the header that names a record's distributed trace, as W3C Trace Context
// defines it. The name is case-sensitive and the last header counts, as in OpenTelemetry's
// instrumentation of Kafka clients.
const HeaderTraceparent = "traceparent"

// Traceparent is a valid traceparent in binary: the version, the 16 bytes of the trace ID, the 8
// bytes of the parent ID, and the flags. The zero value means that there is none.
type Traceparent [1 + 16 + 8 + 1]byte

const traceparentText = len("00-0123456789abcdef0123456789abcdef-0123456789abcdef-00")

// ParseTraceparent parses the value of a traceparent header. Of later versions than 00 it reads the
// fields that version 00 has, as Trace Context requires.
func ParseTraceparent(value []byte) (t Traceparent, valid bool) {
	if len(value) < traceparentText || value[2] != '-' || value[35] != '-' || value[52] != '-' {
		return Traceparent{}, false
	}
	for _, c := range value[:traceparentText] {
		if c >= 'A' && c <= 'F' { // hex accepts them
			return Traceparent{}, false
		}
	}
	_, version := hex.Decode(t[:1], value[:2])
	_, trace := hex.Decode(t[1:17], value[3:35])
	_, parent := hex.Decode(t[17:25], value[36:52])
	_, flags := hex.Decode(t[25:], value[53:traceparentText])
	switch rest := value[traceparentText:]; {
	case version != nil, trace != nil, parent != nil, flags != nil,
		[16]byte(t[1:17]) == [16]byte{}, [8]byte(t[17:25]) == [8]byte{},
		len(rest) > 0 && (rest[0] != '-' || t[0] == 0), t[0] == 0xff:
		return Traceparent{}, false
	}
	return t, true
}

// Traceparent returns the traceparent of the record; zero: it has no valid one.
func (r Record) Traceparent() Traceparent {
	value, _ := lastHeader(r.Headers, HeaderTraceparent)
	t, _ := ParseTraceparent(value)
	return t
}

// AppendText appends the text of a traceparent. Of version 00 this is the value that was parsed.
func (t Traceparent) AppendText(b []byte) []byte {
	b = append(hex.AppendEncode(b, t[:1]), '-')
	b = append(hex.AppendEncode(b, t[1:17]), '-')
	b = append(hex.AppendEncode(b, t[17:25]), '-')
	return hex.AppendEncode(b, t[25:])
}

// TraceID returns the ID of the trace in hexadecimal digits; "": there is none.
func (t Traceparent) TraceID() string {
	if t == (Traceparent{}) {
		return ""
	}
	return hex.EncodeToString(t[1:17])
}

// Sampled reports whether the producer may have recorded the trace. Other traces can't be found.
func (t Traceparent) Sampled() bool { return t[25]&1 != 0 }
