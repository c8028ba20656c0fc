package admin

import (
	"context"
	"errors"
	"fmt"
	"time"

	"markread/consumer/event"
	"markread/consumer/kafkaclient"
	"markread/consumer/offsets"
)

// PartitionLag is how far a group is behind in one partition.
type PartitionLag struct {
	event.TopicPartition
	kafkaclient.OffsetRange
	Committed int64 // -1: nothing yet: the group begins at the oldest record
	Lag       int64 // offsets from the group's position to the end
	Finished  int64 // how many of these are known to have finished out of order
	// how far the committed offset is beyond the end; if it is, Lag is the whole log
	Beyond int64
	// offsets from the committed one on that retention deleted, and that are not known to have
	// finished
	Lost int64
	// event time of the record at the group's position; zero: none, or it could not be read
	Oldest time.Time
	// that record's own timestamp, which retention uses; zero likewise, or if it has none
	Written time.Time

	// Unreadable is why the record at the group's position could not be read; its Since is unknown.
	// nil: it was read, or the log ends there.
	Unreadable *kafkaclient.Unreadable
}

// Lag returns how far a group is behind in a topic, by partition number. It takes up to 8 s for the
// ends of the partitions, and up to 8 s for the group's position. A partition whose leader does not
// respond has its own error. Each partition is read at the group's position, even if the group is
// not behind: that detects an unreadable partition.
func Lag(ctx context.Context, c *kafkaclient.Client, group, topic string) ([]PartitionLag, error) {
	topicOffsets, err := c.TopicOffsets(ctx, topic)
	if err != nil {
		return nil, err
	}
	ctx, cancel := kafkaclient.WithTimeout(ctx)
	defer cancel()
	lags := make([]PartitionLag, len(topicOffsets.Partitions))
	all := make([]event.TopicPartition, len(lags))
	for i, b := range topicOffsets.Partitions {
		all[i] = event.TopicPartition{Topic: topic, Partition: i}
		lags[i] = PartitionLag{TopicPartition: all[i], OffsetRange: b, Committed: -1}
	}
	err = c.Retry(ctx, "reading the committed offsets of group "+group, func() error {
		committed, err := c.CommittedOffsets(ctx, group, all)
		// some brokers return this for a group that has committed nothing
		if errors.Is(err, kafkaclient.GroupIDNotFound) {
			err = nil
		}
		for i := range lags {
			commit, ok := committed[all[i]]
			if !ok {
				commit.Offset = -1
			}
			lags[i].computeLag(commit)
		}
		return err
	})
	if err != nil {
		return nil, kafkaclient.WithPermissionHint(
			fmt.Errorf("committed offsets of group %q in topic %q: %w", group, topic, err),
			"--group")
	}
	kafkaclient.Parallel(kafkaclient.ParallelFetches, len(lags), func(i int) {
		if l := &lags[i]; l.Err == nil && l.Committed > l.End {
			checkBeyond(ctx, c, l)
		}
	})
	readOldest(ctx, c, lags)
	return lags, nil
}

// computeLag sets the fields that follow from the commit. The end was read before the commit, so
// the commit may be beyond it.
func (l *PartitionLag) computeLag(commit offsets.Commit) {
	l.Committed = commit.Offset
	if l.Err != nil {
		return
	}
	from, deletedFinished := l.First, int64(0) // finished offsets that retention has deleted since
	if commit.Offset >= 0 {
		from, deletedFinished = max(commit.Offset, l.First), commit.Finished(l.First)
		l.Lost = from - commit.Offset - deletedFinished
	}
	l.Lag = max(0, l.End-from)
	l.Finished = min(commit.Finished(l.End)-deletedFinished, l.Lag)
}

// checkBeyond requests the end again: the first one was read before the commit, and excludes open
// transactions. If the commit is beyond the end, a worker begins at the log's oldest record.
func checkBeyond(ctx context.Context, c *kafkaclient.Client, l *PartitionLag) {
	first, end, err := c.LogRange(ctx, l.Topic, l.Partition)
	if l.Err = err; err == nil && l.Committed > end {
		l.First, l.End, l.Lag, l.Beyond = first, end, end-first, l.Committed-end
	}
}

// readTimeout limits the read of one partition in a round.
const readTimeout = 3 * time.Second

var (
	errNotReached = fmt.Errorf("not read: reading all partitions takes longer than %v",
		kafkaclient.DescribeTimeout)
	errNoResponse = fmt.Errorf("no response from the partition's leader within %v", readTimeout)
)

// readOldest reads each partition at the group's position, in rounds until ctx ends: the temporary
// errors of a change of leaders don't make a partition unreadable.
func readOldest(ctx context.Context, c *kafkaclient.Client, lags []PartitionLag) {
	remaining := make([]*PartitionLag, 0, len(lags))
	for i := range lags {
		if l := &lags[i]; l.Err != nil {
			l.noteUnreadable(l.Err)
		} else {
			remaining = append(remaining, l)
		}
	}
	for wait := kafkaclient.NewBackoff(); ; {
		errs := make([]error, len(remaining))
		kafkaclient.Parallel(kafkaclient.ParallelFetches, len(remaining),
			func(i int) { errs[i] = readAt(ctx, c, remaining[i]) })
		again := remaining[:0]
		for i, err := range errs {
			l := remaining[i]
			l.noteUnreadable(err)
			transient := kafkaclient.Retriable(err) ||
				errors.Is(err, kafkaclient.OffsetOutOfRange) && l.Beyond == 0
			if err != nil && transient && !kafkaclient.Damaged(err) {
				again = append(again, l)
			}
		}
		if remaining = again; len(remaining) == 0 || !wait.Sleep(ctx) {
			return
		}
		c.RefreshMetadata()
	}
}

// noteUnreadable records why the partition could not be read; a nil err means that it was read.
func (l *PartitionLag) noteUnreadable(err error) {
	switch {
	case err == nil:
		l.Unreadable = nil
	case !errors.Is(err, errNotReached) || l.Unreadable == nil:
		// the previous round's error is more specific
		l.Unreadable = &kafkaclient.Unreadable{Offset: max(l.Committed, l.First)}
		l.Unreadable.Reason, l.Unreadable.Do = kafkaclient.WhyUnreadable(err)
	}
}

// readAt reads the record at the group's position, and records its event time and its timestamp.
func readAt(ctx context.Context, c *kafkaclient.Client, l *PartitionLag) error {
	if ctx.Err() != nil {
		return errNotReached
	}
	limited, cancel := context.WithTimeoutCause(ctx, readTimeout, errNoResponse)
	defer cancel()
	offset := max(l.Committed, l.First)
	r, ok, err := c.FirstRecord(limited, l.TopicPartition, offset, kafkaclient.FirstOnly)
	if errors.Is(err, kafkaclient.OffsetOutOfRange) {
		first, end, failed := c.LogRange(limited, l.Topic, l.Partition)
		switch {
		case failed != nil:
			err = failed
		case offset < first: // retention has deleted it
			return nil
		case offset > end:
			err = fmt.Errorf("offset %d is beyond the log's end, %d: %w", offset, end, err)
		}
	}
	switch {
	case err != nil && ctx.Err() != nil:
		return errNotReached
	case err != nil && limited.Err() != nil:
		return errNoResponse
	case err != nil || !ok || r.Offset >= l.End:
		return err
	}
	if r.Time.UnixMilli() > 0 {
		l.Written = r.Time
	}
	if l.Oldest, err = event.EventTime(r); err != nil {
		l.Oldest = l.Written
	}
	return nil
}
