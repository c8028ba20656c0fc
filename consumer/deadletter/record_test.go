package deadletter

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"markread/consumer/event"
	"markread/consumer/kafkaclient"
)

var now = time.Unix(1_800_000_000, 0)

// letterOf returns the record of a dead letter with that key and value.
func letterOf(p int, o int64, key, value string, headers ...string) event.Record {
	r := record(p, o, value,
		append([]string{"markread.class", "rejected", "markread.event-time", "1700000000999"},
			headers...)...)
	r.Key = []byte(key)
	return r
}

func TestFilters(t *testing.T) {
	at := time.Date(2026, 3, 1, 2, 48, 0, 0, time.UTC)
	letter := record(1, 7, `{"Report_Account":"alice","Peer_Account":"b|b","MsgReadTime":"soon"}`,
		"markread.class", "invalid", "markread.code", "", "markread.failed-at",
		at.Format(time.RFC3339Nano))
	noJSON := record(1, 8, "alice", "markread.class", "rejected", "markread.code", "90048",
		"markread.failed-at", "yesterday")
	noJSON.Time = at.Add(time.Hour)
	for name, c := range map[string]struct {
		filter        Filter
		letter, other bool
	}{
		"all":            {Filter{}, true, true},
		"class":          {Filter{Class: "invalid"}, true, false},
		"code":           {Filter{Code: "90048"}, false, true},
		"class and code": {Filter{Class: "invalid", Code: "90048"}, false, false},
		"reader":         {Filter{Report: "alice"}, true, false},
		"another reader": {Filter{Report: "alic"}, false, false},
		"peer":           {Filter{Peer: "b|b"}, true, false},
		"reader, peer":   {Filter{Report: "alice", Peer: "bob"}, false, false},
		"since":          {Filter{Since: at}, true, true},
		// failed-at can't be parsed: the record's timestamp counts
		"since later":      {Filter{Since: at.Add(1)}, false, true},
		"until":            {Filter{Until: at}, true, false},
		"until earlier":    {Filter{Until: at.Add(-1)}, false, false},
		"between":          {Filter{Since: at, Until: at.Add(time.Hour)}, true, true},
		"by ID":            {Filter{IDs: map[ID]bool{{1, 8}: true}}, false, true},
		"by an ID, reader": {Filter{IDs: map[ID]bool{{1, 8}: true}, Report: "alice"}, false, false},
	} {
		index := NewIndex(3, c.filter)
		index.Add(letter)
		index.Add(noJSON)
		found := index.Find(AllStates()...)
		has := func(offset int64) bool {
			return slices.ContainsFunc(found, func(l Entry) bool { return l.Offset == offset })
		}
		if has(7) != c.letter || has(8) != c.other {
			t.Errorf("%s: %t %t", name, has(7), has(8))
		}
		n := int64(0)
		for _, k := range index.Counts() {
			n += k.Letters[Open]
		}
		if int(n) != len(found) {
			t.Errorf("%s: %d counted, %d found", name, n, len(found))
		}
	}
}

func TestOldestAndNewest(t *testing.T) {
	index := NewIndex(3, Filter{})
	at := func(o int64, s int, replays string) {
		index.Add(record(0, o, "{}", "markread.class", "rejected", "markread.replays", replays,
			"markread.failed-at", time.Unix(int64(s), 0).UTC().Format(time.RFC3339)))
	}
	at(0, 300, "0")
	at(1, 100, "3")
	at(2, 200, "0")
	c := index.Counts()[0]
	if n, oldest, newest := c.Of(Open, Parked); n != 3 || oldest.Unix() != 100 ||
		newest.Unix() != 300 {
		t.Errorf("%d %s %s", n, oldest, newest)
	}
	if n, oldest, newest := c.Of(Open); n != 2 || oldest.Unix() != 200 || newest.Unix() != 300 {
		t.Errorf("%d %s %s", n, oldest, newest)
	}
	if n, _, _ := c.Of(Discarded); n != 0 {
		t.Errorf("%d", n)
	}
	oldest := Oldest(index.Find(Open, Parked), 2)
	if c := index.CountsOf(oldest)[0]; c.Letters != [stateCount]int64{1, 1, 0, 0} ||
		oldest[0].Offset != 1 || oldest[1].Offset != 2 {
		t.Errorf("%+v of %+v", c, oldest)
	}
}

