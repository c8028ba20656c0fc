package kafkaclient

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/fetch"

	"markread/consumer/event"
)

// responseTo returns a connection with a response to a fetch of version 11, and following bytes.
func responseTo(body []byte, size int) io.ReadWriter {
	b := binary.BigEndian.AppendUint32(nil, uint32(size))
	b = binary.BigEndian.AppendUint32(b, fetchCorrelation)
	return struct {
		io.Reader
		io.Writer
	}{io.MultiReader(bytes.NewReader(b), bytes.NewReader(body), strings.NewReader("behind")),
		io.Discard}
}

// encodeFields encodes a response's fields: integers of 2, 4 and 8 bytes, strings, raw bytes.
func encodeFields(all ...any) (b []byte) {
	for _, f := range all {
		switch f := f.(type) {
		case int16, int32, int64:
			b, _ = binary.Append(b, binary.BigEndian, f)
		case string:
			b = append(binary.BigEndian.AppendUint16(b, uint16(len(f))), f...)
		case []byte:
			b = append(b, f...)
		}
	}
	return b
}

func fetchFrom(t *testing.T, rw io.ReadWriter, m *Memory) (*fetchResponse, error) {
	t.Helper()
	x := &fetchExchange{lease: &lease{memory: m}, progress: func() {},
		Request: fetch.Request{Topics: []fetch.RequestTopic{{Topic: "t",
			Partitions: []fetch.RequestPartition{{}}}}}}
	if !x.Required(map[protocol.ApiKey]int16{protocol.Fetch: 11}) {
		t.Fatal("kafka-go would read the response")
	}
	r, err := x.RawExchange(rw)
	if err != nil {
		return nil, err
	}
	return r.(*fetchResponse), nil
}

