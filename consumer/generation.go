package consumer

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"

	"markread/consumer/offsets"
)

// TopicPartition names a partition.
type TopicPartition struct {
	Topic     string
	Partition int
}

// Compare orders by topic, then by number.
func (a TopicPartition) Compare(b TopicPartition) int {
	return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
}

// Sink receives what a generation fetches. Its methods are called by several goroutines, those about one
// partition by one.
type Sink interface {
	// Room blocks while lane may not fetch. It returns an error when ctx ends.
	Room(ctx context.Context, lane Lane) error
	// Deliver takes some events of one partition, in order. It must not block for long: it holds up the
	// partition. The slice is the sink's.
	Deliver(events []Event)
}

// Generation is what this member owns between two rebalances. All its state goes with it: nothing of it may
// be used for a later generation, not even one of the same number (a member that rejoins an unchanged group
// gets the same). It is safe for concurrent use.
type Generation struct {
	client *Client
	group  string
	topics Topics
	id     int32
	member string
	now    func() time.Time

	// Set by prepare, and never changed after it.
	partitions []*partition // sorted by topic and number
	all        []TopicPartition

	commitMu    sync.Mutex // one commit at a time, and none after ended
	ended       bool
	recommitted time.Time // when all was committed, not only what had advanced

	mu    sync.Mutex
	lost  map[string]int64
	proof time.Time
}

func newGeneration(m *member, j joined) *Generation {
	return &Generation{
		client: m.client, group: m.options.Group, topics: m.options.Topics, id: j.generation, member: m.id, now: m.options.Now,
		lost: map[string]int64{}, proof: j.proof, recommitted: time.Now(),
	}
}

// topicGone is how long a topic must be missing until it counts as deleted: then the others go on without it.
const topicGone = 5 * time.Second

// prepare finds out where the assigned partitions begin, and what other partitions there are, trying until
// ctx ends.
func (g *Generation) prepare(ctx context.Context, j joined) error {
	began := time.Now()
	for wait := newWait(); ; {
		committed, err := g.offsets(ctx, j.assigned)
		if err == nil {
			g.all, err = g.client.partitions(ctx, g.topics.consumed())
		}
		if err == nil && time.Since(began) < topicGone {
			err = g.missing()
		}
		if err == nil {
			for i, tp := range j.assigned {
				p := &partition{TopicPartition: tp, g: g, index: i, highWatermark: -1}
				if tp.Topic == g.topics.Backfill {
					p.lane = Backfill
				}
				p.tracker = offsets.New(committed[tp], committed[tp])
				g.partitions = append(g.partitions, p)
			}
			g.all = append(g.all, j.assigned...) // the layout may be a moment older than the assignment
			slices.SortFunc(g.all, TopicPartition.Compare)
			g.all = slices.Compact(g.all)
			return nil
		}
		if isLayout(err) {
			g.client.refresh()
		}
		if ctx.Err() == nil {
			g.client.repeats("prepare "+code(err)).Err(err).Str("group", g.group).Msg("can't find out what is committed; trying again")
		}
		if !wait.sleep(ctx) {
			return context.Cause(ctx)
		}
	}
}

// missing is an error when a topic is not in the layout. A broker may answer so for a moment, and who counts too few partitions takes
// his own for a larger part of the whole, and the quota with it, than they are. A topic that stays away is gone for everybody.
func (g *Generation) missing() error {
	for _, topic := range g.topics.consumed() {
		if !slices.ContainsFunc(g.all, func(p TopicPartition) bool { return p.Topic == topic }) {
			return fmt.Errorf("topic %q: %w", topic, kafka.UnknownTopicOrPartition)
		}
	}
	return nil
}