// A header may have any time.
func TestTimesOutOfBounds(t *testing.T) {
	index := NewIndex(3, Filter{})
	for i, at := range []string{"9999-12-31T23:59:59Z", "0000-01-01T00:00:00Z",
		"2026-03-01T02:48:00Z", ""} {
		index.Add(record(0, int64(i), "{}", "markread.class", "x", "markread.failed-at", at))
	}
	var got []int64
	for _, l := range index.Find(Open) {
		got = append(got, l.Offset)
	}
	if !slices.Equal(got, []int64{1, 3, 2, 0}) {
		t.Errorf("%v", got)
	}
	r := letterOf(0, 0, "k", "{}", "markread.event-time", "999999999999999", "markread.failed-at",
		"9999-12-31T23:59:59Z")
	l := Parse(r, Open)
	if line := string(l.AppendJSON(nil, false)); !json.Valid([]byte(line)) ||
		!strings.Contains(line, `"event_time":null`) {
		t.Error(line)
	}
}

// A dead letter is checked as a worker would decode it: with the time when the user read, or none.
func TestCheckReplay(t *testing.T) {
	for name, c := range map[string]struct {
		record   event.Record
		obstacle Obstacle
		readTime int64
	}{
		"T of its own": {letterOf(0, 0, "k",
			`{"Report_Account":"a","Peer_Account":"b","MsgReadTime":1600000007}`), Replayable,
			1600000007},
		"T of the event time": {letterOf(0, 0, "k",
			`{"Report_Account":"a","Peer_Account":"b"}`), Replayable, 1700000000},
		"no time, T of its own": {letterOf(0, 0, "k",
			`{"Report_Account":"a","Peer_Account":"b","MsgReadTime":1600000007}`,
			"markread.event-time", ""), Replayable, 1600000007},
		"no time at all": {letterOf(0, 0, "k", `{"Report_Account":"a","Peer_Account":"b"}`,
			"markread.event-time", ""), Invalid, 0},
		"a malformed time": {letterOf(0, 0, "k",
			`{"Report_Account":"a","Peer_Account":"b","MsgReadTime":1600000007}`,
			"markread.event-time", "1e9"), Invalid, 0},
		"no event": {letterOf(0, 0, "k", `{}`), Invalid, 0},
		"null":     {letterOf(0, 0, "k", "null"), Invalid, 0},
		"the value was omitted": {letterOf(0, 0, "k", "", "markread.value-omitted", "1000000"),
			Omitted, 0},
		"too far ahead": {letterOf(0, 0, "k",
			`{"Report_Account":"a","Peer_Account":"b","MsgReadTime":1800000301}`), Invalid, 0},
		"ahead, as far as may be": {letterOf(0, 0, "k",
			`{"Report_Account":"a","Peer_Account":"b","MsgReadTime":1800000300}`), Replayable,
			1800000300},
	} {
		c.record.Time = now // when it was written, not when the user read
		event, obstacle := CheckReplay(c.record, now)
		if obstacle != c.obstacle || obstacle == Replayable && event.ReadTime != c.readTime {
			t.Errorf("%s: %d, T %d (%v)", name, obstacle, event.ReadTime, event.Invalid)
		}
	}
}

