package deadletter

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"markread/consumer/broker/brokertest"
	"markread/consumer/event"
	"markread/consumer/kafkaclient"
)

// contents lists all that an index knows, for comparisons.
func contents(x *Index) string {
	var all []string
	for _, l := range x.Find(AllStates()...) {
		all = append(all, fmt.Sprint(l.ID, l.State, x.kinds[l.kind], l.failedAt, l.size))
	}
	return fmt.Sprint(all, x.Counts(), x.Unknown())
}

// checkFind continues an index, which must then be as one that reads the topic from its beginning.
func checkFind(t *testing.T, s *Store, index *Index) {
	t.Helper()
	if err := s.Find(t.Context(), index); err != nil {
		t.Fatal(err)
	}
	from := s.Topic.(*topic)
	scans := from.scans
	fresh, again := NewIndex(3, Filter{}), &Store{Topic: from, Name: from.name}
	if err := again.Find(t.Context(), fresh); err != nil {
		t.Fatal(err)
	}
	from.scans = scans
	if got, want := contents(index), contents(fresh); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got, want := unreadOf(s), unreadOf(again); got != want {
		t.Errorf("unread: %s, want %s", got, want)
	}
}

// A second Find with the same index reads what was appended, and one record of each partition that
// has any.
func TestFindContinues(t *testing.T) {
	from := newTopic(4)
	for i := range 20 {
		from.letter(i%2, fmt.Sprint("a", i), 100)
	}
	from.damage(3, 2)
	s, index := &Store{Topic: from, Name: from.name}, NewIndex(3, Filter{})
	checkFind(t, s, index)
	checkFind(t, s, index)
	from.letter(1, "b", 100)
	from.letter(2, "c", 100)
	from.append(0, ResolutionMessage(from.partitions[0][4], Discarded))
	from.append(0, event.Message{Value: []byte("unknown")})
	from.damage(3, 1)
	checkFind(t, s, index)
	if want := []int64{22, 3, 3 + 5}; !slices.Equal(from.scans, want) {
		t.Errorf("read %d offsets, want %d", from.scans, want)
	}
	if index.Resets() != 0 {
		t.Errorf("%d resets", index.Resets())
	}
}

// If the log is another one, or retention has deleted a part of it, all of it is read again.
func TestFindBeginsAgain(t *testing.T) {
	for name, change := range map[string]func(from *topic){
		"retention": func(from *topic) { from.partitions[0] = from.partitions[0][2:] },
		"retention deleted all": func(from *topic) {
			from.append(0, event.Message{})
			from.partitions[0] = from.partitions[0][4:]
		},
		"recreated, shorter": func(from *topic) {
			from.partitions[0] = nil
			from.letter(0, "x", 100)
		},
		"recreated, as long": func(from *topic) { from.partitions[0][3].Time = time.Unix(9, 0) },
		"recreated, longer": func(from *topic) {
			from.partitions[0] = nil
			for i := range 10 {
				from.letter(0, fmt.Sprint("other", i), 100)
			}
		},
		"recreated, without a record there": func(from *topic) {
			from.letter(0, "x", 100)
			from.partitions[0] = slices.Delete(from.partitions[0], 3, 4)
		},
		"recreated, with fewer partitions": func(from *topic) {
			from.partitions = from.partitions[:1]
		},
	} {
		t.Run(name, func(t *testing.T) {
			from := newTopic(2)
			from.damage(1, 1) // counted once
			for i := range 4 {
				from.letter(0, fmt.Sprint("a", i), 100)
				from.letter(1, fmt.Sprint("b", i), 100)
			}
			s, index := &Store{Topic: from, Name: from.name}, NewIndex(3, Filter{})
			checkFind(t, s, index)
			change(from)
			checkFind(t, s, index)
			if index.Resets() != 1 {
				t.Errorf("%d resets", index.Resets())
			}
			from.scans = nil
			checkFind(t, s, index)
			if index.Resets() != 1 || len(from.scans) != 1 || from.scans[0] > 2 {
				t.Errorf("then %d resets, read %d", index.Resets(), from.scans)
			}
		})
	}
}

// A partition that can be read only in part is continued where the read ended. A failure of all
// partitions loses nothing of the index.
func TestFindContinuesAfterAFailure(t *testing.T) {
	from := newTopic(2)
	for i := range 6 {
		from.letter(0, fmt.Sprint("a", i), 100)
		from.letter(1, fmt.Sprint("b", i), 100)
	}
	from.broken = map[int]int64{1: 3}
	s, index := &Store{Topic: from, Name: from.name}, NewIndex(3, Filter{})
	checkFind(t, s, index)
	from.broken = map[int]int64{0: 0, 1: 0}
	if err := s.Find(t.Context(), index); err == nil ||
		err.Error() != `topic "letters", partition 1: checksum` { // its offset is the lower one
		t.Error(err)
	}
	from.broken = nil
	from.away = map[int]error{0: errors.New("no leader")}
	if err := s.Find(t.Context(), index); err != nil || len(index.Find(Open)) != 12 {
		t.Errorf("%v, %d dead letters", err, len(index.Find(Open)))
	}
	from.scans, from.away = from.scans[:2], nil
	checkFind(t, s, index)
	if want := []int64{12, 1 + 4, 1 + 1}; !slices.Equal(from.scans, want) || index.Resets() != 0 {
		t.Errorf("read %d, want %d; %d resets", from.scans, want, index.Resets())
	}
}

