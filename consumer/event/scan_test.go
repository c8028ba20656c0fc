package event

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
)

const typical = `{"Report_Account":"rita","Peer_Account":"paul","MsgReadTime":"1699999999"}`

// What producers usually write is scanned; anything else is left to parseStrict.
func TestScan(t *testing.T) {
	for _, value := range []string{
		typical,
		strings.Replace(typical, `"1699999999"`, `1699999999`, 1),
		" {\r\n\t\"Peer_Account\" : \"paul\" ,\n\"id\":-1,\"\":0} ",
	} {
		if !new(rawEvent).scan([]byte(value)) {
			t.Errorf("%s is not scanned", value)
		}
	}
	for _, value := range []string{
		``, ` `, `x`, `{`, `{}`, `{"a"`, `{"a":`, `{"a":1`, `{"a":1,`, `{"a":1,}`, `{"a":1}x`,
		`{"a" 1}`, `{"a":1 "b":2}`, `{a":1}`, `{"a":}`, `{"a":-}`, `{"a":01}`, `{"a":-01}`,
		`{"a":1.5}`, `{"a":1e5}`, `{"a":+1}`, `{"a":null}`, `{"a":{}}`, `{"a":[]}`, `{"a":"b}`,
		`{"a":"\u0062"}`, `{"\u0061":"b"}`, "{\"a\":\"\n\"}", "{\"a\":\"\x7f\"}",
		"{\"a\":\"é\"}", "{\"a\":\"\xff\"}",
		"{\"a\":\"12345\n78\"}", "{\"a\":\"1234567é\"}", `[1]`, `"a"`, `{"a":1}{"a":1}`,
	} {
		if new(rawEvent).scan([]byte(value)) {
			t.Errorf("%s is scanned", value)
		}
	}
}

// plainLength finds each special byte at each position, also after a byte that borrows.
func TestPlainLength(t *testing.T) {
	for c := range 256 {
		special := c < 0x20 || c == '"' || c == '\\' || c >= 0x7f
		for length := range 20 {
			for at := range length {
				text := bytes.Repeat([]byte{'#'}, length) // one more than a quote
				text[at] = byte(c)
				want := length
				if special {
					want = at
				}
				if got := plainLength(text); got != want {
					t.Fatalf("%q: %d, want %d", text, got, want)
				}
			}
		}
	}
}

// FuzzScan compares scan with parseStrict.
func FuzzScan(f *testing.F) {
	for _, seed := range []string{
		typical, `{"Report_Account" : "" ,"peerAccount":-0,"x":"", "MsgReadTime":1}` + "\r\n",
		`{"MsgReadTime":1,"msg_read_time":"2","MsgReadedTime":3,"MsgReadTime":0}`,
		`{"a":01}`, `{"a":1.0}`, `{"a":"\""}`, "{\"a\":\"\x7f\"}", `{"a":[{"b":1}]}`, `{}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		var scanned, strict rawEvent
		if !scanned.scan(value) {
			return
		}
		if err := strict.parseStrict(value); err != nil || !reflect.DeepEqual(scanned, strict) {
			t.Errorf("%q: scanned %q, want %q, %v", value, scanned, strict, err)
		}
	})
}

// A valid event is decoded without any allocation, whether it has headers or not.
func TestDecodeAllocatesNothing(t *testing.T) {
	for name, record := range map[string]Record{
		"plain": from(typical),
		"headers": from(typical, HeaderEventTime, "1600000000999", HeaderReplays, "3",
			"x", "y"),
		"other fields": from(strings.Replace(typical, "{", `{"trace":"4bf92f35","n":1,`, 1)),
		"event time":   from(`{"Report_Account":"rita","Peer_Account":"paul"}`),
	} {
		if n := testing.AllocsPerRun(10, func() {
			if e := Decode(record, latest); e.Invalid != nil {
				t.Error(e.Invalid)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}
