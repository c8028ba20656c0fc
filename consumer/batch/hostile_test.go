package batch

import (
	"bytes"
	"runtime"
	"testing"
	"weak"

	"github.com/segmentio/kafka-go/compress"
)

// Consecutive magic numbers of LZ4's legacy format are damage: the library recurses for each, and
// 16 MB of them overflow the stack.
func TestLegacyFramesOfLZ4(t *testing.T) {
	legacy := []byte{0x02, 0x21, 0x4c, 0x18}
	frame := compressed(t, int16(compress.Lz4), payload(good(0, "a")))
	for name, raw := range map[string][]byte{
		"alone":           bytes.Repeat(legacy, 100_000),
		"behind a frame":  append(bytes.Clone(frame), bytes.Repeat(legacy, 100_000)...),
		"a normal record": frame,
	} {
		got := decode(t, seal(3, 2, 1, raw), 0)
		switch name {
		case "alone":
			expect(t, got, "100-101:2 lz4: a frame of the legacy format")
		case "behind a frame":
			expect(t, got, "100=a", "101-101:1 lz4: a frame of the legacy format")
		default:
			expect(t, got, "100=a", "101-101:1 the batch claims 2 records and has 1")
		}
	}
}

// Skipped records need almost no memory, even damaged ones: a few KB may contain a hundred million,
// and each fetch from the middle of the batch skips them again.
func TestSkippedRecordsTakeNoMemory(t *testing.T) {
	const n = 100_000
	bad := good(1<<20, "").append(nil)
	many := append(bytes.Repeat(bad, n), good(n, "last").append(nil)...)
	b, _, err := Parse(seal(1, n+1, n, compressed(t, 1, many)))
	if err != nil {
		t.Fatal(err)
	}
	var d Decoder
	allocated := testing.AllocsPerRun(1, func() {
		d.Reset(b, 100+n)
		if records := d.Next(); len(records) != 1 || string(records[0].Value) != "last" ||
			records[0].Offset != 100+n {
			t.Errorf("got %+v", records)
		}
	})
	if allocated > 1000 {
		t.Errorf("%d skipped records took %v allocations", n, allocated)
	}
}

// A released decoder keeps no byte of the batch alive: the memory was released.
func TestRelease(t *testing.T) {
	for codec := range int16(5) {
		data := payload(good(0, "a"), good(1, "b"))
		raw := seal(codec, 2, 1, compressed(t, codec, data))
		kept := weak.Make(&raw[0])
		b, _, err := Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		d := new(Decoder)
		d.Reset(b, 0)
		if got := d.Next(); len(got) != 2 {
			t.Fatalf("codec %d: got %+v", codec, got)
		}
		d.Release()
		raw, data, b = nil, nil, Batch{}
		runtime.GC()
		runtime.GC()
		if kept.Value() != nil {
			t.Errorf("codec %d: the batch is still in memory", codec)
		}
		runtime.KeepAlive(d)
	}
}
