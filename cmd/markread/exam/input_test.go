//go:build exam && unix

package exam

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"markread/cmd/markread/exam/kit"
)

// input is one record of the main job, with the result that the contract requires.
type input struct {
	record *kgo.Record
	kit.Event
	class     string // "": it is applied; else the class of its dead letter
	kind      string // the form or the defect, for failure messages
	mentions  string // what the dead letter's message must contain
	eventTime string // the dead letter's markread.event-time
	replays   string // the dead letter's markread.replays
}

// generator generates the input of the main job. It depends only on the seed and on now.
type generator struct {
	random         *rand.Rand
	now            time.Time
	live, backfill string // topics
}

// jsonString encodes s as a JSON string.
func jsonString(s string) string {
	out, _ := json.Marshal(s)
	return string(out)
}

// valid returns an event of the conversation in one of the forms that MsgReadTime and the event
// time may have.
func (g *generator) valid(topic string, c kit.Conversation, form int) input {
	readTime := g.now.Unix() - 1 - g.random.Int64N(86_400)
	millis := readTime*1000 + g.random.Int64N(1000) // T, after rounding down
	other := (g.now.Unix() - g.random.Int64N(86_400)) * 1000
	accounts := fmt.Sprintf(`"Report_Account":%s,"Peer_Account":%s`, jsonString(c.Report),
		jsonString(c.Peer))
	in := input{Event: kit.Event{Conversation: c, ReadTime: readTime},
		record:  &kgo.Record{Topic: topic, Key: c.Key(), Timestamp: time.UnixMilli(other)},
		replays: "0"}
	eventTime := other
	var value string
	switch form % 10 {
	case 0:
		in.kind, value = "number", fmt.Sprintf(`{%s,"MsgReadTime":%d}`, accounts, readTime)
	case 1:
		in.kind, value = "string", fmt.Sprintf(`{"MsgReadTime":"%d",%s}`, readTime, accounts)
	case 2:
		in.kind, value, eventTime = "null, record's timestamp",
			fmt.Sprintf(`{%s,"MsgReadTime":null}`, accounts), millis
	case 3:
		in.kind, value, eventTime = "null, header",
			fmt.Sprintf(`{"MsgReadTime":null,%s}`, accounts), millis
		in.record.Headers = g.eventTimeHeader(millis)
	case 4:
		in.kind, value, eventTime = "absent, record's timestamp", fmt.Sprintf(`{%s}`, accounts),
			millis
	case 5:
		in.kind, value, eventTime = "absent, header", fmt.Sprintf(` {%s} `, accounts), millis
		in.record.Headers = g.eventTimeHeader(millis)
	case 6:
		in.kind, value = "number beside a header",
			fmt.Sprintf(`{%s,"MsgReadTime":%d}`, accounts, readTime)
		eventTime = other - 12_345
		in.record.Headers = g.eventTimeHeader(eventTime)
	case 7:
		in.kind, value = "names repeated",
			fmt.Sprintf("{\"MsgReadTime\":7,\"Report_Account\":\"x\",%s,"+
				"\"MsgReadTime\":\"%d\"}\r\n", accounts, readTime)
	case 8:
		in.kind, value = "unknown and look-alike fields", fmt.Sprintf(
			"\t{\"a\":[{\"MsgReadTime\":1}],%s,\"report_account\":\"no\",\"PEER_ACCOUNT\":\"no\","+
				"\"MsgReadTime\":%d,\"msgreadtime\":1,\"z\":1e400}\n", accounts, readTime)
	case 9:
		in.kind, value = "repeated, last is null",
			fmt.Sprintf(`{"MsgReadTime":"9","\u004dsgReadTime":null,%s}`, accounts)
		eventTime = millis
	}
	if eventTime == millis && in.record.Headers == nil {
		in.record.Timestamp = time.UnixMilli(millis)
	}
	in.eventTime = strconv.FormatInt(eventTime, 10)
	in.record.Value = []byte(value)
	if g.random.IntN(100) == 0 {
		in.record.Key = nil // not recommended, but allowed
	}
	g.forge(&in)
	return in
}

