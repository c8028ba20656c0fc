package engine

import (
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"markread/consumer/event"
)

// A dead letter shows exactly the bytes that were read.
func TestPacked(t *testing.T) {
	own := event.Topics{Live: "mark-read", Backfill: "mark-read-backfill"}
	at := time.UnixMilli(1_760_000_000_123)
	for name, change := range map[string]func(*event.Record){
		"usual":            func(*event.Record) {},
		"no key":           func(r *event.Record) { r.Key = nil },
		"an empty key":     func(r *event.Record) { r.Key = []byte{} },
		"another key":      func(r *event.Record) { r.Key = []byte{0, 1, 2, 255} },
		"backfill":         func(r *event.Record) { r.Topic = own.Backfill },
		"no timestamp":     func(r *event.Record) { r.Time = time.Time{} },
		"from before 1970": func(r *event.Record) { r.Time = time.UnixMilli(-1) },
		"in seconds":       func(r *event.Record) { r.Time = time.UnixMilli(1_760_000_000) },
		"large": func(r *event.Record) {
			r.Offset, r.Partition = math.MaxInt64, math.MaxInt32
		},
		"a time as text": func(r *event.Record) {
			r.Value = []byte(`{"Report_Account":"a","Peer_Account":"b","MsgReadTime":"1760000000"}`)
		},
		"white space": func(r *event.Record) {
			r.Value = []byte("\t{ \"Report_Account\" : \"a\",\r\n\"Peer_Account\": \"b\", " +
				"\"MsgReadTime\":1760000000 }\n")
		},
		"repeated names": func(r *event.Record) {
			r.Value = []byte(`{"Report_Account":"x","Report_Account":"a","Peer_Account":"b",` +
				`"MsgReadTime":"1760000000"}`)
		},
		"an account as text": func(r *event.Record) {
			r.Value = []byte(`{"Report_Account":"a","Peer_Account":"b","MsgReadTime":1760000000,` +
				`"a":{"b":["a","b"]}}`)
		},
		"escapes": func(r *event.Record) {
			r.Value = []byte(`{"Report_Account":"\u0061","Peer_Account":"b",` +
				`"MsgReadTime":1760000000,` + `"x":"\u0001\"a\""}`)
		},
		"UTF-8": func(r *event.Record) {
			r.Value = []byte(`{"Report_Account":"a","Peer_Account":"b","MsgReadTime":1760000000,` +
				`"x":"读€😀"}`)
		},
		"1 MB": func(r *event.Record) {
			r.Value = fmt.Appendf(nil, `{"Report_Account":"a","Peer_Account":"b",`+
				`"MsgReadTime":1760000000,"x":"%s"}`, strings.Repeat("x", 1<<20))
		},
		"headers": func(r *event.Record) {
			r.Headers = []event.Header{{Key: "trace", Value: []byte{0, 1}},
				{Key: "", Value: []byte{}}, {Key: "trace"}}
		},
		"a traceparent": func(r *event.Record) {
			r.Headers = []event.Header{{Key: "traceparent", Value: []byte(traceparent)}}
		},
		"traceparents among others": func(r *event.Record) {
			r.Headers = []event.Header{{Key: "", Value: []byte(traceparent)},
				{Key: "traceparent", Value: []byte(traceparent)},
				{Key: "tracestate", Value: []byte("a=b")}, {Key: "traceparent"},
				{Key: "Traceparent", Value: []byte(traceparent)},
				{Key: "traceparent", Value: []byte("01" + traceparent[2:] + "-x")},
				{Key: "traceparent", Value: []byte(strings.ToUpper(traceparent))},
				{Key: "traceparent", Value: []byte(traceparent[:53] + "fe")},
				{Key: "traceparent", Value: []byte(traceparent)}, {Key: "trace"}}
		},
		"an invalid traceparent": func(r *event.Record) {
			r.Headers = []event.Header{{Key: "traceparent", Value: []byte(traceparent)},
				{Key: "traceparent", Value: []byte{}}}
		},
		"event time and replays": func(r *event.Record) {
			r.Headers = []event.Header{{Key: "markread.event-time", Value: []byte("1760000000000")},
				{Key: "markread.replays", Value: []byte("3")}}
		},
		"event time without a timestamp": func(r *event.Record) {
			r.Time, r.Headers = time.Time{}, []event.Header{{Key: "markread.event-time",
				Value: []byte("1760000000000")}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := event.Record{Topic: own.Live, Partition: 3, Offset: 1 << 40, Time: at,
				Key:   event.Key("a", "b"),
				Value: []byte(`{"Report_Account":"a","Peer_Account":"b","MsgReadTime":1760000000}`)}
			change(&r)
			mustSurvive(t, r, own)
		})
	}
}

const traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

func FuzzPacked(f *testing.F) {
	for _, trace := range []string{"", traceparent, "01" + traceparent[2:] + "-x",
		traceparent[:53] + "00", "00-00000000000000000000000000000000-00f067aa0ba902b7-01"} {
		f.Add([]byte(`{"Report_Account":"a","Peer_Account":"b","MsgReadTime":1760000000}`),
			[]byte("a|b"), []byte("1760000000000"), []byte(trace), int64(1_760_000_000_000))
	}
	f.Fuzz(func(t *testing.T, value, key, header, trace []byte, at int64) {
		own := event.Topics{Live: "mark-read"}
		mustSurvive(t, event.Record{Topic: own.Live, Time: time.UnixMilli(at), Key: key,
			Value: value,
			Headers: []event.Header{{Key: "traceparent", Value: trace},
				{Key: string(trace), Value: key}, {Key: "markread.event-time", Value: header},
				{Key: "traceparent", Value: trace}}}, own)
	})
}

func mustSurvive(t *testing.T, r event.Record, own event.Topics) {
	t.Helper()
	parts := event.Record{Key: r.Key, Value: r.Value, Headers: r.Headers}
	var restored event.Record
	if unpackParts(packParts(&r), &restored); !reflect.DeepEqual(restored, parts) {
		t.Errorf("unpacked %+v, packed %+v", restored, parts)
	}
	e := event.Decode(r, time.UnixMilli(1<<42))
	if e.Invalid != nil {
		return
	}
	if r.Topic == own.Backfill {
		e.Lane = event.Backfill
	}
	packed, named := new(packer).pack(&e)
	if id := string(packed[:named]); id != string(e.Report)+"\n"+string(e.Peer) {
		t.Errorf("the conversation %q is packed as %q", id, packed)
	}
	got := unpack(packed, e.ReadTime, own)
	if !reflect.DeepEqual(got, e) {
		t.Errorf("unpacked %+v, packed %+v", got, e)
	}
	rest := packed[named+1:]
	if at := unpackTraceparent(rest); at != r.Traceparent() {
		t.Errorf("the traceparent is %x, want %x", at, r.Traceparent())
	}
	var position packedPosition
	copy(position[:], rest)
	if at := unpackPosition(position, &own); at.Topic != r.Topic || at.Partition != r.Partition ||
		at.Offset != r.Offset {
		t.Errorf("the position is %v", at)
	}
}

// A record with very many headers has no traceparent for calls: each would walk all headers.
func TestManyHeadersAreNotSearched(t *testing.T) {
	for _, n := range []int{mostTraced, mostTraced + 1} {
		headers := make([]event.Header, n)
		headers[n-1] = event.Header{Key: "traceparent", Value: []byte(traceparent)}
		e := event.Decode(event.Record{Topic: "mark-read", Time: time.UnixMilli(1_760_000_000_000),
			Value: []byte(`{"Report_Account":"a","Peer_Account":"b"}`), Headers: headers},
			time.UnixMilli(1<<42))
		packed, named := new(packer).pack(&e)
		found := unpackTraceparent(packed[named+1:]) != event.Traceparent{}
		if found != (n <= mostTraced) {
			t.Errorf("%d headers: found %t", n, found)
		}
	}
}

// A million packed events may wait in memory.
func TestPackedIsSmall(t *testing.T) {
	for most, headers := range map[int][]event.Header{
		48: nil,
		74: {{Key: "traceparent", Value: []byte(traceparent)}},
	} {
		e := event.Decode(event.Record{
			Topic: "mark-read", Partition: 11, Offset: 2_000_000,
			Time: time.UnixMilli(1_760_000_000_123),
			Key:  event.Key("user0000012345", "user0000067890"),
			Value: []byte(`{"Report_Account":"user0000012345","Peer_Account":"user0000067890",` +
				`"MsgReadTime":1760000000}`),
			Headers: headers,
		}, time.UnixMilli(1_760_000_000_123))
		if packed, _ := new(packer).pack(&e); len(packed) > most {
			t.Errorf("%d bytes: %q", len(packed), packed)
		}
	}
}

func BenchmarkPack(b *testing.B) {
	e := event.Decode(event.Record{
		Topic: "mark-read", Offset: 2_000_000, Time: time.UnixMilli(1_760_000_000_123),
		Key: event.Key("user0000012345", "user0000067890"),
		Value: []byte(`{"Report_Account":"user0000012345","Peer_Account":"user0000067890",` +
			`"MsgReadTime":1760000000}`),
	}, time.UnixMilli(1_760_000_000_123))
	var p packer
	b.ReportAllocs()
	for b.Loop() {
		p.pack(&e)
	}
}
