package kafkaclient

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/segmentio/kafka-go"
)

// Retry tries until it works, the answer is a refusal that will stay, or ctx ends. doing says what,
// for the log.
func (c *Client) Retry(ctx context.Context, doing string, try func() error) error {
	for wait := NewBackoff(); ; {
		err := try()
		if err == nil || !Retriable(err) {
			return err
		}
		c.WarnRepeated(doing + " " + Code(err)).Err(err).Msg(doing + " failed; trying again")
		c.RefreshMetadata()
		if !wait.Sleep(ctx) {
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		}
	}
}

// Backoff is the pause between two tries of something that the brokers refused or did not answer.
type Backoff struct{ next time.Duration }

func NewBackoff() Backoff { return Backoff{next: 100 * time.Millisecond} }

// Sleep waits 0.1 s, 0.2 s … 2 s; false: ctx has ended.
func (w *Backoff) Sleep(ctx context.Context) bool {
	d := w.next
	w.next = min(2*w.next, 2*time.Second)
	return Sleep(ctx, d)
}

// Sleep waits for d; false: ctx has ended.
func Sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// Code returns Kafka's error code as a number, "network" when the error is none of Kafka's.
func Code(err error) string {
	var k kafka.Error
	if errors.As(err, &k) {
		return fmt.Sprint(int(k))
	}
	return "network"
}

// StaleMetadata reports whether the error says that our picture of the cluster is old.
func StaleMetadata(err error) bool {
	for _, code := range []kafka.Error{
		kafka.UnknownTopicOrPartition, kafka.LeaderNotAvailable, kafka.NotLeaderForPartition,
		kafka.ReplicaNotAvailable, kafka.BrokerNotAvailable, kafka.FencedLeaderEpoch,
		kafka.UnknownLeaderEpoch,
		kafka.KafkaStorageError,
	} {
		if errors.Is(err, code) {
			return true
		}
	}
	var k kafka.Error
	// Not a code of Kafka's: the transport found no leader, or the connection broke: the leader may
	// be gone.
	return !errors.As(err, &k) && !errors.Is(err, context.Canceled)
}

// Retriable reports whether the same request may be accepted later.
func Retriable(err error) bool {
	if IsRefused(err) || errors.Is(err, ErrNotUnderstood) {
		return false
	}
	var k kafka.Error
	if !errors.As(err, &k) {
		return true // the connection, or no leader known
	}
	return k.Temporary() || slices.Contains([]kafka.Error{
		kafka.UnknownTopicOrPartition, kafka.NotLeaderForPartition, kafka.KafkaStorageError,
		kafka.NotEnoughReplicas, kafka.NotEnoughReplicasAfterAppend,
		// of kafka-go: nobody leads the partition, or coordinates the group
		kafka.BrokerNotAvailable,
	}, k)
}
