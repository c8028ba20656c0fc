package consumer_test

import (
	"maps"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"markread/consumer/broker/brokertest"
)

// What was committed beside an offset is not believed of another log, however long that is: nothing of it is skipped as finished.
func TestAnotherLogIsNotBelieved(t *testing.T) {
	for _, length := range []int{20, 60, 300} {
		t.Run(strconv.Itoa(length), func(t *testing.T) {
			brokertest.Run(t, 1, func(w *brokertest.World) {
				w.Publish(brokertest.Topics.Live, 0, 100)
				m := join(w, w.Client(), func(m *member) { m.auto = false })
				time.Sleep(5 * time.Second)
				for _, e := range m.all()[10:60] {
					m.generation().Finish(e.Ref)
				}
				m.leave()
				known := w.Cluster.GroupInfo(brokertest.Group).Commits[brokertest.Topics.Live][0]
				remake(w, nil) // which deletes the offsets, too; a log that was cut keeps them
				w.Publish(brokertest.Topics.Live, 0, length)
				commit(w, brokertest.Topics.Live, 0, known.Offset, known.Metadata)
				m = join(w, w.Client())
				time.Sleep(time.Minute)
				if got := m.got(brokertest.Topics.Live, 0); !slices.Equal(got, offsets(0, int64(length))) {
					w.Errorf("got %v", got)
				}
				m.leave()
			})
		})
	}
}

// The attempts of what has not finished, and what has, go with a partition to its next owner.
func TestNextOwnerKnows(t *testing.T) {
	brokertest.Run(t, 1, func(w *brokertest.World) {
		w.Publish(brokertest.Topics.Live, 0, 100)
		first := join(w, w.Client(), func(m *member) { m.auto = false })
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
		for owner := range 3 { // it is not forgotten by owners that do nothing
			m := join(w, w.Client(), func(m *member) { m.auto = false })
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

// What had finished beyond the committed offset is not lost when retention deletes it.
func TestFinishedIsNotLostToRetention(t *testing.T) {
	for first, lost := range map[int64]int64{5: 5, 50: 10, 60: 10, 80: 30} {
		t.Run(strconv.FormatInt(first, 10), func(t *testing.T) {
			brokertest.Run(t, 1, func(w *brokertest.World) {
				w.Publish(brokertest.Topics.Live, 0, 100)
				m := join(w, w.Client(), func(m *member) { m.auto = false })
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
				want := slices.DeleteFunc(offsets(first, 100), func(offset int64) bool { return offset >= 10 && offset < 60 })
				if got := m.got(brokertest.Topics.Live, 0); !slices.Equal(got, want) || m.generation().Lost()[brokertest.Topics.Live] != lost {
					w.Errorf("got %v, lost %v, want %d lost", got, m.generation().Lost(), lost)
				}
				m.leave()
			})
		})
	}
}

// commit commits from outside of the group, which must be empty.
func commit(w *brokertest.World, topic string, partition int32, offset int64, metadata string) {
	w.Helper()
	request := kmsg.NewPtrOffsetCommitRequest()
	request.Group, request.Generation = brokertest.Group, -1
	t := kmsg.NewOffsetCommitRequestTopic()
	t.Topic = topic
	p := kmsg.NewOffsetCommitRequestTopicPartition()
	p.Partition, p.Offset, p.Metadata = partition, offset, &metadata
	t.Partitions = append(t.Partitions, p)
	request.Topics = append(request.Topics, t)
	if response, err := request.RequestWith(w.Context(), w.Kgo(kgo.MaxVersions(kversion.V3_5_0()))); err != nil || response.Topics[0].Partitions[0].ErrorCode != 0 {
		w.Fatal(response, err)
	}
}
