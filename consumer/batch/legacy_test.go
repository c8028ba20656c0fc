package batch

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/segmentio/kafka-go/compress"
)

// oldMessage encodes a message of format 0 or 1.
func oldMessage(offset int64, magic, attributes int8, timestamp int64, value []byte) []byte {
	b := []byte{byte(magic), byte(attributes)}
	if magic > 0 {
		b = binary.BigEndian.AppendUint64(b, uint64(timestamp))
	}
	b = binary.BigEndian.AppendUint32(b, 0xffffffff) // no key
	b = append(binary.BigEndian.AppendUint32(b, uint32(len(value))), value...)
	return sealMessage(offset, b)
}

func sealMessage(offset int64, b []byte) []byte {
	all := binary.BigEndian.AppendUint64(nil, uint64(offset))
	all = binary.BigEndian.AppendUint32(all, uint32(4+len(b)))
	all = binary.BigEndian.AppendUint32(all, crc32.ChecksumIEEE(b))
	return append(all, b...)
}

func gzipped(t testing.TB, b []byte) []byte { return compressed(t, int16(compress.Gzip), b) }

// Logs of old producers are still read.
func TestOldFormats(t *testing.T) {
	var inner []byte
	for i := range int64(3) {
		inner = append(inner, oldMessage(i, 1, 0, 100+i, []byte{'a' + byte(i)})...)
	}
	absolute := slices.Concat(oldMessage(6, 0, 0, 0, []byte("f")),
		oldMessage(8, 0, 0, 0, []byte("h")))
	for name, test := range map[string]struct {
		raw  []byte
		want []string
	}{
		"format 0": {oldMessage(4, 0, 0, 0, []byte("a")), []string{"4=a"}},
		"format 1": {oldMessage(5, 1, 0, 77, []byte("b")), []string{"5=b"}},
		"compressed": {oldMessage(8, 1, 1, 103, gzipped(t, inner)),
			[]string{"6=a", "7=b", "8=c"}},
		"compressed, format 0": {oldMessage(8, 0, 1, 0, gzipped(t, absolute)),
			[]string{"6=f", "8=h"}},
		"no gzip": {oldMessage(8, 1, 1, 103, []byte("garbage")),
			[]string{"8-8:1 unexpected EOF"}},
		"codec 7": {oldMessage(8, 1, 7, 103, []byte("garbage")),
			[]string{"8-8:1 compression codec 7"}},
		"nothing compressed": {oldMessage(8, 1, 1, 103, gzipped(t, nil)),
			[]string{"8-8:1 a compressed message without messages"}},
		"offsets before 0": {oldMessage(1, 1, 1, 103, gzipped(t, inner)),
			[]string{"1-1:1 a compressed message with inconsistent offsets"}},
		"a damaged one within": {oldMessage(8, 1, 1, 103, gzipped(t, append(inner, 1, 2, 3))),
			[]string{"8-8:1 a truncated message"}},
		"a bomb": {oldMessage(8, 1, 1, 103, gzipped(t, make([]byte, 9<<20))),
			[]string{"8-8:1 the message decompresses to more"}},
		"a value of 2^31": {sealMessage(8, []byte{0, 0, 0xff, 0xff, 0xff, 0xff, 0x7f, 0xff,
			0xff, 0xff}), []string{"8-8:1 a truncated message"}},
		"bytes behind": {sealMessage(8, []byte{0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0,
			1}), []string{"8-8:1 a truncated message"}},
		"a large one": {oldMessage(8, 1, 0, 5, bytes.Repeat([]byte("x"), 1<<20+1)),
			[]string{"8-8:1 the record has 1048577 bytes"}},
	} {
		got := decode(t, test.raw, 0)
		if !slices.EqualFunc(got, test.want, func(g, w string) bool {
			return g == w ||
				strings.Contains(w, ":") && strings.HasPrefix(g, w)
		}) {
			t.Errorf("%s: got %q, want %q", name, got, test.want)
		}
	}
	expect(t, decode(t, oldMessage(8, 1, 1, 103, gzipped(t, inner)), 7), "7=b", "8=c")
	b, _, err := Parse(oldMessage(8, 1, 1|8, 900, gzipped(t, inner)))
	if err != nil {
		t.Fatal(err)
	}
	var d Decoder
	d.Reset(b, 0)
	for _, r := range d.Next() {
		if r.Time.UnixMilli() != 900 {
			t.Errorf("record %d has the time %v; the broker's is 900 ms", r.Offset, r.Time)
		}
	}
}

// A small message of an old format may contain 300,000 others: they are decoded a chunk at a time.
func TestManyOldMessages(t *testing.T) {
	var inner []byte
	n := int64(0)
	for ; len(inner) < maxLegacy-100; n++ {
		inner = append(inner, oldMessage(n, 0, 0, 0, nil)...)
	}
	b, _, err := Parse(oldMessage(n-1, 0, 1, 0, gzipped(t, inner)))
	if err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	var d Decoder
	d.Reset(b, 7)
	next := int64(7)
	for records := d.Next(); len(records) > 0; records = d.Next() {
		for _, r := range records {
			if r.Offset != next || r.Damage != nil {
				t.Fatalf("got %+v, want offset %d", r, next)
			}
			next++
		}
	}
	runtime.ReadMemStats(&after)
	if next != n {
		t.Errorf("ends at %d, want %d", next, n)
	}
	if took := after.TotalAlloc - before.TotalAlloc; took > 100<<20 {
		t.Errorf("%d messages took %d MiB", n, took>>20)
	}
}
