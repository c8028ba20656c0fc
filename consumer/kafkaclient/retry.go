package kafkaclient

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/segmentio/kafka-go"
)

// Retry calls try until it succeeds or fails permanently, or ctx ends. The log shows action.
func (c *Client) Retry(ctx context.Context, action string, try func() error) error {
	for wait := NewBackoff(); ; {
		err := try()
		if err == nil || !Retriable(err) {
			return err
		}
		c.WarnRepeated(action+" "+Code(err)).Err(err).Str("action", action).
			Msg("Kafka request failed; retrying")
		c.RefreshMetadata()
		if !wait.Sleep(ctx) {
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		}
	}
}

// Backoff is the pause between two attempts of a request that failed.
type Backoff struct{ next time.Duration }

// NewBackoff returns a Backoff whose first pause is 0.1 s.
func NewBackoff() Backoff { return Backoff{next: 100 * time.Millisecond} }

// Sleep waits 0.1 s, 0.2 s … up to 2 s. It returns false when ctx has ended.
func (w *Backoff) Sleep(ctx context.Context) bool {
	d := w.next
	w.next = min(2*w.next, 2*time.Second)
	return Sleep(ctx, d)
}

// Sleep waits for d. It returns false when ctx has ended.
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

// Code returns Kafka's error code as a number, or "network" for an error without one.
func Code(err error) string {
	if k, ok := errors.AsType[kafka.Error](err); ok {
		return fmt.Sprint(int(k))
	}
	return "network"
}

// StaleMetadata reports whether the error means that the cached metadata may be out of date.
func StaleMetadata(err error) bool {
	// no leader was found, or the connection broke: the leader may have moved
	if Code(err) == "network" {
		return !errors.Is(err, context.Canceled)
	}
	return Is(err, kafka.UnknownTopicOrPartition, kafka.LeaderNotAvailable,
		kafka.NotLeaderForPartition, kafka.ReplicaNotAvailable, kafka.BrokerNotAvailable,
		kafka.FencedLeaderEpoch, kafka.UnknownLeaderEpoch, kafka.KafkaStorageError)
}

// Retriable reports whether the same request may succeed later.
func Retriable(err error) bool {
	if IsRefused(err) || errors.Is(err, ErrUnsupported) {
		return false
	}
	var k kafka.Error
	if !errors.As(err, &k) {
		return true // the connection broke, or no leader is known
	}
	return k.Temporary() || Is(k, kafka.UnknownTopicOrPartition, kafka.NotLeaderForPartition,
		kafka.KafkaStorageError, kafka.NotEnoughReplicas, kafka.NotEnoughReplicasAfterAppend,
		kafka.BrokerNotAvailable) // kafka-go's code for no leader, or no coordinator of the group
}
