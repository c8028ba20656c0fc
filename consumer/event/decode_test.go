package event

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// The clock of the tests, and two read times at its limit.
var (
	latest     = time.Unix(1_700_000_000, 999e6)
	recordTime = time.UnixMilli(1_699_999_000_999) // timestamp of the records: T 1699999000
)

const inTime, tooLate = "1700000300", "1700000301"

// from returns a record with that value and headers: name, value, name, value ….
func from(value string, headers ...string) Record {
	r := Record{Value: []byte(value), Time: recordTime}
	for i := 0; i < len(headers); i += 2 {
		r.Headers = append(r.Headers, Header{Key: headers[i], Value: []byte(headers[i+1])})
	}
	return r
}

func TestDecodeValid(t *testing.T) {
	const accounts = `"Report_Account":"rita","Peer_Account":"paul"`
	event := func(more string) string { return `{` + accounts + more + `}` }
	type want struct {
		report, peer string
		t            int64
		eventTime    time.Time
		replays      int
	}
	ok := func(t int64) want { return want{"rita", "paul", t, recordTime, 0} }
	of := func(report, peer string) want { return want{report, peer, 1699999000, recordTime, 0} }
	at := func(ms int64, t int64) want { return want{"rita", "paul", t, time.UnixMilli(ms), 0} }
	again := func(n int) want { return want{"rita", "paul", 1600000005, recordTime, n} }
	escapedRita := `"\u0072ita"`
	for name, c := range map[string]struct {
		record Record
		want   want
	}{
		"number": {from(event(`,"MsgReadTime":1699999999`)), ok(1699999999)},
		"string": {from(event(`,"MsgReadTime":"1699999999"`)),
			ok(1699999999)},
		"string with escapes": {from(event(`,"MsgReadTime":"\u0031699999999"`)),
			ok(1699999999)},
		"smallest":           {from(event(`,"MsgReadTime":1000000000`)), ok(1000000000)},
		"null: event time":   {from(event(`,"MsgReadTime":null`)), ok(1699999000)},
		"absent: event time": {from(event(``)), ok(1699999000)},
		"last of repeated": {from(event(`,"MsgReadTime":"x","MsgReadTime":1600000007`)),
			ok(1600000007)},
		"last of repeated is null": {from(event(`,"MsgReadTime":7,"MsgReadTime":null`)),
			ok(1699999000)},
		"five minutes ahead": {from(event(`,"MsgReadTime":` + inTime)), ok(1700000300)},
		"last account counts": {from(`{"Report_Account":1,` + accounts + `}`),
			of("rita", "paul")},
		"other case is another name": {from(event(`,"report_account":"eve","PEER_ACCOUNT":3,` +
			`"msgreadtime":"x","MsgReadTime":1600000005`)), ok(1600000005)},
		"other names for the time": {from(event(`,"ReadTime":5,"timestamp":6,"msg.read.time":7,` +
			`"MsgReadTimes":8`)), ok(1699999000)},
		"byte order mark": {from("\ufeff\ufeff " + event(``)), ok(1699999000)},
		"unknown fields": {from(event(`,"X":{"Report_Account":"eve","a":[1,` +
			`{"MsgReadTime":9}]},"":"}\"","\\":[]`)), of("rita", "paul")},
		"nested looks like the end": {from(`{"a":"}","b":["\"}",{}],` + accounts + `}`),
			of("rita", "paul")},
		"escaped name": {from(`{"Report\u005fAccount":"rita","Peer_Account":"paul"}`),
			of("rita", "paul")},
		"escaped account": {from(`{"Report_Account":` + escapedRita +
			`,"Peer_Account":"\"\\\/"}`), of("rita", `"\/`)},
		"space and tilde in accounts": {from(`{"Report_Account":" ~","Peer_Account":"a|b"}`),
			of(" ~", "a|b")},
		"32 bytes": {from(`{"Report_Account":"` + strings.Repeat("a", 32) +
			`","Peer_Account":"p"}`), of(strings.Repeat("a", 32), "p")},
		"a conversation with oneself": {from(`{"Report_Account":"p","Peer_Account":"p"}`),
			of("p", "p")},
		"white space": {from(" \t\r\n{ \"Report_Account\" :\n\"rita\" " +
			",\r\"Peer_Account\"\t: \"paul\" }\n \t"), of("rita", "paul")},
		"header": {from(event(``), "markread.event-time", "1600000000999"),
			at(1600000000999, 1600000000)},
		"header, last counts": {from(event(``), "markread.event-time", "x",
			"markread.event-time", "1600000002000"), at(1600000002000, 1600000002)},
		"header beside MsgReadTime": {from(event(`,"MsgReadTime":1600000005`),
			"markread.event-time", "1600000000000"), at(1600000000000, 1600000005)},
		"header with zeros in front": {from(event(``), "markread.event-time", "001600000002000"),
			at(1600000002000, 1600000002)},
		"header in another case": {from(event(``), "Markread.Event-Time", "x"),
			ok(1699999000)},
		"earliest header": {from(event(``), "markread.event-time", "1000000000000"),
			at(1000000000000, 1000000000)},
		"header without timestamp": {Record{Value: []byte(event(``)),
			Headers: []Header{{Key: "markread.event-time", Value: []byte("1600000000000")}}},
			at(1600000000000, 1600000000)},
		"timestamp in seconds": {Record{Value: []byte(event(`,"MsgReadTime":1600000005`)),
			Time: time.UnixMilli(1600000000)}, want{"rita", "paul", 1600000005, time.Time{}, 0}},
		"MsgReadTime without any time": {Record{Value: []byte(event(`,"MsgReadTime":1600000005`))},
			want{"rita", "paul", 1600000005, time.Time{}, 0}},
		"replays": {from(event(`,"MsgReadTime":1600000005`), "markread.replays", "3"), again(3)},
		"most replays": {from(event(`,"MsgReadTime":1600000005`),
			"markread.replays", "1000"), again(1000)},
		"too many replays": {from(event(`,"MsgReadTime":1600000005`),
			"markread.replays", "1001"), again(0)},
		"replays that overflow": {from(event(`,"MsgReadTime":1600000005`),
			"markread.replays", "99999999999999999999"), again(0)},
		"negative replays": {from(event(`,"MsgReadTime":1600000005`),
			"markread.replays", "-1"), again(0)},
		"last replays count": {from(event(`,"MsgReadTime":1600000005`),
			"markread.replays", "1", "markread.replays", "2"), again(2)},
		"other headers of ours": {from(event(`,"MsgReadTime":1600000005`), "markread.class",
			"rejected", "__dlq.errors.offset", "x", "markread.resolves", "0:1"), again(0)},
	} {
		t.Run(name, func(t *testing.T) {
			e := Decode(c.record, latest)
			if e.Invalid != nil {
				t.Fatalf("%s: %v", c.record.Value, e.Invalid)
			}
			if string(e.Report) != c.want.report || string(e.Peer) != c.want.peer ||
				e.ReadTime != c.want.t || !e.EventTime.Equal(c.want.eventTime) ||
				e.EventTime.IsZero() != c.want.eventTime.IsZero() || e.Replays != c.want.replays {
				t.Errorf("got %+v, want %+v", e, c.want)
			}
		})
	}
}

