package consumer_test

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"hash/crc32"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"markread/consumer"
	"markread/consumer/admin"
	"markread/consumer/broker/brokertest"
)

// Commit metadata of another log is ignored, whatever the length of the new log: none of its events
// is skipped as finished.
func TestMetadataOfAnotherLogIsIgnored(t *testing.T) {
	for _, length := range []int{20, 60, 300} {
		t.Run(strconv.Itoa(length), func(t *testing.T) {
			brokertest.Run(t, 1, func(w *brokertest.World) {
				w.Publish(brokertest.Topics.Live, 0, 100)
				m := join(w, w.Client(), func(m *member) { m.autoFinish = false })
				time.Sleep(5 * time.Second)
				for _, e := range m.all()[10:60] {
					m.generation().Finish(e.Ref)
				}
				m.leave()
				known := w.Cluster.GroupInfo(brokertest.Group).Commits[brokertest.Topics.Live][0]
				// this deletes the offsets, too; a truncated log keeps them
				recreateTopic(w, nil)
				w.Publish(brokertest.Topics.Live, 0, length)
				commit(w, brokertest.Topics.Live, 0, known.Offset, known.Metadata)
				m = join(w, w.Client())
				time.Sleep(time.Minute)
				if got := m.delivered(brokertest.Topics.Live, 0); !slices.Equal(got,
					offsets(0, int64(length))) {
					w.Errorf("got %v", got)
				}
				m.leave()
			})
		})
	}
}

// The next owner of a partition inherits the attempts of unfinished events, and which events
// finished.
func TestNextOwnerInherits(t *testing.T) {
	brokertest.Run(t, 1, func(w *brokertest.World) {
		w.Publish(brokertest.Topics.Live, 0, 100)
		first := join(w, w.Client(), func(m *member) { m.autoFinish = false })
		time.Sleep(5 * time.Second)
		for i, e := range first.all() {
			switch {
			case i%10 == 0:
				first.generation().Attempted(e.Ref, 1+i/10)
			case i%10 < 9:
				first.generation().Finish(e.Ref)
			}
		}
		first.leave()
		for owner := range 3 { // owners that finish nothing keep the metadata
			m := join(w, w.Client(), func(m *member) { m.autoFinish = false })
			time.Sleep(5 * time.Second)
			want := map[int64]int{}
			for i := range int64(10) {
				want[10*i], want[10*i+9] = 1+int(i), 0
			}
			got := map[int64]int{}
			for _, e := range m.all() {
				got[e.Record.Offset] = e.Attempts
			}
			if !maps.Equal(got, want) {
				w.Errorf("owner %d got %v, want %v", owner, got, want)
			}
			m.leave()
		}
	})
}

// Events that had finished beyond the committed offset don't count as lost when retention deletes
// them.
func TestFinishedIsNotLostToRetention(t *testing.T) {
	for first, lost := range map[int64]int64{5: 5, 50: 10, 60: 10, 80: 30} {
		t.Run(strconv.FormatInt(first, 10), func(t *testing.T) {
			brokertest.Run(t, 1, func(w *brokertest.World) {
				w.Publish(brokertest.Topics.Live, 0, 100)
				m := join(w, w.Client(), func(m *member) { m.autoFinish = false })
				time.Sleep(5 * time.Second)
				for _, e := range m.all()[10:60] {
					m.generation().Finish(e.Ref)
				}
				m.leave()
				if err := w.Cluster.DeleteRecords(brokertest.Topics.Live, 0, first); err != nil {
					w.Fatal(err)
				}
				m = join(w, w.Client())
				time.Sleep(5 * time.Second)
				want := slices.DeleteFunc(offsets(first, 100),
					func(offset int64) bool { return offset >= 10 && offset < 60 })
				if got := m.delivered(brokertest.Topics.Live, 0); !slices.Equal(got, want) ||
					m.generation().Lost()[brokertest.Topics.Live] != lost {
					w.Errorf("got %v, lost %v, want %d lost", got, m.generation().Lost(), lost)
				}
				m.leave()
			})
		})
	}
}

// commit commits without joining the group, which must be empty.
func commit(w *brokertest.World, topic string, partition int32, offset int64, metadata string) {
	w.Helper()
	request := commitOf{topic: topic, partition: int(partition), offset: offset, generation: -1,
		metadata: metadata}.request(brokertest.Group)
	if response, err := request.RequestWith(w.Context(),
		w.Kgo(kgo.MaxVersions(kversion.V3_5_0()))); err != nil ||
		response.Topics[0].Partitions[0].ErrorCode != 0 {
		w.Fatal(response, err)
	}
}