// Of equal read times the latest dead letter is published, and the replay count stays within the
// maximum of a record.
func TestReplayMessage(t *testing.T) {
	value := func(readTime int) string {
		return fmt.Sprintf(`{"Report_Account":"a","Peer_Account":"b","MsgReadTime":%d}`,
			1_600_000_000+readTime)
	}
	index := NewIndex(2000, Filter{})
	index.CheckReplayableAt(now)
	records := map[ID]event.Record{}
	for _, r := range []event.Record{
		letterOf(0, 5, "a|b", value(9), "n", "1", "markread.replays", "1000"),
		letterOf(0, 6, "a|b", value(9), "n", "3"),
		letterOf(0, 7, "a|b", value(9), "n", "2"), // same T, later
		letterOf(0, 8, "a|b", value(8), "n", "4"),
		letterOf(0, 9, "c|b", `{"Report_Account":"c","Peer_Account":"b"}`, "__dlq.errors.topic",
			"x", "markread.anything", "x"),
	} {
		records[IDOf(r)] = r
		index.Add(r)
	}
	p := PlanOf(index.Find(Open), 0)
	if len(p.Events) != 2 || len(p.Covered) != 3 {
		t.Fatalf("%+v", p)
	}
	for i, want := range []string{
		"n=2 markread.event-time=1700000000999 markread.replays=1000 ",
		"markread.event-time=1700000000999 markread.replays=1 ",
	} {
		r := records[p.Events[i].ID]
		m := p.Events[i].ReplayMessage(r)
		all := ""
		for _, h := range m.Headers {
			all += h.Key + "=" + string(h.Value) + " "
		}
		if all != want || string(m.Key) != string(r.Key) || string(m.Value) != string(r.Value) {
			t.Errorf("%s %s %s, want %s", m.Key, m.Value, all, want)
		}
	}
}

// One dead letter of each conversation is published and the others are covered, both in topic
// order. The limit counts only dead letters that can be replayed.
func TestPlan(t *testing.T) {
	index := NewIndex(3, Filter{})
	index.CheckReplayableAt(now)
	for i, who := range []string{"a", "b", "", "a", "c", "b", "a"} {
		index.Add(letterOf(i%2, int64(i), who,
			fmt.Sprintf(`{"Report_Account":%q,"Peer_Account":"p","MsgReadTime":%d}`, who,
				1_600_000_100-i),
			"markread.failed-at", time.Unix(int64(1000+i), 0).UTC().Format(time.RFC3339)))
	}
	for limit, want := range map[int]string{0: "0 4 1 | 6 3 5", 5: "0 4 1 | 3 5", 2: "0 1 |",
		1: "0 |"} {
		p := PlanOf(index.Find(Open), limit)
		var got []string
		for _, l := range p.Events {
			got = append(got, fmt.Sprint(l.Offset))
		}
		got = append(got, "|")
		for _, l := range p.Covered {
			got = append(got, fmt.Sprint(l.Offset))
		}
		if strings.Join(got, " ") != want || p.Letters() != len(got)-1 ||
			len(p.All()) != p.Letters() {
			t.Errorf("limit %d: %v, want %s", limit, got, want)
		}
		if blocked := p.Obstacles[Invalid] + p.Obstacles[Omitted]; blocked != map[int]int{0: 1,
			5: 1, 2: 0, 1: 0}[limit] {
			t.Errorf("limit %d: %d can't be replayed", limit, blocked)
		}
	}
	p := PlanOf(index.Find(Open), 0)
	if covered := p.CoveredBy(p.Events[1:]); len(covered) != 1 || covered[0].Offset != 5 {
		t.Errorf("%+v", covered)
	}
	if covered := p.CoveredBy(nil); len(covered) != 0 {
		t.Errorf("%+v", covered)
	}
}

// The plan counts the dead letters that stay open by reason.
func TestPlanOfLettersThatCannotBeReplayed(t *testing.T) {
	index := NewIndex(3, Filter{})
	index.CheckReplayableAt(now)
	index.Add(letterOf(0, 0, "k", ""))
	index.Add(letterOf(0, 1, "k", "", "markread.value-omitted", "1048516"))
	index.Add(letterOf(0, 2, "k", "", "markread.value-omitted", "1048516"))
	if p := PlanOf(index.Find(Open), 0); p.Obstacles != [obstacleCount]int{Invalid: 1,
		Omitted: 2} ||
		p.Obstacles[Invalid]+p.Obstacles[Omitted] != 3 || p.Letters() != 0 {
		t.Errorf("%+v", p)
	}
}