func TestDecodeInvalid(t *testing.T) {
	const accounts = `"Report_Account":"rita","Peer_Account":"paul"`
	event := func(more string) Record { return from(`{` + accounts + more + `}`) }
	for name, c := range map[string]struct {
		record Record
		why    string
	}{
		"null value":         {Record{Time: recordTime}, "the value is null"},
		"empty value":        {from(``), "not one JSON object"},
		"white space":        {from(` `), "the value is empty"},
		"no JSON":            {from(`hello`), "not one JSON object"},
		"cut":                {from(`{` + accounts), "not one JSON object"},
		"two objects":        {from(`{` + accounts + `}{}`), "not one JSON object"},
		"something after it": {from(`{` + accounts + `} x`), "not one JSON object"},
		"no-break space":     {from("{" + accounts + "}\u00a0"), "not one JSON object"},
		"mark after a space": {from(" \ufeff{" + accounts + `}`), "not one JSON object"},
		"only a mark":        {from("\ufeff"), "the value is empty"},
		"array": {from(`[{` + accounts + `}]`),
			"JSON, but an array, not an object"},
		"string": {from(`"rita"`), "JSON, but a string, not an object"},
		"JSON in a string": {from(` "{\"Report_Account\":1}" `),
			"a string, not an object: it holds JSON, so it was encoded twice"},
		"number in a string": {from(`"17"`), "JSON, but a string, not an object$"},
		"number":             {from(`17`), "JSON, but a number, not an object"},
		"boolean":            {from(`true`), "JSON, but a boolean, not an object"},
		"null":               {from(`null`), "JSON, but null, not an object"},
		"schema registry": {from("\x00\x00\x00\x00\x05{" + accounts + `}`),
			"schema registry's magic byte .0. and the schema ID 5: "},
		"gzip": {from("\x1f\x8b\x08\x00\x00"),
			"not one JSON object: it is compressed with gzip"},
		"Java object":   {from("\xac\xed\x00\x05t\x00\x02{}"), "serialized Java object"},
		"XML":           {from(`<event/>`), "it is XML or HTML"},
		"single quotes": {from(`{'Report_Account': 'rita'}`), "single quotes"},
		"base64":        {from(`eyJSZXBvcnRfQWNjb3VudCI6InJpdGEifQ==`), "base64"},
		"Connect": {from(`{"schema":null,"payload":{` + accounts + `}}`),
			"Report_Account is missing: the value is an envelope of Kafka Connect"},
		"CDC": {from(`{"before":null,"after":{"report_account":"rita"},"op":"c"}`),
			"Report_Account is missing: the value is a change event"},
		"CDC of Canal": {from(`{"data":[{` + accounts +
			`}],"database":"im","table":"reads","type":"INSERT"}`), "change event"},
		"CloudEvent": {from(`{"specversion":"1.0","data":{` + accounts + `}}`),
			"is a CloudEvent"},
		"another envelope": {from(`{"event":{` + accounts + `}}`),
			`Report_Account is missing, but is in "event"`},
		"an envelope's string": {from(`{"message":"{\"Report_Account\":1}"}`),
			`Report_Account is missing, but is in "message"`},
		"time in another case": {event(`,"msgReadTime":1600000005`),
			`there is "msgReadTime": did you mean MsgReadTime`},
		"time with underscores": {event(`,"msg_read_time":1600000005`),
			`there is "msg_read_time": did you mean MsgReadTime`},
		"time with a hyphen": {event(`,"Msg-Read Time":1600000005`), "did you mean MsgReadTime"},
		"readed":             {event(`,"MsgReadedTime":1600000005`), "did you mean MsgReadTime"},
		"peer in another case": {from(`{"Report_Account":"rita","peerAccount":"paul"}`),
			"did you mean Peer_Account"},
		"not UTF-8": {from(`{` + accounts + ",\"x\":\"\xff\"}"),
			"not UTF-8: its byte 53 is 0xff"},
		"UTF-16, unmarked":     {from("\x00{\x00}"), "it is UTF-16"},
		"a zero before JSON":   {from("\x00[" + accounts), "invalid character '.x00' looking"},
		"a number in a string": {from(`"17"`), "a string, not an object$"},
		"UTF-16":               {from("{\x00}\x00"), "it is UTF-16"},
		"empty object":         {from(`{}`), "Report_Account is missing"},
		"no peer":              {from(`{"Report_Account":"rita"}`), "Peer_Account is missing"},
		"wrong case": {from(`{"report_account":"rita","Peer_Account":"paul"}`),
			"Report_Account is missing"},
		"null account": {from(`{"Report_Account":"rita","Peer_Account":null}`),
			"Peer_Account is not a string"},
		"number for an account": {from(`{"Report_Account":17,"Peer_Account":"paul"}`),
			"Report_Account is not a string"},
		"object for an account": {from(`{"Report_Account":{},"Peer_Account":"paul"}`),
			"Report_Account is not a string"},
		"last account is wrong": {from(`{` + accounts + `,"Peer_Account":""}`),
			"Peer_Account is empty"},
		"empty account": {from(`{"Report_Account":"","Peer_Account":"paul"}`),
			"Report_Account is empty"},
		"33 bytes": {from(`{"Report_Account":"` + strings.Repeat("a", 33) +
			`","Peer_Account":"p"}`), "Report_Account has 33 bytes"},
		"umlaut": {from(`{"Report_Account":"rita","Peer_Account":"bärbel"}`),
			"Peer_Account has bytes outside printable ASCII: its byte 2 is 0xc3$"},
		"escaped control": {from(`{"Report_Account":"a\u0000b","Peer_Account":"p"}`),
			"Report_Account has bytes outside printable ASCII"},
		"delete": {from("{\"Report_Account\":\"a\x7f\",\"Peer_Account\":\"p\"}"),
			"Report_Account has bytes outside printable ASCII"},
		"half a surrogate": {from(`{"Report_Account":"a\ud800","Peer_Account":"p"}`),
			"Report_Account has bytes outside printable ASCII"},
		"time 0": {event(`,"MsgReadTime":0`),
			"MsgReadTime 0 is before September 2001"},
		"before 2001": {event(`,"MsgReadTime":999999999`),
			`^MsgReadTime 999999999 is before September 2001 .*1970$`},
		"1760000": {event(`,"MsgReadTime":1760000`), `before September 2001 .*1970$`},
		"a date in digits": {event(`,"MsgReadTime":20251009`),
			"before September 2001.*: it looks like a date"},
		"a spreadsheet's day": {event(`,"MsgReadTime":45939`),
			"before September 2001.*: it looks like a spreadsheet's day"},
		"a date, day first": {event(`,"MsgReadTime":31122025`),
			"before September 2001.*: it looks like a date"},
		"a date, month first": {event(`,"MsgReadTime":12312025`),
			"before September 2001.*: it looks like a date"},
		"minutes": {event(`,"MsgReadTime":29333333`),
			"before September 2001.*: it looks like minutes"},
		"time with 0 in front": {event(`,"MsgReadTime":"01600000005"`),
			"MsgReadTime 01600000005 begins with a zero"},
		"negative time": {event(`,"MsgReadTime":-5`),
			`MsgReadTime "-5" is not a whole number`},
		"plus": {event(`,"MsgReadTime":"+5"`), "is not a whole number"},
		"fraction": {event(`,"MsgReadTime":1600000005.0`),
			"is not a whole number.*: it looks like a number with a fraction"},
		"a day and its time": {event(`,"MsgReadTime":45939.37`),
			"is not a whole number.*: it looks like a spreadsheet's day"},
		"exponent": {event(`,"MsgReadTime":1.6E+09`),
			"is not a whole number.*: it looks like a number with an exponent"},
		"separators": {event(`,"MsgReadTime":"1,600,000,005"`),
			"is not a whole number.*: it looks like a number with separators"},
		"ISO date": {event(`,"MsgReadTime":"2020-09-13T12:26:45Z"`),
			`MsgReadTime "2020-09-13T12:26:45Z" is not a whole number.*: it looks like a date`},
		"another date": {event(`,"MsgReadTime":"Sun Sep 13 12:26:45 2020"`),
			": it looks like a date"},
		"MongoDB's date": {event(`,"MsgReadTime":{"$date":"2020-09-13T12:26:45Z"}`),
			": it looks like a date"},
		"a word": {event(`,"MsgReadTime":"mary12"`),
			`^MsgReadTime "mary12" is not a whole number of seconds since 1970$`},
		"empty time": {event(`,"MsgReadTime":""`),
			`MsgReadTime "" is not a whole number`},
		"time with a space": {event(`,"MsgReadTime":"5 "`),
			"is not a whole number.*: it looks like a number with white space around it"},
		"time with a newline": {event(`,"MsgReadTime":"5\n"`), `"5 " is not a whole number`},
		"a long text": {event(`,"MsgReadTime":"` + strings.Repeat("é", 50) + `"`),
			`MsgReadTime "` + strings.Repeat("é", 40) + `…" is`},
		"Arabic digits":   {event(`,"MsgReadTime":"١٢"`), "is not a whole number"},
		"true":            {event(`,"MsgReadTime":true`), "is not a whole number"},
		"array of a time": {event(`,"MsgReadTime":[5]`), "is not a whole number"},
		"20 digits": {event(`,"MsgReadTime":10000000000000000000`),
			"MsgReadTime 10000000000000000000 is more than 5 minutes ahead, .*: it looks like " +
				"nanoseconds"},
		"no end of digits": {event(`,"MsgReadTime":1` + strings.Repeat("0", 99)),
			`0…" is more than 5 minutes ahead, .*: it looks like nanoseconds`},
		"too far ahead": {event(`,"MsgReadTime":` + tooLate),
			"MsgReadTime 1700000301 is more than 5 minutes ahead, in seconds since 1970$"},
		"almost milliseconds": {event(`,"MsgReadTime":99999999999`),
			"99999999999 is more than 5 minutes ahead, in seconds since 1970$"},
		"milliseconds": {event(`,"MsgReadTime":100000000000`), "looks like milliseconds"},
		"real milliseconds": {event(`,"MsgReadTime":"1700000000000"`),
			"looks like milliseconds"},
		"microseconds": {event(`,"MsgReadTime":1700000000000000`),
			"looks like microseconds"},
		"nanoseconds": {event(`,"MsgReadTime":1700000000000000000`),
			"looks like nanoseconds"},
		"a date and a time": {event(`,"MsgReadTime":20251009085320`), "looks like a date"},
		"and milliseconds":  {event(`,"MsgReadTime":20251009085320123`), "looks like a date"},
		"too large for 64 bits": {event(`,"MsgReadTime":9999999999999999999`),
			"looks like nanoseconds"},
		"event time ahead": {from(`{`+accounts+`}`, "markread.event-time", tooLate+"000"),
			"the event time .there is no MsgReadTime. 1700000301000 is more than 5 minutes " +
				"ahead, in milliseconds since 1970$"},
		"timestamp ahead": {Record{Value: []byte(`{` + accounts + `}`),
			Time: time.Unix(1700000301, 0)},
			"the event time .there is no MsgReadTime. 1700000301000 is more than 5 minutes " +
				"ahead, in milliseconds since 1970$"},
		"timestamp in µs": {Record{Value: []byte(`{` + accounts + `}`),
			Time: time.UnixMilli(1700000000000000)},
			"the event time .* is more than 5 minutes ahead, .*: it looks like microseconds"},
		"event time 0": {from(`{`+accounts+`}`, "markread.event-time", "999"),
			"markread.event-time is malformed: 999 is not milliseconds"},
		"header in seconds": {from(`{`+accounts+`}`, "markread.event-time", "1600000000"),
			"markread.event-time is malformed: 1600000000 is not .*: it looks like seconds"},
		"header before 2001": {from(`{`+accounts+`}`, "markread.event-time", "999999999999"),
			"markread.event-time is malformed: 999999999999"},
		"timestamp 0": {Record{Value: []byte(`{` + accounts + `}`),
			Time: time.UnixMilli(0)}, "no time at all: .* the record's timestamp is 0 ms$"},
		"timestamp in seconds": {Record{Value: []byte(`{` + accounts + `}`),
			Time: time.UnixMilli(1600000000)},
			"no time at all: .* 1600000000 ms: it looks like seconds"},
		"no time": {Record{Value: []byte(`{` + accounts + `}`)}, "no time at all"},
		"empty header": {from(`{`+accounts+`}`, "markread.event-time", ""),
			"markread.event-time is malformed"},
		"null header": {Record{Value: []byte(`{` + accounts + `}`), Time: recordTime,
			Headers: []Header{{Key: "markread.event-time"}}}, "markread.event-time is malformed"},
		"header with a sign": {from(`{`+accounts+`}`, "markread.event-time", "-1"),
			"markread.event-time is malformed"},
		"header too long": {from(`{`+accounts+`}`, "markread.event-time", "1600000000000000"),
			"markread.event-time is malformed: .*: it looks like microseconds"},
		"header spoils a time": {from(`{`+accounts+`,"MsgReadTime":5}`, "markread.event-time",
			"now"), "markread.event-time is malformed"},
		"last header is wrong": {from(`{`+accounts+`}`, "markread.event-time", "1",
			"markread.event-time", "x"), "markread.event-time is malformed"},
	} {
		t.Run(name, func(t *testing.T) {
			c.record.Headers = append(c.record.Headers,
				Header{Key: "markread.replays", Value: []byte("2")})
			e := Decode(c.record, latest)
			if e.Invalid == nil || !regexp.MustCompile(c.why).MatchString(e.Invalid.Error()) {
				t.Errorf("%q: got %v, want %s", c.record.Value, e.Invalid, c.why)
			}
			if e.Replays != 2 {
				t.Errorf("replays %d", e.Replays)
			}
			wantTime := c.record.Time
			if strings.Contains(c.why, "malformed") || strings.Contains(c.why, "no time at all") {
				wantTime = time.Time{}
			} else if value, ok := c.record.Header("markread.event-time"); ok {
				ms, _ := strconv.ParseInt(value, 10, 64)
				wantTime = time.UnixMilli(ms)
			}
			if !e.EventTime.Equal(wantTime) {
				t.Errorf("event time %v, want %v", e.EventTime, wantTime)
			}
		})
	}
}

