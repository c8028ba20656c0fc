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

// Sink receives the events that a generation fetches. Several goroutines call it, one for each
// partition.
type Sink interface {
	// WaitForCapacity blocks while lane may not fetch. It returns an error only when ctx has ended.
	WaitForCapacity(ctx context.Context, lane event.Lane) error
	// Deliver accepts events of one partition, in order. While it blocks, the partition is not
	// read. The slice and the bytes of the records are valid only until it returns.
	Deliver(events []event.Event)
	// Behind notes that n more of the lane's partitions (fewer, if n is negative) are known to have
	// undelivered records from before their first fetch.
	Behind(lane event.Lane, n int)
}

// Generation is the state of this member between two rebalances. Its state must not be used for a
// later generation, not even one with the same number: a member that rejoins an unchanged group
// gets the same number. A Generation is safe for concurrent use.
type Generation struct {
	client *kafkaclient.Client
	member kafkaclient.Member
	now    func() time.Time

	all      []event.TopicPartition // sorted by topic and number
	mismatch mismatch               // set before serve is called

	// sorted by topic and number; set by prepare, constant afterwards
	partitions []*partition
	memory     [2]*kafkaclient.Memory // for each lane's fetches

	commitMu       sync.Mutex // one commit at a time; none once ended is true
	ended          bool
	lastFullCommit time.Time // when all offsets were last committed, not only changed ones
	noMetadata     bool      // the brokers refuse commit metadata

	mu    sync.Mutex
	lost  map[string]int64
	proof time.Time
}

func newGeneration(m *member, j joinResult) *Generation {
	return &Generation{
		client: m.client,
		member: kafkaclient.Member{Group: m.options.Group, Generation: j.generation, ID: m.id},
		now:    m.options.Now, all: j.terms.all(),
		lost: map[string]int64{}, proof: j.proof, lastFullCommit: time.Now(),
		memory: [2]*kafkaclient.Memory{kafkaclient.NewMemory(kafkaclient.FetchMemory/2, 0),
			kafkaclient.NewMemory(kafkaclient.FetchMemory/2, 0)},
	}
}

// prepare reads the committed offsets of the assigned partitions. It retries until ctx ends.
func (m *member) prepare(ctx context.Context, g *Generation, j joinResult) error {
	var committed map[event.TopicPartition]offsets.Commit
	err := m.retry(ctx, "can't read the committed offsets; retrying", func() (err error) {
		committed, err = g.client.CommittedOffsets(ctx, g.member.Group, j.assigned)
		return err
	})
	if err != nil {
		return err
	}
	for i, tp := range j.assigned {
		p := &partition{TopicPartition: tp, g: g, index: i, highWatermark: -1, lastGood: time.Now()}
		if tp.Topic == m.options.Topics.Backfill {
			p.lane = event.Backfill
		}
		p.memory = g.memory[p.lane]
		p.initTracker(committed[tp])
		g.partitions = append(g.partitions, p)
	}
	return nil
}

// ID returns the group's generation number. Two generations may have the same number.
func (g *Generation) ID() int32 { return g.member.Generation }

// Member returns the member id that the coordinator has assigned.
func (g *Generation) Member() string { return g.member.ID }

// Assigned returns this member's partitions, sorted by topic and number.
func (g *Generation) Assigned() []event.TopicPartition {
	assigned := make([]event.TopicPartition, len(g.partitions))
	for i, p := range g.partitions {
		assigned[i] = p.TopicPartition
	}
	return assigned
}

// All returns the partitions of all the group's topics, sorted by topic and number. It is the same
// for all members that have partitions.
func (g *Generation) All() []event.TopicPartition { return slices.Clone(g.all) }

// Mismatch returns why this member gets no partitions, and what to do; "": it may have some.
func (g *Generation) Mismatch() (why, do string) { return g.mismatch.why, g.mismatch.do }

// Fetch delivers the records of the assigned partitions to sink. It returns after ctx has ended; it
// delivers nothing afterwards. It may be called only once.
func (g *Generation) Fetch(ctx context.Context, sink Sink) {
	var fetchers sync.WaitGroup
	for _, p := range g.partitions {
		fetchers.Go(func() { p.run(ctx, sink) })
	}
	fetchers.Wait()
	<-ctx.Done() // for a member without partitions
}

// Finish marks an event as finished. It must be called once for each Ref. It returns the event's
// lane and event time; for an event without one, the time of its record, or else of its delivery.
func (g *Generation) Finish(ref event.Ref) (event.Lane, time.Time) {
	p := g.partitions[ref>>arrivalBits]
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lane, p.tracker.Finish(uint64(ref) & (1<<arrivalBits - 1))
}

// Attempted stores how many counted attempts the event has had, so that the partition's next owner
// continues the count.
func (g *Generation) Attempted(ref event.Ref, attempts int) {
	p := g.partitions[ref>>arrivalBits]
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tracker.Attempted(uint64(ref)&(1<<arrivalBits-1), attempts)
}

// Oldest is the oldest delivered and unfinished event of a partition.
type Oldest struct {
	Ref    event.Ref
	Offset int64
	Time   time.Time // the event time, or else the time of its record or its delivery
}

// PartitionState is the progress of a partition.
type PartitionState struct {
	event.TopicPartition
	Committed     int64 // the last committed offset; -1: none yet
	HighWatermark int64 // at most half a minute old; -1: not known yet
	// HighWatermark less Committed, or less the first offset read; 0 while unknown
	Lag     int64
	Oldest  *Oldest
	AllRead bool // every record up to the high watermark was delivered
	// the latest record timestamp up to the oldest unfinished event, maybe an earlier time; of the
	// next record to read, if there is none, at least the time when all was last read; zero: not
	// known
	Written    time.Time
	Unreadable *kafkaclient.Unreadable // nil: the partition can be read
}

// Partitions returns the state of each assigned partition, sorted by topic and number.
func (g *Generation) Partitions() []PartitionState {
	states := make([]PartitionState, len(g.partitions))
	for i, p := range g.partitions {
		states[i] = p.state()
	}
	return states
}

// Lost returns, by topic, how many offsets retention deleted before this generation read them. This
// is the number of records, unless compaction or transactions left holes.
func (g *Generation) Lost() map[string]int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return maps.Clone(g.lost)
}

// ProofAge returns how long ago the last heartbeat was sent that the coordinator accepted. It is
// the larger of the ages by the monotonic clock, which stops while the machine is suspended, and by
// the wall clock, which can be set. It is very large once the coordinator has removed this member.
func (g *Generation) ProofAge() time.Duration {
	now, proof := time.Now(), g.LastProof()
	return max(now.Sub(proof), now.Round(0).Sub(proof.Round(0)))
}

// MemberID returns the coordinator's ID of this process in the group.
func (g *Generation) MemberID() string { return g.member.ID }

// LastProof returns when the last heartbeat was sent that the coordinator accepted, with a
// monotonic reading; zero: the coordinator has removed this member.
func (g *Generation) LastProof() time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.proof
}
