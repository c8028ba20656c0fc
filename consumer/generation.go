package consumer

import (
	"context"
	"time"
)

// TopicPartition names a partition.
type TopicPartition struct {
	Topic     string
	Partition int
}

// Generation is what this member owns between two rebalances. All its state goes with it.
type Generation struct{}

// ID returns the group's generation number. Two generations may have the same.
func (g *Generation) ID() int32 { return 0 }

// Member returns the id that the coordinator gave this member.
func (g *Generation) Member() string { return "" }

// Assigned returns the partitions of this member, sorted by topic and number.
func (g *Generation) Assigned() []TopicPartition { return nil }

// All returns the partitions of all the group's topics, sorted by topic and number.
func (g *Generation) All() []TopicPartition { return nil }

// Sink receives what a generation fetches.
type Sink interface {
	// Room blocks while lane may not fetch. It returns an error when ctx ends.
	Room(ctx context.Context, lane Lane) error
	// Deliver takes a batch of one partition, in order. It must not block for long. The slice is the sink's.
	Deliver(events []Event)
}

// Fetch delivers the assigned partitions' records to sink until ctx ends, and returns when nothing will be
// delivered any more. Call it once.
func (g *Generation) Fetch(ctx context.Context, sink Sink) {}

// Finish says that the event has reached its end. Once for each Ref.
func (g *Generation) Finish(ref Ref) {}

// Commit commits what has advanced since the last commit: forward only, and fenced by generation and
// member. Its error is made of *CommitError (errors.As finds the first; errors.Join).
func (g *Generation) Commit(ctx context.Context) error { return nil }

// CommitError says what became of a commit that failed.
type CommitError struct {
	Topic     string // "": the whole request failed
	Partition int
	Code      string // Kafka's error code as a number, or "network": the metric label
	Fenced    bool   // this member is not in this generation any more: no commit of it will succeed
	Err       error
}

func (e *CommitError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *CommitError) Unwrap() error { return e.Err }

// Oldest is the oldest delivered event of a partition that has not finished.
type Oldest struct {
	Ref    Ref
	Offset int64
	Time   time.Time // the record's timestamp, or when it was delivered if it has none
}

// PartitionState shows how far a partition is.
type PartitionState struct {
	Topic         string
	Partition     int
	Committed     int64 // the offset committed last; -1: none yet
	HighWatermark int64 // the log's end when last fetched; -1: not known yet
	Lag           int64 // HighWatermark less what is committed, or would be next; 0 while unknown
	Oldest        *Oldest
}

// Partitions returns the state of each assigned partition, sorted by topic and number.
func (g *Generation) Partitions() []PartitionState { return nil }

// Lost returns, for each topic, how many records retention deleted before this generation read them.
func (g *Generation) Lost() map[string]int64 { return nil }

// LastProof returns when the last heartbeat that proved our membership was sent; zero: none yet.
func (g *Generation) LastProof() time.Time { return time.Time{} }
