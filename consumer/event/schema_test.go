package event

import (
	"bytes"
	"cmp"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

const schemaFile = "../../deploy/event.schema.json"

// eventSchema returns a function that reports whether a value is valid by the published schema.
func eventSchema(t *testing.T) func(value string) bool {
	t.Helper()
	schema, err := jsonschema.NewCompiler().Compile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	return func(value string) bool {
		v, err := jsonschema.UnmarshalJSON(strings.NewReader(value))
		return err == nil && schema.Validate(v) == nil
	}
}

// What the schema can't express. Its description mentions each.
const (
	beyondNow     = "5 minutes ahead"
	beyondNumbers = "digits only"
	beyondValue   = "event time"
	beyondUTF8    = "not UTF-8"
)

// The schema and Decode accept the same values, except for what the schema can't express: only
// Decode rejects that.
func TestSchemaAgreesWithDecode(t *testing.T) {
	valid := eventSchema(t)
	seen := map[string]bool{}
	compare := func(record Record, beyond string) {
		t.Helper()
		seen[beyond] = true
		err := Decode(record, latest).Invalid
		bySchema := valid(string(record.Value))
		switch {
		case beyond == "" && bySchema != (err == nil):
			t.Errorf("%q: valid by the schema: %v; the decoder: %v", record.Value, bySchema, err)
		case beyond != "" && (!bySchema || err == nil):
			t.Errorf("%q: is beyond the schema (%s), but valid by the schema: %v; the decoder: %v",
				record.Value, beyond, bySchema, err)
		}
	}

	// Whole values.
	const accounts = `"Report_Account":"rita","Peer_Account":"paul"`
	for _, value := range []string{
		``, ` `, `hello`, `null`, `true`, `1`, `"{}"`, `[]`, `{}`, `[{` + accounts + `}]`,
		`{` + accounts, `{` + accounts + `,}`, `{` + accounts + `}{}`,
		`{` + accounts + `} x`, "{" + accounts + "}\u00a0", " \t\r\n{" + accounts + "}\n ",
		"{\x00}\x00",
		`{"Report_Account":1,` + accounts + `}`, `{` + accounts + `,"Peer_Account":""}`,
		`{"Report\u005fAccount":"rita","Peer_Account":"paul"}`,
		`{` + accounts + `,"MsgReadTime":"x","MsgReadTime":1600000007}`,
		`{` + accounts + `,"MsgReadTime":1600000007,"MsgReadTime":0}`,
		`{"report_account":"rita","Peer_Account":"paul"}`, `{` + accounts + `,"PEER_ACCOUNT":3}`,
		`{` + accounts + `,"msgreadtime":"x"}`,
		"{" + accounts + ",\"\uFEFFMsgReadTime\":1600000007}",
		`{` + accounts + `,"MsgReadTime\t":1600000007}`,
		"{" + accounts + ",\"Msg\u00a0ReadTime\":1600000007}",
		`{` + accounts + `,"\ufeffmsg_readed\r\ntime":1}`,
		`{` + accounts + `,"MSG_read-Time ":1600000007}`,
		`{` + accounts + `,"MsgReadedTime":1600000007}`,
		`{` + accounts + `,"Msg-Readed_time":null}`,
		`{` + accounts + `,"MsgReadTime":1600000007,"msgReadTime":"x"}`,
		`{` + accounts + `,"MsgReadTimes":1,"ReadTime":2,"msg.read.time":3}`,
		`{` + accounts +
			`,"X":{"Report_Account":"eve","a":[1,{"MsgReadTime":0}]},"":"}\"","\\":[]}`,
	} {
		compare(from(value), "")
	}
	compare(from(`{`+accounts+",\"x\":\"\xff\"}"), beyondUTF8)
	compare(Record{Value: []byte(`{` + accounts + `}`)}, beyondValue)
	compare(Record{Value: []byte(`{` + accounts + `}`), Time: time.Unix(0, 999e6)}, beyondValue)
	compare(from(`{`+accounts+`}`, "markread.event-time", inTime+"000"), "")
	compare(from(`{`+accounts+`}`, "markread.event-time", tooLate+"000"), beyondNow)
	compare(from(`{`+accounts+`,"MsgReadTime":1600000005}`, "markread.event-time", "now"),
		beyondValue)

	// All combinations of the members' values. "" is absent.
	accountValues := []string{
		``, `"rita"`, `""`, `" "`, `" ~"`, `"a|b"`, `"\u0072ita"`, `"\"\\\/"`,
		`"` + strings.Repeat("a", 32) + `"`, `"` + strings.Repeat("a", 33) + `"`,
		`"` + strings.Repeat("é", 16) + `"`, `"` + strings.Repeat(`\u007e`, 32) + `"`, `"bärbel"`,
		`"a\u0000b"`, `"a\nb"`, `"a\n"`, "\"a\x7f\"", `"a\u0080"`, `"a\ud800"`,
		`"😀"`, `null`, `17`, `true`, `{}`, `["rita"]`,
	}
	times := []struct{ value, beyond string }{
		{``, ``}, {`null`, ``}, {`1`, ``}, {`999999999`, ``}, {`1000000000`, ``},
		{`"999999999"`, ``}, {`"1000000000"`, ``}, {`1699999999`, ``}, {`"1699999999"`, ``},
		{`"\u0031699999999"`, ``}, {inTime, ``}, {`"` + inTime + `"`, ``},
		{`0`, ``}, {`-0`, ``}, {`-5`, ``}, {`"0"`, ``}, {`"01"`, ``}, {`"-5"`, ``}, {`"+5"`, ``},
		{`5.5`, ``}, {`"5.0"`, ``}, {`"1e9"`, ``}, {`0.5e1e1`, ``},
		{`""`, ``}, {`" 5"`, ``}, {`"5 "`, ``}, {`"5\n"`, ``}, {`"١٢"`, ``}, {`"x"`, ``},
		{`true`, ``}, {`[5]`, ``}, {`{}`, ``}, {`01`, ``},
		{`100000000000`, ``}, {`"100000000000"`, ``}, {`1700000000000`, ``},
		{`"1700000000000"`, ``}, {`9999999999999999999`, ``}, {`10000000000000000000`, ``},
		{`1e11`, ``}, {`1e400`, ``}, {`1e-400`, ``}, {`0.0`, ``},
		{`5.0`, ``}, {`1600000005.0`, beyondNumbers}, {`1e9`, beyondNumbers},
		{`1.7E+9`, beyondNumbers}, {`16000000050e-1`, beyondNumbers},
		{tooLate, beyondNow}, {`"` + tooLate + `"`, beyondNow}, {`99999999999`, beyondNow},
		{`"99999999999"`, beyondNow},
	}
	good := map[string]bool{}
	for _, a := range accountValues {
		good[a] = Decode(from(`{"Report_Account":"rita","Peer_Account":`+cmp.Or(a, "null")+`}`),
			latest).Invalid == nil
	}
	for _, report := range accountValues {
		for _, peer := range accountValues {
			for _, at := range times {
				var members []string
				for _, m := range []struct{ name, value string }{{"MsgReadTime", at.value},
					{"Report_Account", report}, {"x", `[null]`}, {"Peer_Account", peer}} {
					if m.value != "" {
						members = append(members, `"`+m.name+`": `+m.value)
					}
				}
				beyond := at.beyond
				if !good[report] || !good[peer] {
					beyond = "" // both reject it because of the account
				}
				compare(from("{"+strings.Join(members, ", ")+"}"), beyond)
			}
		}
	}
	for _, beyond := range []string{"", beyondNow, beyondNumbers, beyondValue, beyondUTF8} {
		if !seen[beyond] {
			t.Errorf("no value for %q", beyond)
		}
	}
}

// The schema has examples, mentions what it can't express, and describes each field; MsgReadTime
// with its unit.
func TestSchemaDocuments(t *testing.T) {
	text, err := os.ReadFile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	var schema struct {
		Description string
		Properties  map[string]struct{ Description string }
		Examples    []json.RawMessage
	}
	if err := json.Unmarshal(text, &schema); err != nil {
		t.Fatal(err)
	}
	for _, beyond := range []string{beyondNow, beyondNumbers, beyondValue, beyondUTF8} {
		if !strings.Contains(schema.Description, beyond) {
			t.Errorf("the description does not mention %q", beyond)
		}
	}
	if len(schema.Properties) != 3 ||
		!strings.Contains(schema.Properties["MsgReadTime"].Description, "seconds") {
		t.Errorf("properties: %+v", schema.Properties)
	}
	for name, p := range schema.Properties {
		if p.Description == "" {
			t.Errorf("%s has no description", name)
		}
	}
	valid := eventSchema(t)
	if len(schema.Examples) == 0 {
		t.Error("no examples")
	}
	for _, example := range schema.Examples {
		if e := Decode(from(string(bytes.TrimSpace(example))), latest); e.Invalid != nil ||
			!valid(string(example)) {
			t.Errorf("example %s: %v", example, e.Invalid)
		}
	}
}