// offsets returns what the group has committed, -1 for nothing.
//
// The answer has errors in two places, and an error looks like "nothing committed" to who does not look.
func (g *Generation) offsets(ctx context.Context, assigned []TopicPartition) (map[TopicPartition]int64, error) {
	committed := map[TopicPartition]int64{}
	if len(assigned) == 0 {
		return committed, nil // without partitions the request would ask for all
	}
	topics := map[string][]int{}
	for _, tp := range assigned {
		topics[tp.Topic] = append(topics[tp.Topic], tp.Partition)
	}
	response, err := g.client.api().OffsetFetch(ctx, &kafka.OffsetFetchRequest{GroupID: g.group, Topics: topics})
	if err == nil {
		err = response.Error
	}
	if err != nil {
		return nil, err
	}
	for topic, partitions := range response.Topics {
		for _, p := range partitions {
			if p.Error != nil {
				return nil, fmt.Errorf("%s/%d: %w", topic, p.Partition, p.Error)
			}
			committed[TopicPartition{topic, p.Partition}] = p.CommittedOffset
		}
	}
	for _, tp := range assigned {
		if _, ok := committed[tp]; !ok {
			return nil, fmt.Errorf("%s/%d: not in the answer", tp.Topic, tp.Partition)
		}
	}
	return committed, nil
}

// ID returns the group's generation number. Two generations may have the same.
func (g *Generation) ID() int32 { return g.id }

// Member returns the id that the coordinator gave this member.
func (g *Generation) Member() string { return g.member }

// Assigned returns the partitions of this member, sorted by topic and number.
func (g *Generation) Assigned() []TopicPartition {
	assigned := make([]TopicPartition, len(g.partitions))
	for i, p := range g.partitions {
		assigned[i] = p.TopicPartition
	}
	return assigned
}

// All returns the partitions of all the group's topics, sorted by topic and number.
func (g *Generation) All() []TopicPartition { return slices.Clone(g.all) }

// Fetch delivers the records of the assigned partitions to sink until ctx ends, and returns when nothing will
// be delivered any more. Call it once.
func (g *Generation) Fetch(ctx context.Context, sink Sink) {
	var fetchers sync.WaitGroup
	for _, p := range g.partitions {
		fetchers.Go(func() { p.run(ctx, sink) })
	}
	fetchers.Wait()
	<-ctx.Done() // a member without partitions
}

// Finish says that the event has reached its end, and returns its lane and when it was: its event time, or
// when it was delivered if it has none. Once for each Ref.
func (g *Generation) Finish(ref Ref) (Lane, time.Time) {
	p := g.partitions[ref>>arrivalBits]
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lane, p.tracker.Finish(uint64(ref) & (1<<arrivalBits - 1))
}

// Oldest is the oldest delivered event of a partition that has not finished.
type Oldest struct {
	Ref    Ref
	Offset int64
	Time   time.Time // the event time, or when it was delivered if it has none
}

// PartitionState shows how far a partition is.
type PartitionState struct {
	TopicPartition
	Committed     int64 // the offset committed last; -1: none yet
	HighWatermark int64 // the log's end, at most half a minute old; -1: not known yet
	Lag           int64 // HighWatermark less Committed, or less where we began; 0 while unknown
	Oldest        *Oldest
}

// Partitions returns the state of each assigned partition, sorted by topic and number.
func (g *Generation) Partitions() []PartitionState {
	states := make([]PartitionState, len(g.partitions))
	for i, p := range g.partitions {
		states[i] = p.state()
	}
	return states
}

// Lost returns, for each topic, how many offsets retention deleted before this generation read them: as many
// records, unless compaction or transactions had left holes. It grows as long as the generation lasts.
func (g *Generation) Lost() map[string]int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return maps.Clone(g.lost)
}

func (g *Generation) lose(topic string, n int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.lost[topic] += n
}

// LastProof returns when the last heartbeat was sent that the coordinator accepted from this member; zero:
// none yet. It has a monotonic reading.
func (g *Generation) LastProof() time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.proof
}

// end makes later commits fail. It waits for one under way.
func (g *Generation) end() {
	g.commitMu.Lock()
	defer g.commitMu.Unlock()
	g.ended = true
}
