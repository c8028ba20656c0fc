package consumer_test

import (
	"encoding/base64"
	"encoding/binary"
	"hash/crc32"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"markread/consumer/admin"
	"markread/consumer/broker/brokertest"
)

// forged is a text beside an offset with a correct checksum.
func forged(offset int64, numbers ...uint64) string {
	b := []byte{1, 0, 0, 0, 0}
	for _, n := range numbers {
		b = binary.AppendUvarint(b, n)
	}
	sum := crc32.Update(crc32.ChecksumIEEE(binary.BigEndian.AppendUint64(nil, uint64(offset))), crc32.IEEETable, b[5:])
	binary.BigEndian.PutUint32(b[1:], sum)
	return base64.RawStdEncoding.EncodeToString(b)
}

// Whatever somebody has committed beside an offset, no event is skipped that was not in the log by
// then; and it is logged.
func TestForgedCommit(t *testing.T) {
	const offset = 10
	for name, text := range map[string]func(at uint64) string{
		"huge run":   func(at uint64) string { return forged(offset, 0, at, 0, 1<<46) },
		"a few more": func(at uint64) string { return forged(offset, 9, at, 0, 11) },
		"max run":    func(at uint64) string { return forged(offset, 0, at, 0, 1<<63) },
		"overflow":   func(at uint64) string { return forged(offset, 1<<63, at, 1<<46-2, 1<<46, 1<<46-2, 1<<46) },
		"attempts":   func(at uint64) string { return forged(offset, 0, at, 1, 1<<40) },
		"witness":    func(at uint64) string { return forged(offset, 1<<40, at, 0, 1000) },
		"many": func(at uint64) string {
			return forged(offset, append([]uint64{0, at}, slices.Repeat([]uint64{2, 1}, 700)...)...)
		},
		"no time": func(uint64) string { return forged(offset, 0, 0, 0, 1000) },
		"long":    func(uint64) string { return strings.Repeat("A", 4090) },
		"garbage": func(uint64) string { return "\x1b[31m garbage \u202e" },
		"random": func(uint64) string {
			return base64.StdEncoding.EncodeToString([]byte("0123456789abcdefghijklmnopqrstu"))
		},
		"numbers": func(at uint64) string { return forged(offset, math.MaxUint64, at, math.MaxUint64, math.MaxUint64) },
	} {
		t.Run(name, func(t *testing.T) {
			brokertest.Run(t, 1, func(w *brokertest.World) {
				now := time.Now()
				w.Publish(brokertest.Topics.Live, 0, 20) // their times are now: what a forger who may read the topic knows
				commit(w, brokertest.Topics.Live, 0, offset, text(uint64(now.UnixMilli())))
				if lags, err := admin.Lag(w.Context(), w.Client(), brokertest.Group, brokertest.Topics.Live); err != nil || lags[0].Lag != 10 || lags[0].Finished < 0 || lags[0].Finished > 10 || lags[0].Lost != 0 {
					w.Errorf("%+v %v", lags, err)
				}
				var log brokertest.Logs
				m := join(w, clientTo(w, &log))
				time.Sleep(10 * time.Second)
				w.Publish(brokertest.Topics.Live, 0, 2000)
				time.Sleep(10 * time.Second)
				if got := m.got(brokertest.Topics.Live, 0); !slices.Equal(got, offsets(offset, 2020)) {
					w.Errorf("got %d events, want 2010", len(got))
				}
				for _, e := range m.all() {
					if e.Attempts != 0 {
						w.Fatalf("offset %d has had %d attempts", e.Record.Offset, e.Attempts)
					}
				}
				m.leave()
				if n := strings.Count(log.String(), "committed beside the offset"); n != 1 {
					w.Errorf("%d lines in the log about it: %s", n, log.String())
				}
			})
		})
	}
}