func (g *generator) eventTimeHeader(millis int64) []kgo.RecordHeader {
	return []kgo.RecordHeader{{Key: "markread.event-time",
		Value: strconv.AppendInt(nil, millis, 10)}}
}

// forge adds headers of the producer's own, which the dead letter keeps, and forged headers with
// our names, which must have no effect.
func (g *generator) forge(in *input) {
	own := []kgo.RecordHeader{
		{Key: "trace", Value: []byte("00-4bf9\x00\xff")},
		{Key: "trace", Value: []byte("second of its name")},
		{Key: "empty", Value: []byte{}}, {Key: "", Value: []byte("no name")},
		{Key: "Markread.class", Value: []byte("another case")},
		{Key: "markread", Value: []byte("no dot")},
		{Key: "__dlq", Value: []byte("no dot")},
		{Key: "x-markread.class", Value: []byte("not at its beginning")},
	}
	forged := []kgo.RecordHeader{
		{Key: "markread.class", Value: []byte("invalid")},
		{Key: "markread.code", Value: []byte("0")},
		{Key: "markread.resolves", Value: []byte("0:0")},
		{Key: "markread.resolution", Value: []byte("discarded")},
		{Key: "markread.collapsed", Value: []byte("99")},
		{Key: "markread.lane", Value: []byte("other")},
		{Key: "markread.failed-at", Value: []byte("yesterday")},
		{Key: "markread.value-omitted", Value: []byte("1")},
		{Key: "markread.", Value: nil},
		{Key: "__dlq.errors.topic", Value: []byte("elsewhere")},
		{Key: "__dlq.errors.offset", Value: []byte("-1")},
		{Key: "__dlq.errors.delivery.count", Value: []byte("77")},
		{Key: "__dlq.x", Value: []byte("x")},
	}
	for range g.random.IntN(4) {
		in.record.Headers = append(in.record.Headers, own[g.random.IntN(len(own))])
	}
	for range g.random.IntN(4) {
		in.record.Headers = append(in.record.Headers, forged[g.random.IntN(len(forged))])
	}
	if g.random.IntN(3) == 0 {
		replays := [][2]string{{"2", "2"}, {"1000", "1000"}, {"1001", "0"}, {"-1", "0"},
			{"3 ", "0"}, {"many", "0"}, {"", "0"}}[g.random.IntN(7)]
		in.replays = replays[1]
		in.record.Headers = append(in.record.Headers,
			kgo.RecordHeader{Key: "markread.replays", Value: []byte(replays[0])})
	}
	g.random.Shuffle(len(in.record.Headers), func(i, j int) {
		in.record.Headers[i], in.record.Headers[j] = in.record.Headers[j], in.record.Headers[i]
	})
}

