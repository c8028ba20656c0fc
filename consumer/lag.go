package consumer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/segmentio/kafka-go"

	"markread/consumer/offsets"
)

// PartitionLag is how far a group is behind in one partition.
type PartitionLag struct {
	TopicPartition
	Bounds
	Committed int64     // -1: nothing yet; the group begins at the oldest record
	Lag       int64     // offsets from where the group is, to the end
	Finished  int64     // of them, those that are known to have finished out of order
	Lost      int64     // offsets that retention deleted after where the group is, and that are not known to have finished
	Oldest    time.Time // event time of the record where the group is; zero: there is none, or it could not be read
	Written   time.Time // that record's own timestamp, by which retention goes; zero likewise, or it has none
}

// Lag finds out how far a group is behind in a topic, by partition number. It tries for 8 s to find out where the partitions end, and for as long
// where the group is. A partition whose leader does not answer has its error.
func (c *Client) Lag(ctx context.Context, group, topic string) ([]PartitionLag, error) {
	extent, err := c.Extent(ctx, topic)
	if err != nil {
		return nil, err
	}
	ctx, cancel := looking(ctx)
	defer cancel()
	lags := make([]PartitionLag, len(extent.Partitions))
	all := make([]TopicPartition, len(lags))
	for i, b := range extent.Partitions {
		all[i] = TopicPartition{topic, i}
		lags[i] = PartitionLag{TopicPartition: all[i], Bounds: b, Committed: -1}
	}
	err = c.persist(ctx, "reading what group "+group+" has committed", func() error {
		committed, err := c.committed(ctx, group, all)
		if errors.Is(err, kafka.GroupIdNotFound) { // some brokers say so of a group that has committed nothing
			err = nil
		}
		for i := range lags {
			commit, ok := committed[all[i]]
			if !ok {
				commit.Offset = -1
			}
			lags[i].reckon(commit)
		}
		return err
	})
	if err != nil {
		return nil, denied(fmt.Errorf("what group %q has committed in topic %q: %w", group, topic, err), "--group")
	}
	inParallel(fetchAtOnce, len(lags), func(i int) {
		if l := &lags[i]; l.Err == nil && l.Lag > 0 {
			l.Oldest, l.Written = c.oldest(ctx, l)
		}
	})
	return lags, nil
}

// reckon fills in what follows from what is committed. The end was read before it, so that the group may be beyond it.
func (l *PartitionLag) reckon(commit offsets.Commit) {
	l.Committed = commit.Offset
	if l.Err != nil {
		return
	}
	from, gone := l.First, int64(0) // finished, and deleted since
	if commit.Offset >= 0 {
		from, gone = max(commit.Offset, l.First), commit.Finished(l.First)
		l.Lost = from - commit.Offset - gone
	}
	l.Lag = max(0, l.End-from)
	l.Finished = min(commit.Finished(l.End)-gone, l.Lag)
}

// oldest returns when the event happened at which the group's offset stands, and the record's own timestamp; zero: not known.
func (c *Client) oldest(ctx context.Context, l *PartitionLag) (event, written time.Time) {
	r, ok, err := c.peek(ctx, l.TopicPartition, max(l.Committed, l.First))
	if err != nil || !ok || r.Offset >= l.End {
		return time.Time{}, time.Time{}
	}
	if r.Time.UnixMilli() > 0 {
		written = r.Time
	}
	if event, err = eventTime(r); err != nil {
		event = written
	}
	return event, written
}