// Of equal T the later dead letter is published: in one partition the one with the larger offset,
// in two partitions the one that failed later.
func TestPlanOfTies(t *testing.T) {
	letter := func(partition int, offset int64, failed string) event.Record {
		return letterOf(partition, offset, "k",
			`{"Report_Account":"a","Peer_Account":"b","MsgReadTime":1600000100}`,
			"markread.failed-at", failed)
	}
	const early, late = "2026-03-01T02:48:00Z", "2026-03-01T02:49:00Z"
	for name, records := range map[string][]event.Record{
		"another partition, later":   {letter(1, 5, early), letter(0, 7, late)},
		"another partition, earlier": {letter(0, 7, late), letter(1, 5, early)},
		"the same partition":         {letter(0, 1, late), letter(0, 7, early)},
		"the same partition, later":  {letter(0, 1, early), letter(0, 7, late)},
	} {
		index := NewIndex(3, Filter{})
		index.CheckReplayableAt(now)
		for _, r := range records {
			index.Add(r)
		}
		found := index.Find(Open)
		for range 2 {
			if p := PlanOf(found, 0); len(p.Events) != 1 || len(p.Covered) != 1 ||
				p.Events[0].ID != (ID{0, 7}) {
				t.Errorf("%s: %+v", name, p)
			}
			slices.Reverse(found)
		}
	}
}

// Accounts may contain the separator of keys, so the same key may belong to different
// conversations.
func TestPlanOfConversationsOfOneKey(t *testing.T) {
	index := NewIndex(3, Filter{})
	index.CheckReplayableAt(now)
	index.Add(letterOf(0, 0, "a|b|c",
		`{"Report_Account":"a|b","Peer_Account":"c","MsgReadTime":1600000100}`))
	index.Add(letterOf(0, 1, "a|b|c",
		`{"Report_Account":"a","Peer_Account":"b|c","MsgReadTime":1600000200}`))
	if p := PlanOf(index.Find(Open), 0); len(p.Events) != 2 || len(p.Covered) != 0 {
		t.Errorf("%+v", p)
	}
}

// Unchanged keeps a dead letter only if it still exists, is the same, and is in the same state.
func TestUnchanged(t *testing.T) {
	value := `{"Report_Account":"a","Peer_Account":"b"}`
	before := []event.Record{letterOf(0, 0, "k", value), letterOf(0, 1, "k", value),
		letterOf(0, 2, "k", value), letterOf(1, 0, "k", value), letterOf(2, 0, "k", value)}
	indexOf := func(filter Filter, records ...event.Record) *Index {
		index := NewIndex(3, filter)
		for _, r := range records {
			index.Add(r)
		}
		return index
	}
	found := indexOf(Filter{}, before...).Find(Open)
	longer := letterOf(0, 1, "k", value+" ")
	later := letterOf(0, 2, "k", value, "markread.failed-at", "2026-03-05T00:00:00Z")
	resolution := event.Record{Partition: 1, Offset: 1,
		Headers: ResolutionMessage(before[3], Discarded).
			Headers}
	unknown := event.Record{Partition: 2, Value: []byte(value)}
	if got := indexOf(Filter{}, before...).
		Unchanged(slices.Clone(found)); !slices.Equal(got, found) {
		t.Errorf("nothing happened: %v", got)
	}
	after := indexOf(Filter{}, before[0], longer, later, before[3], resolution, unknown)
	if got := after.Unchanged(slices.Clone(found)); len(got) != 1 || got[0].ID != (ID{0, 0}) {
		t.Errorf("%v", got)
	}
	if got := indexOf(Filter{Class: "invalid"}, before...).
		Unchanged(slices.Clone(found)); len(got) != 0 {
		t.Errorf("the filter does not match: %v", got)
	}
	for _, r := range []event.Record{longer, later, resolution, unknown, before[1]} {
		if l := found[0]; l.Is(r) || !l.Is(before[0]) {
			t.Errorf("%+v is taken for dead letter %s", r, l.ID)
		}
	}
}

// A second plan counts only the replays of the dead letters that it has.
func TestPlanAgain(t *testing.T) {
	event := func(readTime int) string {
		return fmt.Sprintf(`{"Report_Account":"a","Peer_Account":"b","MsgReadTime":%d}`,
			1_600_000_000+readTime)
	}
	index := NewIndex(9, Filter{})
	index.CheckReplayableAt(now)
	covered, newest := letterOf(0, 0, "k", event(5), "markread.replays", "2"),
		letterOf(0, 1, "k", event(9))
	index.Add(covered)
	index.Add(newest)
	p := PlanOf(index.Find(Open), 0)
	for _, want := range []string{"3", "1"} {
		m := p.Events[0].ReplayMessage(newest)
		if last := m.Headers[len(m.Headers)-1]; len(p.Events) != 1 ||
			last.Key != "markread.replays" || string(last.Value) != want {
			t.Errorf("%+v, want %s replays", m.Headers, want)
		}
		p = PlanOf(p.Events, 0)
	}
}