// An interrupted Find counts nothing twice.
func TestFindInterrupted(t *testing.T) {
	from := newTopic(1)
	for i := range 6 {
		from.letter(0, fmt.Sprint("a", i), 100)
	}
	ctx, cancel := context.WithCancel(t.Context())
	s, index := &Store{Topic: from, Name: from.name}, NewIndex(3, Filter{})
	from.partitions[0] = from.partitions[0][:3:3]
	checkFind(t, s, index)
	for i := range 3 {
		from.letter(0, fmt.Sprint("b", i), 100)
	}
	read := 0
	from.onRecord = func() {
		if read++; read == 3 { // the last known record, one more, and this
			cancel()
		}
	}
	if err := s.Find(ctx, index); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	from.onRecord = nil
	checkFind(t, s, index)
}

// Whatever happens to a topic, an index that continues is as a new one. (Except that nothing tells
// that a log was recreated while it can't be read.)
func TestFindRandomly(t *testing.T) {
	for seed := range uint64(300) {
		random := rand.New(rand.NewPCG(seed, 0))
		from := newTopic(3)
		s, index := &Store{Topic: from, Name: from.name}, NewIndex(3, Filter{})
		recreated := false
		for step := range 30 {
			partition := random.IntN(3)
			log := from.partitions[partition]
			switch random.IntN(8) {
			case 0, 1, 2:
				from.letter(partition, fmt.Sprint(seed, step), int64(random.IntN(100)))
			case 3:
				if len(log) > 0 {
					of := log[random.IntN(len(log))]
					from.append(partition, ResolutionMessage(of, Replayed))
				}
			case 4:
				from.append(partition, event.Message{})
			case 5:
				if random.IntN(5) == 0 {
					from.partitions[partition], from.broken, recreated = nil, nil, true
				}
			default:
				if recreated || random.IntN(3) > 0 {
					from.broken = nil
				} else if read, some := index.logs[partition]; some { // what was read stays known
					from.broken = map[int]int64{partition: read.last.offset + 1}
				}
				checkFind(t, s, index)
				recreated = false
			}
			if t.Failed() {
				t.Fatalf("seed %d, step %d", seed, step)
			}
		}
	}
}

// The same with a broker: its logs have holes, and a topic that is recreated under the same name.
func TestFindContinuesOnABroker(t *testing.T) {
	inWorld(t, func(w *world) {
		topic := brokertest.Topics.DeadLetter
		s, index := w.store(), NewIndex(3, Filter{})
		check := func(resets int) {
			w.Helper()
			if err := s.Find(w.Context(), index); err != nil {
				w.Fatal(err)
			}
			fresh := NewIndex(3, Filter{})
			if err := w.store().Find(w.Context(), fresh); err != nil {
				w.Fatal(err)
			}
			if got, want := contents(index), contents(fresh); got != want {
				w.Errorf("%s, want %s", got, want)
			}
			if index.Resets() != resets {
				w.Errorf("%d resets, want %d", index.Resets(), resets)
			}
		}
		letters := func(name string, n int) {
			for i := range n {
				w.write(event.Record{Topic: "events", Key: fmt.Append(nil, name, i)}, "rejected")
			}
		}
		letters("a", 20)
		check(0)
		check(0)
		letters("b", 5)
		k := w.Kgo(kgo.TransactionalID("t"), kgo.DefaultProduceTopic(topic))
		for _, how := range []kgo.TransactionEndTry{kgo.TryAbort, kgo.TryCommit} {
			if err := k.BeginTransaction(); err != nil {
				w.Fatal(err)
			}
			for i := range 10 {
				r := &kgo.Record{Key: fmt.Append(nil, i), Value: []byte("x")}
				if err := k.ProduceSync(w.Context(), r).FirstErr(); err != nil {
					w.Fatal(err)
				}
			}
			if err := k.EndTransaction(w.Context(), how); err != nil {
				w.Fatal(err)
			}
			check(0) // the log ends with a marker
		}
		check(0)
		w.replay(w.store())
		check(0)

		truncate := kmsg.NewPtrDeleteRecordsRequest()
		part := kmsg.NewDeleteRecordsRequestTopicPartition()
		of := kmsg.NewDeleteRecordsRequestTopic()
		part.Offset = 3
		of.Topic, of.Partitions = topic, append(of.Partitions, part)
		truncate.Topics = append(truncate.Topics, of)
		if r, err := truncate.RequestWith(w.Context(), k); err != nil ||
			r.Topics[0].Partitions[0].ErrorCode != 0 {
			w.Fatal(r, err)
		}
		check(1)
		check(1)

		remove := kmsg.NewPtrDeleteTopicsRequest()
		remove.TopicNames = []string{topic}
		named := kmsg.NewDeleteTopicsRequestTopic()
		named.Topic = &topic
		remove.Topics = append(remove.Topics, named)
		if r, err := remove.RequestWith(w.Context(), k); err != nil || r.Topics[0].ErrorCode != 0 {
			w.Fatal(r, err)
		}
		if err := w.client.CreateTopic(w.Context(), kafkaclient.NewTopic{Name: topic,
			Partitions: 3}); err != nil {
			w.Fatal(err)
		}
		letters("another", 200) // beyond the old ends
		check(2)
		check(2)
	})
}