// invalid returns n records that are not mark-read events, all kinds in turn.
func (g *generator) invalid(n int) []input {
	now := g.now.Unix()
	good := `"Report_Account":"r","Peer_Account":"p"`
	kinds := []struct {
		kind, value, mentions string
		header                string // of markread.event-time; "-": none
	}{
		{"no JSON", `mark it read`, "", "-"},
		{"empty value", ``, "", "-"},
		{"null value", "\x00", "", "-"}, // the record has no value at all, see below
		{"an array", `["Report_Account","Peer_Account"]`, "", "-"},
		{"JSON cut off", `{` + good + `,"MsgReadTime":"17`, "", "-"},
		{"something after the object", `{` + good + `} {}`, "", "-"},
		{"not UTF-8", "{\"Report_Account\":\"r\xff\",\"Peer_Account\":\"p\"}", "", "-"},
		{"no Report_Account", `{"Peer_Account":"p","MsgReadTime":"1700000000"}`, "Report_Account",
			"-"},
		{"wrong case", `{"Report_Account":"r","peer_account":"p"}`, "Peer_Account", "-"},
		{"account a number", `{"Report_Account":"r","Peer_Account":12}`, "Peer_Account", "-"},
		{"account null", `{"Report_Account":null,"Peer_Account":"p"}`, "Report_Account", "-"},
		{"account empty", `{"Report_Account":"","Peer_Account":"p"}`, "Report_Account", "-"},
		{"account of 33 bytes", `{"Report_Account":"r","Peer_Account":"` + strings.Repeat("p", 33) +
			`"}`, "Peer_Account", "-"},
		{"account not ASCII", `{"Report_Account":"rä","Peer_Account":"p"}`, "Report_Account", "-"},
		{"account with a control character", `{"Report_Account":"r","Peer_Account":"p\u0007"}`,
			"Peer_Account", "-"},
		{"MsgReadTime 0", `{` + good + `,"MsgReadTime":0}`, "MsgReadTime", "-"},
		{"MsgReadTime before 2001", `{` + good + `,"MsgReadTime":999999999}`,
			"before September 2001", "-"},
		{"MsgReadTime a date", `{` + good + `,"MsgReadTime":20251009}`, "looks like a date", "-"},
		{"MsgReadTime a spreadsheet's day", `{` + good + `,"MsgReadTime":45939}`,
			"looks like a spreadsheet's day", "-"},
		{"MsgReadTime an ISO date", `{` + good + `,"MsgReadTime":"2025-10-09T08:53:20Z"}`,
			"looks like a date", "-"},
		{"MsgReadTime in microseconds", `{` + good + `,"MsgReadTime":1760000000123456}`,
			"looks like microseconds", "-"},
		{"another name for MsgReadTime", `{` + good + `,"msgReadTime":1700000000}`,
			"did you mean MsgReadTime", "-"},
		{"MsgReadedTime", `{` + good + `,"MsgReadedTime":1700000000}`, "did you mean MsgReadTime",
			"-"},
		{"encoded twice", `"{\"Report_Account\":\"r\",\"Peer_Account\":\"p\"}"`, "encoded twice",
			"-"},
		{"schema registry", "\x00\x00\x00\x00\x05{" + good + `}`, "schema registry", "-"},
		{"Connect", `{"schema":null,"payload":{` + good + `}}`, "Kafka Connect", "-"},
		{"MsgReadTime negative", `{` + good + `,"MsgReadTime":-1700000000}`, "MsgReadTime", "-"},
		{"MsgReadTime a fraction", `{` + good + `,"MsgReadTime":1700000000.0}`, "MsgReadTime", "-"},
		{"MsgReadTime with an exponent", `{` + good + `,"MsgReadTime":17e8}`, "MsgReadTime", "-"},
		{"MsgReadTime with a leading zero", `{` + good + `,"MsgReadTime":"01700000000"}`,
			"MsgReadTime", "-"},
		{"MsgReadTime a boolean", `{` + good + `,"MsgReadTime":true}`, "MsgReadTime", "-"},
		{"MsgReadTime empty", `{` + good + `,"MsgReadTime":""}`, "MsgReadTime", "-"},
		{"MsgReadTime in milliseconds", fmt.Sprintf(`{%s,"MsgReadTime":%d}`, good, now*1000),
			"looks like milliseconds", "-"},
		{"MsgReadTime beyond int64", `{` + good + `,"MsgReadTime":"9999999999999999999"}`,
			"MsgReadTime", "-"},
		{"MsgReadTime ahead", fmt.Sprintf(`{%s,"MsgReadTime":"%d"}`, good, now+900), "ahead", "-"},
		{"event time malformed", `{` + good + `,"MsgReadTime":"1700000000"}`, "event-time",
			"17000x"},
		{"event time empty", `{` + good + `}`, "event-time", ""},
		{"event time of 16 digits", `{` + good + `}`, "event-time", "1700000000000000"},
		{"event time ahead", `{` + good + `}`, "ahead", strconv.FormatInt((now+900)*1000, 10)},
		{"event time in seconds", `{` + good + `,"MsgReadTime":"1700000000"}`, "looks like seconds",
			"1700000000"},
		{"timestamp in seconds", `{` + good + `}`, "looks like seconds", "-"},
		{"no time at all", `{` + good + `}`, "time", "-"},
	}
	out := make([]input, n)
	for i := range out {
		k := kinds[i%len(kinds)]
		at := time.UnixMilli(now*1000 - g.random.Int64N(86_400_000))
		in := input{class: "invalid", kind: k.kind, mentions: k.mentions, replays: "0",
			eventTime: strconv.FormatInt(at.UnixMilli(), 10), record: &kgo.Record{Topic: g.live,
				Key: [][]byte{nil, {}, []byte("r|p"), {0, 255, 1}}[i%4], Value: []byte(k.value),
				Timestamp: at}}
		if i%3 == 2 {
			in.record.Topic = g.backfill
		}
		switch {
		case k.kind == "null value":
			in.record.Value = nil
		case k.kind == "no time at all":
			// Kafka's value for no timestamp
			in.record.Timestamp, in.eventTime = time.UnixMilli(-1), ""
		case k.kind == "timestamp in seconds":
			in.record.Timestamp, in.eventTime = time.UnixMilli(now), ""
		case k.kind == "event time ahead":
			in.eventTime = k.header
		case k.header != "-":
			in.eventTime = ""
		}
		if k.header != "-" {
			in.record.Headers = []kgo.RecordHeader{{Key: "markread.event-time",
				Value: []byte(k.header)}}
		}
		g.forge(&in)
		out[i] = in
	}
	return out
}

