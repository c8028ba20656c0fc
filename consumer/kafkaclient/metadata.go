package kafkaclient

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/segmentio/kafka-go"

	"markread/consumer/event"
)

const (
	// Kafka's default of max.message.bytes.
	DefaultMessageBytes = 1048588
	RecheckAfter        = time.Second // brokers learn of a new topic one after the other
)

// MissingTopicError says that topics do not exist.
type MissingTopicError struct{ Topics []string }

func (e *MissingTopicError) Error() string {
	if len(e.Topics) == 1 {
		return fmt.Sprintf("topic %q does not exist: create it, or use --create-topics", e.Topics[0])
	}
	return fmt.Sprintf("topics %q do not exist: create them, or use --create-topics", e.Topics)
}

// ListMissing returns those of the topics that don't exist.
func (c *Client) ListMissing(ctx context.Context, topics event.Topics) (missing []string, err error) {
	err = c.Retry(ctx, "listing the topics", func() error {
		response, err := c.API().Metadata(ctx, &kafka.MetadataRequest{Topics: topics.All()})
		if err != nil {
			return Plain(err)
		}
		missing = nil
		for _, t := range response.Topics {
			switch {
			case errors.Is(t.Error, kafka.UnknownTopicOrPartition):
				missing = append(missing, t.Name)
			case errors.Is(t.Error, kafka.LeaderNotAvailable):
				// It is being made: it exists.
			case t.Error != nil:
				return WithPermissionHint(fmt.Errorf("topic %q: %w", t.Name, Plain(t.Error)), topics.Flag(t.Name))
			}
		}
		return nil
	})
	return missing, err
}

// PartitionCounts returns how many partitions those of the topics have that exist.
func (c *Client) PartitionCounts(ctx context.Context, topics ...string) (map[string]int, error) {
	response, err := c.API().Metadata(ctx, &kafka.MetadataRequest{Topics: topics})
	if err != nil {
		return nil, Plain(err)
	}
	counts := map[string]int{}
	for _, t := range response.Topics {
		if len(t.Partitions) > 0 {
			counts[t.Name] = len(t.Partitions)
		}
	}
	return counts, nil
}

// The settings of a topic that matter to a worker.
const (
	CleanupPolicy   = "cleanup.policy"
	RetentionMs     = "retention.ms"
	RetentionBytes  = "retention.bytes"
	MaxMessageBytes = "max.message.bytes"
	MinInSync       = "min.insync.replicas"
	TimestampType   = "message.timestamp.type"
)

// Operations are what this client's user may do with a topic or a group, as the brokers say: a bit each. Without an authorizer that is everything.
type Operations int32

// The operations that a worker needs.
const (
	MayRead            Operations = 1 << 3
	MayWrite           Operations = 1 << 4
	MayDescribeConfigs Operations = 1 << 10
)

// Known reports whether the brokers said so: those before Kafka 2.3 do not.
func (o Operations) Known() bool { return o != 0 && o != math.MinInt32 }

// Has reports whether all of the operations are allowed.
func (o Operations) Has(some Operations) bool { return o&some == some }
