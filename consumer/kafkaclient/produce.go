package kafkaclient

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"

	"markread/consumer/event"
)

// Produce writes records to one partition, in one request, and returns when all in-sync replicas have them.
// It tries once. After an error other than the broker's refusal they may have been written nevertheless.
//
// It is Client.Produce and not kafka-go's Writer, because that has a queue, a timer and retries of its own.
func (c *Client) Produce(ctx context.Context, topic string, partition int, messages []event.Message) error {
	response, err := c.api().Produce(ctx, &kafka.ProduceRequest{
		Topic:        topic,
		Partition:    partition,
		RequiredAcks: kafka.RequireAll, // the zero value would be none
		Records:      &recordReader{messages: messages},
	})
	if err == nil {
		err = response.Error
	}
	if err = plainly(err); err != nil {
		if StaleMetadata(err) {
			c.RefreshMetadata()
		}
		return WithPermissionHint(fmt.Errorf("produce to %s/%d: %w", topic, partition, err), "Write of the topic")
	}
	return nil
}

// recordReader gives the records of a request, and after their end begins anew: where a connection's
// authentication has expired the router has the same request written again, on another connection.
//
// kafka-go's own readers can be read only once, and what it then finds to be a request without records it does
// not send, and calls it written.
type recordReader struct {
	messages []event.Message
	next     int
}

func (r *recordReader) ReadRecord() (*protocol.Record, error) {
	if r.next == len(r.messages) {
		r.next = 0
		return nil, io.EOF
	}
	m := r.messages[r.next]
	r.next++
	record := &protocol.Record{Time: m.Time, Key: protocol.NewBytes(m.Key), Value: protocol.NewBytes(m.Value)}
	record.Headers = make([]protocol.Header, 0, len(m.Headers))
	for _, h := range m.Headers {
		record.Headers = append(record.Headers, protocol.Header(h))
	}
	return record, nil
}

// PartitionOf returns the partition that the Java partitioner chooses for a key, which must not be nil.
func PartitionOf(key []byte, partitions int) int {
	numbers := make([]int, partitions)
	for i := range numbers {
		numbers[i] = i
	}
	return kafka.Murmur2Balancer{}.Balance(kafka.Message{Key: key}, numbers...)
}

// TooLarge reports whether the topic takes no batch of this size.
func TooLarge(err error) bool {
	return errors.Is(err, kafka.MessageSizeTooLarge) || errors.Is(err, kafka.RecordListTooLarge)
}
