package batch

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
)

// withHeaders returns a record with these headers: "key=value", or "key" with a null value.
func withHeaders(delta int64, headers ...string) record {
	r := record{value: "v", delta: delta, keyLen: -1, headers: int64(len(headers))}
	for _, h := range headers {
		key, value, ok := strings.Cut(h, "=")
		r.tail = append(binary.AppendVarint(r.tail, int64(len(key))), key...)
		if !ok {
			r.tail = binary.AppendVarint(r.tail, -1)
			continue
		}
		r.tail = append(binary.AppendVarint(r.tail, int64(len(value))), value...)
	}
	return r
}

func headersOf(r Record) (all []string) {
	for _, h := range r.Headers {
		if h.Value == nil {
			all = append(all, h.Key)
		} else {
			all = append(all, h.Key+"="+string(h.Value))
		}
	}
	return all
}

// Each record has its own headers, whatever headers the records around it have.
func TestHeaders(t *testing.T) {
	sets := [][]string{{"a=1", "b=2"}, {"a=3", "b=4"}, {"b=5", "a", "c="}, nil, {"c=6"}, {"a=7"},
		{"a=8", "a=9", "=", "x", "y", "z"}, {"aa=10", "b=2"}}
	const n = 3 * chunkRecords
	var all []record
	for i := range int64(n) {
		all = append(all, withHeaders(i, sets[i%int64(len(sets))]...))
	}
	raw := seal(0, n, n-1, payload(all...))
	b, _, err := Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	var d Decoder
	var kept []Record
	for range 2 {
		i := 0
		d.Reset(b, 0)
		for records := d.Next(); len(records) > 0; records = d.Next() {
			for _, r := range records {
				want := fmt.Sprint(sets[i%len(sets)])
				if got := fmt.Sprint(headersOf(r)); got != want {
					t.Fatalf("record %d has %s, want %s", i, got, want)
				}
				i++
			}
			kept = append(kept, records[0].Clone(), records[len(records)-1].Clone())
		}
		if i != n {
			t.Fatalf("%d records", i)
		}
	}
	d.Release()
	for _, r := range kept {
		want := fmt.Sprint(sets[(r.Offset-100)%int64(len(sets))])
		if got := fmt.Sprint(headersOf(r)); got != want {
			t.Errorf("the clone at offset %d has %s, want %s", r.Offset, got, want)
		}
	}
}

// Records with the same keys are decoded without allocations.
func TestHeadersAllocateNothing(t *testing.T) {
	const n = 100
	var all []record
	for i := range int64(n) {
		all = append(all, withHeaders(i, "markread.event-time=1600000000000", "trace=x"))
	}
	b, _, err := Parse(seal(0, n, n-1, payload(all...)))
	if err != nil {
		t.Fatal(err)
	}
	var d Decoder
	if got := testing.AllocsPerRun(10, func() {
		d.Reset(b, 0)
		if records := d.Next(); len(records) != n || len(records[n-1].Headers) != 2 {
			t.Errorf("got %+v", records)
		}
	}); got != 0 {
		t.Errorf("%v allocations", got)
	}
}

// Records that turn out to be damaged behind their headers leave no headers in memory.
func TestDamagedHeadersTakeNoMemory(t *testing.T) {
	const n = 200
	var all []record
	for i := range int64(n) {
		r := withHeaders(i, strings.Fields(strings.Repeat("x ", MaxHeaders))...)
		r.tail = append(r.tail, 0) // one byte too many
		all = append(all, r)
	}
	b, _, err := Parse(seal(0, n, n-1, payload(all...)))
	if err != nil {
		t.Fatal(err)
	}
	var d Decoder
	d.Reset(b, 0)
	damaged := 0
	for records := d.Next(); len(records) > 0; records = d.Next() {
		for _, r := range records {
			if r.Damage != nil {
				damaged++
			}
		}
	}
	if damaged != n || cap(d.headers) > 2*MaxHeaders {
		t.Errorf("%d damaged records, memory for %d headers", damaged, cap(d.headers))
	}
}