// A response is read to its end, and not beyond, whatever lengths it claims.
func TestFetchResponse(t *testing.T) {
	head := []any{int32(0), int16(0), int32(0), int32(1), "topic", int32(1), int32(3), int16(0),
		int64(50), int64(45), int64(7)}
	with := func(more ...any) []byte {
		return encodeFields(append(head[:len(head):len(head)], more...)...)
	}
	for name, test := range map[string]struct {
		body  []byte
		size  int // 0: the right one
		wrong string
	}{
		"records":      {body: with(int32(0), int32(-1), int32(3), []byte("abc"))},
		"no records":   {body: with(int32(0), int32(-1), int32(0))},
		"null records": {body: with(int32(0), int32(-1), int32(-1))},
		"null aborted": {body: with(int32(-1), int32(-1), int32(0))},
		"two aborted": {body: with(int32(2), int64(1), int64(9), int64(2), int64(8),
			int32(-1), int32(0))},
		"more behind": {body: with(int32(0), int32(-1), int32(3), []byte("abc and more"))},
		"no leader": {body: encodeFields(int32(0), int16(0), int32(0), int32(1), "topic",
			int32(1), int32(3), int16(6), int64(-1), int64(-1))},
		"an error of all": {body: encodeFields(int32(0), int16(29), int32(0), int32(0))},
		"2^31 aborted":    {body: with(int32(1<<31-1), int32(-1)), wrong: "unexpected EOF"},
		"2^31 bytes of records": {body: with(int32(0), int32(-1), int32(1<<31-1)),
			wrong: "2147483647 bytes of records in the last 0 bytes of it"},
		"2^31 topics": {body: encodeFields(int32(0), int16(0), int32(0), int32(1<<31-1)),
			wrong: "one partition has 2147483647 topics"},
		"no topics": {body: encodeFields(int32(0), int16(0), int32(0), int32(0)),
			wrong: "one partition has 0 topics"},
		"two partitions": {body: encodeFields(int32(0), int16(0), int32(0), int32(1), "topic",
			int32(2)), wrong: "one partition has 2 partitions"},
		"a name of -2": {body: encodeFields(int32(0), int16(0), int32(0), int32(1), int16(-2)),
			wrong: "unexpected EOF"},
		"a longer name": {body: encodeFields(int32(0), int16(0), int32(0), int32(1), int16(300)),
			wrong: "unexpected EOF"},
		"nothing":         {body: nil, wrong: "unexpected EOF"},
		"a negative size": {size: -7, wrong: "unexpected EOF"},
		"a connection that ends": {body: with(int32(0), int32(-1), int32(1<<20)), size: 1 << 21,
			wrong: "EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			size := test.size
			if size == 0 {
				size = 4 + len(test.body)
			}
			m := NewMemory(8<<20, 0)
			rw := responseTo(test.body, size)
			r, err := fetchFrom(t, rw, m)
			if test.wrong != "" {
				if err == nil || !strings.Contains(err.Error(), test.wrong) {
					t.Errorf("got %v, want %s", err, test.wrong)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if behind, _ := io.ReadAll(rw); string(behind) != "behind" {
				t.Errorf("%q is left on the connection", behind)
			}
			if r.errorCode == 0 && (r.HighWatermark != 50 || r.LogStart != 7 ||
				string(r.Records) != "abc" && len(r.Records) > 0) {
				t.Errorf("got %+v", r)
			}
			if len(r.aborted) == 2 && (r.aborted[0] != abortedTransaction{2, 8} ||
				r.aborted[1] != abortedTransaction{1, 9}) {
				t.Errorf("aborted: %+v", r.aborted)
			}
		})
	}
}

// Without memory, records are not read. A second fetch, which has waited for memory, gets them.
func TestFetchMemory(t *testing.T) {
	body := encodeFields(int32(0), int16(0), int32(0), int32(1), "topic", int32(1), int32(3),
		int16(0), int64(50), int64(45), int64(7),
		int32(0), int32(-1), int32(600), make([]byte, 600))
	m := NewMemory(1000, 0)
	other := &lease{memory: m}
	if !other.tryAcquire(500) {
		t.Fatal("no memory at the beginning")
	}
	rw := responseTo(body, 4+len(body))
	r, err := fetchFrom(t, rw, m)
	if err != nil || r.unreadBytes != 600 || r.Records != nil {
		t.Fatalf("got %+v, %v", r, err)
	}
	if behind, _ := io.ReadAll(rw); string(behind) != "behind" {
		t.Errorf("%q is left on the connection", behind)
	}
	waiting := &lease{memory: m}
	other.close()
	if err := waiting.reserve(t.Context(), 600); err != nil {
		t.Fatal(err)
	}
	if third := (&lease{memory: m}); third.tryAcquire(500) {
		t.Error("reserved memory was given to another lease")
	}
	if !waiting.tryAcquire(700) {
		t.Error("reserved memory, and a little more that is free, was not given")
	}
	waiting.close()
	waiting.close()
	if waiting.tryAcquire(1) {
		t.Error("a lease gives memory after it was closed")
	}
	if all := (&lease{memory: m}); !all.tryAcquire(1<<40) || !m.free.TryAcquire(0) ||
		m.free.TryAcquire(1) {
		t.Error("a response that is larger than all memory does not get all of it")
	}
}

// Two fetches that have waited for memory, and then need more, don't deadlock.
func TestWaitingFetchesDontDeadlock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewMemory(1000, 0)
		var done sync.WaitGroup
		for range 2 {
			done.Go(func() {
				l := &lease{memory: m}
				defer l.close()
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				for _, size := range []int64{400, 700} {
					if err := l.reserve(ctx, size); err != nil {
						t.Error(err)
					}
					time.Sleep(time.Second) // the next response
				}
				if !l.tryAcquire(700) {
					t.Error("reserved memory was not given")
				}
			})
		}
		done.Wait()
		if !m.free.TryAcquire(1000) {
			t.Error("memory was not released")
		}
	})
}

// A returned decoder keeps no fetched bytes alive: their memory was released, too.
func TestReturnedDecoderKeepsNoBytes(t *testing.T) {
	m := NewMemory(1<<20, 0)
	d, err := m.Decoder(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	f := fetchOf(t, 5, nil, data(5, 5, 6, 7))
	kept := weak.Make(&f.Records[0])
	records, err := f.Chunk(&d.Decoder)
	if err != nil || len(records) != 3 {
		t.Fatalf("got %+v, %v", records, err)
	}
	for _, r := range records {
		d.Events = append(d.Events, event.Event{Record: event.Record(r)})
	}
	d.Events = d.Events[:1] // the last chunk was a small one
	f.Close()
	m.GiveBack(d)
	f, records = nil, nil
	runtime.GC()
	if kept.Value() != nil {
		t.Error("the fetched bytes are still in memory")
	}
	runtime.KeepAlive(m)
}
