package consumer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"markread/consumer/event"
	"markread/consumer/kafkaclient"
	"markread/consumer/offsets"
)

// CommitError is returned when the coordinator did not accept a partition's offset, or a whole
// commit.
type CommitError struct {
	event.TopicPartition        // Topic "": the whole request failed
	Code                 string // Kafka's error code as a number, or "network": the metric label
	// this member no longer belongs to the generation: no later commit of it will succeed
	Fenced bool
	Err    error
}

func (e *CommitError) Error() string {
	if e.Topic == "" {
		return "commit: " + e.Err.Error()
	}
	return fmt.Sprintf("commit of %s/%d: %v", e.Topic, e.Partition, e.Err)
}

func (e *CommitError) Unwrap() error { return e.Err }

var errEnded = errors.New("the generation has ended")

// pendingCommit is what one partition has to commit.
type pendingCommit struct {
	*partition
	offsets.Commit
}

const (
	// metadataLimit is in bytes. Kafka accepts 4,096 bytes of metadata with an offset
	// (offset.metadata.max.bytes). With more it stores nothing, not even the offset.
	metadataLimit = 4000
	// commitPartitions is how many partitions go into one request. The coordinator writes a request
	// as one batch, which must not exceed the limit of the offsets topic, 1 MiB.
	commitPartitions = 200
	// recommitInterval is how often all offsets are committed, including unchanged ones. A commit
	// that was stuck in a frozen connection may be applied after a later one and set the offset
	// back, without any sign of it.
	recommitInterval = 30 * time.Second
	// responseGrace is how long a cancelled commit waits for the response to a request in flight.
	// Otherwise that request could be applied after the next commit, and set the offset back.
	responseGrace = 2 * time.Second
)

// Commit commits what has changed since the last commit: the offsets, forward only, and the
// metadata about events beyond them. Every 30 s it commits unchanged partitions, too. It is fenced
// by generation and member: the coordinator refuses it once another member may own the partitions.
// It tries for at most 5 s, not beyond ctx's deadline, and at most 2 s once ctx is cancelled.
//
// It returns a *CommitError, or several joined, one for each refused partition. The next Commit
// retries refused partitions. After serve has returned, Commit always fails.
func (g *Generation) Commit(ctx context.Context) error {
	g.commitMu.Lock()
	defer g.commitMu.Unlock()
	if g.ended {
		return &CommitError{Code: kafkaclient.Code(kafkaclient.IllegalGeneration), Fenced: true,
			Err: errEnded}
	}
	end := time.Now().Add(kafkaclient.RequestTimeout)
	if deadline, ok := ctx.Deadline(); ok && deadline.Before(end) {
		end = deadline
	}
	request, cancel := context.WithDeadline(context.WithoutCancel(ctx), end)
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(responseGrace, cancel) })()
	began := time.Now()
	all := began.Sub(g.lastFullCommit) >= recommitInterval
	for wait := kafkaclient.NewBackoff(); ; {
		var errs []error
		retry := false
		for chunk := range slices.Chunk(g.pendingCommits(all), commitPartitions) {
			err, retryChunk := g.tryCommit(request, chunk)
			errs, retry = append(errs, err), retry || retryChunk
		}
		err := errors.Join(errs...)
		if err == nil && all {
			g.lastFullCommit = began
		}
		if err == nil || !retry || !wait.Sleep(ctx) || request.Err() != nil {
			return err
		}
	}
}

// pendingCommits returns what has changed since the last commit, sorted by topic and number. With
// all, it includes partitions that have a committed offset and have not changed.
func (g *Generation) pendingCommits(all bool) []pendingCommit {
	var pending []pendingCommit
	limit := metadataLimit
	if g.noMetadata {
		limit = 0
	}
	for _, p := range g.partitions {
		p.mu.Lock()
		c, changed := p.tracker.Commit(limit)
		if committed := p.tracker.Committed(); c.Offset >= 0 &&
			(changed || all && c.Offset == committed) {
			pending = append(pending, pendingCommit{p, c})
		}
		p.mu.Unlock()
	}
	return pending
}

// tryCommit sends one commit request. It returns true for retry if the coordinator has moved, is
// not ready, did not respond, or refuses metadata; then the next attempt omits the metadata.
func (g *Generation) tryCommit(ctx context.Context, commits []pendingCommit) (err error,
	retry bool) {
	requested := make([]kafkaclient.OffsetCommit, len(commits))
	for i, c := range commits {
		requested[i] = kafkaclient.OffsetCommit{TopicPartition: c.TopicPartition, Commit: c.Commit}
	}
	codes, err := g.client.CommitOffsets(ctx, g.member, requested)
	if err != nil {
		return &CommitError{Code: kafkaclient.Code(err), Err: err}, ctx.Err() == nil
	}
	var errs []error
	noMetadata := g.noMetadata
	for _, c := range commits {
		refusal, ok := codes[c.TopicPartition]
		if ok && refusal == 0 {
			c.mu.Lock()
			c.tracker.Accept(c.Commit)
			c.mu.Unlock()
			continue
		}
		e := &CommitError{TopicPartition: c.TopicPartition, Code: kafkaclient.Code(refusal),
			Err: kafkaclient.BrokerError(int16(refusal))}
		switch refusal {
		case kafkaclient.IllegalGeneration, kafkaclient.UnknownMemberID:
			e.Fenced = true
		case kafkaclient.NotCoordinatorForGroup, kafkaclient.GroupCoordinatorNotAvailable,
			kafkaclient.GroupLoadInProgress, kafkaclient.RebalanceInProgress,
			kafkaclient.RequestTimedOut:
			retry = true
		case kafkaclient.OffsetMetadataTooLarge:
			retry = retry || !noMetadata
			g.noMetadata = true
			g.client.WarnRepeated("metadata").Str("topic", c.Topic).
				Int("partition", c.Partition).Int("bytes", len(c.Metadata)).
				Str("do", fmt.Sprintf("set offset.metadata.max.bytes to %d or more",
					metadataLimit)).
				Msg("the brokers refuse commit metadata: more calls are repeated after a crash " +
					"or a rebalance")
		}
		if !ok {
			e.Code, e.Err = "network", errors.New("the response does not mention it")
		}
		errs = append(errs, e)
	}
	return errors.Join(errs...), retry
}
