package consumer

import (
	"context"
	"time"
)

// Message is a record to publish.
type Message struct {
	Key     []byte
	Value   []byte // nil: null
	Headers []Header
	Time    time.Time // zero: now
}

// Publisher publishes to one topic with the Java partitioner (murmur2) and all acks.
type Publisher struct{}

// Publisher returns a publisher to topic.
func (c *Client) Publisher(topic string) *Publisher { return &Publisher{} }

// PublishErrors says which messages failed: the index of a message to its error.
type PublishErrors map[int]error

func (e PublishErrors) Error() string { return "" }

// Publish publishes the messages and returns when all in-sync replicas have them. When only some failed the
// error is PublishErrors.
func (p *Publisher) Publish(ctx context.Context, messages ...Message) error { return nil }