// WithoutValue removes the value of the record from a reason: it may be an account in the wrong
// field.
func TestWithoutValue(t *testing.T) {
	const accounts = `"Report_Account":"rita","Peer_Account":"paul"`
	for value, want := range map[string]string{
		`{` + accounts + `,"MsgReadTime":"alice"}`: "MsgReadTime … is not a whole number of " +
			"seconds since 1970",
		`{` + accounts + `,"MsgReadTime":7}`: "MsgReadTime … is before September 2001 " +
			"(1000000000), in seconds since 1970",
		`{` + accounts + `,"MsgReadTime":"07"}`: "MsgReadTime … begins with a zero",
		`{` + accounts + `,"MsgReadTime":1700000000000}`: "MsgReadTime … is more than 5 " +
			"minutes ahead, in seconds since 1970: it looks like milliseconds",
		`{"alice":{` + accounts + `}}`: "Report_Account is missing, but is in …: " +
			"publish only that",
		`{` + accounts[:23] + `}`: "Peer_Account is missing",
	} {
		if got := WithoutValue(Decode(from(value), latest).Invalid); got != want {
			t.Errorf("%s: %s", value, got)
		}
	}
	wrong := Decode(from("{"+accounts+"}", "markread.event-time", "alice"), latest).Invalid
	if got := WithoutValue(wrong); strings.Contains(got, "alice") || !strings.Contains(got, "…") {
		t.Error(got)
	}
}

