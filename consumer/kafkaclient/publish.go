package kafkaclient

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"

	"markread/consumer/event"
)

const (
	publishBytes    = 512 << 10 // of one request, unless a single message is larger
	publishAttempts = 10
	// DescribeTimeout limits the search for a broker and the topic, before there is anything to
	// lose. A person may be waiting.
	DescribeTimeout = 8 * time.Second
)

// Publisher publishes to one topic, acknowledged by all in-sync replicas. It uses the Java
// partitioner (murmur2), so that a conversation's events go to the partition that a Java producer
// would choose. It is safe for concurrent use.
type Publisher struct {
	client      *Client
	topic       string
	keylessTurn atomic.Uint32
}

// Publisher returns a publisher to topic.
func (c *Client) Publisher(topic string) *Publisher {
	c.UseTopics(topic)
	return &Publisher{client: c, topic: topic}
}

// PublishErrors has the error of each message that was not acknowledged, by the message's index.
// The messages may have been written nevertheless, unless the broker refused them.
type PublishErrors map[int]error

func (e PublishErrors) Error() string {
	if len(e) == 0 {
		return "no message failed"
	}
	i := slices.Min(slices.Collect(maps.Keys(e)))
	return fmt.Sprintf("%d messages not published; the first, number %d: %v", len(e), i, e[i])
}

func (e PublishErrors) Unwrap() []error { return slices.Collect(maps.Values(e)) }

// Publish publishes messages and returns when all in-sync replicas have them. Messages of one key
// keep their order. It tries ten times, which can repeat messages. It sends immediately: for a high
// rate, publish hundreds of messages per call. The error is a PublishErrors.
func (p *Publisher) Publish(ctx context.Context, messages ...event.Message) error {
	if len(messages) == 0 {
		return nil
	}
	count, err := p.countPartitions(ctx)
	if err != nil {
		failed := PublishErrors{}
		for i := range messages {
			failed[i] = err
		}
		return failed
	}
	byPartition := map[int][]int{} // the indexes of each partition's messages
	// All messages without a key go to one partition, so that they share requests. The next call
	// uses another partition.
	keylessPartition := int(p.keylessTurn.Add(1)) % count
	for i, m := range messages {
		partition := keylessPartition
		if m.Key != nil {
			partition = PartitionOf(m.Key, count)
		}
		byPartition[partition] = append(byPartition[partition], i)
	}
	return p.publishAll(ctx, messages, byPartition)
}

// PublishTo is Publish to one partition, whatever the keys; it keeps the order of the messages.
func (p *Publisher) PublishTo(ctx context.Context, partition int, messages ...event.Message) error {
	all := make([]int, len(messages))
	for i := range all {
		all[i] = i
	}
	return p.publishAll(ctx, messages, map[int][]int{partition: all})
}

// publishAll publishes the messages. byPartition has the indexes of each partition's messages.
func (p *Publisher) publishAll(ctx context.Context, messages []event.Message,
	byPartition map[int][]int) error {
	var mu sync.Mutex
	failed := PublishErrors{}
	var senders sync.WaitGroup
	for partition, indexes := range byPartition {
		senders.Go(func() {
			p.publishTo(ctx, partition, messages, indexes, func(indexes []int, err error) {
				mu.Lock()
				defer mu.Unlock()
				for _, i := range indexes {
					failed[i] = err
				}
			})
		})
	}
	senders.Wait()
	if len(failed) > 0 {
		return failed
	}
	return nil
}

// IsRefusedRecord reports whether a topic refused a message permanently for another reason than its
// size: it has no key and the topic is compacted, or its time is outside the topic's bounds.
func IsRefusedRecord(err error) bool {
	return Is(err, kafka.InvalidRecord, kafka.InvalidTimestamp)
}

// TransientPublishError reports whether publishing may succeed later by itself: leaders move.
func TransientPublishError(err error) bool {
	var some PublishErrors
	if !errors.As(err, &some) {
		some = PublishErrors{0: err}
	}
	for _, err := range some {
		var missing *MissingTopicError
		if !Retriable(err) || errors.As(err, &missing) {
			return false
		}
	}
	return true
}

// publishTo publishes messages of one partition, one request after the other. It continues after a
// failure, because only one message may have been refused.
func (p *Publisher) publishTo(ctx context.Context, partition int, messages []event.Message,
	indexes []int, fail func([]int, error)) {
	for len(indexes) > 0 {
		n, size := 1, messageSize(messages[indexes[0]])
		for ; n < len(indexes); n++ {
			if size += messageSize(messages[indexes[n]]); size > publishBytes {
				break
			}
		}
		p.send(ctx, partition, messages, indexes[:n], fail)
		indexes = indexes[n:]
	}
}