func TestParts(t *testing.T) {
	var found []Entry
	for i := range 10 {
		found = append(found, Entry{ID: ID{i % 3, int64(i)}, size: 10})
	}
	found[4].size = 1000
	var sizes []int
	for part := range parts(found, 3, 35) {
		sizes = append(sizes, len(part))
	}
	if !slices.Equal(sizes, []int{3, 1, 1, 3, 2}) {
		t.Errorf("%v", sizes)
	}
	e := rangesOf(found[2:6], "topic", 4)
	if want := []kafkaclient.OffsetRange{{First: 3, End: 4}, {First: 4, End: 5}, {First: 2, End: 6},
		{}}; !slices.Equal(e.Partitions, want) {
		t.Errorf("%+v", e.Partitions)
	}
}

// The JSON line has the contract's names, non-UTF-8 bytes in base64, and nothing that controls a
// terminal.
func TestJSON(t *testing.T) {
	r := letterOf(2, 17, "k\x1b[31m\u202e\u009b", "null", "__dlq.errors.topic", "t",
		"__dlq.errors.partition", "3", "__dlq.errors.offset", "-1",
		"__dlq.errors.group", "g", "__dlq.errors.delivery.count", "8", "__dlq.errors.message",
		"\"<b>\"\n\\", "markread.code", "90048",
		"markread.failed-at", "2026-03-01T02:48:00.5+01:00", "markread.collapsed", "7",
		"markread.replays", "2", "markread.lane", "backfill")
	l := Parse(r, Parked)
	want := `{"id":"2:17","state":"parked","class":"rejected","code":"90048",` +
		`"message":"\"<b>\"\n\\","report":null,"peer":null,"read_time":null,` +
		`"event_time":"2023-11-14T22:13:20.999Z","failed_at":"2026-03-01T01:48:00.5Z",` +
		`"origin":{"topic":"t","partition":3,"offset":null,"group":"g"},` +
		`"delivery_count":8,"collapsed":7,"replays":2,"lane":"backfill",` +
		`"key":"k\u001b[31m\u202e\u009b","value":null}`
	if got := string(l.AppendJSON(nil, false)); got != want {
		t.Errorf("%s, want\n%s", got, want)
	}
	r = letterOf(0, 0, "k\xff", "\x00\xff")
	r.Headers = append(r.Headers, event.Header{Key: "null"},
		event.Header{Key: "bytes", Value: []byte("\xffx")})
	l = Parse(r, Open)
	var d struct {
		KeyBase64     []byte      `json:"key_base64"`
		ValueBase64   []byte      `json:"value_base64"`
		Headers       [][2]string `json:"headers"`
		HeadersBase64 [][2][]byte `json:"headers_base64"`
		Key, Value    *string
	}
	line := l.AppendJSON(nil, true)
	if err := json.Unmarshal(line, &d); err != nil || string(d.KeyBase64) != "k\xff" ||
		string(d.ValueBase64) != "\x00\xff" || d.Key != nil || d.Value != nil {
		t.Errorf("%s: %v", line, err)
	}
	if len(d.Headers) != 3 || d.Headers[2] != [2]string{"null", ""} {
		t.Errorf("%q", d.Headers)
	}
	if len(d.HeadersBase64) != 1 || string(d.HeadersBase64[0][0]) != "bytes" ||
		string(d.HeadersBase64[0][1]) != "\xffx" {
		t.Errorf("%q", d.HeadersBase64)
	}
}