// Other names are not taken for a field's name.
func TestIntendedField(t *testing.T) {
	for name, want := range map[string]string{
		"msgreadtime": "MsgReadTime", "-MSG_read Time__": "MsgReadTime",
		"MsgReadTime":     "MsgReadTime",
		"msg_readed_time": "MsgReadTime", "ReportAccount": "Report_Account",
		"PEER__ACCOUNT": "Peer_Account",
		"":              "", "_": "", "msgreadtim": "", "msgreadtimes": "", "msg.read.time": "",
		"account":           "",
		"report_account_id": "", "mſgreadtime": "", "\x0dsgreadtime": "",
		"peerAccount\n":           "Peer_Account",
		"\ufeffMsgReadTime\u00a0": "MsgReadTime",
	} {
		if got := IntendedField(name); got != want || IntendedField([]byte(name)) != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
}

func TestKey(t *testing.T) {
	if got := string(Key("rita", "paul")); got != "rita|paul" {
		t.Error(got)
	}
}

// FuzzDecode compares rawEvent.parse with encoding/json.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		`{"Report_Account":"rita","Peer_Account":"paul","MsgReadTime":5}`,
		`{"a":[{"b":"}"}],"Report\u005fAccount":"\"","Peer_Account":"paul","MsgReadTime":"5",` +
			`"MsgReadTime":null} `,
		`[]`, `{}`, `{"":{}}`, "\xff", `{"Report_Account":"rita","Peer_Account":"paul"}x`,
	} {
		f.Add([]byte(seed), []byte("1600000000000"))
	}
	f.Fuzz(func(t *testing.T, value, header []byte) {
		record := Record{Value: value, Time: recordTime,
			Headers: []Header{{Key: HeaderEventTime, Value: header}}}
		if header == nil {
			record.Headers = nil
		}
		e := Decode(record, latest)
		if e.Invalid != nil {
			if len(e.Invalid.Error()) > 400 {
				t.Errorf("a message of %d bytes", len(e.Invalid.Error()))
			}
		} else if e.ReadTime < 1_000_000_000 || e.ReadTime > latest.Unix()+300 ||
			len(e.Report) == 0 || len(e.Report) > 32 || len(e.Peer) == 0 || len(e.Peer) > 32 {
			t.Errorf("%q: %+v", value, e)
		}
		var raw rawEvent
		err := raw.parse(value)
		want, ok := naiveObject(value)
		if (err == nil) != ok {
			t.Fatalf("%q: %v, want ok %v", value, err, ok)
		}
		for name, got := range map[string][]byte{"Report_Account": raw.values.report,
			"Peer_Account": raw.values.peer, "MsgReadTime": raw.values.readTime} {
			if ok && !bytes.Equal(got, want[name]) {
				t.Errorf("%q: %s is %q, want %q", value, name, got, want[name])
			}
		}
	})
}

