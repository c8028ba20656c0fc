package consumer

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"markread/consumer/event"
	"markread/consumer/kafkaclient"
	"markread/consumer/offsets"
)

// Sink receives what a generation fetches, from several goroutines; each partition from one.
type Sink interface {
	// Room blocks while lane may not fetch; an error: ctx has ended.
	WaitForCapacity(ctx context.Context, lane event.Lane) error
	// Deliver takes events of one partition, in order. Blocking holds up the partition. The slice
	// and the bytes of the records are valid until it returns.
	Deliver(events []event.Event)
}

// Generation is what this member owns between two rebalances. Nothing of it may be used for a later
// one, not even of the same number: a member that rejoins an unchanged group gets the same. It is
// safe for concurrent use.
type Generation struct {
	client *kafkaclient.Client
	member kafkaclient.Member
	topics event.Topics
	rate   int
	now    func() time.Time

	all      []event.TopicPartition // sorted by topic and number
	mismatch mismatch               // set before serve is called

	// sorted by topic and number; set by prepare, and never changed after it
	partitions []*partition
	memory     [2]*kafkaclient.Memory // of each lane's fetches

	commitMu       sync.Mutex // one commit at a time, and none after ended
	ended          bool
	lastFullCommit time.Time // when all was committed, not only what had changed
	noMetadata     bool      // the brokers refuse our metadata

	mu    sync.Mutex
	lost  map[string]int64
	proof time.Time
}

func newGeneration(m *member, j joinResult) *Generation {
	return &Generation{
		client: m.client, topics: m.options.Topics,
		member: kafkaclient.Member{Group: m.options.Group, Generation: j.generation, ID: m.id},
		rate:   m.options.Rate, now: m.options.Now,
		all:  j.terms.all(),
		lost: map[string]int64{}, proof: j.proof, lastFullCommit: time.Now(),
		memory: [2]*kafkaclient.Memory{kafkaclient.NewMemory(kafkaclient.FetchMemory/2, 0),
			kafkaclient.NewMemory(kafkaclient.FetchMemory/2, 0)},
	}
}

// prepare finds out where the assigned partitions begin, trying until ctx ends.
func (m *member) prepare(ctx context.Context, g *Generation, j joinResult) error {
	var committed map[event.TopicPartition]offsets.Commit
	err := m.retry(ctx, "can't find out what is committed; trying again", func() (err error) {
		committed, err = g.client.CommittedOffsets(ctx, g.member.Group, j.assigned)
		return err
	})
	if err != nil {
		return err
	}
	for i, tp := range j.assigned {
		p := &partition{TopicPartition: tp, g: g, index: i, highWatermark: -1, lastGood: time.Now()}
		if tp.Topic == g.topics.Backfill {
			p.lane = event.Backfill
		}
		p.memory = g.memory[p.lane]
		p.initTracker(committed[tp])
		g.partitions = append(g.partitions, p)
	}
	return nil
}

// ID returns the group's generation number. Two generations may have the same.
func (g *Generation) ID() int32 { return g.member.Generation }

// Member returns the id that the coordinator gave this member.
func (g *Generation) Member() string { return g.member.ID }

// Assigned returns the partitions of this member, sorted by topic and number.
func (g *Generation) Assigned() []event.TopicPartition {
	assigned := make([]event.TopicPartition, len(g.partitions))
	for i, p := range g.partitions {
		assigned[i] = p.TopicPartition
	}
	return assigned
}

// All returns the partitions of all the group's topics, sorted by topic and number: the same for
// all members that have partitions.
func (g *Generation) All() []event.TopicPartition { return slices.Clone(g.all) }

// Mismatch says why this member gets no partitions, and what to do; "": it may have some.
func (g *Generation) Mismatch() (why, do string) { return g.mismatch.why, g.mismatch.do }

// Fetch delivers the records of the assigned partitions to sink, once, until ctx ends and nothing
// will be delivered any more.
func (g *Generation) Fetch(ctx context.Context, sink Sink) {
	var fetchers sync.WaitGroup
	for _, p := range g.partitions {
		fetchers.Go(func() { p.run(ctx, sink) })
	}
	fetchers.Wait()
	<-ctx.Done() // a member without partitions
}

// Finish notes that the event has finished, once for each Ref. It returns its lane and its event
// time; if it has none, its record's, or when it was delivered.
func (g *Generation) Finish(ref event.Ref) (event.Lane, time.Time) {
	p := g.partitions[ref>>arrivalBits]
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lane, p.tracker.Finish(uint64(ref) & (1<<arrivalBits - 1))
}

// Attempted says how many counted attempts the event has had, so that the partition's next owner
// goes on counting.
func (g *Generation) Attempted(ref event.Ref, attempts int) {
	p := g.partitions[ref>>arrivalBits]
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tracker.Attempted(uint64(ref)&(1<<arrivalBits-1), attempts)
}

// Oldest is the oldest delivered event of a partition that has not finished.
type Oldest struct {
	Ref    event.Ref
	Offset int64
	Time   time.Time // the event time; if it has none, its record's, or when it was delivered
}

// PartitionState shows how far a partition is.
type PartitionState struct {
	event.TopicPartition
	Committed     int64 // the offset committed last; -1: none yet
	HighWatermark int64 // the log's end, at most half a minute old; -1: not known yet
	Lag           int64 // HighWatermark less Committed, or less where we began; 0 while unknown
	Oldest        *Oldest
	Unreadable    *kafkaclient.Unreadable // nil: the partition can be read
}

// Partitions returns the state of each assigned partition, sorted by topic and number.
func (g *Generation) Partitions() []PartitionState {
	states := make([]PartitionState, len(g.partitions))
	for i, p := range g.partitions {
		states[i] = p.state()
	}
	return states
}

// Lost returns, by topic, how many offsets retention deleted before this generation read them: as
// many records, unless compaction or transactions had left holes.
func (g *Generation) Lost() map[string]int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return maps.Clone(g.lost)
}

// ProofAge is how long ago the last heartbeat was sent that the coordinator accepted: the larger of
// what the monotonic clock (it stops while the machine is suspended) and the wall clock (it can be
// set) say. It is years once the coordinator has removed this member.
func (g *Generation) ProofAge() time.Duration {
	now, proof := time.Now(), g.LastProof()
	return max(now.Sub(proof), now.Round(0).Sub(proof.Round(0)))
}

// LastProof returns when the last heartbeat was sent that the coordinator accepted, with a
// monotonic reading; zero: it has removed this member.
func (g *Generation) LastProof() time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.proof
}