func TestEditable(t *testing.T) {
	for value, want := range map[string]string{
		`{"Report_Account":"a","Peer_Account":"b"}`: `{"Report_Account":"a","Peer_Account":"b",` +
			`"MsgReadTime":1700000000}`,
		`{ "x" : { "y" : [1, 2] } , "Peer_Account":"b","MsgReadTime":null }`: `{"x":{"y":[1,2]},` +
			`"Peer_Account":"b","MsgReadTime":1700000000}`,
		`{"MsgReadTime":null,"MsgReadTime":"12","Report_Account":"\u0061\n"}`: `{"MsgReadTime":` +
			`"12","Report_Account":"\u0061\n"}`,
		`{"MsgReadTime":1700000000123}`: `{"MsgReadTime":1700000000123}`,
		`{"n":12345678901234567890123,"e":1e400,"\u0061":"` + "\u202e" +
			`"}`: `{"n":12345678901234567890123,"e":1e400,"a":"\u202e","MsgReadTime":1700000000}`,
		"{\n}":     `{"MsgReadTime":1700000000}`,
		"\uFEFF{}": `{"MsgReadTime":1700000000}`,
		"{\"a\":\"\U000E0041\U0001F600\"}": "{\"a\":\"\\udb40\\udc41\U0001F600\"," +
			"\"MsgReadTime\":1700000000}",
	} {
		l := Parse(letterOf(0, 0, "k", value), Open)
		if got, form := l.Editable(); form != Complete || string(got) != want {
			t.Errorf("%s is to be edited as\n%s, want\n%s", value, got, want)
		}
	}
	for _, value := range []string{"", "x", "[1]", "{", `{"a":1} x`, "\xff", "{\"a\":\"\xff\"}"} {
		l := Parse(letterOf(0, 0, "k", value), Open)
		if got, form := l.Editable(); form != Raw || string(got) != value {
			t.Errorf("%q is to be edited as %q", value, got)
		}
	}
}

// An unknown time must not become the time of emit, which would mark as read what the user has not
// seen: the printed line is not an event until somebody fills in the time.
func TestEditableWithoutTime(t *testing.T) {
	for at, want := range map[string]string{
		"": `"unknown"`, "soon": `"unknown"`, "0": `"unknown"`, "999999999999": `"unknown"`,
		"1000000000000": "1000000000",
	} {
		l := Parse(letterOf(0, 0, "k",
			`{"Report_Account":"a","Peer_Account":"b","MsgReadTime":null}`, "markread.event-time",
			at), Open)
		got, form := l.Editable()
		event := event.Decode(event.Record{Value: got}, time.Unix(1_700_000_000, 0))
		if string(got) != `{"Report_Account":"a","Peer_Account":"b","MsgReadTime":`+want+`}` ||
			(form == Complete) != (want == "1000000000") ||
			(event.Invalid == nil) != (want == "1000000000") {
			t.Errorf("of event time %q: %s, form %d, %v", at, got, form, event.Invalid)
		}
	}
}

// The event time does not replace a time that the producer wrote under a wrong name.
func TestEditableWithMisspeltTime(t *testing.T) {
	for value, want := range map[string]string{
		`"msgReadTime":1600000000`: `"msgReadTime":1600000000,"MsgReadTime":"unknown"`,
		`"MsgReadedTime":null`:     `"MsgReadedTime":null,"MsgReadTime":"unknown"`,
		// As in Decode: the correct name is present and means that there is no time.
		`"msgReadTime":1600000000,"MsgReadTime":null`: `"msgReadTime":1600000000,` +
			`"MsgReadTime":1700000000`,
		`"msgReadTime":7,"MsgReadTime":1600000000`: `"msgReadTime":7,"MsgReadTime":1600000000`,
	} {
		l := Parse(letterOf(0, 0, "k", "{"+value+"}"), Open)
		got, form := l.Editable()
		if string(got) != "{"+want+"}" ||
			(form == NoReadTime) != strings.Contains(want, "unknown") {
			t.Errorf("%s is to be edited as %s, form %d", value, got, form)
		}
	}
}

// Invented kinds can't fill the memory.
func TestKindsAreBounded(t *testing.T) {
	index := NewIndex(3, Filter{})
	const more = 100
	for i := range maxKinds + more {
		index.Add(written(0, int64(i), "c", fmt.Sprint(i), "0"))
	}
	counts := index.Counts()
	if len(counts) != maxKinds || counts[0].Code != "of other kinds" ||
		counts[0].Letters[Open] != more+1 {
		t.Errorf("%d kinds, the first %+v", len(counts), counts[0])
	}
}