// send sends one request, and retries it while that may help. A batch that is refused because of
// one of its messages, or as too large, is split in half.
func (p *Publisher) send(ctx context.Context, partition int, messages []event.Message,
	indexes []int, fail func([]int, error)) {
	batch := make([]event.Message, len(indexes))
	for i, index := range indexes {
		batch[i] = messages[index]
	}
	err := p.retry(ctx, func() error { return p.client.Produce(ctx, p.topic, partition, batch) })
	switch {
	case err == nil:
	case (IsTooLarge(err) || IsRefusedRecord(err)) && len(indexes) > 1:
		half := len(indexes) / 2
		p.send(ctx, partition, messages, indexes[:half], fail)
		p.send(ctx, partition, messages, indexes[half:], fail)
	default:
		fail(slices.Clone(indexes), err)
	}
}

// countPartitions returns the topic's number of partitions. It retries for up to 8 s.
func (p *Publisher) countPartitions(ctx context.Context) (count int, err error) {
	ctx, cancel := withBrokerTimeout(ctx)
	defer cancel()
	err = p.retry(ctx, func() error {
		var missing *MissingTopicError
		count, err = p.client.PartitionCount(ctx, p.topic)
		if err == nil || errors.As(err, &missing) {
			return err
		}
		// The transport reports "unexpected EOF" for many failures; ping returns the cause.
		return cmp.Or(p.client.ping(ctx), err)
	})
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = fmt.Errorf("%w: %w", cause, err)
	}
	return count, err
}

// retry calls try up to ten times; with a missing topic, up to four times.
func (p *Publisher) retry(ctx context.Context, try func() error) error {
	wait := NewBackoff()
	for attempt := 1; ; attempt++ {
		err := try()
		var missing *MissingTopicError
		if err == nil || ctx.Err() != nil || attempt == publishAttempts || !Retriable(err) ||
			attempt > 3 && errors.As(err, &missing) {
			return err
		}
		p.client.WarnRepeated("publish "+Code(err)).Err(err).Str("topic", p.topic).
			Msg("not published yet; retrying")
		if !wait.Sleep(ctx) {
			return err
		}
	}
}

func messageSize(m event.Message) int {
	size := 64 + len(m.Key) + len(m.Value)
	for _, h := range m.Headers {
		size += 16 + len(h.Key) + len(h.Value)
	}
	return size
}

// Produce writes records to one partition in one request, without retries, and returns when all
// in-sync replicas have them. Despite an error, the records may have been written, unless the
// broker refused them. kafka-go's Writer is not used: it has its own queue, timer and retries.
func (c *Client) Produce(ctx context.Context, topic string, partition int,
	messages []event.Message) error {
	response, err := c.api().Produce(ctx, &kafka.ProduceRequest{
		Topic:        topic,
		Partition:    partition,
		RequiredAcks: kafka.RequireAll, // the zero value would be none
		Records:      &recordReader{messages: messages},
	})
	if err == nil {
		err = response.Error
	}
	if err = clarify(err); err != nil {
		if StaleMetadata(err) {
			c.RefreshMetadata()
		}
		return WithPermissionHint(fmt.Errorf("produce to %s/%d: %w", topic, partition, err),
			"Write of the topic")
	}
	return nil
}

// recordReader returns the records of a request, and then starts again at the first: the router
// resends a request if the connection's authentication has expired. kafka-go's own readers can be
// read only once; and it does not send a request without records, but reports it as written.
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
	record := &protocol.Record{Time: m.Time, Key: protocol.NewBytes(m.Key),
		Value: protocol.NewBytes(m.Value)}
	for _, h := range m.Headers {
		record.Headers = append(record.Headers, protocol.Header(h))
	}
	return record, nil
}

// PartitionOf returns the partition that the Java partitioner chooses for a key that is not nil.
func PartitionOf(key []byte, partitions int) int {
	numbers := make([]int, partitions)
	for i := range numbers {
		numbers[i] = i
	}
	return kafka.Murmur2Balancer{}.Balance(kafka.Message{Key: key}, numbers...)
}

// IsTooLarge reports whether a topic refused a batch as too large, so that a retry can't succeed.
func IsTooLarge(err error) bool {
	return Is(err, kafka.MessageSizeTooLarge, kafka.RecordListTooLarge)
}
