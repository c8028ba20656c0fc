package kafkaclient

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/segmentio/kafka-go"
)

// Retry tries until it works, is refused for good, or ctx ends. doing is for the log.
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
	if Code(err) == "network" { // no leader was found, or the connection broke: it may be gone
		return !errors.Is(err, context.Canceled)
	}
	return Is(err, kafka.UnknownTopicOrPartition, kafka.LeaderNotAvailable,
		kafka.NotLeaderForPartition, kafka.ReplicaNotAvailable, kafka.BrokerNotAvailable,
		kafka.FencedLeaderEpoch, kafka.UnknownLeaderEpoch, kafka.KafkaStorageError)
}

// Retriable reports whether the same request may be accepted later.
func Retriable(err error) bool {
	if IsRefused(err) || errors.Is(err, ErrUnsupported) {
		return false
	}
	var k kafka.Error
	if !errors.As(err, &k) {
		return true // the connection, or no leader known
	}
	return k.Temporary() || Is(k, kafka.UnknownTopicOrPartition, kafka.NotLeaderForPartition,
		kafka.KafkaStorageError, kafka.NotEnoughReplicas, kafka.NotEnoughReplicasAfterAppend,
		kafka.BrokerNotAvailable) // of kafka-go: no leader, or no coordinator of the group
}
