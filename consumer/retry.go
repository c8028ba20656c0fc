package consumer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/segmentio/kafka-go"
)

// persist tries until it works, the answer is a refusal that will stay, or ctx ends. doing says what, for
// the log.
func (c *Client) persist(ctx context.Context, doing string, try func() error) error {
	for wait := newWait(); ; {
		err := try()
		if err == nil || !retriable(err) {
			return err
		}
		c.repeats(doing + " " + code(err)).Err(err).Msg(doing + " failed; trying again")
		c.refresh()
		if !wait.sleep(ctx) {
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		}
	}
}

// wait is the pause between two tries of something that the brokers refused or did not answer.
type wait struct{ next time.Duration }

func newWait() wait { return wait{next: 100 * time.Millisecond} }

// sleep waits 0.1 s, 0.2 s … 2 s; false: ctx has ended.
func (w *wait) sleep(ctx context.Context) bool {
	d := w.next
	w.next = min(2*w.next, 2*time.Second)
	return pause(ctx, d)
}

// pause waits for d; false: ctx has ended.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// code returns Kafka's error code as a number, "network" when the error is none of Kafka's.
func code(err error) string {
	var k kafka.Error
	if errors.As(err, &k) {
		return fmt.Sprint(int(k))
	}
	return "network"
}

// isLayout reports whether the error says that our picture of the cluster is old.
func isLayout(err error) bool {
	for _, code := range []kafka.Error{
		kafka.UnknownTopicOrPartition, kafka.LeaderNotAvailable, kafka.NotLeaderForPartition,
		kafka.ReplicaNotAvailable, kafka.BrokerNotAvailable, kafka.FencedLeaderEpoch, kafka.UnknownLeaderEpoch,
		kafka.KafkaStorageError,
	} {
		if errors.Is(err, code) {
			return true
		}
	}
	var k kafka.Error
	// Not a code of Kafka's: the transport found no leader, or the connection broke: the leader may be gone.
	return !errors.As(err, &k) && !errors.Is(err, context.Canceled)
}

// retriable reports whether the same request may be accepted later.
func retriable(err error) bool {
	if refused(err) || errors.Is(err, errForeign) {
		return false
	}
	var k kafka.Error
	if !errors.As(err, &k) {
		return true // the connection, or no leader known
	}
	return k.Temporary() || slices.Contains([]kafka.Error{
		kafka.UnknownTopicOrPartition, kafka.NotLeaderForPartition, kafka.KafkaStorageError,
		kafka.NotEnoughReplicas, kafka.NotEnoughReplicasAfterAppend,
		kafka.BrokerNotAvailable, // of kafka-go: nobody leads the partition, or coordinates the group
	}, k)
}