// naiveObject returns the members of a JSON object, parsed by encoding/json.
func naiveObject(value []byte) (map[string]json.RawMessage, bool) {
	for bytes.HasPrefix(value, []byte("\ufeff")) {
		value = value[3:]
	}
	if !utf8.Valid(value) || !bytes.HasPrefix(bytes.TrimLeft(value, " \t\r\n"), []byte("{")) {
		return nil, false
	}
	var members map[string]json.RawMessage
	err := json.Unmarshal(value, &members)
	return members, err == nil
}

func BenchmarkDecode(b *testing.B) {
	record := from(`{"Report_Account":"user-0000123","Peer_Account":"user-0004567",` +
		`"MsgReadTime":"1699999999"}`)
	for b.Loop() {
		if e := Decode(record, latest); e.Invalid != nil {
			b.Fatal(e.Invalid)
		}
	}
}

// BenchmarkDecodeWithoutReadTime decodes an event whose T is its event time.
func BenchmarkDecodeWithoutReadTime(b *testing.B) {
	record := from(`{"Report_Account":"user-0000123","Peer_Account":"user-0004567",` +
		`"trace":"4bf92f3577b34da6"}`)
	for b.Loop() {
		if e := Decode(record, latest); e.Invalid != nil {
			b.Fatal(e.Invalid)
		}
	}
}

func TestIsKey(t *testing.T) {
	for _, row := range []struct {
		key, report, peer string
		want              bool
	}{
		{"a|b", "a", "b", true}, {"a|b|c", "a|b", "c", true}, {"a|b|c", "a", "b|c", true},
		{"", "a", "b", false}, {"a", "a", "b", false}, {"a|", "a", "b", false},
		{"a|bc", "a", "b", false}, {"ab", "a", "b", false}, {"a-b", "a", "b", false},
		{"b|a", "a", "b", false},
	} {
		if got := IsKey([]byte(row.key), []byte(row.report), []byte(row.peer)); got != row.want {
			t.Errorf("%q of %q and %q: %v", row.key, row.report, row.peer, got)
		}
		if key := Key(row.report, row.peer); !IsKey(key, []byte(row.report), []byte(row.peer)) {
			t.Errorf("%q is not a key", key)
		}
	}
}