// rejected returns ten events of six conversations that the server doesn't know: four with one
// event, one with two of equal T, one with four of rising and falling T.
func (g *generator) rejected() []input {
	var out []input
	add := func(c kit.Conversation, after ...int64) {
		at := g.now.Unix() - 50_000
		for _, seconds := range after {
			in := g.valid(g.live, c, 1)
			in.class, in.ReadTime = "rejected", at+seconds
			in.record.Key = c.Key()
			in.record.Value = fmt.Appendf(nil,
				`{"Report_Account":%s,"Peer_Account":%s,"MsgReadTime":"%d"}`, jsonString(c.Report),
				jsonString(c.Peer), in.ReadTime)
			out = append(out, in)
		}
	}
	for i := range 2 {
		add(kit.Conversation{Report: fmt.Sprintf("nobody-r%d", i), Peer: "peer-1"}, 0)
		add(kit.Conversation{Report: "report-1", Peer: fmt.Sprintf("nobody-p%d", i)}, 0)
	}
	add(kit.Conversation{Report: "nobody-equal", Peer: "peer-1"}, 5, 5)
	add(kit.Conversation{Report: "report-1", Peer: "nobody-many"}, 10, 40, 20, 30)
	return out
}

// mainJob returns the input in two slices: the events that wait when the worker starts (with all
// rejected ones), and the events that come later.
func mainJob(k *kit.Kafka, seed uint64, now time.Time, conversations []kit.Conversation,
	events int) (waiting, later []input) {
	g := &generator{rand.New(rand.NewPCG(seed, 7)), now, k.Live, k.Backfill}
	var all []input
	for i := range events {
		topic := k.Live
		if i%5 == 4 {
			topic = k.Backfill
		}
		all = append(all,
			g.valid(topic, conversations[g.random.IntN(len(conversations))], g.random.IntN(10)))
	}
	for i, c := range conversations { // each at least once
		all[i] = g.valid(all[i].record.Topic, c, i)
	}
	all = append(all, g.invalid(30)...)
	g.random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	cut := len(all) * 3 / 5
	return slices.Insert(all[:cut:cut], cut/2, g.rejected()...), all[cut:]
}
