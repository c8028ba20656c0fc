package stacksim

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// changes are the kinds that change what the workers agree on, or what they hand over to each
// other.
var changes = []kind{
	{name: "stalled", progress: true, shortest: time.Second, longest: 40 * time.Second,
		begin: freezeWorker},
	{name: "rolled-out", noRepeats: true, progress: true, shortest: time.Second,
		longest: 20 * time.Second, begin: rollOut},
	{name: "partitions-added", noRepeats: true, progress: true, shortest: 30 * time.Second,
		longest: time.Minute, begin: addPartitions},
	{name: "metadata-refused", progress: true, shortest: time.Second, longest: 30 * time.Second,
		begin: func(s *simulation, n int, _ time.Duration) func() {
			f := s.broker.Cluster().Fault(kfake.Fault{
				Keys: []kmsg.Key{kmsg.OffsetCommit}, Err: kerr.OffsetMetadataTooLarge, Count: -1,
				When: func(r kmsg.Request) bool { return withMetadata(r, nil) },
			})
			return func() {
				f.Remove()
				s.note("commits refused for their metadata", f.Hits())
			}
		}},
	{name: "metadata-cut", progress: true, shortest: time.Second, longest: 30 * time.Second,
		begin: func(s *simulation, _ int, _ time.Duration) func() {
			s.cuttingMetadata.Store(true)
			return func() { s.cuttingMetadata.Store(false) }
		}},
}

func init() { kinds = append(kinds, changes...) }

// withMetadata reports whether a commit has any metadata, and lets change modify it.
func withMetadata(r kmsg.Request, change func(string) string) (found bool) {
	commit, ok := r.(*kmsg.OffsetCommitRequest)
	if !ok {
		return false
	}
	for _, t := range commit.Topics {
		for i := range t.Partitions {
			text := t.Partitions[i].Metadata
			if text == nil || *text == "" {
				continue
			}
			if found = true; change != nil {
				t.Partitions[i].Metadata = new(change(*text))
			}
		}
	}
	return found
}

// cutMetadata makes the broker store only a part of the metadata committed with an offset, or
// something else, while cuttingMetadata is set.
func (s *simulation) cutMetadata() {
	n := 0
	s.broker.Cluster().ControlKey(int16(kmsg.OffsetCommit),
		func(r kmsg.Request) (kmsg.Response, error, bool) {
			if s.cuttingMetadata.Load() && withMetadata(r, func(text string) string {
				n++
				if s.plan.unit("foreign", n) < 0.3 {
					return "by an operator"
				}
				return text[:s.plan.below(len(text), "cut", n)]
			}) {
				s.note("commits whose metadata was cut", 1)
			}
			return nil, nil, false
		})
}

// freeze suspends a process, as far as that is visible from outside: none of its connections to
// Kafka moves, and its calls wait just before they are written; not even their timeouts fire. When
// it resumes, they continue, late as they are.
type freeze struct {
	mu   sync.Mutex
	ends chan struct{} // nil: not frozen
	had  bool
}

func (s *freeze) begin() (end func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ends := make(chan struct{})
	s.ends, s.had = ends, true
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.ends = nil
		close(ends)
	}
}

// wait waits while the process is frozen, and returns the request with which it continues.
func (s *freeze) wait(r *http.Request) *http.Request {
	s.mu.Lock()
	ends := s.ends
	s.mu.Unlock()
	if ends == nil {
		return r
	}
	<-ends
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), imTimeout)
	context.AfterFunc(ctx, cancel)
	return r.WithContext(ctx)
}

func (s *freeze) everFrozen() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.had
}

func freezeWorker(s *simulation, n int, long time.Duration) func() {
	slot, name := s.runningWorker("stall", n)
	if name == "" {
		return nil
	}
	s.mu.Lock()
	h := s.running[slot]
	s.mu.Unlock()
	if h == nil {
		return nil
	}
	w := route{name, serviceKafka}
	s.network.block(w, long, true)
	resume := h.freeze.begin()
	return func() {
		s.network.open(w)
		resume()
	}
}

// rollOut restarts the workers one after the other, with another rate.
func rollOut(s *simulation, n int, long time.Duration) func() {
	// Not below the number of partitions: a worker whose partitions have no permit never calls.
	rate := max(2*mostPartitions, s.plan.rate*pick(s.plan.seed, []int{2, 3, 4}, "rate", n)/4)
	s.rate.Store(int64(rate))
	for slot := range s.running {
		s.mu.Lock()
		gone := s.running[slot] != nil && s.running[slot].rate != rate
		if gone {
			s.stopWorker(slot)
			s.note("restarts with another rate", 1)
		}
		s.mu.Unlock()
		time.Sleep(long / time.Duration(2*len(s.running)))
		s.mu.Lock()
		if gone && s.running[slot] == nil {
			s.startWorker(slot)
		}
		s.mu.Unlock()
	}
	return func() {}
}

// mostPartitions is the maximum number of partitions of a topic.
const mostPartitions = 8

// addPartitions adds partitions to one topic or both.
func addPartitions(s *simulation, n int, _ time.Duration) func() {
	request := kmsg.NewPtrCreatePartitionsRequest()
	request.TimeoutMillis = 1000
	more := 1 + s.plan.below(3, "more", n)
	grown := map[string]int{}
	for i, topic := range []string{topics.Live, topics.Backfill} {
		count := s.partitions(topic) + more
		if count > mostPartitions || s.plan.unit("grows", n, i) < 0.2 {
			continue
		}
		t := kmsg.NewCreatePartitionsRequestTopic()
		t.Topic, t.Count = topic, int32(count)
		request.Topics = append(request.Topics, t)
		grown[topic] = count
	}
	if len(grown) == 0 {
		return nil
	}
	if _, err := request.RequestWith(context.Background(), s.load.client); err != nil {
		return nil // the broker is down
	}
	for topic, count := range grown {
		for range 60 { // until the load has detected it; never, if it has not used the topic yet
			s.load.client.ForceMetadataRefresh()
			time.Sleep(time.Second)
			if leader, _, err := s.load.client.PartitionLeader(topic,
				int32(count-1)); leader >= 0 && err == nil {
				s.mu.Lock()
				s.counts[topic] = count
				s.mu.Unlock()
				break
			}
		}
	}
	return func() {}
}

// partitions returns how many partitions a topic has, as far as the load knows.
func (s *simulation) partitions(topic string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts[topic]
}