// When brokers refuse metadata, the next attempt of the same commit sends offsets only, however
// many partitions were refused.
func TestBrokersThatRefuseMetadata(t *testing.T) {
	brokertest.Run(t, 3, func(w *brokertest.World) {
		for p := range 3 {
			w.Publish(brokertest.Topics.Live, p, 100)
		}
		refused := w.Cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetCommit},
			Err: kerr.OffsetMetadataTooLarge, Count: -1, When: func(r kmsg.Request) bool {
				for _, t := range r.(*kmsg.OffsetCommitRequest).Topics {
					for _, p := range t.Partitions {
						if p.Metadata != nil && *p.Metadata != "" {
							return true
						}
					}
				}
				return false
			}})
		var m *member
		m = join(w, w.Client(), func(started *member) {
			started.autoFinish = false
			started.drain = func(_ context.Context, g *consumer.Generation) {
				for _, e := range m.all() {
					if e.Record.Offset != 50 {
						g.Finish(e.Ref)
					}
				}
				if err := g.Commit(context.Background()); err != nil {
					w.Errorf("commit: %v", err)
				}
			}
		})
		time.Sleep(5 * time.Second)
		m.leave()
		for p := range 3 {
			if got := committed(w, brokertest.Topics.Live, p); got != 50 {
				w.Errorf("partition %d: committed %d", p, got)
			}
		}
		if n := refused.Hits(); n == 0 || n > 3 {
			w.Errorf("%d commits were refused", n)
		}
	})
}

// forged returns commit metadata with a correct checksum.
func forged(offset int64, numbers ...uint64) string {
	b := []byte{1, 0, 0, 0, 0}
	for _, n := range numbers {
		b = binary.AppendUvarint(b, n)
	}
	sum := crc32.Update(crc32.ChecksumIEEE(binary.BigEndian.AppendUint64(nil, uint64(offset))),
		crc32.IEEETable, b[5:])
	binary.BigEndian.PutUint32(b[1:], sum)
	return base64.RawStdEncoding.EncodeToString(b)
}

// With any forged commit metadata, no event is skipped that was written after the commit; and the
// forgery is logged.
func TestForgedCommit(t *testing.T) {
	const offset = 10
	for name, text := range map[string]func(at uint64) string{
		"huge run":   func(at uint64) string { return forged(offset, 0, at, 0, 1<<46) },
		"a few more": func(at uint64) string { return forged(offset, 9, at, 0, 11) },
		"max run":    func(at uint64) string { return forged(offset, 0, at, 0, 1<<63) },
		"overflow": func(at uint64) string {
			return forged(offset, 1<<63, at, 1<<46-2, 1<<46, 1<<46-2, 1<<46)
		},
		"attempts":    func(at uint64) string { return forged(offset, 0, at, 1, 1<<40) },
		"fingerprint": func(at uint64) string { return forged(offset, 1<<40, at, 0, 1000) },
		"many": func(at uint64) string {
			return forged(offset, append([]uint64{0, at}, slices.Repeat([]uint64{2, 1}, 700)...)...)
		},
		"no time": func(uint64) string { return forged(offset, 0, 0, 0, 1000) },
		"long":    func(uint64) string { return strings.Repeat("A", 4090) },
		"garbage": func(uint64) string { return "\x1b[31m garbage \u202e" },
		"random": func(uint64) string {
			return base64.StdEncoding.EncodeToString([]byte("0123456789abcdefghijklmnopqrstu"))
		},
		"numbers": func(at uint64) string {
			return forged(offset, math.MaxUint64, at, math.MaxUint64, math.MaxUint64)
		},
	} {
		t.Run(name, func(t *testing.T) {
			brokertest.Run(t, 1, func(w *brokertest.World) {
				now := time.Now()
				// their times are now: a forger who may read the topic knows them
				w.Publish(brokertest.Topics.Live, 0, 20)
				commit(w, brokertest.Topics.Live, 0, offset, text(uint64(now.UnixMilli())))
				if lags, err := admin.Lag(w.Context(), w.Client(), brokertest.Group,
					brokertest.Topics.Live); err != nil || lags[0].Lag != 10 ||
					lags[0].Finished < 0 || lags[0].Finished > 10 || lags[0].Lost != 0 {
					w.Errorf("%+v %v", lags, err)
				}
				var log brokertest.Logs
				m := join(w, clientTo(w, &log))
				time.Sleep(10 * time.Second)
				w.Publish(brokertest.Topics.Live, 0, 2000)
				time.Sleep(10 * time.Second)
				if got := m.delivered(brokertest.Topics.Live, 0); !slices.Equal(got,
					offsets(offset, 2020)) {
					w.Errorf("got %d events, want 2010", len(got))
				}
				for _, e := range m.all() {
					if e.Attempts != 0 {
						w.Fatalf("offset %d has had %d attempts", e.Record.Offset, e.Attempts)
					}
				}
				m.leave()
				if n := strings.Count(log.String(), "commit metadata is ignored"); n != 1 {
					w.Errorf("%d lines in the log about it: %s", n, log.String())
				}
			})
		})
	}
}
